//! What becomes of a build's result: an image in the store, pushed or not, files in a directory or an archive, an OCI
//! layout, what `docker load` takes, or nothing.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::PoisonError;

use engine::{Engine, PushRequest};
use image::{Assembly, Part};

use crate::attest::{self, Statement};
use crate::cache::{CachePlace, CacheTarget};
use crate::event::{Built, Event};
use crate::files::Tree;
use crate::output::{Output, Sink};
use crate::scratch::Scratch;
use crate::solver::{Common, Finished};
use crate::stage::failed;
use crate::{Error, Result, transfer};

/// Makes all outputs.
pub(crate) fn export(common: &Common<'_>, finished: Vec<Finished>) -> Result<Built> {
    let mut export = Export { common, engine: common.engine(), finished, digest: None };
    let steps = common.steps.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if wants_inline(common) {
        export.inline(&steps)?;
    }
    let default = [Output::Image { push: false }];
    let outputs = if common.request.outputs.is_empty() { &default[..] } else { &common.request.outputs };
    for output in outputs {
        common.cancel.check()?;
        export.make(output)?;
    }
    for target in common.request.cache_to.iter().filter(|target| target.place != CachePlace::Inline) {
        let written = export.told("exporting cache", |export, _| export.cache(target, &steps));
        if !target.optional {
            written?;
        }
    }
    let metadata = export.metadata();
    let images = export.finished.into_iter().map(|one| one.image).collect();
    Ok(Built { images, warnings: Vec::new(), digest: export.digest, metadata })
}

/// Whether the result is to be its own cache.
fn wants_inline(common: &Common<'_>) -> bool {
    let argument = common.request.arguments.get("BUILDKIT_INLINE_CACHE");
    argument.is_some_and(|value| value == "1" || value == "true")
        || common.request.cache_to.iter().any(|target| target.place == CachePlace::Inline)
}

struct Export<'e> {
    common: &'e Common<'e>,
    engine: Engine,
    finished: Vec<Finished>,
    digest: Option<String>,
}

