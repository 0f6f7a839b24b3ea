//! The system call ABIs of all kinds of machines and the numbers of their calls.

use oci_spec::runtime::Arch;

use super::table::{NONE, TABLE};

/// A set of system call numbers; the order is that of the columns of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Ppc64le,
    S390x,
}

/// How many there are.
pub(super) const COUNT: usize = 8;

/// The ABI that this program itself uses.
pub(super) const NATIVE: Abi = if cfg!(target_arch = "x86_64") {
    Abi::X86_64
} else if cfg!(target_arch = "aarch64") {
    Abi::Aarch64
} else if cfg!(target_arch = "riscv64") {
    Abi::Riscv64
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    Abi::Ppc64le
} else if cfg!(target_arch = "s390x") {
    Abi::S390x
} else {
    panic!("the seccomp compiler has no system call numbers for this architecture")
};

/// x32 calls are those of x86-64 with this bit in their number (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls that older 32-bit ABIs and their heirs can also make through one number, which takes the real call as its
/// first argument (`linux/net.h`, `linux/ipc.h`).
const MULTIPLEXED: [(&str, &[(&str, u32)]); 2] = [
    (
        "socketcall",
        &[
            ("socket", 1),
            ("bind", 2),
            ("connect", 3),
            ("listen", 4),
            ("accept", 5),
            ("getsockname", 6),
            ("getpeername", 7),
            ("socketpair", 8),
            ("send", 9),
            ("recv", 10),
            ("sendto", 11),
            ("recvfrom", 12),
            ("shutdown", 13),
            ("setsockopt", 14),
            ("getsockopt", 15),
            ("sendmsg", 16),
            ("recvmsg", 17),
            ("accept4", 18),
            ("recvmmsg", 19),
            ("sendmmsg", 20),
        ],
    ),
    (
        "ipc",
        &[
            ("semop", 1),
            ("semget", 2),
            ("semctl", 3),
            ("semtimedop", 4),
            ("msgsnd", 11),
            ("msgrcv", 12),
            ("msgget", 13),
            ("msgctl", 14),
            ("shmat", 21),
            ("shmdt", 22),
            ("shmget", 23),
            ("shmctl", 24),
        ],
    ),
];

impl Abi {
    /// `AUDIT_ARCH_…` of `linux/audit.h`, by which a filter tells them apart; x32 shares that of x86-64.
    pub(super) fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
            Abi::Riscv64 => 0xc000_00f3,
            Abi::Ppc64le => 0xc000_0015,
            Abi::S390x => 0x8000_0016,
        }
    }

    /// Whether arguments have 32 bits; the upper half of what a filter sees then means nothing.
    pub(super) fn is_narrow(self) -> bool {
        matches!(self, Abi::X86 | Abi::X32 | Abi::Arm)
    }

    /// Whether the upper half of an argument comes first in memory.
    pub(super) fn is_big_endian(self) -> bool {
        self == Abi::S390x
    }

    /// The number of a call; `None`: this ABI has none of that name.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let row = TABLE.binary_search_by(|(other, _)| (*other).cmp(name)).ok()?;
        Some(TABLE[row].1[self as usize]).filter(|number| *number != NONE)
    }

    /// The number of the multiplexer through which a call can be made too, and what its first argument is then.
    pub(super) fn multiplexed(self, name: &str) -> Option<(u32, u32)> {
        MULTIPLEXED.iter().find_map(|(multiplexer, calls)| {
            let (_, argument) = calls.iter().find(|(call, _)| *call == name)?;
            Some((self.number(multiplexer)?, *argument))
        })
    }

    /// The ABI that OCI names so, if this kind of machine can have it at all.
    pub(super) fn of(architecture: Arch, native: Abi) -> Option<Self> {
        let abi = match architecture {
            Arch::ScmpArchNative => native,
            Arch::ScmpArchX86_64 => Abi::X86_64,
            Arch::ScmpArchX86 => Abi::X86,
            Arch::ScmpArchX32 => Abi::X32,
            Arch::ScmpArchAarch64 => Abi::Aarch64,
            Arch::ScmpArchArm => Abi::Arm,
            Arch::ScmpArchRiscv64 => Abi::Riscv64,
            Arch::ScmpArchPpc64le => Abi::Ppc64le,
            Arch::ScmpArchS390x => Abi::S390x,
            _ => return None,
        };
        (abi == native || native.foreign().contains(&abi)).then_some(abi)
    }

    /// The other ABIs that a machine with this native one can execute.
    pub(super) const fn foreign(self) -> &'static [Abi] {
        match self {
            Abi::X86_64 => &[Abi::X86, Abi::X32],
            Abi::Aarch64 => &[Abi::Arm],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(TABLE.is_sorted_by(|left, right| left.0 < right.0));
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let known = [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("socket", libc::SYS_socket),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("futex_waitv", libc::SYS_futex_waitv),
            ("io_uring_setup", libc::SYS_io_uring_setup),
        ];
        for (name, number) in known {
            assert_eq!(NATIVE.number(name).map(i64::from), Some(number), "{name}");
        }
        assert_eq!(NATIVE.number("no_such_call"), None);
    }

    #[test]
    fn newer_calls_have_one_number_everywhere() {
        const ALL: [Abi; COUNT] =
            [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm, Abi::Riscv64, Abi::Ppc64le, Abi::S390x];
        for (name, number) in [("pidfd_open", 434), ("openat2", 437), ("landlock_create_ruleset", 444)] {
            assert!(ALL.iter().all(|abi| abi.number(name) == Some(number)), "{name}");
        }
        let reads = ALL.map(|abi| abi.number("read"));
        assert_eq!(reads, [0, 3, 0, 63, 3, 63, 3, 3].map(Some));
        assert_eq!(ALL.map(|abi| abi.multiplexed("socket").is_some()), [0, 1, 0, 0, 0, 0, 1, 1].map(|yes| yes == 1));
    }
}
