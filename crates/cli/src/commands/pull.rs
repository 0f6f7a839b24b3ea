//! `kiste pull`: fetches an image from a registry.

use std::str::FromStr;

use engine::PullRequest;
use image::reference::Reference;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{ENGINE_FAILED, Failure, Result};
use crate::options::identity::platform;
use crate::progress::Progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Set platform if the image comes for several
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
    const SYNOPSIS: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";
    const ABOUT: &'static str = "Download an image from a registry";

    fn run(self, context: &Context) -> Result<u8> {
        let reference = Reference::from_str(&self.image).map_err(|error| Failure::new(error.to_string()))?;
        let tagged = reference.tag().is_some() || reference.digest().is_some();
        if !self.disable_content_trust {
            let hint = "policy.json decides which signatures are needed";
            return Err(
                Failure::new("--disable-content-trust=false: there is no notary to ask for signatures").hinted(hint)
            );
        }
        if self.all_tags && tagged {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && !tagged && !self.quiet {
            context.print("Using default tag: latest\n")?;
        }
        let request = PullRequest {
            reference: self.image,
            platform: platform(self.platform),
            all_tags: self.all_tags,
            access: context.access(),
        };
        let mut progress = Progress::to_output(self.quiet);
        let pulled = context.engine.pull(&request, &mut |step| progress.show(&step))?;
        // A short name may stand for another one (registries.conf).
        let meant = Reference::from_str(&pulled.name).unwrap_or(reference);
        let name = if self.all_tags { meant.name() } else { meant.or_latest().to_string() };
        context.print(&format!("{name}\n")).map(|()| 0)
    }
}

/// Pulls what a container needs; progress goes to standard error, which is not the container's output.
pub(super) fn for_container(context: &Context, image: &str, platform: Option<&str>, quiet: bool) -> Result<()> {
    let request = PullRequest {
        reference: image.to_owned(),
        platform: platform.map(str::to_owned),
        all_tags: false,
        access: context.access(),
    };
    let mut progress = Progress::to_errors(quiet);
    let pulled = context.engine.pull(&request, &mut |step| progress.show(&step));
    pulled.map(drop).map_err(|error| Failure::from(error).coded(ENGINE_FAILED))
}

/// The name as people write it, with its tag.
pub(super) fn familiar(image: &str) -> String {
    Reference::from_str(image).map_or_else(|_| image.to_owned(), |reference| reference.or_latest().familiar())
}
