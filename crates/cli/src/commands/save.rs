//! `kiste save`: images as one archive.

use std::path::PathBuf;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;
use crate::options::identity::platform;
use crate::output::{Output, written};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only if the image is for this platform ("os[/arch[/variant]]")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(required = true, hide = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ABOUT: &'static str = "Save one or more images to a tar archive (streamed to STDOUT by default)";

    fn run(self, context: &Context) -> Result<u8> {
        let mut output = Output::open(self.output.as_deref(), "failed to save image")?;
        let (engine, images, platform) = (&context.engine, &self.images, platform(self.platform));
        // The kernel copies from file to file by itself.
        written(match &mut output {
            Output::File(new) => engine.save(images, platform.as_deref(), &mut new.file),
            output => engine.save(images, platform.as_deref(), output),
        })?;
        output.finish().map(|()| 0)
    }
}
