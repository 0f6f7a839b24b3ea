//! `kiste import`: makes an image of an archive of one file system tree.

use std::fs::File;
use std::io::{self, Read};

use engine::ImportRequest;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::identity::platform;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform of the image
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(required = true, hide = true, value_name = "FILE")]
    source: String,
    #[arg(hide = true, value_name = "REPOSITORY")]
    reference: Option<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]";
    const ABOUT: &'static str = "Import the contents from a tarball to create a filesystem image";

    fn run(self, context: &Context) -> Result<u8> {
        let mut input = open(context, &self.source)?;
        let request = ImportRequest {
            reference: self.reference,
            changes: self.change,
            message: self.message.unwrap_or_else(|| format!("Imported from {}", self.source)),
            platform: platform(self.platform),
        };
        let id = context.engine.import(&mut input, &request)?;
        context.print(&format!("{id}\n")).map(|()| 0)
    }
}

fn open(context: &Context, source: &str) -> Result<Box<dyn Read>> {
    if source == "-" {
        return Ok(Box::new(io::stdin()));
    }
    if source.starts_with("http://") || source.starts_with("https://") {
        context.print(&format!("Downloading from {source}\n"))?;
        return Ok(context.engine.download(source, &context.access())?);
    }
    match File::open(source) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::new(format!("open {source}: {error}"))),
    }
}
