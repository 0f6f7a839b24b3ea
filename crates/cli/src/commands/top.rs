//! `kiste top`: the processes of a container.

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;
use crate::format::tabulate_wide;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "CONTAINER", hide = true)]
    container: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ps OPTIONS", hide = true)]
    arguments: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "CONTAINER [ps OPTIONS]";
    const ABOUT: &'static str = "Display the running processes of a container";

    fn run(self, context: &Context) -> Result<u8> {
        let top = context.engine.top(&self.container, &self.arguments)?;
        let lines = std::iter::once(&top.titles).chain(&top.processes);
        let text: String = lines.map(|line| line.join("\t") + "\n").collect();
        context.print(&tabulate_wide(&text))?;
        Ok(0)
    }
}
