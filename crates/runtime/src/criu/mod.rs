//! Saving a container's processes to disk and bringing them back, by CRIU (<https://criu.org>) over its RPC: what is asked
//! for; the commands decide what follows.

pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod private;
pub(crate) mod rpc;
pub(crate) mod swrk;

use rpc::{Features, Kind, Request};

use crate::{Error, Result};

/// Whether CRIU and this kernel can do what is asked for; an error that says what they cannot.
pub(crate) fn require(features: Features) -> Result<()> {
    let request = Request { kind: Kind::FeatureCheck.into(), features: Some(features), ..Request::default() };
    let response = swrk::ask(&request, &[], || Ok(()), &mut |_, _| Ok(()))?;
    let there = response.features.unwrap_or_default();
    let missing = |wanted: Option<bool>, there: Option<bool>| wanted == Some(true) && there != Some(true);
    match () {
        () if missing(features.mem_track, there.mem_track) => Err(Error::new("criu is missing features: MemTrack")),
        () if missing(features.lazy_pages, there.lazy_pages) => Err(Error::new("criu is missing features: LazyPages")),
        () => Ok(()),
    }
}
