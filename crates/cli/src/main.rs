//! The `kiste` binary.

fn main() {}
