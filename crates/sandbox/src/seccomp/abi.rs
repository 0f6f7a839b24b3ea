//! The system call ABIs of the machine and the numbers of their calls.

use oci_spec::runtime::Arch;

use super::table::{NONE, TABLE};

/// A set of system call numbers that programs on this kind of machine can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// The ABI that this program itself uses.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: Abi = Abi::X86_64;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: Abi = Abi::Aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the seccomp compiler has no system call numbers for this architecture");

/// x32 calls are those of x86-64 with this bit in their number (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// `AUDIT_ARCH_…` of `linux/audit.h`, by which a filter tells them apart; x32 shares that of x86-64.
    pub(super) fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// The number of a call; `None`: this ABI has none of that name.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let row = TABLE.binary_search_by(|(other, _)| (*other).cmp(name)).ok()?;
        Some(TABLE[row].1[self as usize]).filter(|number| *number != NONE)
    }

    /// The ABI that OCI names so, if processes on this machine can have it at all.
    pub(super) fn of(architecture: Arch) -> Option<Self> {
        let abi = match architecture {
            Arch::ScmpArchNative => NATIVE,
            Arch::ScmpArchX86_64 => Abi::X86_64,
            Arch::ScmpArchX86 => Abi::X86,
            Arch::ScmpArchX32 => Abi::X32,
            Arch::ScmpArchAarch64 => Abi::Aarch64,
            Arch::ScmpArchArm => Abi::Arm,
            _ => return None,
        };
        (abi == NATIVE || FOREIGN.contains(&abi)).then_some(abi)
    }
}

/// The other ABIs that this kind of machine can execute.
#[cfg(target_arch = "x86_64")]
pub(super) const FOREIGN: &[Abi] = &[Abi::X86, Abi::X32];
#[cfg(target_arch = "aarch64")]
pub(super) const FOREIGN: &[Abi] = &[Abi::Arm];

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
}
