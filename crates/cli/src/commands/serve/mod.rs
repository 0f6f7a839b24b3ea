//! `kiste serve`: the Docker Engine API on sockets. What a `--host` may say is read in `host`.

mod host;
mod notify;

use std::path::PathBuf;

use api::{Access, Listener, TlsFiles};

use self::host::{Address, Host};
use crate::commands::Verb;
use crate::context::{Context, say};
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Socket to listen on (default: unix://STATE/docker.sock, or the sockets of systemd):
    /// unix:///PATH, tcp://ADDRESS:PORT or fd://[NAME], and with commas what its clients may do
    /// (read-only, confined, label=NAME=VALUE) and who they are (mode=660, group=NAME)
    #[arg(short = 'H', long, value_name = "list")]
    host: Vec<String>,
    /// Group that may use the socket
    #[arg(short = 'G', long, value_name = "string")]
    group: Option<String>,
    /// Permission bits of the socket
    #[arg(long, value_name = "mode", default_value = "660", value_parser = host::mode)]
    mode: u32,
    /// Use TLS on TCP, and let in only clients with a certificate
    #[arg(long)]
    tlsverify: bool,
    /// Trust clients with certificates signed only by this CA
    #[arg(long, value_name = "string", requires = "tlsverify")]
    tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "string", requires = "tlsverify")]
    tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "string", requires = "tlsverify")]
    tlskey: Option<PathBuf>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Serve the Docker Engine API";

    fn run(self, context: &Context) -> Result<u8> {
        let paths = context.engine.paths().clone();
        let mut inherited = host::inherited();
        let mut hosts = self.host.clone();
        if hosts.is_empty() {
            hosts.push(match inherited.is_empty() {
                true => format!("unix://{}", paths.state.join("docker.sock").display()),
                false => "fd://".to_owned(),
            });
        }
        let tls = self.tls_files()?;
        let mut listeners = Vec::new();
        for text in &hosts {
            let host = Host::parse(text)?;
            let made = self.listen(&host, tls.as_ref(), &mut inherited);
            listeners.extend(made.map_err(|error| Failure::new(format!("listen on {text}: {error}")))?);
            context.debug(|| format!("listening on {text}"));
        }
        notify::ready();
        api::serve(paths, listeners, |line| say(&format!("{line}\n")))
            .map_err(|error| Failure::new(format!("serve: {error}")))?;
        Ok(0)
    }
}

impl Args {
    fn tls_files(&self) -> Result<Option<TlsFiles>> {
        if !self.tlsverify {
            return Ok(None);
        }
        match (self.tlscacert.clone(), self.tlscert.clone(), self.tlskey.clone()) {
            (Some(authority), Some(certificate), Some(key)) => Ok(Some(TlsFiles { authority, certificate, key })),
            _ => Err(Failure::new("--tlsverify needs --tlscacert, --tlscert and --tlskey")),
        }
    }

    fn listen(
        &self,
        host: &Host,
        tls: Option<&TlsFiles>,
        inherited: &mut Vec<host::Inherited>,
    ) -> Result<Vec<Listener>, String> {
        let policy = host.policy.clone();
        let one = |made: std::io::Result<Listener>| Ok(vec![made.map_err(|error| error.to_string())?]);
        match &host.address {
            Address::Unix(path) => {
                let group = host.group.as_ref().or(self.group.as_ref());
                let group = group.map(|name| host::group(name)).transpose()?;
                one(Listener::unix(path, Access { mode: host.mode.unwrap_or(self.mode), group }, policy))
            }
            Address::Tcp(address) => {
                if tls.is_none() {
                    host::check_plain(*address)?;
                    say(&format!(
                        "WARNING: {address} is served without encryption: every process of this machine that reaches it \
                         is root; use --tlsverify\n"
                    ));
                }
                one(Listener::tcp(*address, tls, policy))
            }
            Address::Inherited(name) => {
                let wanted = |socket: &mut host::Inherited| name.is_empty() || socket.name == *name;
                let chosen: Vec<_> = inherited.extract_if(.., wanted).collect();
                if chosen.is_empty() {
                    return Err("systemd has handed over no such socket".to_owned());
                }
                let take = |socket: host::Inherited| Listener::inherited(socket.descriptor, policy.clone());
                chosen.into_iter().map(|socket| take(socket).map_err(|error| error.to_string())).collect()
            }
        }
    }
}
