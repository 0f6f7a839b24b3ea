//! The built-in default profile: what a container may ask the kernel for. It allows what Docker's profile allows
//! (moby/profiles, June 2026), for the native ABI only, and blocks the rest with `EPERM`; `docs/security.md` says what
//! and why.

use super::abi::{Abi, COUNT, NATIVE};
use super::filter::{ALLOW, Comparison, Condition, ERRNO, Rule, Table, newest};
use super::table::{NONE, TABLE};

/// Allowed to everybody. Missing on purpose, beside what only capabilities open: `io_uring_*` (a large attack surface
/// that bypasses this very filter), `keyctl` and `add_key` (keys are not namespaced), `userfaultfd`, and `socketcall`,
/// by which 32-bit programs could reach the blocked socket families.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
    getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
    getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
    get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
    ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr
    _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
    mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
    prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
    send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address
    setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
    process_vm_readv process_vm_writev ptrace";

/// The numbers of [`ALLOWED`] on every ABI, looked up by the compiler: at run time that costs more than all the rest.
static ALLOWED_NUMBERS: [[u32; words(ALLOWED)]; COUNT] =
    [numbers(0), numbers(1), numbers(2), numbers(3), numbers(4), numbers(5), numbers(6), numbers(7)];

const fn numbers(abi: usize) -> [u32; words(ALLOWED)] {
    let text = ALLOWED.as_bytes();
    let mut numbers = [NONE; words(ALLOWED)];
    let (mut word, mut at) = (0, 0);
    while word < numbers.len() {
        while text[at].is_ascii_whitespace() {
            at += 1;
        }
        let start = at;
        while at < text.len() && !text[at].is_ascii_whitespace() {
            at += 1;
        }
        numbers[word] = find(text, start, at, abi);
        word += 1;
    }
    numbers
}

const fn words(text: &str) -> usize {
    let (text, mut words, mut at) = (text.as_bytes(), 0, 0);
    while at < text.len() {
        let starts = !text[at].is_ascii_whitespace() && (at == 0 || text[at - 1].is_ascii_whitespace());
        words += starts as usize;
        at += 1;
    }
    words
}

/// [`Abi::number`] for the compiler, which can neither compare nor search by the library.
const fn find(text: &[u8], start: usize, end: usize, abi: usize) -> u32 {
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        let middle = (low + high) / 2;
        let name = TABLE[middle].0.as_bytes();
        let mut common = 0;
        while common < name.len() && start + common < end && name[common] == text[start + common] {
            common += 1;
        }
        if common == name.len() && start + common == end {
            return TABLE[middle].1[abi];
        }
        // At the end of the shorter one, or at the first difference.
        let is_less = start + common < end && (common == name.len() || name[common] < text[start + common]);
        (low, high) = if is_less { (middle + 1, high) } else { (low, middle) };
    }
    NONE
}

/// Allowed on some ABIs.
const ALLOWED_ARM: &str = "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls";
const ALLOWED_X86: &str = "arch_prctl modify_ldt";
const ALLOWED_POWER: &str = "sync_file_range2 swapcontext";
const ALLOWED_RISCV: &str = "riscv_flush_icache riscv_hwprobe";
const ALLOWED_S390: &str = "s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr s390_sthyi";

/// Allowed to containers that have the capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Socket families that `socket` refuses: `AF_ALG` reaches kernel code that no container needs (CVE-2026-31431),
/// `AF_VSOCK` the hypervisor, past every network namespace.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// `CLONE_NEW…` of mount, cgroup, UTS, IPC, user, PID and network namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question for the present one.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The tables for the native ABI, or for all of this machine.
pub(super) fn tables(capabilities: &[&str], foreign: bool) -> Vec<Table> {
    let others = if foreign { NATIVE.foreign() } else { &[] };
    [NATIVE].iter().chain(others).map(|abi| table(*abi, capabilities)).collect()
}