impl Export<'_> {
    fn make(&mut self, output: &Output) -> Result<()> {
        match output {
            Output::Nothing => Ok(()),
            Output::Image { push } => {
                self.told("exporting to image", |export, _| export.image())?;
                if *push { self.told("pushing", Export::push) } else { Ok(()) }
            }
            Output::Directory(directory) => self.told("copying files", |export, _| export.directory(directory)),
            Output::Tar(sink) => self.told("exporting to tar", |export, _| {
                let failed = |error: io::Error| Error::new(format!("write the archive: {error}"));
                sink.fill(&mut |output| export.tar(output)).map_err(failed)
            }),
            Output::Oci(sink) => self.told("exporting to oci image format", |export, _| export.archive(sink, false)),
            Output::Docker(sink) => {
                self.told("exporting to docker image format", |export, _| export.archive(sink, true))
            }
        }
    }

    /// Puts the steps into the results' own configurations.
    fn inline(&mut self, steps: &[transfer::Known]) -> Result<()> {
        for one in &mut self.finished {
            one.image.config = transfer::inline(&self.engine, steps, &one.image.config)?;
            one.image.id =
                format!("sha256:{}", crate::copying::hex(&<sha2::Sha256 as sha2::Digest>::digest(&one.image.config)));
        }
        Ok(())
    }

    fn cache(&self, target: &CacheTarget, steps: &[transfer::Known]) -> Result<()> {
        let layers = |one: &Finished| {
            serde_json::from_slice(&one.image.config).map(|config| transfer::layers(&config)).unwrap_or_default()
        };
        let results: Vec<Vec<String>> = self.finished.iter().map(layers).collect();
        transfer::export(self.common, &self.engine, target, steps, &results)
    }

    fn told(&mut self, title: &str, work: impl FnOnce(&mut Self, usize) -> Result<()>) -> Result<()> {
        let common = self.common;
        common.teller.step(title.to_owned(), |step| Ok((work(self, step)?, false)))
    }

    /// The images in the store; the names go to that of this machine, or to the first.
    fn image(&mut self) -> Result<()> {
        if self.common.request.sbom || self.common.request.provenance.is_some() {
            return Err(Error::new("attestations stand beside images in archives: use type=oci or type=local"));
        }
        if !self.common.request.annotations.is_empty() {
            return Err(Error::new(
                "annotations stand in manifests, which the store makes when it pushes: use type=oci",
            ));
        }
        for (index, one) in self.finished.iter().enumerate() {
            let named = index == self.named();
            let names: &[String] = if named { &self.common.request.names } else { &[] };
            let config = one.image.config.clone();
            self.engine.derive_image(names, &|_| config.clone(), None).map_err(failed)?;
        }
        Ok(())
    }

    fn named(&self) -> usize {
        let host = crate::scope::Platform::host();
        self.finished.iter().position(|one| one.image.platform == host).unwrap_or(0)
    }

    /// Each name: its image, or a list of all of them.
    fn push(&mut self, step: usize) -> Result<()> {
        let request = self.common.request;
        if request.names.is_empty() {
            return Err(Error::new("tag is needed when pushing to registry"));
        }
        for name in &request.names {
            self.digest = Some(match self.finished.len() {
                1 => self.push_one(name, step)?,
                _ => self.push_all(name, step)?,
            });
        }
        Ok(())
    }

    fn push_one(&self, name: &str, step: usize) -> Result<String> {
        let access = self.common.request.access.clone();
        let push = PushRequest { reference: name.to_owned(), access, ..PushRequest::default() };
        let teller = &self.common.teller;
        let mut tell = |progress: engine::PullProgress| {
            let done = progress.status == "Pushed" || progress.status.contains("exists");
            let (part, current, total) = (progress.id, progress.current, progress.total);
            if !part.is_empty() {
                teller.tell(Event::Progress { step, part, current, total, done });
            }
        };
        let pushed = self.engine.push(&push, &mut tell).map_err(failed)?;
        pushed
            .into_iter()
            .next_back()
            .map(|one| one.digest)
            .ok_or_else(|| Error::new(format!("{name}: nothing was pushed")))
    }

    /// The manifests go by their digests, the name to a list of them.
    fn push_all(&self, name: &str, step: usize) -> Result<String> {
        let wrong = |error: image::Error| Error::new(format!("push {name}: {error}"));
        let reference = name.parse::<image::Reference>().map_err(wrong)?.or_latest();
        let mut images = Vec::new();
        for one in &self.finished {
            self.engine.tag(&one.image.id, name).map_err(failed)?;
            images.push(format!("{}@{}", reference.familiar_name(), self.push_one(name, step)?));
        }
        self.engine.tag(&self.finished[self.named()].image.id, name).map_err(failed)?;
        let lists = image::Lists::open(&self.common.request.access, false).map_err(wrong)?;
        // One that was begun by hand under this name is not ours to change.
        lists.create(name, &images, false).map_err(wrong)?;
        let pushed = lists.push(name, true);
        if pushed.is_err() {
            let _ = lists.remove(name);
        }
        pushed.map(|list| list.digest).map_err(wrong)
    }

    /// The images' files below a directory that is made; several platforms get one each.
    fn directory(&mut self, directory: &Path) -> Result<()> {
        let failed = |cause: String| Error::new(format!("write to {}: {cause}", directory.display()));
        for (index, one) in self.finished.iter().enumerate() {
            let place = match self.finished.len() {
                1 => directory.to_owned(),
                _ => directory.join(one.image.platform.shown().replace('/', "_")),
            };
            fs::create_dir_all(&place).map_err(|error| failed(error.to_string()))?;
            let (reader, mut writer) = io::pipe().map_err(|error| failed(error.to_string()))?;
            let (written, read) = std::thread::scope(|scope| {
                let reading = scope.spawn(|| image::unpack_files(reader, &place));
                let written = self.files(index, &mut writer);
                drop(writer);
                (written, reading.join())
            });
            match read {
                Ok(Ok(_)) => written.map_err(|error| failed(error.to_string()))?,
                Ok(Err(error)) => return Err(failed(error.to_string())),
                Err(_) => return Err(failed("the reading thread died".to_owned())),
            }
            for (kind, predicate) in self.statements(one)? {
                let name = if kind.contains("spdx") { "sbom.spdx.json" } else { "provenance.json" };
                let statement = serde_json::json!({
                    "_type": "https://in-toto.io/Statement/v0.1",
                    "predicateType": kind,
                    "subject": [],
                    "predicate": predicate,
                });
                fs::write(place.join(name), statement.to_string()).map_err(|error| failed(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// One archive of the files; several platforms would hide each other.
    fn tar(&self, output: &mut dyn Write) -> io::Result<()> {
        match self.finished.len() {
            1 => self.files(0, output),
            _ => Err(io::Error::other("one archive holds the files of one platform: use type=local or type=oci")),
        }
    }

    fn files(&self, index: usize, output: &mut dyn Write) -> io::Result<()> {
        let other = |error: engine::Error| io::Error::other(error.to_string());
        let scratch = Scratch::new(&self.common.paths).map_err(|error| io::Error::other(error.message))?;
        let nothing = || {
            rustix::fs::open(
                &scratch.path,
                rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
        };
        let tree = match &self.finished[index].image.carrier {
            Some(carrier) => {
                let image = self.engine.find_image(carrier).map_err(other)?;
                if image.layers.is_empty() { nothing()? } else { self.engine.image_tree(&image).map_err(other)? }
            }
            None => nothing()?,
        };
        image::export(&nothing()?, &tree, output).map_err(|error| io::Error::other(error.to_string()))
    }

    fn archive(&mut self, sink: &Sink, docker: bool) -> Result<()> {
        let mut images = Vec::new();
        for one in &self.finished {
            let config = one.image.config.clone();
            let id = self.engine.derive_image(&[], &|_| config.clone(), None).map_err(failed)?;
            images.push(Part { id, attestations: self.statements(one)? });
        }
        let (names, annotations) = (self.common.request.names.clone(), self.common.request.annotations.clone());
        let assembly = Assembly { images, names, annotations, docker };
        let mut made = None;
        let filled = sink.fill(&mut |output| {
            made = Some(self.engine.assemble(&assembly, output).map_err(|error| io::Error::other(error.to_string()))?);
            Ok(())
        });
        filled.map_err(|error| Error::new(format!("write the archive: {error}")))?;
        self.digest = made.map(|made| made.digest);
        Ok(())
    }

    fn statements(&self, one: &Finished) -> Result<Vec<Statement>> {
        let image = one.image.carrier.as_deref().map(|carrier| self.engine.find_image(carrier).map_err(failed));
        let image = image.transpose()?.filter(|image| !image.layers.is_empty());
        let tree = image.map(|image| self.engine.image_tree(&image).map(Tree::image).map_err(failed)).transpose()?;
        attest::statements(self.common, &one.image, tree.as_ref())
    }

    /// BuildKit's answer.
    fn metadata(&self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let mut field = |key: &str, value: String| fields.push((key.to_owned(), value));
        if let [only] = self.finished.as_slice() {
            field("containerimage.config.digest", only.image.id.clone());
        }
        if let Some(digest) = self.digest.clone().or_else(|| self.finished.first().map(|one| one.image.id.clone())) {
            field("containerimage.digest", digest);
        }
        let full = |name: &String| {
            name.parse::<image::Reference>().map_or_else(|_| name.clone(), |name| name.or_latest().to_string())
        };
        let names: Vec<String> = self.common.request.names.iter().map(full).collect();
        if !names.is_empty() {
            field("image.name", names.join(","));
        }
        fields
    }
}
