"""What code in a sandbox may ask of Linux: names, numbers and conditions of system calls.

Whoever is not named here does not exist for the code (ENOSYS), so a kernel's new calls are closed.
"""

from __future__ import annotations

from dataclasses import dataclass

ALLOWED = """
read 0 63 | write 1 64 | close 3 57 | fstat 5 80 | lseek 8 62 | mmap 9 222 | mprotect 10 226
munmap 11 215 | brk 12 214 | rt_sigaction 13 134 | rt_sigprocmask 14 135 | rt_sigreturn 15 139
rt_sigpending 127 136 | rt_sigtimedwait 128 137 | rt_sigsuspend 130 133 | sigaltstack 131 132
pread64 17 67 | pwrite64 18 68 | readv 19 65 | writev 20 66 | preadv 295 69 | pwritev 296 70
preadv2 327 286 | pwritev2 328 287 | sched_yield 24 124 | mremap 25 216 | msync 26 227
mincore 27 232 | madvise 28 233 | dup 32 23 | dup2 33 - | dup3 292 24 | nanosleep 35 101
clock_nanosleep 230 115 | getitimer 36 102 | setitimer 38 103 | alarm 37 - | pause 34 -
getpid 39 172 | getppid 110 173 | gettid 186 178 | getuid 102 174 | geteuid 107 175
getgid 104 176 | getegid 108 177 | getresuid 118 148 | getresgid 120 150 | getgroups 115 158
getpgid 121 155 | getpgrp 111 - | getsid 124 156 | exit 60 93 | exit_group 231 94 | uname 63 160
fsync 74 82 | fdatasync 75 83 | ftruncate 77 46 | fallocate 285 47 | fadvise64 221 223
getcwd 79 17 | chdir 80 49 | fchdir 81 50 | getdents 78 - | getdents64 217 61 | time 201 -
gettimeofday 96 169 | getrusage 98 165 | times 100 153 | sysinfo 99 179 | clock_gettime 228 113
clock_getres 229 114 | open 2 - | openat 257 56 | creat 85 - | stat 4 - | lstat 6 -
newfstatat 262 79 | statx 332 291 | readlink 89 - | readlinkat 267 78 | access 21 -
faccessat 269 48 | faccessat2 439 439 | umask 95 166 | futex 202 98 | set_robust_list 273 99
get_robust_list 274 100 | set_tid_address 218 96 | rseq 334 293 | membarrier 324 283
getrandom 318 278 | sched_getaffinity 204 123 | getcpu 309 168 | restart_syscall 219 128
arch_prctl 158 - | poll 7 - | ppoll 271 73 | select 23 - | pselect6 270 72 | pipe 22 -
pipe2 293 59 | epoll_create 213 - | epoll_create1 291 20 | epoll_ctl 233 21 | epoll_wait 232 -
epoll_pwait 281 22 | epoll_pwait2 441 441 | eventfd 284 - | eventfd2 290 19
timerfd_create 283 85 | timerfd_settime 286 86 | timerfd_gettime 287 87 | signalfd 282 -
signalfd4 289 74 | flock 73 32 | close_range 436 436 | wait4 61 260 | waitid 247 95
sendfile 40 71 | copy_file_range 326 285 | getpriority 140 141 | getrlimit 97 163
sched_getparam 143 121 | sched_getscheduler 145 120 | sched_get_priority_max 146 125
sched_get_priority_min 147 126 | sendto 44 206 | recvfrom 45 207 | getsockname 51 204
getsockopt 55 209 | shutdown 48 210
"""
"""Lines of ``name number-on-x86_64 number-on-aarch64``; "-": not there.  Among them what pairs of
connected sockets need (asyncio wakes itself by one); no other socket can be made."""

FILES = """
unlink 87 - | unlinkat 263 35 | rename 82 - | renameat 264 38 | renameat2 316 276 | mkdir 83 -
mkdirat 258 34 | rmdir 84 - | link 86 - | linkat 265 37 | symlink 88 - | symlinkat 266 36
chmod 90 - | fchmod 91 52 | fchmodat 268 53 | fchmodat2 452 452 | utime 132 - | utimes 235 -
futimesat 261 - | utimensat 280 88 | truncate 76 45
"""
"""Allowed only where the code has a file system of its own: Landlock does not look at them all."""

CONDITIONAL = """
clone 56 220 | fcntl 72 25 | ioctl 16 29 | prctl 157 167 | prlimit64 302 261 | kill 62 129
tgkill 234 131 | socketpair 53 199
"""

