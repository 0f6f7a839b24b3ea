//! `kiste login` and `kiste logout`: credentials for registries, kept where Docker keeps them.

use std::io::{IsTerminal, Read};

use image::{Credentials, Kept};

use crate::commands::Verb;
use crate::context::{Context, say};
use crate::failure::{Failure, Result};
use crate::terminal::prompt;

/// How Docker calls its own registry here.
const HUB: &str = "https://index.docker.io/v1/";
/// Longest password that is read.
const LONGEST: u64 = 1 << 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    #[arg(hide = true, value_name = "SERVER")]
    server: Option<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] [SERVER]";
    const ABOUT: &'static str = "Authenticate to a registry";

    fn run(self, context: &Context) -> Result<u8> {
        self.check()?;
        let host = host(self.server.as_deref());
        let keyring = context.access().keyring();
        let known = keyring.find(&host).map_err(engine::Error::from)?;
        let asked = self.username.is_some() || self.password.is_some();
        let credentials = match known {
            Some(known) if !asked => {
                let user = format!("Authenticating with existing credentials... [Username: {}]\n", known.username);
                context.print(&user)?;
                known
            }
            known => self.ask(context, known.map(|known| known.username))?,
        };
        let access = image::Access { credentials: Some(credentials.clone()), ..context.access() };
        let token = context.engine.log_in(&host, &access)?;
        let kept = match token {
            Some(identity_token) => Credentials { identity_token, password: String::new(), ..credentials },
            None => credentials,
        };
        if let Kept::InFile(path) = keyring.keep(&host, &kept).map_err(engine::Error::from)? {
            say(&format!(
                "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
                path.display()
            ));
        }
        context.print("Login Succeeded\n").map(|()| 0)
    }
}

impl Args {
    fn check(&self) -> Result<()> {
        if self.password_stdin && self.password.is_some() {
            return Err(Failure::new("conflicting options: cannot specify both --password and --password-stdin"));
        }
        if self.password_stdin && self.username.as_deref().unwrap_or("").is_empty() {
            return Err(Failure::new("the --password-stdin option requires --username to be set"));
        }
        if self.password.is_some() {
            say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
        }
        Ok(())
    }

    /// What is not given is asked for, on a terminal.
    fn ask(self, context: &Context, known: Option<String>) -> Result<Credentials> {
        let interactive = || match std::io::stdin().is_terminal() {
            true => Ok(()),
            false => Err(Failure::new("Cannot perform an interactive login from a non TTY device")
                .hinted("give --username and --password-stdin")),
        };
        let username = match self.username.filter(|name| !name.trim().is_empty()) {
            Some(name) => name.trim().to_owned(),
            None => {
                interactive()?;
                let known = known.unwrap_or_default();
                let question = if known.is_empty() { "Username: ".to_owned() } else { format!("Username ({known}): ") };
                let answer = prompt::line(context, &question)?;
                if answer.is_empty() { known } else { answer }
            }
        };
        if username.is_empty() {
            return Err(Failure::new("username is required"));
        }
        let password = match (self.password, self.password_stdin) {
            (Some(password), _) => password,
            (None, true) => from_input()?,
            (None, false) => String::new(),
        };
        let password = match password.is_empty() {
            false => password,
            true => {
                interactive()?;
                prompt::secret(context, "Password: ")?
            }
        };
        if password.is_empty() {
            return Err(Failure::new("password is required"));
        }
        Ok(Credentials { username, password, ..Credentials::default() })
    }
}

/// Standard input without the end of its line.
fn from_input() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| Failure::new(format!("read the password: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// The registry: `https://host/v1/` is another spelling of `host`.
fn host(server: Option<&str>) -> String {
    let name = server.unwrap_or("docker.io").trim();
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    match name.split('/').next().unwrap_or(name) {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[derive(clap::Args)]
pub(crate) struct LogoutArgs {
    #[arg(hide = true, value_name = "SERVER")]
    server: Option<String>,
}

impl Verb for LogoutArgs {
    const SYNOPSIS: &'static str = "[SERVER]";
    const ABOUT: &'static str = "Log out from a registry";

    fn run(self, context: &Context) -> Result<u8> {
        let host = host(self.server.as_deref());
        let shown = if host == "docker.io" { HUB } else { &host };
        context.print(&format!("Removing login credentials for {shown}\n"))?;
        context.access().keyring().forget(&host).map_err(engine::Error::from)?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_registry() {
        for (text, name) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("http://127.0.0.1:5000/"), "127.0.0.1:5000"),
            (Some("ghcr.io"), "ghcr.io"),
            (Some("ghcr.io/owner"), "ghcr.io"),
        ] {
            assert_eq!(host(text), name);
        }
    }
}
