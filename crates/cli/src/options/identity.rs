//! Flags about the container's names and where it comes from.

use std::path::PathBuf;

use engine::model::CreateRequest;

use super::units::pair;
use super::{Pull, environment};
use crate::failure::Result;

/// Flags about the container's names and where it comes from.
#[derive(clap::Args)]
#[command(next_help_heading = "Identity")]
pub(super) struct Identity {
    /// Add an annotation to the container (passed through to the OCI configuration)
    #[arg(long, value_name = "map", value_parser = annotation)]
    annotation: Vec<(String, String)>,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(super) cidfile: Option<PathBuf>,
    /// Container NIS domain name
    #[arg(long, value_name = "string")]
    domainname: Option<String>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    label_file: Vec<PathBuf>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Set platform if the image comes for several
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Pull image before running ("always", "missing", "never") (default "missing")
    #[arg(long, value_name = "string", value_parser = pull, default_value = "missing", hide_default_value = true)]
    pub(super) pull: Pull,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl Identity {
    pub(super) fn apply(self, request: &mut CreateRequest) -> Result<()> {
        request.name = self.name.filter(|name| !name.is_empty());
        request.platform = platform(self.platform);
        request.config.hostname = self.hostname.unwrap_or_default();
        request.config.domainname = self.domainname.unwrap_or_default();
        request.config.labels = environment::labels(&self.label_file, self.label)?;
        request.host.annotations = self.annotation.into_iter().collect();
        request.host.container_id_file =
            self.cidfile.map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(())
    }
}

/// The platform asked for, or the one that `DOCKER_DEFAULT_PLATFORM` names.
pub(crate) fn platform(flag: Option<String>) -> Option<String> {
    flag.or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok()).filter(|platform| !platform.is_empty())
}

/// `key=value`; the value may be missing and is then empty.
fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err("the empty string is not permitted as an annotation key".to_owned()),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    }
}

fn pull(text: &str) -> Result<Pull, String> {
    match text {
        "always" => Ok(Pull::Always),
        "missing" | "" => Ok(Pull::Missing),
        "never" => Ok(Pull::Never),
        _ => Err(format!("invalid pull option: '{text}': must be one of \"always\", \"missing\" or \"never\"")),
    }
}
