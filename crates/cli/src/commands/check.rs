//! `kiste system check`: whether everything that is stored is what its digests and records say.

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Mend what can be mended
    #[arg(long)]
    repair: bool,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Check the digests and records of everything that is stored";

    fn run(self, context: &Context) -> Result<u8> {
        let report = context.engine.check_store(self.repair)?;
        for problem in &report.problems {
            let mended = problem.mended.as_ref().map_or(String::new(), |how| format!(" ({how})"));
            context.print(&format!("{}{mended}\n", problem.what))?;
        }
        let open = report.problems.iter().filter(|problem| problem.mended.is_none()).count();
        let (images, layers, found) = (report.images, report.layers, report.problems.len());
        context.print(&format!("{images} images, {layers} layers: {found} problems, {} mended\n", found - open))?;
        Ok(u8::from(open > 0))
    }
}
