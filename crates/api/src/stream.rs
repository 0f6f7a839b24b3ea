//! Answers that a blocking verb writes while it works: progress as documents, archives as bytes. What goes wrong before
//! the first of them is an HTTP error; later it is a document, or the connection is broken off.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use engine::Engine;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Body, Reply, Writer};

/// Bytes of an archive that are sent together.
const BUFFER: usize = 64 << 10;

/// Tells, once, how a verb began.
struct Beginning(Option<oneshot::Sender<Result<()>>>);

impl Beginning {
    fn tell(&mut self, how: impl FnOnce() -> Result<()>) -> bool {
        match self.0.take() {
            Some(sender) => {
                drop(sender.send(how()));
                true
            }
            None => false,
        }
    }
}

/// How a failure is told when the answer has begun.
enum Late {
    Document(Writer),
    BreakOff(Writer),
}

impl Late {
    async fn tell(self, message: String) {
        match self {
            Late::Document(writer) => {
                let document = json!({ "errorDetail": { "message": message }, "error": message });
                drop(writer.write(line(&document)).await);
            }
            Late::BreakOff(writer) => writer.break_off().await,
        }
    }
}

/// Runs a verb and streams the documents that it tells. All that goes wrong is a document: for verbs whose clients look
/// for errors only there.
pub(crate) fn always_documents(
    served: &Arc<Served>,
    verb: impl FnOnce(&Engine, &mut dyn FnMut(Value)) -> engine::Result<()> + Send + 'static,
) -> Reply {
    let (writer, body) = Body::parts();
    let (last, engines) = (writer.clone(), served.engines.clone());
    tokio::spawn(async move {
        let work =
            engines.run_long(move |engine| verb(engine, &mut |document| drop(writer.write_blocking(line(&document)))));
        if let Err(failure) = work.await {
            Late::Document(last).tell(failure.message).await;
        }
    });
    reply::with_type(StatusCode::OK, "application/json", body)
}

/// Runs a verb and streams the documents that it tells.
pub(crate) async fn documents(
    served: &Arc<Served>,
    verb: impl FnOnce(&Engine, &mut dyn FnMut(Value)) -> engine::Result<()> + Send + 'static,
) -> Result<Reply> {
    let (writer, body) = Body::parts();
    let last = writer.clone();
    let run = move |engine: &Engine, beginning: &mut Beginning| {
        verb(engine, &mut |document| {
            beginning.tell(|| Ok(()));
            // A client that has gone does not stop what it began.
            drop(writer.write_blocking(line(&document)));
        })
    };
    begin(served, run, Late::Document(last)).await?;
    Ok(reply::with_type(StatusCode::OK, "application/json", body))
}

/// The same for a build, which is stopped when the client goes.
pub(crate) async fn documents_until(
    served: &Arc<Served>,
    cancel: build::Cancel,
    verb: impl FnOnce(&Engine, &mut dyn FnMut(Value)) -> engine::Result<()> + Send + 'static,
) -> Result<Reply> {
    let (writer, body) = Body::parts();
    let (last, watched) = (writer.clone(), writer.clone());
    let (over, ended) = oneshot::channel::<()>();
    let run = move |engine: &Engine, beginning: &mut Beginning| {
        let _over = over;
        verb(engine, &mut |document| {
            beginning.tell(|| Ok(()));
            drop(writer.write_blocking(line(&document)));
        })
    };
    // The answer ends when nobody holds a writer any more: not even who watches for the client's going.
    tokio::spawn(async move {
        tokio::select! {
            () = watched.closed() => cancel.cancel(),
            _ = ended => {}
        }
    });
    begin(served, run, Late::Document(last)).await?;
    Ok(reply::with_type(StatusCode::OK, "application/json", body))
}

fn line(document: &Value) -> String {
    format!("{document}\r\n")
}

/// Runs a verb and streams what it writes.
pub(crate) async fn bytes(
    served: &Arc<Served>,
    verb: impl FnOnce(&Engine, &mut dyn Write) -> engine::Result<()> + Send + 'static,
) -> Result<Reply> {
    let (writer, body) = Body::parts();
    let last = writer.clone();
    let run = move |engine: &Engine, beginning: &mut Beginning| {
        let mut output = BufWriter::with_capacity(BUFFER, Begins { writer, beginning });
        verb(engine, &mut output)?;
        // The client's going is its own affair.
        drop(output.flush());
        Ok(())
    };
    begin(served, run, Late::BreakOff(last)).await?;
    Ok(reply::with_type(StatusCode::OK, "application/x-tar", body))
}

/// A writer whose first write is the beginning.
struct Begins<'b> {
    writer: Writer,
    beginning: &'b mut Beginning,
}

impl Write for Begins<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.beginning.tell(|| Ok(()));
        Write::write(&mut self.writer, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a verb, and waits until it has begun or failed.
async fn begin(
    served: &Arc<Served>,
    run: impl FnOnce(&Engine, &mut Beginning) -> engine::Result<()> + Send + 'static,
    late: Late,
) -> Result<()> {
    let (first, begun) = oneshot::channel();
    let engines = served.engines.clone();
    let mut beginning = Beginning(Some(first));
    let work = async move {
        engines
            .run_long(move |engine| {
                let outcome = run(engine, &mut beginning);
                Ok(match outcome {
                    Ok(()) => {
                        beginning.tell(|| Ok(()));
                        None
                    }
                    Err(error) => {
                        let message = error.message.clone();
                        if beginning.tell(|| Err(error.into())) { None } else { Some(message) }
                    }
                })
            })
            .await
    };
    tokio::spawn(async move {
        if let Ok(Some(message)) = work.await {
            late.tell(message).await;
        }
    });
    begun.await.map_err(|_| Failure::internal("the request was abandoned"))?
}
