//! A server that answers by a table: with what a registry would, or with lies.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use image::Digest;
use serde_json::json;

use super::{Tar, configuration, gzip, oci_manifest};

/// What the server answers to `PATH`, or `METHOD PATH` for what is neither GET nor HEAD, the first time and later.
type Answers = Arc<Mutex<HashMap<String, Vec<Answer>>>>;

#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// Sends only so much of the body and hangs up.
    pub(crate) cut: Option<usize>,
    /// Sends the body again and again, without saying how long it is.
    pub(crate) endless: bool,
    /// Reads only so much of the request's body and hangs up.
    pub(crate) deaf: Option<u64>,
    /// Waits for a word before it answers.
    pub(crate) hold: Option<Arc<Mutex<Receiver<()>>>>,
}

pub(crate) fn ok(body: &[u8]) -> Answer {
    Answer { status: "200 OK", body: body.to_vec(), ..Answer::default() }
}

pub(crate) fn status(status: &'static str, headers: &[String]) -> Answer {
    Answer { status, headers: headers.to_vec(), ..Answer::default() }
}

/// A small HTTP server that keeps the requests, in small letters.
pub(crate) struct Server {
    pub(crate) host: String,
    answers: Answers,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (answers, seen) = (Answers::default(), Arc::<Mutex<Vec<String>>>::default());
        let (table, log) = (Arc::clone(&answers), Arc::clone(&seen));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (table, log) = (Arc::clone(&table), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &table, &log));
            }
        });
        Server { host, answers, seen }
    }

    pub(crate) fn answer(&self, path: &str, answers: Vec<Answer>) {
        self.answers.lock().unwrap().insert(path.to_owned(), answers);
    }

    /// An image of one layer under `x:latest`; configuration, manifest and layer.
    pub(crate) fn image(&self, content: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let layer = Tar::new().file("f", content).finish();
        let packed = gzip(&layer);
        let config = configuration(&[Digest::of(&layer)], json!({}));
        let manifest = oci_manifest(&config, std::slice::from_ref(&packed));
        self.answer("/v2/x/manifests/latest", vec![ok(&manifest)]);
        self.answer(&format!("/v2/x/blobs/{}", Digest::of(&config)), vec![ok(&config)]);
        self.answer(&format!("/v2/x/blobs/{}", Digest::of(&packed)), vec![ok(&packed)]);
        (config, manifest, packed)
    }

    /// An image of these layers under `x:latest`.
    pub(crate) fn image_of(&self, layers: &[Vec<u8>]) {
        let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        let config = configuration(&layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>(), json!({}));
        self.answer("/v2/x/manifests/latest", vec![ok(&oci_manifest(&config, &packed))]);
        for blob in packed.iter().chain([&config]) {
            self.answer(&format!("/v2/x/blobs/{}", Digest::of(blob)), vec![ok(blob)]);
        }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests had this in them.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.requests().iter().filter(|request| request.contains(word)).count()
    }
}

/// Answers one request and closes. What is no HTTP (a TLS greeting) is dropped.
fn serve(mut stream: TcpStream, table: &Answers, log: &Mutex<Vec<String>>) {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return;
        }
        let Ok(line) = String::from_utf8(line) else { return };
        if request.is_empty() && !line.starts_with(|c: char| c.is_ascii_uppercase()) {
            return;
        }
        if line == "\r\n" {
            break;
        }
        request.push_str(&line.to_lowercase().replace("\r\n", "\n"));
    }
    let mut words = request.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    log.lock().unwrap().push(request.clone());
    let key = if matches!(&*method, "get" | "head") { path } else { format!("{} {path}", method.to_uppercase()) };
    let answer = choose(table, &key, request.contains("\nrange: "));
    if let Some(hold) = &answer.hold {
        let _ = hold.lock().unwrap().recv();
    }
    if !swallow(&mut reader, &request, answer.deaf) {
        return;
    }
    let length = if answer.endless { String::new() } else { format!("content-length: {}\r\n", answer.body.len()) };
    let more: String = answer.headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {}\r\n{length}connection: close\r\n{more}\r\n", answer.status);
    let mut sent = stream.write_all(head.as_bytes());
    while method != "head" && sent.is_ok() {
        sent = stream.write_all(&answer.body[..answer.cut.unwrap_or(answer.body.len())]);
        if !answer.endless {
            return;
        }
    }
}

/// By the whole path, else by the path without its query. A part goes only to who asks for one.
fn choose(table: &Answers, key: &str, ranged: bool) -> Answer {
    let mut table = table.lock().unwrap();
    let key = if table.contains_key(key) { key } else { key.split('?').next().unwrap_or(key) };
    if let Some(answers) = table.get_mut(key)
        && !ranged
        && answers[0].status.starts_with("206")
    {
        answers.remove(0);
    }
    match table.get_mut(key) {
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers[0].clone(),
        None => Answer { status: "404 Not Found", ..Answer::default() },
    }
}

/// Reads the request's body; whether to answer.
fn swallow(reader: &mut impl BufRead, request: &str, deaf: Option<u64>) -> bool {
    let length = request.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok());
    if let Some(deaf) = deaf {
        let _ = std::io::copy(&mut reader.take(deaf), &mut std::io::sink());
        return false;
    }
    if request.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            let size = reader.read_line(&mut line).ok().and_then(|_| u64::from_str_radix(line.trim(), 16).ok());
            let Some(size) = size else { return true };
            let _ = std::io::copy(&mut reader.take(size + 2), &mut std::io::sink());
            if size == 0 {
                return true;
            }
        }
    }
    let _ = std::io::copy(&mut reader.take(length.unwrap_or(0)), &mut std::io::sink());
    true
}
