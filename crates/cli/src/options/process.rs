//! Flags about the process and its streams.

use std::path::PathBuf;

use engine::model::{CreateRequest, RestartPolicy};

use super::{environment, invalid, list};
use crate::failure::Result;

/// Flags about the process and its streams.
#[derive(clap::Args)]
#[command(next_help_heading = "Process")]
pub(super) struct Process {
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", value_parser = stream)]
    pub(super) attach: Vec<&'static str>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = environment::variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string", value_parser = restart)]
    restart: Option<RestartPolicy>,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    rm: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int")]
    stop_timeout: Option<i64>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
}

impl Process {
    pub(super) fn apply(self, request: &mut CreateRequest) -> Result<()> {
        if self.rm && self.restart.as_ref().is_some_and(|policy| !matches!(policy.name.as_str(), "" | "no")) {
            return Err(invalid("conflicting options: cannot specify both --restart and --rm"));
        }
        let config = &mut request.config;
        config.attach_stdin = self.attach.contains(&"stdin") || self.attach.is_empty() && self.interactive;
        config.attach_stdout = self.attach.contains(&"stdout") || self.attach.is_empty();
        config.attach_stderr = self.attach.contains(&"stderr") || self.attach.is_empty();
        config.open_stdin = self.interactive;
        config.stdin_once = self.interactive && config.attach_stdin;
        config.tty = self.tty;
        config.env = environment::environment(&self.env_file, &self.env)?;
        // An empty entry point clears the image's; that is what `[""]` says in Docker's API.
        config.entrypoint = self.entrypoint.map(|program| vec![program]);
        config.user = self.user.unwrap_or_default();
        config.working_dir = self.workdir.unwrap_or_default();
        config.stop_signal = self.stop_signal.unwrap_or_default();
        config.stop_timeout = self.stop_timeout;
        request.host.group_add = list(self.group_add);
        request.host.init = self.init.then_some(true);
        request.host.auto_remove = self.rm;
        request.host.restart_policy =
            self.restart.unwrap_or_else(|| RestartPolicy { name: "no".into(), ..Default::default() });
        Ok(())
    }
}

fn stream(text: &str) -> Result<&'static str, String> {
    let known = ["stdin", "stdout", "stderr"];
    let found = known.into_iter().find(|name| text.eq_ignore_ascii_case(name));
    found.ok_or_else(|| "valid streams are STDIN, STDOUT and STDERR".to_owned())
}

/// `no`, `always`, `unless-stopped`, `on-failure[:N]`; which names exist is checked here, as Docker's daemon does.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    if text.starts_with(':') {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    if !matches!(name, "" | "no" | "always" | "unless-stopped" | "on-failure") {
        return Err(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ));
    }
    let count = match count {
        None => 0,
        Some(_) if name != "on-failure" => {
            return Err("invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned());
        }
        Some(count) => {
            let whole = "invalid restart policy format: maximum retry count must be an integer";
            count.parse::<i64>().ok().filter(|n| *n >= 0).ok_or(whole)?
        }
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count: count })
}
