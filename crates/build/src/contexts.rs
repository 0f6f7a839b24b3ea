//! Brings contexts onto this machine: directories as they are, archives unpacked, addresses fetched, a client's files by
//! its own way. Everything that is not a directory of the user's is hostile until it lies in a directory of our own.

use std::any::Any;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use engine::Paths;

use crate::cancel::Cancel;
use crate::files::Tree;
use crate::git::{self, Repository};
use crate::ignore::{self, Matcher};
use crate::request::Request;
use crate::scratch::Scratch;
use crate::source::{Context, Recipe, Wanted};
use crate::{Error, Result};

/// Largest Dockerfile.
const LARGEST: u64 = 16 << 20;

/// A set of files on this machine, as long as this lives.
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
    /// Their time, where they have none of their own.
    pub(crate) time: Option<i64>,
    /// Not a directory but one file: a Dockerfile that an address named.
    single: bool,
    _kept: Option<Box<dyn Any + Send + Sync>>,
}

impl Files {
    /// The files as a tree, without what the patterns leave out.
    pub(crate) fn tree(&self, exclude: &[String]) -> Result<Tree> {
        Ok(Tree::context(&self.directory, Matcher::new(exclude)?)?.at(self.time))
    }

    fn of(scratch: Scratch) -> Self {
        Files { directory: scratch.path.clone(), time: None, single: false, _kept: Some(Box::new(scratch)) }
    }
}

/// What fetching needs to know.
pub(crate) struct Fetcher<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) request: &'a Request,
    pub(crate) cancel: &'a Cancel,
}

impl Fetcher<'_> {
    /// The files of a context; none if it has none of its own (images and stages are looked up elsewhere).
    pub(crate) fn files(&self, context: &Context, wanted: &Wanted) -> Result<Option<Files>> {
        self.cancel.check()?;
        Ok(Some(match context {
            Context::Nothing | Context::Image(_) | Context::Layout(_) | Context::Stage(_) => return Ok(None),
            Context::Directory(directory) => {
                Files { directory: directory.clone(), time: None, single: false, _kept: None }
            }
            Context::Remote(remote) => {
                let directory = remote.fetch(wanted).map_err(Error::new)?;
                Files { directory, time: None, single: false, _kept: Some(Box::new(remote.clone())) }
            }
            Context::Archive(archive) => {
                let stream = archive.take().ok_or_else(|| Error::new("the context's archive was read before"))?;
                let scratch = Scratch::new(self.paths)?;
                unpack(Stoppable { stream, cancel: self.cancel }, &scratch)?;
                Files::of(scratch)
            }
            Context::Address(address) => match Repository::parse(address)? {
                Some(repository) => self.repository(&repository)?,
                None => self.web(address)?,
            },
        }))
    }

    fn repository(&self, repository: &Repository) -> Result<Files> {
        let scratch = Scratch::new(self.paths)?;
        let checkout = git::checkout(repository, &scratch.path, self.request.secrets.as_deref(), self.cancel)?;
        Ok(Files { directory: checkout.directory, time: Some(checkout.time), ..Files::of(scratch) })
    }

    /// An archive, or a Dockerfile alone.
    fn web(&self, address: &str) -> Result<Files> {
        let (mut file, _) = crate::web::download(address, self.request, self.cancel)?;
        let scratch = Scratch::new(self.paths)?;
        let copy = file.try_clone().map_err(|error| Error::new(format!("read {address}: {error}")))?;
        if image::open_archive(copy).is_some() {
            file.rewind().map_err(|error| Error::new(format!("read {address}: {error}")))?;
            unpack(file, &scratch)?;
            return Ok(Files::of(scratch));
        }
        let written = file.rewind().and_then(|()| {
            let mut target = File::create(scratch.path.join("Dockerfile"))?;
            io::copy(&mut file.take(LARGEST), &mut target).and_then(|_| target.flush())
        });
        written.map_err(|error| Error::new(format!("keep {address}: {error}")))?;
        Ok(Files { single: true, ..Files::of(scratch) })
    }
}

fn unpack(archive: impl Read, scratch: &Scratch) -> Result<()> {
    image::unpack_files(archive, &scratch.path)
        .map(drop)
        .map_err(|error| Error::new(format!("unpack the context: {error}")))
}

/// A stream that ends with an error when the build is stopped.
struct Stoppable<'c, R> {
    stream: R,
    cancel: &'c Cancel,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(|error| io::Error::other(error.message))?;
        self.stream.read(buffer)
    }
}

/// A Dockerfile that was found, the patterns of the ignore file that belongs to it, and the context if it is here already.
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
    pub(crate) ignore: Vec<String>,
    /// The context's files; none: they are fetched when they are needed.
    pub(crate) context: Option<Files>,
}

/// Finds the Dockerfile and the ignore file.
pub(crate) fn open(fetcher: &Fetcher<'_>) -> Result<Opening> {
    let request = fetcher.request;
    let name = match &request.recipe {
        Recipe::InContext(name) | Recipe::In(_, name) => name.as_deref().filter(|name| !name.is_empty()),
        Recipe::Text(_) => None,
    };
    let names = name.map_or(vec!["Dockerfile", "dockerfile"], |name| vec![name]);
    let mut opening = Opening {
        name: name.unwrap_or("Dockerfile").to_owned(),
        text: Vec::new(),
        ignore: request.ignore.clone().unwrap_or_default(),
        context: None,
    };
    // Of a client's files only these are asked for now.
    let lazy = matches!(request.context, Context::Remote(_));
    let first = Wanted { exclude: Vec::new(), paths: Some(first_paths(&names)) };
    let context = fetcher.files(&request.context, &first)?;
    let elsewhere = match &request.recipe {
        Recipe::In(other, _) => fetcher.files(other, &first)?,
        _ => None,
    };
    match &request.recipe {
        Recipe::Text(text) => opening.text.clone_from(text),
        Recipe::InContext(_) if context.as_ref().is_some_and(|files| files.single) => {
            opening.text = read(context.as_ref(), &["Dockerfile"])?.1;
        }
        recipe => {
            let files = if matches!(recipe, Recipe::In(..)) { elsewhere.as_ref() } else { context.as_ref() };
            (opening.name, opening.text) = read(files, &names)?;
        }
    }
    if request.ignore.is_none() {
        let own = format!("{}.dockerignore", opening.name);
        let beside = optional(elsewhere.as_ref().or(context.as_ref()), &own)?;
        let patterns = match beside {
            Some(patterns) => Some(patterns),
            None => optional(context.as_ref(), ".dockerignore")?,
        };
        opening.ignore = ignore::read(&patterns.unwrap_or_default());
    }
    let single = context.as_ref().is_some_and(|files| files.single);
    opening.context = context.filter(|_| !lazy && !single);
    Ok(opening)
}

fn first_paths(names: &[&str]) -> Vec<String> {
    let own = names.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.dockerignore")]);
    own.chain([".dockerignore".to_owned()]).collect()
}

/// The first of the files that there is, and its content.
fn read(files: Option<&Files>, names: &[&str]) -> Result<(String, Vec<u8>)> {
    if let Some(files) = files {
        let tree = files.tree(&[])?;
        for name in names {
            if let Some(text) = tree.bytes(name, LARGEST)? {
                return Ok(((*name).to_owned(), text));
            }
        }
    }
    Err(Error::new(format!("failed to read dockerfile: open {}: no such file or directory", names[0])))
}

fn optional(files: Option<&Files>, name: &str) -> Result<Option<String>> {
    files.map(|files| files.tree(&[])?.text(name)).transpose().map(Option::flatten)
}
