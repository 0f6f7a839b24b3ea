//! The monitor: the process that owns one container. Single-threaded, epoll.

use crate::Paths;

/// Entry point of `kiste monitor ID`: runs until the container has ended for good. Returns the process's exit code.
pub fn main(_paths: &Paths, _id: &str) -> i32 {
    todo!()
}
