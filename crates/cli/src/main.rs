//! The `kiste` binary: one executable with several faces, told apart before anything else is set up.

mod app;
mod commands;
mod context;
mod failure;
mod globals;
mod help;
mod usage;

fn main() -> std::process::ExitCode {
    app::main().into()
}
