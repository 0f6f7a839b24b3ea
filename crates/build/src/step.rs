//! Instructions that make a layer: COPY, ADD and WORKDIR write theirs straight from their sources; RUN's is what its
//! container has changed (`run`).

use std::io::Write;
use std::sync::Arc;

use crate::copying::{Layer, Options, Owner};
use crate::dockerfile::{Add, Copy, Sources};
use crate::files::Tree;
use crate::modes::ModeChange;
use crate::remote::Fetched;
use crate::source::Context;
use crate::stage::{Stage, failed};
use crate::stages::Origin;
use crate::words::{Style, expand};
use crate::{Error, Result};

/// One COPY or ADD on its way.
struct Copying<'c> {
    /// Where each source comes from.
    sources: Vec<(Arc<Tree>, String, Options)>,
    /// Here-documents: name and content.
    inline: Vec<(String, String)>,
    destination: String,
    /// The layer stands on its own.
    link: bool,
    options: Options,
    /// For the history.
    text: String,
    code: &'c str,
}

impl Stage<'_, '_> {
    pub(crate) fn copy(&mut self, copy: &Copy, code: &str) -> Result<()> {
        let sources = self.sources(&copy.sources)?;
        let text = CopyText { name: "COPY", chown: &copy.chown, chmod: &copy.chmod, parents: copy.parents };
        let exclude = self.words(&copy.exclude)?;
        let options = Options { parents: copy.parents, exclude, ..self.options(&copy.chown, &copy.chmod, copy.link)? };
        let tree = match copy.from.as_str() {
            "" => self.context()?,
            from => Some(self.files_of(&self.word(from)?)?),
        };
        let missing = |path: &String| Error::new(format!("{path:?}: not found: the build has no context"));
        let located = |path: &String| {
            let tree = tree.clone().ok_or_else(|| missing(path))?;
            Ok((tree, path.clone(), options.clone()))
        };
        let copying = Copying {
            sources: sources.paths.iter().map(located).collect::<Result<_>>()?,
            inline: self.documents(&sources)?,
            destination: self.outcome.state.absolute(&sources.destination),
            link: copy.link,
            text: text.history(&sources),
            options,
            code,
        };
        self.copy_layer(&copying)
    }

    pub(crate) fn add(&mut self, add: &Add, code: &str) -> Result<()> {
        let sources = self.sources(&add.sources)?;
        let text = CopyText { name: "ADD", chown: &add.chown, chmod: &add.chmod, parents: false };
        let exclude = self.words(&add.exclude)?;
        let options = Options { exclude, ..self.options(&add.chown, &add.chmod, add.link)? };
        let checksum = self.word(&add.checksum)?;
        if !checksum.is_empty() && sources.paths.len() > 1 {
            return Err(Error::new("checksum can't be specified for multiple sources"));
        }
        let (mut located, mut kept) = (Vec::new(), Vec::new());
        for path in &sources.paths {
            match Fetched::new(self.build.common, path, &checksum, add.keep_git_dir)? {
                Some(fetched) => {
                    let unpack = add.unpack.unwrap_or(false);
                    located.push((fetched.tree.clone(), fetched.path.clone(), Options { unpack, ..options.clone() }));
                    kept.push(fetched);
                }
                None if !checksum.is_empty() => return Err(Error::new("checksum requires HTTP(S) or Git sources")),
                None => {
                    let missing = || Error::new(format!("{path:?}: not found: the build has no context"));
                    let tree = self.context()?.ok_or_else(missing)?;
                    let unpack = add.unpack.unwrap_or(true);
                    located.push((tree, path.clone(), Options { unpack, ..options.clone() }));
                }
            }
        }
        let copying = Copying {
            sources: located,
            inline: self.documents(&sources)?,
            destination: self.outcome.state.absolute(&sources.destination),
            link: add.link,
            text: text.history(&sources),
            options,
            code,
        };
        self.copy_layer(&copying)
    }

    pub(crate) fn workdir(&mut self, path: &str, code: &str) -> Result<()> {
        let path = self.word(path)?;
        let text = self.outcome.state.workdir(&path);
        let (directory, user) = (self.outcome.state.directory(), self.outcome.state.user());
        let base = self.base_tree()?;
        let owner = if user.is_empty() { None } else { Some(self.owner(&user, base.as_ref())?) };
        let mut layer = Layer::new(base.as_ref(), self.seconds());
        if directory != "/" {
            layer.directory(&directory, owner)?;
        }
        let title = self.title(code);
        self.step(title, &text, |stage| stage.layer_key("workdir", &layer), |stage, _, ()| stage.derive(&layer))
    }

