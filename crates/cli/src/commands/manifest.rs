//! `kiste manifest …`: lists of images for several platforms.

use image::{Annotation, Lists};

use crate::commands::{Verb, for_each};
use crate::context::Context;
use crate::failure::{Failure, Result};

fn lists(context: &Context, insecure: bool) -> Result<Lists> {
    Lists::open(&context.access(), insecure).map_err(failed)
}

fn failed(error: image::Error) -> Failure {
    engine::Error::from(error).into()
}

#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    #[arg(required = true, hide = true, value_name = "MANIFEST_LIST")]
    list: String,
    #[arg(required = true, hide = true, value_name = "MANIFEST")]
    images: Vec<String>,
}

impl Verb for CreateArgs {
    const SYNOPSIS: &'static str = "MANIFEST_LIST MANIFEST [MANIFEST...]";
    const ABOUT: &'static str = "Create a local manifest list for annotating and pushing to a registry";

    fn run(self, context: &Context) -> Result<u8> {
        let name = lists(context, self.insecure)?.create(&self.list, &self.images, self.amend).map_err(failed)?;
        context.print(&format!("Created manifest list {name}\n")).map(|()| 0)
    }
}

#[derive(clap::Args)]
pub(crate) struct AnnotateArgs {
    /// Set architecture
    #[arg(long, value_name = "string")]
    arch: Option<String>,
    /// Set operating system
    #[arg(long, value_name = "string")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "string")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "string")]
    variant: Option<String>,
    #[arg(required = true, hide = true, value_name = "MANIFEST_LIST")]
    list: String,
    #[arg(required = true, hide = true, value_name = "MANIFEST")]
    image: String,
}

impl Verb for AnnotateArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] MANIFEST_LIST MANIFEST";
    const ABOUT: &'static str = "Add additional information to a local image manifest";

    fn run(self, context: &Context) -> Result<u8> {
        let annotation = Annotation {
            os: self.os.unwrap_or_default(),
            architecture: self.arch.unwrap_or_default(),
            os_version: self.os_version.unwrap_or_default(),
            os_features: self.os_features,
            variant: self.variant.unwrap_or_default(),
        };
        lists(context, false)?.annotate(&self.list, &self.image, &annotation).map_err(failed)?;
        Ok(0)
    }
}

#[derive(clap::Args)]
pub(crate) struct InspectArgs {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    #[arg(required = true, hide = true, value_name = "MANIFEST_LIST")]
    first: String,
    #[arg(hide = true, value_name = "MANIFEST")]
    second: Option<String>,
}

impl Verb for InspectArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] [MANIFEST_LIST] MANIFEST";
    const ABOUT: &'static str = "Display an image manifest, or manifest list";

    fn run(self, context: &Context) -> Result<u8> {
        let (list, name) = match &self.second {
            Some(second) => (Some(self.first.as_str()), second),
            None => (None, &self.first),
        };
        let text = lists(context, self.insecure)?.inspect(list, name, self.verbose).map_err(failed)?;
        context.print(&format!("{text}\n")).map(|()| 0)
    }
}

#[derive(clap::Args)]
pub(crate) struct PushArgs {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    #[arg(required = true, hide = true, value_name = "MANIFEST_LIST")]
    list: String,
}

impl Verb for PushArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] MANIFEST_LIST";
    const ABOUT: &'static str = "Push a manifest list to a repository";

    fn run(self, context: &Context) -> Result<u8> {
        let pushed = lists(context, self.insecure)?.push(&self.list, self.purge).map_err(failed)?;
        for (name, digest) in &pushed.images {
            context.print(&format!("Pushed ref {name} with digest: {digest}\n"))?;
        }
        context.print(&format!("{}\n", pushed.digest)).map(|()| 0)
    }
}

#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    #[arg(required = true, hide = true, value_name = "MANIFEST_LIST")]
    lists: Vec<String>,
}

impl Verb for RemoveArgs {
    const SYNOPSIS: &'static str = "MANIFEST_LIST [MANIFEST_LIST...]";
    const ABOUT: &'static str = "Delete one or more manifest lists from local storage";

    fn run(self, context: &Context) -> Result<u8> {
        let kept = lists(context, false)?;
        for_each(&self.lists, |list| kept.remove(list).map_err(failed))
    }
}
