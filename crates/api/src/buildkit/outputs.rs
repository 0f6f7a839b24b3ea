//! What a build makes for its client (`FileSend/DiffCopy`): archives as streams of bytes, directories by fsutil's
//! protocol.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use build::{Output, Sink};

use super::attributes;
use super::proto::{BytesMessage, Exporter, Packet, Stat};
use super::receive::{
    CHARACTERS, DATA, DEVICE, DIRECTORY, FAILURE, FINISH, PIPE, REQUEST, SETGID, SETUID, SOCKET, STAT, STICKY, SYMLINK,
};
use super::session::Session;
use super::wire::{Code, Messages, Result, Sender, Status};

const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Which of the outputs a call is about.
const NUMBER: &str = "buildkit-attachable-exporter-id";
/// Bytes that are sent together.
const CHUNK: usize = 32 << 10;

/// The outputs of a build.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) names: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) list: Vec<Output>,
    streams: Vec<Arc<Mutex<Upload>>>,
    directories: Vec<(usize, PathBuf)>,
}

impl Outputs {
    /// What the exporters ask for.
    pub(super) fn read(exporters: &[Exporter], session: Option<&Arc<Session>>, scratch: &Path) -> Result<Self> {
        let mut outputs = Outputs::default();
        for (number, exporter) in exporters.iter().enumerate() {
            outputs.add(number, exporter, session, scratch)?;
        }
        // Another build of the client may go on from the result.
        if outputs.list.is_empty() {
            outputs.list.push(Output::Image { push: false });
        }
        Ok(outputs)
    }

    fn add(
        &mut self,
        number: usize,
        exporter: &Exporter,
        session: Option<&Arc<Session>>,
        scratch: &Path,
    ) -> Result<()> {
        attributes::check_exporter(exporter)?;
        let flag = |name: &str| exporter.attrs.get(name).is_some_and(|value| value == "true" || value == "1");
        let annotations = exporter.attrs.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("annotation.").or(key.strip_prefix("annotation-manifest."))?;
            Some((name.to_owned(), value.clone()))
        });
        self.annotations.extend(annotations);
        let names = exporter.attrs.get("name").map(String::as_str).unwrap_or_default();
        let names = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        match exporter.kind.as_str() {
            "moby" | "image" => {
                self.names.extend(names);
                self.list.push(Output::Image { push: flag("push") });
            }
            "local" => {
                let directory = scratch.join(format!("output-{number}"));
                self.list.push(Output::Directory(directory.clone()));
                self.directories.push((number, directory));
            }
            kind @ ("tar" | "oci" | "docker") => {
                self.names.extend(names);
                let upload = Arc::new(Mutex::new(Upload::open(session.ok_or_else(no_session)?, number)?));
                let sink = Sink::Stream(upload.clone());
                self.streams.push(upload);
                self.list.push(match kind {
                    "tar" => Output::Tar(sink),
                    "oci" => Output::Oci(sink),
                    _ => Output::Docker(sink),
                });
            }
            other => {
                let message = format!("exporter {other:?} could not be found");
                return Err(Status::new(Code::NotFound, message));
            }
        }
        Ok(())
    }

    /// Sends what lies in directories, and waits until the client has everything. Blocks.
    pub(super) fn deliver(&self, session: Option<&Arc<Session>>) -> Result<(), String> {
        for upload in &self.streams {
            upload.lock().unwrap_or_else(PoisonError::into_inner).finish()?;
        }
        for (number, directory) in &self.directories {
            let session = session.ok_or("the build has no session")?;
            send(session, *number, directory)?;
        }
        Ok(())
    }
}

fn no_session() -> Status {
    Status::new(Code::InvalidArgument, "the build has no session to send files to")
}

/// An archive on its way to the client.
struct Upload {
    runtime: tokio::runtime::Handle,
    sender: Option<Sender>,
    answers: Messages,
}

impl Upload {
    fn open(session: &Session, number: usize) -> Result<Self> {
        let _inside = session.runtime.enter();
        let (sender, answers) = session.channel.call(METHOD, &[(NUMBER.to_owned(), number.to_string())])?;
        Ok(Upload { runtime: session.runtime.clone(), sender: Some(sender), answers })
    }

