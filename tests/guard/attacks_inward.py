"""Attacks on memory, disk, time, output, interpreter and kernel from within a sandbox."""

# ruff: noqa: E501 (code in texts, on a line each)

from __future__ import annotations

from attack_forms import LIBC, Attack, each, raw

MEMORY = [
    Attack("bytes_bomb", "b = bytearray(10**11)\nprint('REACHED')"),
    Attack(
        "doubling", "x = [0]\nwhile True:\n    x += x\n    print('GOT', 8 * len(x))\n", 520 << 20
    ),
    Attack(
        "many_small",
        "x = []\nwhile True:\n    x.append('a' * 100_000 + str(len(x)))\n"
        "    if len(x) % 100 == 0: print('GOT', 100_000 * len(x))\n",
        520 << 20,
    ),
    Attack(
        "shared_maps",
        "import mmap\nkept = []\nn = 0\nwhile n < 2000:\n    m = mmap.mmap(-1, 1 << 20)\n"
        "    m.write(b'x' * (1 << 20))\n    kept.append(m)\n    n += 1\n    print('GOT', n << 20)\n",
        520 << 20,
    ),
    Attack(
        "dev_shm",
        "f = open('/dev/shm/planted', 'wb')\nn = 0\nwhile n < 600:\n"
        "    n += f.write(b'x' * (1 << 20)) >> 20\n    print('GOT', n)\n",
    ),
    Attack(
        "memfd",
        "import os\nf = os.memfd_create('x')\nn = 0\nwhile n < 450:\n"
        "    n += os.write(f, b'x' * (1 << 20)) >> 20\n    print('GOT', n)\n",
    ),
    raw("memfd_raw", "319, b'x', 0\n447, 0"),
    raw(
        "system_v",
        """
        29, 0x5EC2E7, 100 << 20, 0o1777
        68, 0x5EC2E7, 0o1777
        64, 0x5EC2E7, 1, 0o1777
        240, b'planted', 0o102, 0o600, 0
        """,
    ),
    Attack("power", "x = 10 ** 10 ** 8\nprint('REACHED')", seconds=1.0),
    Attack("long_text", "print(len('a' * 10**11), 'REACHED')"),
    Attack(
        "pipes",
        "import os\nn = 0\nwhile n < 500:\n    os.pipe()\n    n += 2\n    print('GOT', n)\n",
        64,
    ),
    Attack(
        "recursion",
        "import sys\ntry:\n    sys.setrecursionlimit(10**9)\nexcept AttributeError:\n    pass\n"
        "def f(): return f()\nf()\nprint('REACHED')",
        seconds=1.5,
    ),
    Attack(
        "locked_memory",
        LIBC + "b = bytes(1 << 20)\nif libc.mlock(b, 1 << 20) == 0: print('REACHED')",
    ),
]

DISK = [
    Attack(
        "one_file",
        "n = 0\nf = open('big', 'wb', buffering=0)\nwhile n < 1 << 30:\n"
        "    n += f.write(b'x' * (1 << 20))\n    print('GOT', n)\n",
        16 << 20,
    ),
    Attack(
        "many_files",
        "n = 0\nwhile n < 1 << 30:\n    f = open(str(n), 'wb', buffering=0)\n"
        "    n += f.write(b'x' * (1 << 20))\n    print('GOT', n)\n",
        16 << 20,
    ),
    Attack(
        "empty_files",
        "n = 0\nwhile n < 100_000:\n    open('e' + str(n), 'w').close()\n    n += 1\n"
        "    if n % 50 == 0: print('GOT', n)\n",
        1024,
    ),
    Attack(
        "unlinked_files",
        "import os\nn = 0\nkept = []\nwhile n < 1 << 30:\n    f = open('u', 'wb', buffering=0)\n"
        "    os.unlink('u')\n    n += f.write(b'x' * (1 << 20))\n    kept.append(f)\n"
        "    print('GOT', n)\n",
        16 << 20,
    ),
]

TIME = [
    Attack("loop", "while True: pass\n", seconds=1.0),
    Attack("bignum", "x = (3 ** (10**8)).bit_length()\nprint('REACHED')", seconds=1.0),
    Attack("sleep", "import time\ntime.sleep(60)\nprint('REACHED')", seconds=1.0),
    Attack(
        "stubborn_sleep",
        "import time\nwhile True:\n    try:\n        time.sleep(10)\n    except BaseException:\n"
        "        pass\n",
        seconds=1.0,
    ),
    Attack(
        "ignored_signals",
        "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True: pass\n",
        seconds=1.0,
    ),
    Attack("regular_expression", "import re\nre.match('(a+)+$', 'a' * 40 + 'b')", seconds=1.0),
    Attack(
        "at_exit",
        "import atexit\n@atexit.register\ndef on():\n    while True: pass\n",
        seconds=1.0,
    ),
    Attack(
        "last_will",
        "class A:\n    def __del__(self):\n        while True: pass\na = A()\ndel a\nprint('REACHED')\n",
        seconds=1.0,
    ),
    Attack(
        "thread_that_stays",
        "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()\n",
        seconds=1.0,
    ),
]

