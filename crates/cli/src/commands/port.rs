//! `kiste port`: where a container's ports are published.

use std::io::Write as _;

use crate::commands::Verb;
use crate::context::{Context, say};
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "CONTAINER", hide = true)]
    container: String,
    #[arg(value_name = "PRIVATE_PORT[/PROTO]", hide = true)]
    port: Option<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "CONTAINER [PRIVATE_PORT[/PROTO]]";
    const ABOUT: &'static str = "List port mappings or a specific mapping for the container";

    fn run(self, context: &Context) -> Result<u8> {
        let ports = context.engine.ports(&self.container)?;
        let Some(wanted) = &self.port else {
            ports.iter().try_for_each(|(port, address)| writeln!(context.out(), "{port} -> {address}"))?;
            return Ok(0);
        };
        let full = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
        let addresses: Vec<&String> =
            ports.iter().filter(|(port, _)| *port == full).map(|(_, address)| address).collect();
        if addresses.is_empty() {
            say(&format!("Error: No public port '{wanted}' published for {}\n", self.container));
            return Ok(1);
        }
        addresses.iter().try_for_each(|address| writeln!(context.out(), "{address}"))?;
        Ok(0)
    }
}
