//! Loop devices: files as block devices (loop(4)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::check;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
/// How often another process may be quicker with a device that was free a moment ago.
const TRIES: u32 = 64;

/// `struct loop_info64` (`linux/loop.h`).
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device. It goes by itself once it is neither open nor mounted.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _device: File,
}

impl LoopDevice {
    /// A device over the whole of `file`. Needs `/dev/loop-control`.
    pub fn attach(file: impl AsFd, read_only: bool) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            // SAFETY: takes no argument.
            let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let mut options = OpenOptions::new();
            let device = options.read(true).write(!read_only).custom_flags(libc::O_CLOEXEC).open(&path)?;
            match configure(&device, &file, read_only) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                other => return other.map(|()| LoopDevice { path, _device: device }),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// The device's node.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: &File, file: impl AsFd, read_only: bool) -> io::Result<()> {
    let flags = AUTOCLEAR | if read_only { READ_ONLY } else { 0 };
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config = Config { fd: file.as_fd().as_raw_fd() as u32, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: `config` is a valid loop_config, which the kernel only reads.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }.into()).map(drop)
}
