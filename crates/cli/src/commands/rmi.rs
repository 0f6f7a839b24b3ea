//! `kiste rmi`: removes names of images, and images with their last name.

use engine::{ErrorKind, RemovedImage};

use crate::commands::{Verb, for_each};
use crate::context::{Context, report};
use crate::failure::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only what is for one of these platforms ("os[/arch[/variant]]")
    #[arg(long = "platform", value_name = "strings", value_delimiter = ',')]
    platforms: Vec<String>,
    #[arg(required = true, hide = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ABOUT: &'static str = "Remove one or more images";

    fn run(self, context: &Context) -> Result<u8> {
        let remove = |name: &str| {
            context.engine.check_image_platform(name, &self.platforms)?;
            context.engine.remove_image(name, self.force, self.no_prune)
        };
        for_each(&self.images, |name| match remove(name) {
            Ok(removed) => context.print(&removed.iter().map(line).collect::<String>()),
            // With --force, what is not there is as good as removed.
            Err(error) if self.force && error.kind == ErrorKind::NotFound => {
                report(&error.into());
                Ok(())
            }
            Err(error) => Err(error.into()),
        })
    }
}

fn line(removed: &RemovedImage) -> String {
    match removed {
        RemovedImage::Untagged(name) => format!("Untagged: {name}\n"),
        RemovedImage::Deleted(id) => format!("Deleted: {id}\n"),
    }
}
