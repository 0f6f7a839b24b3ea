//! Web sockets (RFC 6455): the handshake, and bytes between one and a local socket. Each message of the client's is input,
//! each piece of output is one binary message.

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::reply::{Reply, status};
use crate::request::Request;

/// Bytes moved at a time.
const CHUNK: usize = 16 << 10;
/// Largest message of a client.
const LARGEST: usize = 1 << 20;

/// The answer to a handshake; none if it is not one.
pub(crate) fn accept(request: &Request) -> Option<Reply> {
    let wanted = request.headers.get(UPGRADE)?.to_str().ok()?;
    if !wanted.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let key = derive_accept_key(request.headers.get(SEC_WEBSOCKET_KEY)?.as_bytes());
    let mut reply = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(key).ok()?);
    Some(reply)
}

/// Moves bytes until one of the ends goes. A client's close is the end of its input and of the connection.
pub(crate) async fn relay(upgraded: Upgraded, mut local: UnixStream) {
    let limits = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let client = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let (mut to_client, mut from_client) = client.split();
    let (mut from_local, mut to_local) = local.split();
    let typing = async {
        while let Some(Ok(message)) = from_client.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if to_local.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from_local.read(&mut buffer).await {
            let message = Message::Binary(Bytes::copy_from_slice(&buffer[..count]));
            if to_client.send(message).await.is_err() {
                return;
            }
        }
        drop(to_client.close().await);
    };
    tokio::select! {
        () = typing => {}
        () = reading => {}
    }
}
