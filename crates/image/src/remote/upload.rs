//! Writing to one repository (OCI distribution specification, *Push*): blobs from streams, by mounting from a neighbour,
//! or whole; manifests.

use std::io::{self, Read};

use ureq::Body;
use ureq::http::{Method, Response, StatusCode, Uri, header};

use super::http::{Payload, location, pause};
use super::refusal::{Tried, refusal};
use super::registry::Registry;
use super::url;
use crate::Digest;
use crate::digest::Hasher;
use crate::error::{Error, Result};

/// How often an upload is begun or taken up again.
const TRIES: u32 = 5;
/// From this try on in pieces: something on the way may not like large requests.
const IN_PIECES: u32 = 3;
/// Bytes of a piece, unless the registry wants larger ones.
const PIECE: u64 = 8 << 20;
/// Largest piece that a registry may ask for.
const LARGEST_PIECE: u64 = 256 << 20;
const OCTETS: &str = "application/octet-stream";

/// Bytes that can be had again from the beginning, the same each time.
pub(crate) trait Source {
    /// A fresh stream of them.
    fn open(&self) -> Result<Box<dyn Read + '_>>;
    /// How many they are, if known.
    fn size(&self) -> Option<u64>;
    /// What they must be, if known.
    fn digest(&self) -> Option<&Digest>;
}

/// A blob that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uploaded {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// An upload that the registry has begun.
struct Session {
    place: Uri,
    /// Bytes that the registry has.
    done: u64,
    piece: u64,
}

