//! Repositories of git as contexts and for ADD: what an address says, and a checkout of it by the `git` program. A
//! repository is hostile: it runs no hooks and no filters, sees no configuration of this machine, and leads to no other
//! protocols than git's usual ones over a network.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cancel::Cancel;
use crate::files::Tree;
use crate::ignore::Matcher;
use crate::source::Secrets;
use crate::web;
use crate::{Error, Result};

/// What an address says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    /// What git is given.
    pub(crate) url: String,
    /// Branch, tag or commit; empty: the remote's HEAD.
    pub(crate) reference: String,
    /// Only this directory of it; empty: all.
    pub(crate) directory: String,
    /// The commit that it must be (its first digits); empty: any.
    pub(crate) commit: String,
    /// `.git` stays.
    pub(crate) keep_git: Option<bool>,
    /// Without those that it names as parts.
    pub(crate) no_submodules: bool,
}

/// What came of it.
pub(crate) struct Checkout {
    pub(crate) directory: PathBuf,
    /// When the commit was made, in seconds since 1970.
    pub(crate) time: i64,
}

impl Repository {
    /// Reads an address; none if it is not one of git.
    pub(crate) fn parse(address: &str) -> Result<Option<Self>> {
        let (rest, fragment) = address.split_once('#').unwrap_or((address, ""));
        let (url, query) = rest.split_once('?').unwrap_or((rest, ""));
        let web = url.starts_with("https://") || url.starts_with("http://");
        let is_git = web && url.trim_end_matches('/').ends_with(".git")
            || ["git://", "ssh://", "git@"].iter().any(|start| url.starts_with(start))
            || url.starts_with("github.com/");
        if !is_git {
            return Ok(None);
        }
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let url = if url.starts_with("github.com/") { format!("https://{url}") } else { url.to_owned() };
        let mut repository =
            Repository { url, reference: reference.to_owned(), directory: directory.to_owned(), ..Self::default() };
        let fields = query.split('&').filter(|field| !field.is_empty());
        fields.map(|field| field.split_once('=').unwrap_or((field, ""))).try_for_each(|(k, v)| repository.set(k, v))?;
        match [&repository.reference, &repository.commit].iter().find(|text| text.starts_with('-')) {
            Some(text) => Err(Error::new(format!("{address}: {text:?} is no name in git"))),
            None => Ok(Some(repository)),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let on = !matches!(value, "false" | "0");
        match key {
            "ref" => self.reference = value.to_owned(),
            "branch" => self.reference = format!("refs/heads/{value}"),
            "tag" => self.reference = format!("refs/tags/{value}"),
            "subdir" => self.directory = value.to_owned(),
            "commit" | "checksum" => self.commit = value.to_owned(),
            "keep-git-dir" => self.keep_git = Some(on),
            "submodules" => self.no_submodules = !on,
            _ => return Err(Error::new(format!("unexpected query parameter {key:?} of a git address"))),
        }
        Ok(())
    }

    fn host(&self) -> &str {
        self.url.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default()
    }
}

/// Fetches what the repository's address says into an empty directory.
pub(crate) fn checkout(
    repository: &Repository,
    into: &Path,
    secrets: Option<&dyn Secrets>,
    cancel: &Cancel,
) -> Result<Checkout> {
    let git = Git { directory: into, header: web::secret(secrets, "GIT_AUTH", repository.host())?, cancel };
    git.run(&["init", "--quiet", "--template="])?;
    git.fetch(repository)?;
    let commit = git.run(&["rev-parse", "FETCH_HEAD^{commit}"])?.trim().to_owned();
    if !commit.starts_with(&repository.commit) {
        return Err(Error::new(format!("expected checksum to match {}, got {commit}", repository.commit)));
    }
    git.run(&["checkout", "--quiet", "--detach", "--force", &commit])?;
    if !repository.no_submodules && into.join(".gitmodules").exists() {
        git.run(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"])?;
    }
    let time = git.run(&["log", "-1", "--format=%ct"])?.trim().parse().unwrap_or(0);
    if !repository.keep_git.unwrap_or(false) {
        forget(into).map_err(|error| Error::new(format!("remove .git: {error}")))?;
    }
    Ok(Checkout { directory: below(into, &repository.directory)?, time })
}

/// A directory of the checkout, links resolved inside of it.
fn below(root: &Path, directory: &str) -> Result<PathBuf> {
    let tree = Tree::context(root, Matcher::default())?;
    let found = tree.find(directory)?.filter(|found| found.kind == image::TarKind::Directory);
    let missing = || Error::new(format!("subdir {directory:?}: no such directory in the repository"));
    let inner = String::from_utf8(found.ok_or_else(missing)?.real).map_err(|_| missing())?;
    Ok(if inner.is_empty() { root.to_owned() } else { root.join(inner) })
}

/// Removes `.git` of the repository and of its parts; links are not followed.
fn forget(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let (path, kind) = (entry.path(), entry.file_type()?);
        match (entry.file_name() == ".git", kind.is_dir()) {
            (true, true) => fs::remove_dir_all(path)?,
            (true, false) => fs::remove_file(path)?,
            (false, true) => forget(&path)?,
            (false, false) => {}
        }
    }
    Ok(())
}

struct Git<'g> {
    directory: &'g Path,
    /// `Authorization` for the repository's host.
    header: Option<String>,
    cancel: &'g Cancel,
}

