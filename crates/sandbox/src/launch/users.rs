//! Who a process runs as: `user[:group]` looked up in the container's own `/etc/passwd` and `/etc/group`, which an
//! image may have filled with anything: only regular files are read, line by line, up to a limit.
//!
//! Rules as Docker's (moby/sys/user `GetExecUser`), but numbers are never taken for names.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use oci_spec::runtime::User;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::Error;
use super::root::Root;
use super::step::Step;

/// Largest file that is read, and longest line, in bytes.
const FILE_LIMIT: u64 = 8 << 20;
const LINE_LIMIT: u64 = 64 << 10;
/// Numbers above are refused, as Docker does.
const HIGHEST: u32 = i32::MAX as u32;

/// A resolved identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups, the primary one included.
    pub(super) groups: Vec<u32>,
    /// Home directory, if `/etc/passwd` knows the user.
    pub(super) home: Option<String>,
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The numbers of the configuration and no other group; only the home directory is looked up.
pub(super) fn exactly(root: &Root, user: &User) -> Result<Identity, Error> {
    let home = find_account(root, |account| account.uid == user.uid())?.map(|account| account.home);
    let groups = user.additional_gids().clone().unwrap_or_default();
    Ok(Identity { uid: user.uid(), gid: user.gid(), groups, home })
}

/// Resolves `user` (empty: the configuration's `default`), and `groups` in addition.
pub(super) fn resolve(root: &Root, user: &str, groups: &[String], default: &User) -> Result<Identity, Error> {
    let mut identity = match user {
        "" => {
            let groups = default.additional_gids().clone().unwrap_or_default();
            let home = find_account(root, |account| account.uid == default.uid())?.map(|account| account.home);
            Identity { uid: default.uid(), gid: default.gid(), groups, home }
        }
        _ => look_up(root, user)?,
    };
    for group in groups {
        let gid = find_group(root, group)?;
        identity.groups.push(gid);
    }
    identity.groups.insert(0, identity.gid);
    let mut seen = Vec::new();
    identity.groups.retain(|gid| {
        !seen.contains(gid) && {
            seen.push(*gid);
            true
        }
    });
    Ok(identity)
}

fn look_up(root: &Root, text: &str) -> Result<Identity, Error> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let number = number(user)?;
    let account = match (user, number) {
        ("", _) => find_account(root, |account| account.uid == 0)?,
        (_, Some(uid)) => find_account(root, |account| account.uid == uid)?,
        (name, None) => find_account(root, |account| account.name == name)?,
    };
    let mut identity = match (account.as_ref(), number) {
        (Some(account), _) => {
            Identity { uid: account.uid, gid: account.gid, groups: Vec::new(), home: Some(account.home.clone()) }
        }
        (None, Some(uid)) => Identity { uid, ..Identity::default() },
        (None, None) if user.is_empty() => Identity::default(),
        (None, None) => {
            let text = format!("unable to find user {user}: no matching entries in passwd file");
            return Err(Error::Invalid(text));
        }
    };
    match (group, account) {
        ("", Some(account)) => identity.groups = groups_of(root, &account.name)?,
        ("", None) => {}
        _ => identity.gid = find_group(root, group)?,
    }
    Ok(identity)
}

/// The number that a text of digits is; `None` for a name. Signs, overflow and the like are errors, not names.
fn number(text: &str) -> Result<Option<u32>, Error> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= HIGHEST && digits == text => Ok(Some(number)),
        _ => Err(Error::Invalid(format!("uids and gids must be in range 0-{HIGHEST}, not {text}"))),
    }
}

fn find_account(root: &Root, wanted: impl Fn(&Account) -> bool) -> Result<Option<Account>, Error> {
    let mut found = None;
    each_line(root, "/etc/passwd", |line| {
        found = account(line).filter(&wanted);
        found.is_none()
    })?;
    Ok(found)
}

fn find_group(root: &Root, text: &str) -> Result<u32, Error> {
    if let Some(gid) = number(text)? {
        return Ok(gid);
    }
    let mut found = None;
    each_line(root, "/etc/group", |line| {
        found = group(line).filter(|group| group.name == text);
        found.is_none()
    })?;
    match found {
        Some(group) => Ok(group.gid),
        None => Err(Error::Invalid(format!("unable to find group {text}: no matching entries in group file"))),
    }
}