    fn finish(&mut self) -> Result<(), String> {
        drop(self.sender.take());
        let rest = self.runtime.block_on(self.answers.next::<BytesMessage>());
        rest.and_then(|_| self.answers.outcome()).map_err(|status| status.message)
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(CHUNK)];
        let Some(sender) = &self.sender else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let sent = self.runtime.block_on(sender.send(&BytesMessage { data: part.to_vec() }));
        sent.map(|()| part.len()).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client takes no more"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a directory: what there is, then the content of those files that the client asks for.
fn send(session: &Session, number: usize, directory: &Path) -> Result<(), String> {
    let runtime = session.runtime.clone();
    let _inside = runtime.enter();
    let (sender, mut packets) =
        session.channel.call(METHOD, &[(NUMBER.to_owned(), number.to_string())]).map_err(|status| status.message)?;
    let gone = |_| "the client takes no more files".to_owned();
    let mut sending = Sending { files: HashMap::new(), linked: HashMap::new(), count: 0, list: Vec::new() };
    sending.walk(directory, Path::new("")).map_err(|error| format!("read the build's files: {error}"))?;
    for stat in std::mem::take(&mut sending.list) {
        let packet = Packet { kind: STAT, stat: Some(stat), ..Packet::default() };
        runtime.block_on(sender.send(&packet)).map_err(gone)?;
    }
    runtime.block_on(sender.send(&Packet { kind: STAT, ..Packet::default() })).map_err(gone)?;
    while let Some(packet) = runtime.block_on(packets.next::<Packet>()).map_err(|status| status.message)? {
        match packet.kind {
            REQUEST => {
                let path = sending.files.get(&packet.id).ok_or("the client asked for a file that is not there")?;
                let fail = |error: io::Error| format!("send {}: {error}", path.display());
                let mut file = File::open(directory.join(path)).map_err(fail)?;
                let mut buffer = vec![0; CHUNK];
                loop {
                    let count = file.read(&mut buffer).map_err(fail)?;
                    let data = buffer[..count].to_vec();
                    let packet = Packet { kind: DATA, id: packet.id, data, ..Packet::default() };
                    runtime.block_on(sender.send(&packet)).map_err(gone)?;
                    if count == 0 {
                        break;
                    }
                }
            }
            FINISH => {
                runtime.block_on(sender.send(&Packet { kind: FINISH, ..Packet::default() })).map_err(gone)?;
                break;
            }
            FAILURE => return Err(String::from_utf8_lossy(&packet.data).into_owned()),
            _ => {}
        }
    }
    drop(sender);
    while runtime.block_on(packets.next::<Packet>()).map_err(|status| status.message)?.is_some() {}
    packets.outcome().map_err(|status| status.message)
}

/// What is sent.
struct Sending {
    /// Paths of the regular files by their numbers.
    files: HashMap<u32, PathBuf>,
    /// First names of files with several.
    linked: HashMap<(u64, u64), String>,
    count: u32,
    list: Vec<Stat>,
}

impl Sending {
    /// Parents before children, by name: the receiver checks the order.
    fn walk(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let mut names: Vec<_> =
            fs::read_dir(root.join(path))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let below = path.join(&name);
            let data = fs::symlink_metadata(root.join(&below))?;
            if data.file_type().is_socket() {
                continue;
            }
            let stat = self.stat(root, &below, &data)?;
            if data.is_file() && stat.linkname.is_empty() {
                self.files.insert(self.count, below.clone());
            }
            self.count += 1;
            self.list.push(stat);
            if data.is_dir() {
                self.walk(root, &below)?;
            }
        }
        Ok(())
    }

    fn stat(&mut self, root: &Path, path: &Path, data: &Metadata) -> io::Result<Stat> {
        let text = path.to_string_lossy().into_owned();
        let mut linkname = String::new();
        if data.file_type().is_symlink() {
            linkname = fs::read_link(root.join(path))?.to_string_lossy().into_owned();
        } else if data.is_file() && data.nlink() > 1 {
            let first = self.linked.entry((data.dev(), data.ino())).or_insert_with(|| text.clone());
            if *first != text {
                linkname.clone_from(first);
            }
        }
        Ok(Stat {
            mode: mode(data),
            size: if data.is_dir() { 0 } else { data.len() as i64 },
            mod_time: data.mtime() * 1_000_000_000 + data.mtime_nsec(),
            devmajor: rustix::fs::major(data.rdev()).into(),
            devminor: rustix::fs::minor(data.rdev()).into(),
            path: text,
            linkname,
            ..Stat::default()
        })
    }
}

/// Go's `os.FileMode`.
fn mode(data: &Metadata) -> u32 {
    let kind = data.file_type();
    let kinds = [
        (kind.is_dir(), DIRECTORY),
        (kind.is_symlink(), SYMLINK),
        (kind.is_fifo(), PIPE),
        (kind.is_socket(), SOCKET),
        (kind.is_char_device(), DEVICE | CHARACTERS),
        (kind.is_block_device(), DEVICE),
    ];
    let bits = kinds.iter().filter(|(is, _)| *is).map(|(_, bits)| bits).sum::<u32>();
    let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
    let special = special.iter().filter(|(bit, _)| data.mode() & bit != 0).map(|(_, bits)| bits).sum::<u32>();
    data.mode() & 0o777 | bits | special
}
