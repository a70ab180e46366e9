"""Attacks on files, network and processes outside a sandbox."""

from __future__ import annotations

from attack_forms import Attack, each, raw

FILES = [
    Attack("read_secret", "print(open(@SECRET_FILE@).read())"),
    Attack("read_passwd", "print('REACHED' if 'root:' in open('/etc/passwd').read() else '')"),
    Attack("read_shadow", "print('REACHED', open('/etc/shadow').read())"),
    Attack(
        "read_by_detours",
        "import os\nname = @SECRET_FILE@\n"
        "for path in ('/proc/self/root' + name, '/proc/1/root' + name, '../' * 20 + name,"
        " '/proc/self/cwd/../../../..' + name, '//' + name, '/tmp/../' + name):\n"
        "    try:\n        print(open(path).read())\n"
        "    except OSError:\n        pass\n",
    ),
    Attack("list_folder", "import os\nprint(os.listdir(@FOLDER@), 'REACHED')"),
    Attack("glob_home", "import glob\nprint(glob.glob(@FOLDER@ + '/*'))"),
    Attack("environment", "import os\nprint(dict(os.environ))\nprint(os.getenv('SANDBOX_SECRET'))"),
    each(
        "environment_of_others",
        "print(open('/proc/self/environ').read())",
        "print(open(f'/proc/{os.getppid()}/environ').read())",
        "print(open('/proc/1/environ').read())",
        "print(open('/proc/@VICTIM@/environ').read())",
    ),
    Attack("write_file", "open(@TARGET@, 'w').write('REACHED')\nprint('REACHED')"),
    each(
        "cut_file",
        "os.truncate(@SECRET_FILE@, 0)",
        "os.close(os.open(@SECRET_FILE@, os.O_RDONLY | os.O_TRUNC))",
        "open(@SECRET_FILE@, 'r+').truncate(0)",
    ),
    each(
        "delete",
        "os.remove(@SECRET_FILE@)",
        "shutil.rmtree(@FOLDER@)",
        "os.rmdir(@FOLDER@)",
        head="import os, shutil",
    ),
    each(
        "rename_and_link",
        "os.rename(@SECRET_FILE@, @TARGET@)",
        "os.link(@SECRET_FILE@, @TARGET@)",
        "os.symlink('/etc/passwd', @TARGET@)",
        "os.mkdir(@TARGET@)",
        "os.mkfifo(@TARGET@)",
    ),
    each(
        "change_what_it_is",
        "os.chmod(@SECRET_FILE@, 0o777)",
        "os.chown(@SECRET_FILE@, 1, 1)",
        "os.utime(@SECRET_FILE@, (1, 1))",
        "os.setxattr(@SECRET_FILE@, 'user.x', b'1')",
        "os.chmod(@FOLDER@, 0o777)",
    ),
    each(
        "write_python",
        "open(os.__file__, 'a').write('x')",
        "open(os.path.dirname(os.__file__) + '/planted.py', 'w')",
        "open(sys.executable, 'ab').write(b'x')",
        "os.rename(os.__file__, os.__file__ + '.old')",
        "import numpy; open(numpy.__file__, 'a').write('x')",
        head="import os, sys",
    ),
    each(
        "write_root",
        "open('/planted', 'w')",
        "open('/usr/planted', 'w')",
        "open('/etc/planted', 'w')",
        "os.mkdir('/planted')",
        "open('/lib64/planted', 'w')",
    ),
    each(
        "devices",
        "open('/dev/mem', 'rb').read(1)",
        "open('/dev/kmsg', 'w').write('x')",
        "open('/dev/sda', 'rb').read(1)",
        "open('/dev/vda', 'rb').read(1)",
        "open('/dev/tty', 'w').write('x')",
        "os.mknod('device', 0o60600, os.makedev(254, 0))",
        "os.mknod('/tmp/device', 0o20666, os.makedev(1, 1))",
    ),
    each(
        "kernel_files",
        "open('/proc/sysrq-trigger', 'w').write('h')",
        "open('/proc/sys/kernel/hostname', 'w').write('x')",
        "print(open('/proc/cpuinfo').read())",
        "print(open('/proc/version').read())",
        "os.listdir('/sys/class/net')",
        "open('/sys/fs/cgroup/cgroup.procs', 'w').write('0')",
    ),
]

