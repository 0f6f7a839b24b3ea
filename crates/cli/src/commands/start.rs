//! `kiste start`: starts stopped containers, and with `-a` or `-i` stays with one of them.

use engine::{Attach, ErrorKind, StartOptions};

use crate::commands::{Verb, each, is_on};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::terminal::{self, Keys, Relay, Signals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", value_parser = Keys::parse)]
    detach_keys: Option<Keys>,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Start one or more stopped containers";

    fn run(self, context: &Context) -> Result<u8> {
        match &self.containers[..] {
            [name] if self.attach || self.interactive => self.in_foreground(context, name),
            _ if self.attach || self.interactive => {
                Err(Failure::new("you cannot start and attach multiple containers at once"))
            }
            names => each(context, names, |name| context.engine.start(name, &StartOptions::default()).map(drop)),
        }
    }
}

impl Args {
    fn in_foreground(&self, context: &Context, name: &str) -> Result<u8> {
        let container = context.engine.inspect_container(name, false)?;
        let tty = is_on(&container, "Tty");
        let attach = Attach { stdin: self.interactive && is_on(&container, "OpenStdin"), stdout: true, stderr: true };
        terminal::check_input(tty, attach.stdin)?;
        let options = StartOptions {
            attach: Some(attach),
            console_size: terminal::size().filter(|_| tty),
            ..StartOptions::default()
        };
        let keys = context.detach_keys(self.detach_keys.clone())?;
        let signals = Signals::catch()?;
        let session = match context.engine.start(name, &options) {
            Err(error) if error.kind == ErrorKind::NotModified => context.engine.attach(name, attach)?,
            Ok(Some(session)) => session,
            Ok(None) => return Err(Failure::new(format!("{name}: started, but without the streams asked for"))),
            Err(error) => return Err(error.into()),
        };
        let relay = Relay::new(session, signals, tty).detach_keys(keys).sig_proxy(!tty);
        Ok(relay.run()?.code())
    }
}
