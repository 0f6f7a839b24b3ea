//! A client's ssh agents as sockets of this machine: what connects to one talks to the agent over the session.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::proto::{AgentRequest, BytesMessage, Empty};
use super::session::Session;
use super::wire::Result;

const CHECK: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
/// Bytes that are sent together.
const CHUNK: usize = 16 << 10;

/// The agents of a session; their sockets go with this.
pub(crate) struct Agents {
    session: Arc<Session>,
    open: Mutex<Vec<Open>>,
    directory: PathBuf,
}

struct Open {
    id: String,
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Agents {
    /// Of a session, with its sockets in a directory that nobody else may enter.
    pub(crate) fn new(session: Arc<Session>, directory: PathBuf) -> Self {
        Agents { session, open: Mutex::default(), directory }
    }

    fn listen(&self, id: &str, number: usize) -> std::io::Result<Open> {
        let path = self.directory.join(format!("agent.{number}"));
        let _inside = self.session.runtime.enter();
        let listener = UnixListener::bind(&path)?;
        // Whoever the step runs as uses it; the directory keeps everybody else out.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        let (session, name) = (self.session.clone(), id.to_owned());
        let task = self.session.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (session, name) = (session.clone(), name.clone());
                // A conversation that breaks off is the program's affair.
                tokio::spawn(async move { drop(forward(&session, &name, stream).await) });
            }
        });
        Ok(Open { id: id.to_owned(), path, task })
    }
}

impl build::Agents for Agents {
    fn agent(&self, id: &str) -> Result<Option<PathBuf>, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.iter().find(|known| known.id == id) {
            return Ok(Some(known.path.clone()));
        }
        if !self.session.supports(CHECK) {
            return Ok(None);
        }
        let request = AgentRequest { id: id.to_owned() };
        let there = self.session.runtime.block_on(self.session.channel.unary::<Empty>(CHECK, &request));
        if there.is_err() {
            return Ok(None);
        }
        let made = self.listen(id, open.len()).map_err(|error| format!("make a socket for the ssh agent: {error}"))?;
        let path = made.path.clone();
        open.push(made);
        Ok(Some(path))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for open in self.open.get_mut().unwrap_or_else(PoisonError::into_inner) {
            open.task.abort();
            let _ = std::fs::remove_file(&open.path);
        }
    }
}

async fn forward(session: &Session, id: &str, mut stream: UnixStream) -> Result<()> {
    let metadata = [("buildkit.ssh.id".to_owned(), id.to_owned())];
    let (sender, mut answers) = session.channel.call(FORWARD, &metadata)?;
    let (mut read, mut write) = stream.split();
    let there = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if sender.send(&BytesMessage { data: buffer[..count].to_vec() }).await.is_err() {
                break;
            }
        }
    };
    let back = async {
        while let Some(message) = answers.next::<BytesMessage>().await? {
            if write.write_all(&message.data).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        () = there => Ok(()),
        outcome = back => outcome,
    }
}
