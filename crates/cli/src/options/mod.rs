//! The flags of `run` and `create`, group by group, and the way from them to the engine's request. What a flag's value
//! looks like is checked here; whether the request makes sense is the engine's business.

mod devices;
pub(crate) mod environment;
mod foreign;
mod health;
pub(crate) mod identity;
mod mount;
mod network;
mod ports;
pub(crate) mod process;
pub(crate) mod resources;
mod security;
mod storage;
#[cfg(test)]
mod tests;
pub(crate) mod units;

use engine::model::CreateRequest;

use crate::failure::{ENGINE_FAILED, Failure, Result};

/// All flags that `run` and `create` share, the image and the command.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    process: process::Process,
    #[command(flatten)]
    identity: identity::Identity,
    #[command(flatten)]
    network: network::Network,
    #[command(flatten)]
    storage: storage::Storage,
    #[command(flatten)]
    security: security::Security,
    #[command(flatten)]
    resources: resources::Resources,
    #[command(flatten)]
    devices: devices::Devices,
    #[command(flatten)]
    health: health::Health,
    #[command(flatten)]
    foreign: foreign::Foreign,
    /// Everything from here on belongs to the container's program.
    #[arg(required = true, trailing_var_arg = true, hide = true, value_name = "IMAGE")]
    image_and_command: Vec<String>,
}

/// When an image is pulled (`--pull`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pull {
    /// Even if it is here.
    Always,
    /// If it is not here.
    #[default]
    Missing,
    /// Never.
    Never,
}

impl Options {
    /// The request, complete but for what only `run` knows (attached streams, `--rm`).
    pub(crate) fn request(self) -> Result<CreateRequest> {
        self.foreign.refuse()?;
        let mut request = CreateRequest::default();
        let mut words = self.image_and_command.into_iter();
        request.config.image = words.next().unwrap_or_default();
        let command: Vec<String> = words.collect();
        request.config.cmd = (!command.is_empty()).then_some(command);
        self.process.apply(&mut request)?;
        self.identity.apply(&mut request)?;
        self.network.apply(&mut request)?;
        self.storage.apply(&mut request)?;
        self.security.apply(&mut request)?;
        self.resources.apply(&mut request)?;
        self.devices.apply(&mut request);
        self.health.apply(&mut request)?;
        Ok(request)
    }

    /// `--pull`, and whether the pull is to be silent.
    pub(crate) fn pull(&self) -> (Pull, bool) {
        (self.identity.pull, self.identity.quiet)
    }

    /// Whether `--attach` was given.
    pub(crate) fn attaches(&self) -> bool {
        !self.process.attach.is_empty()
    }

    /// `--cidfile`.
    pub(crate) fn cidfile(&self) -> Option<&std::path::Path> {
        self.identity.cidfile.as_deref()
    }
}

/// A contradiction or malformation that no single flag's parser can see; exit code 125.
fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(message).coded(ENGINE_FAILED)
}

/// A list as the engine's model has it: absent when empty.
fn list<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
