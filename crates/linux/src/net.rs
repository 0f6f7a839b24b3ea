//! The smallest piece of network set-up: the loopback device.

use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::check;

/// Brings `lo` of the present network namespace up; the kernel gives it 127.0.0.1 and ::1.
pub fn loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// Lets a socket have an address that no device of the network namespace has (`IP_TRANSPARENT`): needs CAP_NET_ADMIN
/// there.
pub fn set_transparent(socket: impl std::os::fd::AsFd, v4: bool) -> io::Result<()> {
    let (level, option) =
        if v4 { (libc::SOL_IP, libc::IP_TRANSPARENT) } else { (libc::SOL_IPV6, libc::IPV6_TRANSPARENT) };
    let on: libc::c_int = 1;
    let (value, size) = ((&raw const on).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` points to an int of `size` bytes, which the kernel copies during the call.
    let result = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, value, size) };
    check(result.into()).map(drop)
}

/// Lets no packet into a socket: a filter that cuts each one off at length 0.
pub fn drop_all(socket: impl std::os::fd::AsFd) -> io::Result<()> {
    filter(socket, &mut [instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0)])
}

/// Lets only those packets (or messages) into a socket whose byte at `offset` is one of `values`, at most 200.
pub fn accept_only(socket: impl std::os::fd::AsFd, offset: u32, values: &[u8]) -> io::Result<()> {
    let mut code = vec![instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, offset)];
    for (index, value) in values.iter().enumerate() {
        // Over the other comparisons and the refusal that follows them.
        let jump = (values.len() - index) as u8;
        code.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jump, 0, (*value).into()));
    }
    code.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0));
    code.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX));
    filter(socket, &mut code)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Attaches a classic BPF program.
fn filter(socket: impl std::os::fd::AsFd, code: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    let (value, size) = ((&raw const program).cast(), size_of::<libc::sock_fprog>() as libc::socklen_t);
    // SAFETY: `value` points to a sock_fprog of `size` bytes, whose `filter` points to `len` instructions; the kernel
    // copies them during the call.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, size) };
    check(result.into()).map(drop)
}

/// Takes such a filter away again.
pub fn accept_all(socket: impl std::os::fd::AsFd) -> io::Result<()> {
    let ignored: libc::c_int = 0;
    let (value, size) = ((&raw const ignored).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: SO_DETACH_FILTER wants an int of `size` bytes, which it does not look at.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, value, size) };
    check(result.into()).map(drop)
}