impl Git<'_> {
    /// Only what is wanted; if the server gives no single commits, everything.
    fn fetch(&self, repository: &Repository) -> Result<()> {
        let wanted = match (repository.reference.as_str(), repository.commit.as_str()) {
            ("", "") => "HEAD",
            ("", commit) => commit,
            (reference, _) => reference,
        };
        let url = repository.url.as_str();
        let depth = if repository.keep_git == Some(true) { "--depth=2147483647" } else { "--depth=1" };
        let first = self.run(&["fetch", "--quiet", "--no-tags", depth, "--", url, wanted]);
        let Err(error) = first else { return Ok(()) };
        self.cancel.check()?;
        // A dumb server has no depth, others refuse commits that no branch ends with.
        if self.run(&["fetch", "--quiet", "--no-tags", "--", url, wanted]).is_ok() {
            return Ok(());
        }
        if !is_commit(wanted) {
            return Err(error);
        }
        self.run(&["fetch", "--quiet", "--", url, "+refs/*:refs/remotes/all/*"])?;
        let commit = self.run(&["rev-parse", "--verify", "--quiet", &format!("{wanted}^{{commit}}")])?;
        let record = format!("{}\t\t{url}\n", commit.trim());
        fs::write(self.directory.join(".git/FETCH_HEAD"), record)
            .map_err(|error| Error::new(format!("write FETCH_HEAD: {error}")))
    }

    /// Runs git, cut off from everything that would steer it.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.cancel.check()?;
        let failed = |cause: String| Error::new(format!("git {}: {cause}", arguments[0]));
        let mut command = Command::new("git");
        command.current_dir(self.directory).env_clear().args(SETTINGS).args(arguments);
        command.envs(std::env::vars_os().filter(|(name, _)| kept(&name.to_string_lossy()))).envs(QUIET);
        if let Some(header) = &self.header {
            // Not among the arguments, which everybody on the machine can see.
            let value = format!("Authorization: {header}");
            command.envs([
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", "http.extraHeader"),
                ("GIT_CONFIG_VALUE_0", &value),
            ]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => failed("the program git is not installed".to_owned()),
            _ => failed(error.to_string()),
        })?;
        let pid = rustix::process::Pid::from_child(&child);
        let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        let descriptor = descriptor.map_err(|error| failed(error.to_string()))?;
        let hook = self.cancel.on_cancel(move || {
            let _ = rustix::process::pidfd_send_signal(&descriptor, rustix::process::Signal::KILL);
        });
        let (mut output, mut errors) = (String::new(), String::new());
        let both = std::thread::scope(|scope| {
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let reading = scope.spawn(|| stderr.map(|stream| stream.take(64 << 10).read_to_string(&mut errors)));
            let read = stdout.map(|stream| stream.take(1 << 20).read_to_string(&mut output));
            let _ = reading.join();
            read
        });
        let status = child.wait();
        drop(hook);
        self.cancel.check()?;
        both.transpose().and(status).map_err(|error| failed(error.to_string())).and_then(|status| {
            let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
            if status.success() { Ok(()) } else { Err(failed(last.to_owned())) }
        })?;
        Ok(output)
    }
}

const SETTINGS: &[&str] = &[
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.attributesFile=/dev/null",
    "-c",
    "advice.detachedHead=false",
    "-c",
    "gc.auto=0",
    "-c",
    "protocol.allow=never",
    "-c",
    "protocol.http.allow=always",
    "-c",
    "protocol.https.allow=always",
    "-c",
    "protocol.git.allow=always",
    "-c",
    "protocol.ssh.allow=always",
    "-c",
    "submodule.recurse=false",
    "-c",
    "safe.directory=*",
];

const QUIET: [(&str, &str); 7] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "true"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes"),
    ("HOME", "/nonexistent"),
];

/// What git may see of our environment.
fn kept(name: &str) -> bool {
    let known = [
        "path",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "ssl_cert_file",
        "ssl_cert_dir",
        "ssh_auth_sock",
    ];
    known.contains(&name.to_lowercase().as_str()) || name == "GIT_EXEC_PATH"
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.chars().all(|letter| letter.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text: &str| Repository::parse(text).unwrap();
        assert_eq!(parse("https://example.com/a.tar.gz"), None);
        let plain = parse("https://example.com/a.git").unwrap();
        assert_eq!((plain.url.as_str(), plain.reference.as_str()), ("https://example.com/a.git", ""));
        let both = parse("https://example.com/a.git#v1:sub/dir").unwrap();
        assert_eq!((both.reference.as_str(), both.directory.as_str()), ("v1", "sub/dir"));
        let query = parse("https://h/a.git?branch=b&subdir=d&commit=abc&keep-git-dir=true&submodules=false").unwrap();
        assert_eq!(
            (query.reference.as_str(), query.directory.as_str(), query.commit.as_str()),
            ("refs/heads/b", "d", "abc")
        );
        assert_eq!((query.keep_git, query.no_submodules), (Some(true), true));
        assert_eq!(parse("github.com/a/b").unwrap().url, "https://github.com/a/b");
        assert_eq!(parse("git@host:a/b.git#main").unwrap().reference, "main");
        assert!(Repository::parse("https://h/a.git#--upload-pack=x").is_err());
        assert!(Repository::parse("https://h/a.git?what=x").is_err());
        assert_eq!(parse("file:///a.git"), None);
    }
}