NETWORK = [
    Attack(
        "tcp",
        "import socket\ns = socket.create_connection(('127.0.0.1', @PORT@), 2)\n"
        "s.send(b'x')\nprint('REACHED')",
    ),
    each(
        "udp",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', 9))",
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b'x', ('::1', 9))",
        head="import socket",
    ),
    each(
        "unix_sockets",
        "s = socket.socket(socket.AF_UNIX); s.connect(@SOCKET@); s.send(b'x')",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0' + @ABSTRACT@); s.send(b'x')",
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendto(b'x', @SOCKET@)",
        head="import socket",
    ),
    each(
        "names_and_web",
        "socket.getaddrinfo('localhost', 80); socket.socket()",
        "urllib.request.urlopen('http://127.0.0.1:@PORT@', timeout=2)",
        "urllib.request.urlopen('file://' + @SECRET_FILE@).read()",
        head="import socket, urllib.request",
    ),
    Attack(
        "listen",
        "import socket\ns = socket.socket()\ns.bind(('', 0))\ns.listen()\nprint('REACHED')",
    ),
    each(
        "strange_sockets",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "socket.socket(socket.AF_VSOCK)",
        "socket.socket(38)",
        head="import socket",
    ),
]

PROCESSES = [
    Attack(
        "subprocess",
        "import subprocess\nsubprocess.run(['/bin/touch', @TARGET@])\nprint('REACHED')",
    ),
    Attack("system", "import os\nif os.system('touch ' + @TARGET@) == 0: print('REACHED')"),
    Attack("popen", "import os\nprint(os.popen('cat ' + @SECRET_FILE@).read(), 'REACHED')"),
    Attack(
        "execv", "import os, sys\nos.execv(sys.executable, ['python', '-c', 'print(\"REACHED\")'])"
    ),
    Attack(
        "spawn",
        "import os, sys\nos.posix_spawn(sys.executable, ['p', '-c', ''], {})\nprint('REACHED')",
    ),
    Attack(
        "fork_bomb",
        "import os\nn = 0\nwhile n < 1000:\n    if os.fork() == 0:\n        import time\n"
        "        time.sleep(60)\n    n += 1\n    print('GOT', n)\n",
    ),
    Attack(
        "multiprocessing",
        "import multiprocessing\np = multiprocessing.get_context('fork').Process(target=print)\n"
        "p.start()\nprint('REACHED')",
    ),
    raw(
        "raw_forks",
        """
        56, 17, 0, 0, 0, 0
        57
        58
        435, ctypes.create_string_buffer(88), 88
        59, b'/bin/true', 0, 0
        322, -100, b'/bin/true', 0, 0, 0
        """,
    ),
    Attack(
        "threads",
        "import threading, time\nn = 1\nthreading.stack_size(65536)\n"
        "while n < 2000:\n"
        "    threading.Thread(target=time.sleep, args=(1,), daemon=True).start()\n"
        "    n += 1\n    print('GOT', n)\n",
        most=16,
    ),
    each(
        "signals",
        "os.kill(@VICTIM@, 9)",
        "os.kill(@VICTIM@, 0)",
        "os.kill(os.getppid(), 9)",
        "os.killpg(@VICTIM@, 9)",
        "os.kill(-1, 15)",
        "os.kill(0, 15)",
        "signal.pidfd_send_signal(os.pidfd_open(@VICTIM@), 9)",
        head="import os, signal",
    ),
    each(
        "orders_to_others",
        "os.setpriority(os.PRIO_PROCESS, @VICTIM@, 15)",
        "os.setpriority(os.PRIO_USER, 0, 15)",
        "os.sched_setaffinity(@VICTIM@, {0})",
        "resource.prlimit(@VICTIM@, resource.RLIMIT_NOFILE, (4, 4))",
        "os.setsid()",
        "os.setpgid(0, @VICTIM@)",
        head="import os, resource",
    ),
    raw(
        "memory_of_others",
        """
        101, 16, @VICTIM@, 0, 0
        101, 16, os.getppid(), 0, 0
        101, 0, 0, 0, 0
        310, os.getppid(), 0, 0, 0, 0, 0
        311, @VICTIM@, 0, 0, 0, 0, 0
        312, @VICTIM@, os.getpid(), 0, 0, 0
        """,
    ),
    each(
        "signals_by_files",
        "r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, @VICTIM@)",
        "r, w = os.pipe(); fcntl.fcntl(r, 10, 9)",
        "r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20)",
        "import termios; fcntl.ioctl(0, termios.TIOCSTI, b'x')",
        head="import os, fcntl",
    ),
]