fn table(abi: Abi, capabilities: &[&str]) -> Table {
    let has = |capability: &str| capabilities.contains(&capability);
    let opened = WITH_CAPABILITY.iter().filter(|(capability, _)| has(capability)).map(|(_, names)| *names);
    let names = [of_abi(abi)].into_iter().chain(opened).flat_map(str::split_ascii_whitespace);
    let everybody = ALLOWED_NUMBERS[abi as usize].into_iter().filter(|number| *number != NONE);
    let allow = |number| Rule { number, conditions: Vec::new(), verdict: ALLOW };
    let mut rules: Vec<Rule> = everybody.chain(names.filter_map(|name| abi.number(name))).map(allow).collect();
    rules.extend(conditional(abi));
    if !has("CAP_SYS_ADMIN") {
        rules.extend(restricted_clone(abi));
    }
    let newer = newest(rules.iter().map(|rule| rule.number)).map(|newest| (newest + 1, ERRNO | libc::ENOSYS as u32));
    Table { abi, rules, default: ERRNO | libc::EPERM as u32, newer }
}

fn of_abi(abi: Abi) -> &'static str {
    match abi {
        Abi::X86_64 | Abi::X32 | Abi::X86 => ALLOWED_X86,
        Abi::Arm | Abi::Aarch64 => ALLOWED_ARM,
        Abi::Riscv64 => ALLOWED_RISCV,
        Abi::Ppc64le => ALLOWED_POWER,
        Abi::S390x => ALLOWED_S390,
    }
}

fn conditional(abi: Abi) -> impl Iterator<Item = Rule> {
    let first = |comparison| Condition { argument: 0, comparison };
    let socket = abi.number("socket").map(|number| Rule {
        number,
        conditions: vec![first(Comparison::NotEqual(AF_ALG)), first(Comparison::NotEqual(AF_VSOCK))],
        verdict: ALLOW,
    });
    let personality = abi.number("personality").into_iter().flat_map(move |number| {
        PERSONALITIES.map(|value| Rule { number, conditions: vec![first(Comparison::Equal(value))], verdict: ALLOW })
    });
    socket.into_iter().chain(personality)
}

/// `clone` without new namespaces. The flags of `clone3` are out of a filter's reach, so it does not exist: the C
/// libraries then take `clone`.
fn restricted_clone(abi: Abi) -> impl Iterator<Item = Rule> {
    // s390 has the stack first (clone(2), "C library/kernel differences").
    let argument = u8::from(abi == Abi::S390x);
    let flags = Condition { argument, comparison: Comparison::Masked { mask: NEW_NAMESPACES, value: 0 } };
    let clone = abi.number("clone").map(|number| Rule { number, conditions: vec![flags], verdict: ALLOW });
    let missing = ERRNO | libc::ENOSYS as u32;
    let clone3 = abi.number("clone3").map(|number| Rule { number, conditions: Vec::new(), verdict: missing });
    clone.into_iter().chain(clone3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_looks_up_the_same_numbers() {
        for abi in [NATIVE].iter().chain(NATIVE.foreign()) {
            let expected = ALLOWED.split_ascii_whitespace().map(|name| abi.number(name).unwrap_or(NONE));
            assert!(expected.eq(ALLOWED_NUMBERS[*abi as usize]), "{abi:?}");
        }
    }

    #[test]
    fn every_name_is_a_call_somewhere() {
        let all = [ALLOWED, ALLOWED_ARM, ALLOWED_X86, ALLOWED_POWER, ALLOWED_RISCV, ALLOWED_S390];
        let names = all.into_iter().chain(WITH_CAPABILITY.iter().map(|(_, names)| *names));
        let unknown: Vec<_> = names
            .flat_map(str::split_ascii_whitespace)
            .filter(|name| TABLE.binary_search_by(|(other, _)| (*other).cmp(name)).is_err())
            .collect();
        assert_eq!(unknown, [""; 0]);
    }
}