    fn copy_layer(&mut self, copying: &Copying<'_>) -> Result<()> {
        let base = if copying.link { None } else { self.base_tree()? };
        let mut layer = Layer::new(base.as_ref(), self.seconds());
        let title = self.title(copying.code);
        let cell = std::cell::RefCell::new(&mut layer);
        let keyed = |stage: &Self| {
            let mut layer = cell.borrow_mut();
            for (tree, path, options) in &copying.sources {
                layer.copy(tree, path, &copying.destination, options)?;
            }
            for (name, content) in &copying.inline {
                layer.inline(name, content, &copying.destination, &copying.options)?;
            }
            stage.layer_key(if copying.link { "link" } else { "copy" }, &layer)
        };
        let link = copying.link;
        self.step(title, &copying.text, keyed, |stage, _, ()| {
            let layer = cell.borrow();
            if link { stage.derive_linked(&layer) } else { stage.derive(&layer) }
        })
    }

    fn layer_key(&self, kind: &str, layer: &Layer<'_>) -> Result<(String, ())> {
        Ok((self.key(kind, &[layer.digest(self.build.home())?]), ()))
    }

    /// An image with the layer on top of the present ones.
    fn derive(&self, layer: &Layer<'_>) -> Result<String> {
        if layer.is_empty() {
            return self.carry();
        }
        let write = Box::new(|output: &mut dyn Write| layer.write(output));
        let made = self.engine.derive_image(&[], &|new| self.outcome.state.bare_document(new), Some(write));
        made.map_err(failed)
    }

    /// The same for a layer that does not depend on those below: it is made once for all bases.
    fn derive_linked(&self, layer: &Layer<'_>) -> Result<String> {
        if layer.is_empty() {
            return self.carry();
        }
        let (alone, key) = (crate::state::State::scratch(self.build.platform), layer.digest(self.build.home())?);
        let key = crate::copying::hex(&<sha2::Sha256 as sha2::Digest>::digest(format!("linked {key}")));
        let known = self.cached(&key)?.map(|(image, _)| image);
        let image = match known {
            Some(image) => image,
            None => {
                let write = Box::new(|output: &mut dyn Write| layer.write(output));
                let made = self.engine.derive_image(&[], &|new| alone.bare_document(new), Some(write));
                let made = made.map_err(failed)?;
                self.engine.remember_step(&key, &made, 0).map_err(failed)?;
                made
            }
        };
        let image = self.engine.find_image(&image).map_err(failed)?;
        let linked = image.config.rootfs().diff_ids().last().cloned();
        let made = self.engine.derive_image(&[], &|_| self.outcome.state.bare_document(linked.as_deref()), None);
        made.map_err(failed)
    }

    /// The time of what has none of its own.
    fn seconds(&self) -> i64 {
        self.build.request.epoch.unwrap_or_else(|| jiff::Timestamp::now().as_second())
    }

    fn options(&self, chown: &str, chmod: &str, link: bool) -> Result<Options> {
        let chown = self.word(chown)?;
        let owner = if chown.is_empty() {
            None
        } else {
            let base = if link { None } else { self.base_tree()? };
            Some(self.owner(&chown, base.as_ref())?)
        };
        Ok(Options { owner, mode: ModeChange::parse(&self.word(chmod)?)?, ..Options::default() })
    }

    fn words(&self, texts: &[String]) -> Result<Vec<String>> {
        texts.iter().map(|text| self.word(text)).collect()
    }

    /// The files of the build context; none: it has none.
    fn context(&self) -> Result<Option<Arc<Tree>>> {
        let files = self.build.common.context()?;
        files.map(|files| files.tree(self.build.common.ignore).map(Arc::new)).transpose()
    }

    fn documents(&self, sources: &Sources) -> Result<Vec<(String, String)>> {
        let text = |(name, content, expanded): &(String, String, bool)| {
            let content = if *expanded { self.document(content)? } else { content.clone() };
            Ok((name.clone(), content))
        };
        sources.inline.iter().map(text).collect()
    }

    /// A stage that starts from the files of a named context.
    pub(crate) fn base_of_files(&mut self, name: &str) -> Result<()> {
        let files = self.build.common.named_files(name)?;
        let Some(files) = files else { return Err(Error::new(format!("context {name} has no files"))) };
        let copying = Copying {
            sources: vec![(Arc::new(files.tree(&[])?), "/".to_owned(), Options::default())],
            inline: Vec::new(),
            destination: "/".to_owned(),
            link: false,
            options: Options::default(),
            text: format!("FROM {name} # buildkit"),
            code: &format!("FROM {name}"),
        };
        self.copy_layer(&copying)
    }

    /// Paths with their variables expanded.
    fn sources(&self, sources: &Sources) -> Result<Sources> {
        Ok(Sources {
            paths: sources.paths.iter().map(|path| self.word(path)).collect::<Result<_>>()?,
            inline: sources.inline.clone(),
            destination: self.word(&sources.destination)?,
        })
    }

