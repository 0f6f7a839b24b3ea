//! What a build tells, kept for everybody who asks for its status (`Control/Status`), now or a little later.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use build::Event;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::proto::{
    Position, Range, SourceInfo, StatusResponse, Timestamp, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use super::wire::{Gone, Sender};

/// Most bytes that are kept of a step's output (BuildKit's `BUILDKIT_STEP_LOG_MAX_SIZE`).
const LOG: usize = 2 << 20;
/// Most bytes of output that are kept of a build when others have ended after it.
const OLD_LOG: usize = 64 << 10;

/// The story of one build.
pub(crate) struct Progress {
    told: Mutex<Told>,
    news: watch::Sender<usize>,
    /// Makes digests of steps unique.
    reference: String,
}

#[derive(Default)]
struct Told {
    all: Vec<StatusResponse>,
    vertexes: HashMap<usize, Step>,
    /// The step that a client's files are transferred for.
    transferring: Option<String>,
    transfers: HashMap<String, Timestamp>,
    /// Bytes of output in all.
    logged: usize,
    over: bool,
    counts: Counts,
}

struct Step {
    vertex: Vertex,
    logged: usize,
    parts: HashMap<String, Timestamp>,
}

/// How many steps there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) total: i32,
    pub(crate) cached: i32,
    pub(crate) completed: i32,
    pub(crate) warnings: i32,
}

/// Now.
pub(crate) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: now.as_secs() as i64, nanos: now.subsec_nanos() as i32 }
}

/// `sha256:…` of a text.
pub(crate) fn digest(text: &[u8]) -> String {
    let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Progress {
    pub(crate) fn new(reference: &str) -> Self {
        Progress { told: Mutex::default(), news: watch::channel(0).0, reference: reference.to_owned() }
    }

    /// Takes an event of the build in.
    pub(crate) fn hear(&self, event: Event) {
        let mut told = self.lock();
        match event {
            Event::Began { step, name, .. } => {
                let digest = digest(format!("{}\0{step}", self.reference).as_bytes());
                if name.contains("[internal]") || name.contains("[context ") {
                    told.transferring = Some(digest.clone());
                }
                let vertex = Vertex { digest, name, started: Some(now()), ..Vertex::default() };
                told.counts.total += 1;
                told.vertexes.insert(step, Step { vertex: vertex.clone(), logged: 0, parts: HashMap::new() });
                told.vertex(vertex);
            }
            Event::Cached { step } => told.end(step, true, String::new()),
            Event::Done { step, .. } => told.end(step, false, String::new()),
            Event::Failed { step, message } => told.end(step, false, message),
            Event::Output { step, stream, bytes } => told.log(step, stream.into(), bytes),
            Event::Progress { step, part, current, total, done } => told.part(step, &part, (current, total), done),
            Event::Warning(warning) => told.warn(&warning),
        }
        self.tell(&told);
    }

    /// A client's files are under way.
    pub(crate) fn transferred(&self, label: &str, bytes: u64, done: bool) {
        let mut told = self.lock();
        let Some(vertex) = told.transferring.clone() else { return };
        let started = *told.transfers.entry(format!("{vertex}{label}")).or_insert_with(now);
        let status = VertexStatus {
            id: label.to_owned(),
            vertex,
            name: "transferring".to_owned(),
            current: bytes as i64,
            total: 0,
            timestamp: Some(now()),
            started: Some(started),
            completed: done.then(now),
        };
        told.all.push(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
        self.tell(&told);
    }

    /// Everything has been told.
    pub(crate) fn finish(&self) {
        let mut told = self.lock();
        told.over = true;
        // Also without anything new.
        self.news.send_modify(|count| *count = told.all.len());
    }

    /// Forgets the output of a build that ended a while ago, unless it is small.
    pub(crate) fn shorten(&self) {
        let mut told = self.lock();
        if told.logged > OLD_LOG {
            told.all.retain(|response| response.logs.is_empty());
            told.logged = 0;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Sends everything, from the beginning to the end of the build.
    pub(crate) async fn follow(&self, sender: &Sender) -> Result<(), Gone> {
        let (mut news, mut sent) = (self.news.subscribe(), 0);
        loop {
            news.borrow_and_update();
            let (new, over) = {
                let told = self.lock();
                (told.all.get(sent..).unwrap_or_default().to_vec(), told.over)
            };
            sent += new.len();
            for response in &new {
                sender.send(response).await?;
            }
            if over && new.is_empty() {
                return Ok(());
            }
            if !over && news.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    fn tell(&self, told: &Told) {
        self.news.send_replace(told.all.len());
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn vertex(&mut self, vertex: Vertex) {
        self.all.push(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() });
    }

    fn end(&mut self, step: usize, cached: bool, error: String) {
        let Some(known) = self.vertexes.get_mut(&step) else { return };
        known.vertex = Vertex { cached, error, completed: Some(now()), ..known.vertex.clone() };
        let vertex = known.vertex.clone();
        self.counts.completed += 1;
        self.counts.cached += i32::from(cached);
        self.vertex(vertex);
    }

    fn log(&mut self, step: usize, stream: i64, mut bytes: Vec<u8>) {
        let Some(known) = self.vertexes.get_mut(&step) else { return };
        if known.logged >= LOG {
            return;
        }
        known.logged += bytes.len();
        self.logged += bytes.len();
        if known.logged >= LOG {
            bytes.extend_from_slice(b"\n[output clipped, log limit 2MiB reached]\n");
        }
        let log = VertexLog { vertex: known.vertex.digest.clone(), timestamp: Some(now()), stream, msg: bytes };
        self.all.push(StatusResponse { logs: vec![log], ..StatusResponse::default() });
    }

    fn part(&mut self, step: usize, part: &str, (current, total): (u64, u64), done: bool) {
        let Some(known) = self.vertexes.get_mut(&step) else { return };
        let started = *known.parts.entry(part.to_owned()).or_insert_with(now);
        let status = VertexStatus {
            id: part.to_owned(),
            vertex: known.vertex.digest.clone(),
            name: part.to_owned(),
            current: current as i64,
            total: total as i64,
            timestamp: Some(now()),
            started: Some(started),
            completed: done.then(now),
        };
        self.all.push(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
    }

    fn warn(&mut self, warning: &build::Warning) {
        self.counts.warnings += 1;
        let short = match warning.span {
            Some(span) => format!("{}: {} (line {})", warning.rule, warning.message, span.first),
            None => format!("{}: {}", warning.rule, warning.message),
        };
        let vertex = self.vertexes.values().map(|step| step.vertex.digest.clone()).next().unwrap_or_default();
        let warning = VertexWarning {
            vertex,
            level: 1,
            short: short.into_bytes(),
            detail: vec![warning.description.as_bytes().to_vec()],
            url: warning.url.clone(),
            info: None::<SourceInfo>,
            ranges: warning.span.iter().map(|span| range(*span)).collect(),
        };
        self.all.push(StatusResponse { warnings: vec![warning], ..StatusResponse::default() });
    }
}

fn range(span: build::Span) -> Range {
    let at = |line: usize| Some(Position { line: line as i32, character: 0 });
    Range { start: at(span.first), end: at(span.last) }
}
