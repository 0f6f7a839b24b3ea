//! What the behaviour tests in `tests/` stand on: an [`Env`] with a root, a state directory and cgroups of its own in which
//! the real binary runs, image archives, a terminal, a registry, and a check that nothing is left behind. It knows the
//! product only by its command line: it links none of its crates.

pub mod api;
pub mod archive;
mod bundle;
pub mod corpus;
mod env;
pub mod fixtures;
mod leaks;
mod netns;
mod process;
mod pty;
mod registry;
pub mod told;
mod user;

pub use api::Api;
pub use bundle::Bundle;
pub use env::Env;
pub use netns::{Netns, neighbour, within};
pub use process::{Output, finish, wait_until};
pub use pty::Terminal;
pub use registry::Registry;
