//! `kiste run`: creates a container and starts it, in the foreground or detached.

use engine::model::{CreateRequest, Created};
use engine::{Attach, Session, StartOptions};

use crate::commands::Verb;
use crate::commands::create::{Cidfile, with_image};
use crate::context::Context;
use crate::failure::{ENGINE_FAILED, Failure, Result};
use crate::options::Options;
use crate::options::environment::proxies;
use crate::terminal::{self, Keys, Relay, Signals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", value_parser = Keys::parse)]
    detach_keys: Option<Keys>,
    /// Proxy received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    #[command(flatten)]
    options: Options,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const ABOUT: &'static str = "Create and run a new container from an image";

    fn run(self, context: &Context) -> Result<u8> {
        if self.detach && self.options.attaches() {
            return Err(
                Failure::new("conflicting options: cannot specify both --attach and --detach").coded(ENGINE_FAILED)
            );
        }
        let pull = self.options.pull();
        let cidfile = self.options.cidfile().map(Cidfile::reserve).transpose()?;
        let mut request = self.options.request()?;
        proxies(context.settings(), &mut request.config.env);
        let keys = context.detach_keys(self.detach_keys)?;
        if self.detach {
            detach(&mut request);
        } else {
            terminal::check_input(request.config.tty, request.config.attach_stdin)?;
        }
        let options = start_options(&mut request, self.detach);

        let mut signals = None;
        let (created, session) = with_image(context, &request, pull, |request| {
            // Not before: a pull may be interrupted.
            signals = if self.detach { None } else { Some(Signals::catch()?) };
            launch(context, request, &options, cidfile.as_ref())
                .inspect_err(|_| signals.take().into_iter().for_each(Signals::release))
        })?;
        created.warnings.iter().for_each(|warning| context.warn(warning));
        match (session, signals) {
            (Some(session), Some(signals)) => {
                let relay =
                    Relay::new(session, signals, request.config.tty).detach_keys(keys).sig_proxy(self.sig_proxy);
                Ok(relay.run()?.code())
            }
            _ => context.print(&format!("{}\n", created.id)).map(|()| 0),
        }
    }
}

/// A detached container has no streams of ours, so nothing to be once-only either.
fn detach(request: &mut CreateRequest) {
    let config = &mut request.config;
    (config.attach_stdin, config.attach_stdout, config.attach_stderr, config.stdin_once) = (false, false, false, false);
}

fn start_options(request: &mut CreateRequest, detach: bool) -> StartOptions {
    let config = &request.config;
    let attach = Attach { stdin: config.attach_stdin, stdout: config.attach_stdout, stderr: config.attach_stderr };
    let console_size = terminal::size().filter(|_| config.tty);
    request.host.console_size = console_size.map_or([0, 0], |(rows, columns)| [rows.into(), columns.into()]);
    StartOptions { attach: (!detach).then_some(attach), console_size, ..StartOptions::default() }
}

/// Creates and starts in one step, or, where the id must be in a file before the start, in two.
fn launch(
    context: &Context,
    request: &CreateRequest,
    options: &StartOptions,
    cidfile: Option<&Cidfile>,
) -> Result<(Created, Option<Session>)> {
    let failed = |error| Failure::of_program(error, ENGINE_FAILED);
    let Some(cidfile) = cidfile else { return context.engine.run(request, options).map_err(failed) };
    let created = context.engine.create(request).map_err(failed)?;
    cidfile.write(&created.id)?;
    let session = context.engine.start(&created.id, options).map_err(failed)?;
    Ok((created, session))
}