fn groups_of(root: &Root, user: &str) -> Result<Vec<u32>, Error> {
    let mut gids = Vec::new();
    each_line(root, "/etc/group", |line| {
        gids.extend(
            group(line).filter(|group| group.members.iter().any(|member| member == user)).map(|group| group.gid),
        );
        true
    })?;
    Ok(gids)
}

/// `name:password:uid:gid:comment:home:shell`
fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Some(Account { name, uid, gid, home })
}

/// `name:password:gid:member,member`
fn group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields.next().unwrap_or("").split(',').map(|member| member.trim().to_owned()).collect();
    Some(Group { name, gid, members })
}

/// Calls `take` for each line until it returns false. A missing file has no lines.
fn each_line(root: &Root, path: &str, mut take: impl FnMut(&str) -> bool) -> Result<(), Error> {
    let reject = |why: &str| Err(Error::Step(format!("look up the user: the container's {path} {why}")));
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let file = match root.open(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.step(|| format!("open the container's {path}"))?,
    };
    let stat = rustix::fs::fstat(&file).step(|| format!("inspect the container's {path}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return reject("is no regular file");
    }
    if stat.st_size as u64 > FILE_LIMIT {
        return reject("is larger than 8 MiB");
    }
    let mut reader = BufReader::new(File::from(file).take(FILE_LIMIT));
    let mut line = Vec::new();
    loop {
        line.clear();
        let got = (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut line).step(|| format!("read {path}"))?;
        if got == 0 {
            return Ok(());
        }
        if got as u64 == LINE_LIMIT {
            return reject("has a line of more than 64 KiB");
        }
        if !take(String::from_utf8_lossy(&line).trim()) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0:trap:/:/bin/sh\nweb:x:33:44::/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:web,other\nadm:x:4:web\nwww:x:44:\n";

    fn with_root<T>(test: impl FnOnce(&Root) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(directory.path().join("etc/passwd"), PASSWD).unwrap();
        fs::write(directory.path().join("etc/group"), GROUP).unwrap();
        test(&Root::new(fs::File::open(directory.path()).unwrap().into()))
    }

    fn ids(user: &str) -> Result<(u32, u32, Vec<u32>), Error> {
        with_root(|root| resolve(root, user, &[], &User::default())).map(|found| (found.uid, found.gid, found.groups))
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids("web").unwrap(), (33, 44, vec![44, 50, 4]));
        assert_eq!(ids("33").unwrap(), (33, 44, vec![44, 50, 4]));
        assert_eq!(ids("web:staff").unwrap(), (33, 50, vec![50]));
        assert_eq!(ids("5:6").unwrap(), (5, 6, vec![6]));
        assert_eq!(ids(":1").unwrap(), (0, 1, vec![1]));
        assert_eq!(ids("1:").unwrap(), (1, 0, vec![0]));
        assert_eq!(ids("").unwrap(), (0, 0, vec![0]));
    }

    #[test]
    fn digits_are_never_a_name() {
        assert_eq!(ids("1000").unwrap(), (1000, 0, vec![0]));
    }

    #[test]
    fn what_is_no_number_and_no_name_is_refused() {
        for text in ["-1", "4294967296", "2147483648", "99999999999999999999", "0x0", "nobody", "web:nogroup", "+1"] {
            assert!(ids(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hostile_files_are_refused_at_once() {
        for (kind, wanted) in [("fifo", "no regular file"), ("sparse", "larger"), ("line", "64 KiB")] {
            with_root(|root| {
                let path = format!("/proc/self/fd/{}/etc/passwd", std::os::fd::AsRawFd::as_raw_fd(root.fd()));
                fs::remove_file(&path).unwrap();
                match kind {
                    "fifo" => rustix::fs::mknodat(
                        rustix::fs::CWD,
                        &path,
                        FileType::Fifo,
                        rustix::fs::Mode::from_raw_mode(0o644),
                        0,
                    )
                    .unwrap(),
                    "sparse" => File::create(&path).unwrap().set_len(4 << 30).unwrap(),
                    _ => fs::write(&path, vec![b'a'; 1 << 20]).unwrap(),
                }
                let error = resolve(root, "web", &[], &User::default()).unwrap_err().to_string();
                assert!(error.contains(wanted), "{error}");
            });
        }
    }
}
