//! `kiste attach`: connects our standard streams to those of a running container.

use engine::Attach;

use crate::commands::{Verb, is_on};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::terminal::{self, Keys, Relay, Signals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", value_parser = Keys::parse)]
    detach_keys: Option<Keys>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    container: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER";
    const ABOUT: &'static str = "Attach local standard input, output, and error streams to a running container";

    fn run(self, context: &Context) -> Result<u8> {
        let container = context.engine.inspect_container(&self.container, false)?;
        check_state(&container["State"])?;
        let tty = is_on(&container, "Tty");
        let attach = Attach { stdin: !self.no_stdin && is_on(&container, "OpenStdin"), stdout: true, stderr: true };
        terminal::check_input(tty, attach.stdin)?;
        let keys = context.detach_keys(self.detach_keys)?;
        let signals = Signals::catch()?;
        let session = context.engine.attach(&self.container, attach)?;
        let relay = Relay::new(session, signals, tty).redraw().detach_keys(keys).sig_proxy(self.sig_proxy && !tty);
        Ok(relay.run()?.code())
    }
}

fn check_state(state: &serde_json::Value) -> Result<()> {
    let (what, remedy) = match state["Status"].as_str().unwrap_or_default() {
        "running" => return Ok(()),
        "paused" => ("paused", "unpause it first"),
        "restarting" => ("restarting", "wait until it is running"),
        _ => ("stopped", "start it first"),
    };
    Err(Failure::new(format!("cannot attach to a {what} container, {remedy}")))
}
