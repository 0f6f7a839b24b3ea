//! A session inside a call (`Control/Session`): clients that do not use `POST /session` carry the connection on which we
//! ask in the messages of a stream.

use std::sync::Arc;

use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::proto::BytesMessage;
use super::session::Introduction;
use super::wire::{Code, Messages, Result, Sender, Status};
use crate::Served;

/// Bytes that wait in the connection.
const CHUNK: usize = 64 << 10;

/// Serves one until it ends.
pub(super) async fn session(
    headers: &HeaderMap,
    mut messages: Messages,
    sender: &Sender,
    served: &Arc<Served>,
) -> Result<()> {
    let missing = || Status::new(Code::InvalidArgument, "the session has no id");
    let introduction = Introduction::read(headers).ok_or_else(missing)?;
    let (ours, theirs) = tokio::io::duplex(CHUNK);
    let (mut read, mut write) = tokio::io::split(theirs);
    let there = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if sender.send(&BytesMessage { data: buffer[..count].to_vec() }).await.is_err() {
                break;
            }
        }
    };
    let back = async {
        while let Ok(Some(message)) = messages.next::<BytesMessage>().await {
            if write.write_all(&message.data).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = served.sessions.serve(TokioIo::new(ours), introduction) => {}
        () = there => {}
        () = back => {}
    }
    Ok(())
}