impl Registry {
    /// Whether the repository has the blob.
    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let response = self.request(&Method::HEAD, &format!("blobs/{digest}"), &[])?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(response, &Tried::Push(&self.shown))),
        }
    }

    /// Takes the blob over from another repository of the same registry; whether that worked.
    pub(crate) fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        let query = [("mount", digest.as_str()), ("from", from)];
        let scope = format!("repository:{from}:pull");
        let response = self.begin(&query, Some(&scope))?;
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // Refused: the registry has begun an ordinary upload instead, which nobody needs.
        if let Ok(session) = self.session(&response) {
            self.cancel(&session);
        }
        Ok(false)
    }

    /// Uploads a small blob.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Uploaded> {
        let uploaded = Uploaded { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let response = self.begin(&[], None)?;
        let session = self.session(&response)?;
        self.finish(&session, &uploaded.digest, Payload::Bytes(bytes))?;
        Ok(uploaded)
    }

    /// Uploads a stream, and goes on where it broke.
    pub(crate) fn put_stream(&self, source: &dyn Source) -> Result<Uploaded> {
        let mut session = None;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_stream(source, &mut session, tries) {
                Err(Error::Registry(_)) if tries < TRIES => {}
                // Too large for one request.
                Err(Error::Refused(text)) if text.contains("413") && tries < IN_PIECES => tries = IN_PIECES - 1,
                other => return other,
            }
            std::thread::sleep(pause(tries, None));
            if let Some(broken) = session.take() {
                session = self.resumed(broken);
            }
        }
    }

    fn try_stream(&self, source: &dyn Source, session: &mut Option<Session>, tries: u32) -> Result<Uploaded> {
        let session = match session {
            Some(session) => session,
            slot => slot.insert(self.session(&self.begin(&[], None)?)?),
        };
        let mut body = Hashed { input: source.open()?, hasher: Hasher::new(), count: 0, failure: None };
        io::copy(&mut body.by_ref().take(session.done), &mut io::sink()).map_err(|_| body.cause())?;
        if tries < IN_PIECES {
            self.send_rest(session, &mut body, source.size())?;
        } else {
            self.send_pieces(session, &mut body)?;
        }
        let uploaded = Uploaded { digest: body.hasher.finish(), size: body.count };
        if let Some(expected) = source.digest().filter(|expected| **expected != uploaded.digest) {
            self.cancel(session);
            return Err(Error::untrusted(format!("digest mismatch: blob {expected} is {}", uploaded.digest)));
        }
        self.finish(session, &uploaded.digest, Payload::None)?;
        Ok(uploaded)
    }

    /// All in one request, as Docker does it: every registry knows that.
    fn send_rest(&self, session: &mut Session, body: &mut Hashed<'_>, size: Option<u64>) -> Result<()> {
        let rest = size.map(|size| size.saturating_sub(session.done));
        let range = rest.map(|rest| format!("{}-{}", session.done, session.done + rest.max(1) - 1));
        let range = range.filter(|_| session.done > 0);
        let mut headers = vec![(header::CONTENT_TYPE, OCTETS)];
        headers.extend(range.as_deref().map(|range| (header::CONTENT_RANGE, range)));
        let sent = self.write(&Method::PATCH, &session.place, &headers, None, Payload::Stream(body, rest));
        // That the source failed is the cause, and the broken request only the consequence.
        if body.failure.is_some() {
            return Err(body.cause());
        }
        self.accepted(session, sent?, body.count)
    }

    /// Piece by piece, each of which can be sent again.
    fn send_pieces(&self, session: &mut Session, body: &mut Hashed<'_>) -> Result<()> {
        loop {
            let mut piece = Vec::new();
            body.by_ref().take(session.piece).read_to_end(&mut piece).map_err(|_| body.cause())?;
            if piece.is_empty() {
                return Ok(());
            }
            let end = session.done + piece.len() as u64;
            let range = format!("{}-{}", session.done, end - 1);
            let headers = [(header::CONTENT_TYPE, OCTETS), (header::CONTENT_RANGE, &*range)];
            let sent = self.write(&Method::PATCH, &session.place, &headers, None, Payload::Bytes(&piece))?;
            self.accepted(session, sent, end)?;
        }
    }

    fn accepted(&self, session: &mut Session, response: Response<Body>, done: u64) -> Result<()> {
        if !matches!(response.status(), StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED) {
            return Err(refusal(response, &Tried::Push(&self.shown)));
        }
        if let Some(next) = location(response.headers()) {
            session.place = url::join(&session.place, next)?;
        }
        session.done = done;
        Ok(())
    }

    fn begin(&self, query: &[(&str, &str)], scope: Option<&str>) -> Result<Response<Body>> {
        let place = format!("{}/v2/{}/blobs/uploads/", self.base, self.endpoint.path);
        let place = url::parse(&url::with_query(&place, query))?;
        let response = self.write(&Method::POST, &place, &[], scope, Payload::None)?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::CREATED => Ok(response),
            _ => Err(refusal(response, &Tried::Push(&self.shown))),
        }
    }

    fn session(&self, begun: &Response<Body>) -> Result<Session> {
        let place = location(begun.headers()).unwrap_or("");
        let number = |name: &str| begun.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let least = number("oci-chunk-min-length").unwrap_or(0);
        let from = url::parse(&self.base)?;
        Ok(Session { place: url::join(&from, place)?, done: 0, piece: least.clamp(PIECE, LARGEST_PIECE) })
    }

    /// What the registry has of a broken upload; nothing if it has forgotten it.
    fn resumed(&self, broken: Session) -> Option<Session> {
        let response = self.write(&Method::GET, &broken.place, &[], None, Payload::None).ok()?;
        if response.status() != StatusCode::NO_CONTENT {
            return None;
        }
        let last = response.headers().get(header::RANGE)?.to_str().ok()?.rsplit_once('-')?.1.parse::<u64>().ok()?;
        let place = match location(response.headers()) {
            Some(place) => url::join(&broken.place, place).ok()?,
            None => broken.place,
        };
        // `0-0` is what registries say for nothing, too.
        Some(Session { place, done: if last == 0 { 0 } else { last + 1 }, piece: broken.piece })
    }

    fn finish(&self, session: &Session, digest: &Digest, payload: Payload<'_>) -> Result<()> {
        let place = url::with_query(&session.place.to_string(), &[("digest", digest.as_str())]);
        let headers = [(header::CONTENT_TYPE, OCTETS)];
        let response = self.write(&Method::PUT, &url::parse(&place)?, &headers, None, payload)?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => self.confirmed(&response, digest),
            _ => Err(refusal(response, &Tried::Push(&self.shown))),
        }
    }

    fn cancel(&self, session: &Session) {
        // Registries forget abandoned uploads by themselves.
        let _ = self.write(&Method::DELETE, &session.place, &[], None, Payload::None);
    }

    /// Uploads a manifest or an index under a tag or its digest; whether the registry keeps lists of referrers itself.
    pub(super) fn put_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<bool> {
        let place = url::parse(&format!("{}/v2/{}/manifests/{name}", self.base, self.endpoint.path))?;
        let headers = [(header::CONTENT_TYPE, media_type)];
        let response = self.write(&Method::PUT, &place, &headers, None, Payload::Bytes(bytes))?;
        if !response.status().is_success() {
            return Err(refusal(response, &Tried::Push(&self.shown)));
        }
        self.confirmed(&response, &Digest::of(bytes))?;
        Ok(response.headers().contains_key("oci-subject"))
    }

    /// A registry that says what it has stored must say the same as we.
    fn confirmed(&self, response: &Response<Body>, digest: &Digest) -> Result<()> {
        let said = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match said {
            Some(said) if said.starts_with("sha256:") && said != digest.as_str() => Err(Error::untrusted(format!(
                "digest mismatch: the registry of {} stored {said}, not {digest}",
                self.shown
            ))),
            _ => Ok(()),
        }
    }
}

/// Hashes and counts what passes, and keeps the failure that the HTTP client would swallow.
struct Hashed<'h> {
    input: Box<dyn Read + 'h>,
    hasher: Hasher,
    count: u64,
    failure: Option<Error>,
}

impl Hashed<'_> {
    fn cause(&mut self) -> Error {
        self.failure
            .take()
            .unwrap_or_else(|| Error::Step { step: "read a layer".into(), cause: "it ends early".into() })
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = match self.input.read(buffer) {
            Ok(got) => got,
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(Error::Step { step: "read a layer to push".into(), cause: error.to_string() });
                return Err(kind.into());
            }
        };
        self.hasher.update(&buffer[..got]);
        self.count += got as u64;
        Ok(got)
    }
}
