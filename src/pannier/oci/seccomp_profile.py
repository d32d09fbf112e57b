"""Docker's default system call filter, as rules with conditions and as a filter for one container.

The facts are those of moby's ``profiles/seccomp/default.json``: everything that is not named is
refused with EPERM; some calls are allowed only together with a capability, on some processor
family, or with certain arguments. Compiling and loading filters is the work of ``kernel.seccomp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from pannier.oci.runtime import Seccomp, SeccompAction, SyscallArg, SyscallRule

_EPERM = 1
_ENOSYS = 38
_AF_ALG = 38
_AF_NFC = 39
_AF_VSOCK = 40

# All CLONE_NEW* flags but CLONE_NEWTIME, which clone(2) cannot carry.
_CLONE_NAMESPACES = 0x7E020000

# Persona values a program may ask for: PER_LINUX, PER_LINUX32, the two with UNAME26, and the query.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)

# Processor name (uname -m) -> the family's name in rules, native and further ABIs of the filter.
_ARCHITECTURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "x86_64": ("amd64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    "aarch64": ("arm64", ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")),
    "s390x": ("s390x", ("SCMP_ARCH_S390X", "SCMP_ARCH_S390")),
    "ppc64le": ("ppc64le", ("SCMP_ARCH_PPC64LE",)),
    "riscv64": ("riscv64", ("SCMP_ARCH_RISCV64",)),
}

_ALWAYS = """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64
    fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv
    futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32
    getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid
    gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat
    listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify
    mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
    mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at
    nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal
    pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
    sched_get_priority_min sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority
    setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd
    signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64
    statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat
    uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid
    write writev
"""


@dataclass(frozen=True, slots=True)
class _Rule:
    """Names that get *action* where the conditions on capabilities and processor hold."""

    names: str
    args: tuple[SyscallArg, ...] = ()
    action: SeccompAction = "SCMP_ACT_ALLOW"
    errno: int | None = None
    with_cap: str | None = None
    without_cap: str | None = None
    arches: tuple[str, ...] = ()
    not_arches: tuple[str, ...] = ()

    def applies(self, capabilities: Set[str], arch: str) -> bool:
        return (
            (self.with_cap is None or self.with_cap in capabilities)
            and (self.without_cap is None or self.without_cap not in capabilities)
            and (not self.arches or arch in self.arches)
            and arch not in self.not_arches
        )


_RULES: tuple[_Rule, ...] = (
    _Rule(_ALWAYS),
    # ptrace bypassed seccomp before 4.8; pannier needs a later kernel anyway.
    _Rule("process_vm_readv process_vm_writev ptrace"),
    # AF_ALG and AF_VSOCK are left out: the first has had many holes, the second leaves the host.
    _Rule("socket", args=({"index": 0, "value": _AF_ALG, "op": "SCMP_CMP_LT"},)),
    _Rule("socket", args=({"index": 0, "value": _AF_NFC, "op": "SCMP_CMP_EQ"},)),
    _Rule("socket", args=({"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_GT"},)),
    *(
        _Rule("personality", args=({"index": 0, "value": persona, "op": "SCMP_CMP_EQ"},))
        for persona in _PERSONALITIES
    ),
    _Rule("sync_file_range2 swapcontext", arches=("ppc64le",)),
    _Rule(
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
        arches=("arm", "arm64"),
    ),
    _Rule("arch_prctl", arches=("amd64", "x32")),
    _Rule("modify_ldt", arches=("amd64", "x32", "x86")),
    _Rule("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr", arches=("s390", "s390x")),
    _Rule("riscv_flush_icache", arches=("riscv64",)),
    # With CAP_DAC_READ_SEARCH this opens any inode of the file system by number ("shocker").
    _Rule("open_by_handle_at", with_cap="CAP_DAC_READ_SEARCH"),
    _Rule(
        """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare
        """,
        with_cap="CAP_SYS_ADMIN",
    ),
    _Rule(
        "clone",
        args=({"index": 0, "value": _CLONE_NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"},),
        without_cap="CAP_SYS_ADMIN",
        not_arches=("s390", "s390x"),
    ),
    # s390 swaps the first two arguments of clone(2).
    _Rule(
        "clone",
        args=({"index": 1, "value": _CLONE_NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"},),
        without_cap="CAP_SYS_ADMIN",
        arches=("s390", "s390x"),
    ),
    # A filter cannot read the flags behind its pointer; on ENOSYS libc falls back to clone.
    _Rule("clone3", action="SCMP_ACT_ERRNO", errno=_ENOSYS, without_cap="CAP_SYS_ADMIN"),
    _Rule("reboot", with_cap="CAP_SYS_BOOT"),
    _Rule("chroot", with_cap="CAP_SYS_CHROOT"),
    _Rule("delete_module init_module finit_module", with_cap="CAP_SYS_MODULE"),
    _Rule("acct", with_cap="CAP_SYS_PACCT"),
    _Rule(
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
        with_cap="CAP_SYS_PTRACE",
    ),
    _Rule("iopl ioperm", with_cap="CAP_SYS_RAWIO"),
    _Rule("settimeofday stime clock_settime clock_settime64", with_cap="CAP_SYS_TIME"),
    _Rule("vhangup", with_cap="CAP_SYS_TTY_CONFIG"),
    _Rule("get_mempolicy mbind set_mempolicy set_mempolicy_home_node", with_cap="CAP_SYS_NICE"),
    _Rule("syslog", with_cap="CAP_SYSLOG"),
    _Rule("bpf", with_cap="CAP_BPF"),
    _Rule("perf_event_open", with_cap="CAP_PERFMON"),
)


def profile(capabilities: Set[str], arch: str) -> Seccomp:
    """The default filter for a process whose bounding set is *capabilities*.

    Args:
        capabilities: names such as ``CAP_SYS_ADMIN``.
        arch: the processor as ``uname -m`` names it. One that is not known gets a filter for the
            native ABI alone, which refuses calls of every other.
    """
    family, abis = _ARCHITECTURES.get(arch, (arch, ()))
    result: Seccomp = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "syscalls": list(_oci_rules(capabilities, family)),
    }
    if abis:
        result["architectures"] = list(abis)
    return result


def _oci_rules(capabilities: Set[str], family: str) -> Iterator[SyscallRule]:
    for rule in _RULES:
        if not rule.applies(capabilities, family):
            continue
        one: SyscallRule = {"names": rule.names.split(), "action": rule.action}
        if rule.args:
            one["args"] = [arg.copy() for arg in rule.args]
        if rule.errno is not None:
            one["errnoRet"] = rule.errno
        yield one
