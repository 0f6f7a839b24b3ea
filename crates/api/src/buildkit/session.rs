//! Sessions: connections on which a client answers our questions while it builds (`POST /session`): its files,
//! credentials, secrets and agents. Which of them a build needs is not decided here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::proto::{CredentialsRequest, CredentialsResponse, SecretRequest, SecretResponse};
use super::wire::{Channel, Code, Result, Status};

/// How long a build waits for its session.
const PATIENCE: Duration = Duration::from_secs(5);
/// What Docker's clients call their own registry.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// All that are open.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    news: Notify,
}

/// One client.
pub(crate) struct Session {
    /// Which directory it builds from, across its builds; empty: unknown.
    pub(crate) shared_key: String,
    pub(crate) channel: Channel,
    /// Where the connection is driven: threads that may block wait for it with this.
    pub(crate) runtime: Handle,
    methods: Vec<String>,
    gone: watch::Receiver<bool>,
}

/// How a session introduces itself.
pub(crate) struct Introduction {
    id: String,
    shared_key: String,
    methods: Vec<String>,
}

impl Introduction {
    /// From the head of a request.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| {
            let value = headers.get(format!("x-docker-expose-session-{name}"));
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let methods = headers.get_all("x-docker-expose-session-grpc-method").iter();
        let methods = methods.filter_map(|value| value.to_str().ok().map(str::to_lowercase)).collect();
        let id = text("uuid");
        (!id.is_empty()).then(|| Introduction { id, shared_key: text("sharedkey"), methods })
    }
}

impl Sessions {
    /// Asks on this connection until it ends.
    pub(crate) async fn serve<T>(&self, connection: T, introduction: Introduction)
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let Ok((sender, driver)) = builder.handshake(connection).await else { return };
        let (end, gone) = watch::channel(false);
        let Introduction { id, shared_key, methods } = introduction;
        let channel = Channel::new(sender);
        let session = Arc::new(Session { shared_key, channel, runtime: Handle::current(), methods, gone });
        self.lock().insert(id.clone(), session.clone());
        self.news.notify_waiters();
        // A client that goes is nobody's fault.
        drop(driver.await);
        let mut open = self.lock();
        if open.get(&id).is_some_and(|known| Arc::ptr_eq(known, &session)) {
            open.remove(&id);
        }
        let _ = end.send(true);
    }

    /// The session of a build, which may come a little later than the build.
    pub(crate) async fn find(&self, id: &str) -> Result<Arc<Session>> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let news = self.news.notified();
                if let Some(session) = self.lock().get(id) {
                    return session.clone();
                }
                news.await;
            }
        });
        found.await.map_err(|_| Status::new(Code::Unavailable, format!("no active session for {id}")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Whether the client answers that.
    pub(crate) fn supports(&self, method: &str) -> bool {
        self.methods.contains(&method.to_lowercase())
    }

    /// Comes back when the client has gone.
    pub(crate) async fn closed(&self) {
        // The sender has gone: so has the session.
        drop(self.gone.clone().wait_for(|gone| *gone).await);
    }

    /// What the client knows for a registry. Blocks.
    pub(crate) fn credentials(&self, host: &str) -> Option<engine::Credentials> {
        const METHOD: &str = "/moby.filesync.v1.Auth/Credentials";
        if !self.supports(METHOD) {
            return None;
        }
        let host = if host == HUB.0 { HUB.1 } else { host }.to_owned();
        // A registry that the client knows nothing about may be open to everybody.
        let answer: CredentialsResponse =
            self.runtime.block_on(self.channel.unary(METHOD, &CredentialsRequest { host })).ok()?;
        if answer.secret.is_empty() {
            return None;
        }
        Some(match answer.username.as_str() {
            "" | "<token>" => engine::Credentials { identity_token: answer.secret, ..engine::Credentials::default() },
            _ => engine::Credentials {
                username: answer.username,
                password: answer.secret,
                ..engine::Credentials::default()
            },
        })
    }
}

impl build::Secrets for Session {
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        const METHOD: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
        if !self.supports(METHOD) {
            return Ok(None);
        }
        let request = SecretRequest { id: id.to_owned() };
        match self.runtime.block_on(self.channel.unary::<SecretResponse>(METHOD, &request)) {
            Ok(answer) => Ok(Some(answer.data)),
            Err(status) if status.code == Code::NotFound as i32 => Ok(None),
            Err(status) => Err(status.message),
        }
    }
}