DENIED = """
socket 41 198 | connect 42 203 | accept 43 202 | accept4 288 242 | bind 49 200 | listen 50 201
sendmsg 46 211 | recvmsg 47 212 | sendmmsg 307 269 | recvmmsg 299 243 | setsockopt 54 208
execve 59 221 | execveat 322 281 | fork 57 - | vfork 58 - | ptrace 101 117
process_vm_readv 310 270 | process_vm_writev 311 271 | memfd_create 319 279
memfd_secret 447 447 | shmget 29 194 | shmat 30 196 | shmctl 31 195 | shmdt 67 197
semget 64 190 | semop 65 193 | semctl 66 191 | semtimedop 220 192 | msgget 68 186
msgsnd 69 189 | msgrcv 70 188 | msgctl 71 187 | mq_open 240 180 | mq_unlink 241 181
mount 165 40 | umount2 166 39 | pivot_root 155 41 | chroot 161 51 | unshare 272 97
setns 308 268 | fsopen 430 430 | fsmount 432 432 | move_mount 429 429 | open_tree 428 428
mount_setattr 442 442 | keyctl 250 219 | add_key 248 217 | request_key 249 218 | bpf 321 280
perf_event_open 298 241 | userfaultfd 323 282 | io_uring_setup 425 425 | io_uring_enter 426 426
io_uring_register 427 427 | io_setup 206 0 | io_submit 209 2 | setrlimit 160 164
setuid 105 146 | setgid 106 144 | setreuid 113 145 | setregid 114 143 | setresuid 117 147
setresgid 119 149 | setgroups 116 159 | capset 126 91 | setsid 112 157 | setpgid 109 154
tkill 200 130 | rt_sigqueueinfo 129 138 | rt_tgsigqueueinfo 297 240 | pidfd_open 434 434
pidfd_send_signal 424 424 | pidfd_getfd 438 438 | timer_create 222 107 | chown 92 -
fchown 93 55 | lchown 94 - | fchownat 260 54 | setxattr 188 5 | lsetxattr 189 6
fsetxattr 190 7 | removexattr 197 14 | lremovexattr 198 15 | fremovexattr 199 16
mknod 133 - | mknodat 259 33 | open_by_handle_at 304 265 | name_to_handle_at 303 264
inotify_init 253 - | inotify_init1 294 26 | inotify_add_watch 254 27 | fanotify_init 300 262
reboot 169 142 | kexec_load 246 104 | kexec_file_load 320 294 | init_module 175 105
finit_module 313 273 | delete_module 176 106 | swapon 167 224 | swapoff 168 225
sethostname 170 161 | setdomainname 171 162 | settimeofday 164 170 | clock_settime 227 112
adjtimex 159 171 | clock_adjtime 305 266 | syslog 103 116 | quotactl 179 60 | acct 163 89
sched_setaffinity 203 122 | sched_setscheduler 144 119 | sched_setparam 142 118
sched_setattr 314 274 | setpriority 141 140 | ioprio_set 251 30 | personality 135 92
iopl 172 - | ioperm 173 - | modify_ldt 154 - | seccomp 317 277 | mlock 149 228
mlock2 325 284 | mlockall 151 230 | splice 275 76 | vmsplice 278 75 | tee 276 77
move_pages 279 239 | migrate_pages 256 238 | mbind 237 235 | set_mempolicy 238 237
kcmp 312 272 | process_madvise 440 440 | process_mrelease 448 448
"""
"""Known and refused with EPERM, which Python shows as PermissionError; all others get ENOSYS."""

ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine, as ``platform.machine()`` says it: (AUDIT_ARCH of linux/audit.h, column of numbers)."""


@dataclass(frozen=True)
class Condition:
    """A call is allowed when ``argument`` is one of ``values``, or has every bit of ``mask``."""

    argument: int
    values: tuple[int, ...] = ()
    mask: int = 0


OWN_PROCESS = -1
"""In ``Condition.values``: the number of the process that installs the filter."""

CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "clone": (Condition(0, mask=0x10000),),  # CLONE_THREAD: threads, no processes
    "kill": (Condition(0, (OWN_PROCESS,)),),
    "tgkill": (Condition(0, (OWN_PROCESS,)),),
    "prlimit64": (Condition(0, (0, OWN_PROCESS)),),
    "prctl": (Condition(0, (15, 16, 0x53564D41)),),  # names of threads and of memory
    "socketpair": (Condition(0, (1,)), Condition(1, (1, 0x801, 0x80001, 0x80801))),  # UNIX, stream
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, locks, F_DUPFD_CLOEXEC, F_GETPIPE_SZ; not
    # F_SETOWN, which sends signals, nor F_SETPIPE_SZ, which takes memory of the kernel
    "fcntl": (Condition(1, (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)),),
    # TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX
    "ioctl": (Condition(1, (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5451, 0x5450)),),
}
"""All conditions of a call must hold."""


def numbers(table: str, column: int) -> dict[str, int]:
    """Name -> number of the calls in a table that the architecture of ``column`` has."""
    rows = [row.split() for line in table.splitlines() for row in line.split("|") if row.strip()]
    return {row[0]: int(row[1 + column]) for row in rows if row[1 + column] != "-"}
