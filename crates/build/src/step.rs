//! Instructions that make a layer: COPY, ADD and WORKDIR write theirs straight from their sources; RUN's is what its
//! container has changed (`run`).

use std::sync::Arc;

use crate::copying::{Layer, Options, Owner};
use crate::dockerfile::{Add, Copy, Sources};
use crate::files::Tree;
use crate::request::Context;
use crate::stage::{Stage, failed};
use crate::stages::Origin;
use crate::words::{Style, expand};
use crate::{Error, Result};

/// Seconds since 1970.
fn seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Stage<'_, '_> {
    pub(crate) fn copy(&mut self, copy: &Copy, code: &str) -> Result<()> {
        let sources = self.sources(&copy.sources)?;
        let source = if copy.from.is_empty() { Source::Context } else { self.source(&self.word(&copy.from)?)? };
        let options =
            CopyText { name: "COPY", chown: &copy.chown, chmod: &copy.chmod, parents: copy.parents, unpack: false };
        self.copy_layer(&source, &sources, &options, &copy.exclude, code)
    }

    pub(crate) fn add(&mut self, add: &Add, code: &str) -> Result<()> {
        let sources = self.sources(&add.sources)?;
        let remote =
            |path: &&String| ["http://", "https://", "git://", "git@", "ssh://"].iter().any(|p| path.starts_with(p));
        if let Some(path) = sources.paths.iter().find(remote) {
            return Err(Error::new(format!("ADD from {path}: addresses are not supported yet; fetch it in a RUN")));
        }
        if !add.checksum.is_empty() {
            return Err(Error::new("checksum requires HTTP(S) or Git sources"));
        }
        let options = CopyText {
            name: "ADD",
            chown: &add.chown,
            chmod: &add.chmod,
            parents: false,
            unpack: add.unpack.unwrap_or(true),
        };
        self.copy_layer(&Source::Context, &sources, &options, &add.exclude, code)
    }

    pub(crate) fn workdir(&mut self, path: &str, code: &str) -> Result<()> {
        let path = self.word(path)?;
        let text = self.outcome.state.workdir(&path);
        let directory = self.outcome.state.directory();
        let user = self.outcome.state.user();
        let base = self.base_tree()?;
        let owner = if user.is_empty() { None } else { Some(self.owner(&user, base.as_ref())?) };
        let mut layer = Layer::new(base.as_ref(), seconds());
        if directory != "/" {
            layer.directory(&directory, owner)?;
        }
        self.finish_layer("workdir", &layer, &text, code)
    }

    fn copy_layer(
        &mut self,
        source: &Source,
        sources: &Sources,
        text: &CopyText<'_>,
        exclude: &[String],
        code: &str,
    ) -> Result<()> {
        let base = self.base_tree()?;
        let chown = self.word(text.chown)?;
        let options = Options {
            owner: if chown.is_empty() { None } else { Some(self.owner(&chown, base.as_ref())?) },
            mode: mode(&self.word(text.chmod)?)?,
            parents: text.parents,
            unpack: text.unpack,
            exclude: exclude.iter().map(|pattern| self.word(pattern)).collect::<Result<_>>()?,
        };
        let held;
        let tree = match source {
            Source::Context => self.build.context.as_ref(),
            Source::Tree(tree) => {
                held = tree.clone();
                Some(held.as_ref())
            }
        };
        let mut layer = Layer::new(base.as_ref(), seconds());
        let destination = self.outcome.state.absolute(&sources.destination);
        for path in &sources.paths {
            let tree = tree.ok_or_else(|| Error::new(format!("{path:?}: not found: the build has no context")))?;
            layer.copy(tree, path, &destination, &options)?;
        }
        for (name, content, expanded) in &sources.inline {
            let content = if *expanded { self.document(content)? } else { content.clone() };
            layer.inline(name, &content, &destination, &options)?;
        }
        self.finish_layer("copy", &layer, &text.history(sources), code)
    }

    /// Takes a written layer from the cache or writes it.
    fn finish_layer(&mut self, kind: &str, layer: &Layer<'_>, text: &str, code: &str) -> Result<()> {
        let title = self.title(code);
        let teller = &self.build.teller;
        let (key, carrier) = teller.step(title, |_| {
            let key = self.key(kind, &[layer.digest()?]);
            if let Some(found) = self.cached(&key)? {
                return Ok(((key, Err(found)), true));
            }
            if layer.is_empty() {
                return Ok(((key, Ok(self.carry()?)), false));
            }
            let write = Box::new(|output: &mut dyn std::io::Write| layer.write(output));
            let made = self.engine.derive_image(&[], &|new| self.outcome.state.bare_document(new), Some(write));
            Ok(((key, Ok(made.map_err(failed)?)), false))
        })?;
        match carrier {
            Ok(made) => self.made(&key, made, text),
            Err((found, made_at)) => self.take(found, made_at, text),
        }
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

    /// What `--from` names.
    fn source(&self, name: &str) -> Result<Source> {
        let named = self.build.request.contexts.iter().find(|(known, _)| known == name);
        if let Some((_, Context::Directory(directory))) = named {
            return Ok(Source::Tree(Arc::new(Tree::context(directory, crate::ignore::Matcher::default())?)));
        }
        let carrier = match self.build.origin(name) {
            Origin::Stage(index) => self.build.stage(index)?.carrier.clone(),
            Origin::Scratch => None,
            Origin::Image(name) => Some(self.image(&name, &self.build.request.platform)?.id),
        };
        let carrier = carrier.ok_or_else(|| Error::new(format!("stage {name:?} has no files")))?;
        let image = self.engine.find_image(&carrier).map_err(failed)?;
        Ok(Source::Tree(Arc::new(Tree::image(self.engine.image_tree(&image).map_err(failed)?))))
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

/// Where files come from.
enum Source {
    Context,
    Tree(Arc<Tree>),
}

/// What the history says of a copy.
struct CopyText<'t> {
    name: &'t str,
    chown: &'t str,
    chmod: &'t str,
    parents: bool,
    unpack: bool,
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

/// `--chmod`: octal, up to 07777.
fn mode(text: &str) -> Result<Option<u32>> {
    if text.is_empty() {
        return Ok(None);
    }
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        _ => {
            let rule = "it should be octal string and between 0 and 07777";
            Err(Error::new(format!("invalid chmod parameter: '{text}'. {rule}")))
        }
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
    fn users_and_modes() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbin:x:2:3::/bin:\n";
        assert_eq!(entry(passwd, "bin"), Some((2, Some(3))));
        assert_eq!(entry("staff:x:50:\n", "staff"), Some((50, None)));
        assert_eq!(entry(passwd, "none"), None);
        assert_eq!(mode("0755").unwrap(), Some(0o755));
        assert_eq!(mode("").unwrap(), None);
        assert!(mode("17777").is_err() && mode("u+x").is_err());
    }
}
