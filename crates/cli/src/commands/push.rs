//! `kiste push`: brings an image to a registry.

use std::str::FromStr;

use engine::PushRequest;
use image::reference::Reference;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::identity::platform;
use crate::progress::Progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Push the image only if it is for this platform
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Skip image verification
    #[arg(long, hide = true, default_value = "true")]
    disable_content_trust: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(required = true, hide = true, value_name = "NAME")]
    image: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] NAME[:TAG]";
    const ABOUT: &'static str = "Upload an image to a registry";

    fn run(self, context: &Context) -> Result<u8> {
        let reference = Reference::from_str(&self.image).map_err(|error| Failure::new(error.to_string()))?;
        let named = reference.tag().is_some() || reference.digest().is_some();
        if !self.disable_content_trust {
            let hint = "policy.json decides which signatures are needed";
            return Err(
                Failure::new("--disable-content-trust=false: there is no notary to ask for signatures").hinted(hint)
            );
        }
        if self.all_tags && named {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && !named && !self.quiet {
            context.print("Using default tag: latest\n")?;
        }
        let request = PushRequest {
            reference: self.image,
            platform: platform(self.platform),
            all_tags: self.all_tags,
            access: context.access(),
        };
        let mut progress = Progress::to_output(self.quiet);
        context.engine.push(&request, &mut |step| progress.show(&step))?;
        if self.quiet {
            let name = if self.all_tags { reference.name() } else { reference.or_latest().to_string() };
            context.print(&format!("{name}\n"))?;
        }
        Ok(0)
    }
}
