//! The verbs that talk to registries: each hands the request to the image store and adds the events.

use image::Access;

use super::images::PullProgress;
use crate::{Engine, Error, Result};

/// One result of `search`.
pub use image::Found as SearchResult;
/// What to pull.
pub use image::Pull as PullRequest;
/// What to push.
pub use image::Push as PushRequest;
pub use image::{Credentials, Distribution, Pulled, Pushed};

impl Engine {
    /// Pulls from a registry; the image (with `all_tags` that of the last tag).
    pub fn pull(&self, request: &PullRequest, progress: &mut dyn FnMut(PullProgress)) -> Result<Pulled> {
        let store = self.images();
        let mut tell = teller(progress);
        let pulled = self.with_records(|records| Ok(store.pull(records, request, &mut tell)?))?;
        pulled.iter().try_for_each(|image| self.image_event("pull", &image.name, &image.name))?;
        pulled
            .into_iter()
            .next_back()
            .ok_or_else(|| Error::not_found(format!("{}: the repository has no tags", request.reference)))
    }

    /// Pushes to a registry; what went there.
    pub fn push(&self, request: &PushRequest, progress: &mut dyn FnMut(PullProgress)) -> Result<Vec<Pushed>> {
        self.check_image(&request.reference)?;
        if request.all_tags {
            self.bounds().check_unlabelled("every tag of a repository")?;
        }
        let store = self.images();
        let mut tell = teller(progress);
        let pushed = self.with_records(|records| Ok(store.push(records, request, &mut tell)?))?;
        pushed.iter().try_for_each(|image| self.image_event("push", &image.name, &image.name))?;
        Ok(pushed)
    }

    /// Checks credentials with a registry (`host[:port]`); a token to keep instead of the password, if there is one.
    pub fn log_in(&self, host: &str, access: &Access) -> Result<Option<String>> {
        Ok(image::log_in(access, host)?)
    }

    /// What a registry says about a reference.
    pub fn distribution(&self, reference: &str, access: &Access) -> Result<Distribution> {
        Ok(image::ask(access, reference)?)
    }

    /// Begins to download what a URL names, for `import`.
    pub fn download(&self, url: &str, access: &Access) -> Result<Box<dyn std::io::Read + Send>> {
        self.bounds().check_address()?;
        Ok(Box::new(image::download(access, url)?))
    }

    /// Searches a registry, Docker Hub by default, for images.
    pub fn search(&self, term: &str, limit: usize, access: &Access) -> Result<Vec<SearchResult>> {
        Ok(image::search(access, term, limit)?)
    }
}

fn teller(progress: &mut dyn FnMut(PullProgress)) -> impl FnMut(&str, &str, u64, u64) {
    |id, status, current, total| {
        progress(PullProgress { id: id.to_owned(), status: status.to_owned(), current, total });
    }
}
