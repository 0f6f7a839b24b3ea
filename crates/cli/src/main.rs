//! The `kiste` binary: one executable with several faces, told apart before anything else is set up.

mod app;
mod build_progress;
mod commands;
mod context;
mod failure;
mod format;
mod globals;
mod help;
mod options;
mod output;
mod progress;
mod template;
mod terminal;
mod usage;

fn main() -> std::process::ExitCode {
    app::main().into()
}