    /// The content of a here-document: variables count, quotes do not.
    fn document(&self, content: &str) -> Result<String> {
        let style = Style { plain_quotes: true, ..Style::new(self.build.file.escape) };
        expand(content, &self.outcome.state.scope, style).map(|expanded| expanded.text)
    }

    /// The files that the stage has so far.
    pub(crate) fn base_tree(&self) -> Result<Option<Tree>> {
        let Some(carrier) = &self.outcome.carrier else { return Ok(None) };
        let image = self.engine.find_image(carrier).map_err(failed)?;
        if image.layers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Tree::image(self.engine.image_tree(&image).map_err(failed)?)))
    }

    /// The files of what `--from` names.
    pub(crate) fn files_of(&self, name: &str) -> Result<Arc<Tree>> {
        if let Origin::Named(name) = self.build.origin(name)?
            && let Some(files) = self.build.common.named_files(&name)?
        {
            let exclude = match self.build.common.named(&name) {
                Some(Context::Directory(directory)) => ignored(directory),
                _ => Vec::new(),
            };
            return Ok(Arc::new(files.tree(&exclude)?));
        }
        let image = self.engine.find_image(&self.image_of(name)?).map_err(failed)?;
        Ok(Arc::new(Tree::image(self.engine.image_tree(&image).map_err(failed)?)))
    }

    /// The image of what `--from` names: a stage's, or one of the store.
    pub(crate) fn image_of(&self, name: &str) -> Result<String> {
        match self.build.origin(name)? {
            Origin::Stage(index) => {
                let carrier = self.build.stage(index)?.carrier.clone();
                carrier.ok_or_else(|| Error::new(format!("stage {name:?} has no files")))
            }
            Origin::Scratch => Err(Error::new("scratch has no files")),
            Origin::Image(name) | Origin::Named(name) => {
                let title = format!("[from {name}] load");
                let load = |step| Ok((self.image(&name, self.build.platform, step)?.id, true));
                self.build.teller().step(title, load)
            }
        }
    }

    /// `user[:group]` by number, or by name as the image knows it.
    fn owner(&self, text: &str, base: Option<&Tree>) -> Result<Owner> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let file = |path: &str| -> Result<String> {
            Ok(base.map(|base| base.text(path)).transpose()?.flatten().unwrap_or_default())
        };
        let (uid, primary) = match user.parse::<u32>() {
            Ok(uid) => (uid, uid),
            Err(_) => {
                let (uid, gid) = entry(&file("etc/passwd")?, user).ok_or_else(|| {
                    Error::new(format!("unable to find user {user}: no matching entries in passwd file"))
                })?;
                (uid, gid.unwrap_or(uid))
            }
        };
        let gid = match group {
            None | Some("") => primary,
            Some(group) => match group.parse::<u32>() {
                Ok(gid) => gid,
                Err(_) => {
                    entry(&file("etc/group")?, group)
                        .ok_or_else(|| {
                            Error::new(format!("unable to find group {group}: no matching entries in group file"))
                        })?
                        .0
                }
            },
        };
        Ok(Owner { uid, gid })
    }
}

/// The patterns of a named context's own ignore file.
fn ignored(directory: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(directory.join(".dockerignore")).map(|text| crate::ignore::read(&text)).unwrap_or_default()
}

/// What the history says of a copy.
struct CopyText<'t> {
    name: &'t str,
    chown: &'t str,
    chmod: &'t str,
    parents: bool,
}

impl CopyText<'_> {
    fn history(&self, sources: &Sources) -> String {
        let mut text = self.name.to_owned();
        if self.parents {
            text += " --parents";
        }
        for (flag, value) in
            [("chown", self.chown), ("chmod", self.chmod)].iter().filter(|(_, value)| !value.is_empty())
        {
            text += &format!(" --{flag}={value}");
        }
        sources.paths.iter().for_each(|path| text += &format!(" {path}"));
        sources.inline.iter().for_each(|(name, _, _)| text += &format!(" <<{name}"));
        format!("{text} {} # buildkit", sources.destination)
    }
}

/// Third and fourth field of a line of passwd(5) or group(5), by its first.
fn entry(file: &str, name: &str) -> Option<(u32, Option<u32>)> {
    let mut fields = file
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    let id = fields.nth(1)?.parse().ok()?;
    Some((id, fields.next().and_then(|field| field.parse().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbin:x:2:3::/bin:\n";
        assert_eq!(entry(passwd, "bin"), Some((2, Some(3))));
        assert_eq!(entry("staff:x:50:\n", "staff"), Some((50, None)));
        assert_eq!(entry(passwd, "none"), None);
    }
}