OUTPUT = [
    Attack("stdout_flood", "while True: print('x' * 10_000)\n", seconds=2.0),
    Attack(
        "stderr_flood",
        "import sys\nwhile True: print('x' * 10_000, file=sys.stderr)\n",
        seconds=2.0,
    ),
    Attack("long_error", "raise ValueError('x' * 10_000_000)"),
    Attack(
        "forged_report",
        "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'{\"ending\": [1]}\\n' * 9)\n"
        "        os.write(fd, b'[' * 100_000 + b'\\n')\n    except OSError:\n        pass\n",
    ),
    Attack(
        "broken_text", "import os\nos.write(1, bytes(range(256)))\nos.write(2, b'\\xff\\xfe\\x00')"
    ),
    Attack(
        "closed_files",
        "import os\nfor fd in range(64):\n    try:\n        os.close(fd)\n    except OSError:\n        pass\n",
    ),
]

ESCAPES = [
    Attack(
        "formatting",
        "class A: pass\nprint('{0.__class__.__base__.__subclasses__}'.format(A()))\n"
        "print('{0.__init__.__globals__[os].environ}'.format(A()))",
    ),
    Attack(
        "subclasses",
        "for c in ().__class__.__base__.__subclasses__():\n"
        "    if c.__name__ in ('_wrap_close', 'Popen'):\n"
        "        if c.__init__.__globals__['system']('touch ' + @TARGET@) == 0: print('REACHED')\n",
    ),
    Attack(
        "pickle",
        'import pickle\npickle.loads(b"cos\\nsystem\\n(S\'touch " + @TARGET@.encode() + b"\'\\ntR.")\n'
        "pickle.loads(b\"cbuiltins\\nopen\\n(S'\" + @TARGET@.encode() + b\"'\\nS'w'\\ntR.\")\n",
    ),
    Attack(
        "frames",
        "import sys\nframe = sys._getframe()\nwhile frame:\n    print(sorted(frame.f_globals))\n"
        "    if 'pytest' in frame.f_globals: print('REACHED')\n    frame = frame.f_back\n",
    ),
    Attack("host_modules", "import pytest, fledge\nprint('REACHED')"),
    Attack("libc", LIBC + "if libc.system(('touch ' + @TARGET@).encode()) == 0: print('REACHED')"),
    Attack("segfault", "import ctypes\nctypes.string_at(0)\nprint('REACHED')"),
    Attack("abort", "import os\nos.abort()"),
    Attack("nesting", "eval('(' * 100_000 + ')' * 100_000)\nprint('REACHED')"),
    Attack("attribute_chain", "exec('x = 0\\nx' + '.a' * 100_000)\nprint('REACHED')"),
    Attack(
        "bytecode", "f = lambda: 0\nf.__code__ = f.__code__.replace(co_code=b'\\x64\\xff' * 9)\nf()"
    ),
]

KERNEL = [
    raw(
        "namespaces_and_mounts",
        """
        272, 0x10000000
        272, 0x20000
        308, 0, 0
        165, b'tmpfs', b'/tmp', b'tmpfs', 0, 0
        165, 0, b'/', 0, 0x1020, 0
        166, b'/', 2
        155, b'.', b'.'
        161, b'/'
        428, -100, b'/', 1
        430, b'tmpfs', 0
        """,
    ),
    raw(
        "kernel_doors",
        """
        321, 0, ctypes.create_string_buffer(64), 64
        298, ctypes.create_string_buffer(112), 0, -1, -1, 0
        323, 1
        425, 8, ctypes.create_string_buffer(120)
        250, 0, -3, 1
        248, b'user', b'planted', b'x', 1, -3
        206, 1, ctypes.create_string_buffer(8)
        304, -100, ctypes.create_string_buffer(128), 0
        254, 0, b'/', 0xFFF
        294, 0
        256, 0, 0, 0, 0
        216, 0, 0, 0, 0, 0
        """,
    ),
    raw("other_tables", "0x40000000 + 39\n0x40000000 + 57\n100_000\n-1"),
    raw(
        "out_of_the_cage",
        """
        105, 0
        117, 0, 0, 0
        116, 0, 0
        126, ctypes.create_string_buffer(b' \\x05\\x08 ', 8), ctypes.create_string_buffer(24)
        317, 0, 0, 0
        157, 1, 0, 0, 0, 0
        157, 38, 0, 0, 0, 0
        160, 9, ctypes.create_string_buffer(b'\\xff' * 16, 16)
        135, 0x0040000
        """,
    ),
    raw(
        "machine",
        """
        170, b'planted', 7
        171, b'planted', 7
        227, 0, ctypes.create_string_buffer(16)
        169, 0xfee1dead, 672274793, 0, 0
        175, b'', 0, b''
        246, 0, 0, 0, 0
        103, 3, ctypes.create_string_buffer(64), 64
        167, b'/planted', 0
        """,
    ),
    each(
        "limits_raised",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "resource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000))",
        "resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))",
        head="import resource",
    ),
]
