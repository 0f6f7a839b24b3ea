//! The first request line of a connection, made acceptable: people type `filters={"name":["web"]}` into curl, and Docker's
//! server takes the quotes, which the HTTP library refuses. Everything else passes untouched.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::transport::Connection;

/// Longest first line that is looked at; the library judges longer ones.
const LONGEST: usize = 64 << 10;

/// A connection whose first bytes have been read already.
pub(crate) struct Begun {
    first: Vec<u8>,
    stream: Connection,
}

impl Begun {
    /// Reads the first line.
    pub(crate) async fn read(mut stream: Connection) -> io::Result<Self> {
        let mut first = Vec::with_capacity(512);
        while !first.contains(&b'\n') && first.len() < LONGEST && stream.read_buf(&mut first).await? > 0 {}
        Ok(Begun { first: accepted(first), stream })
    }

    /// Whether the client begins with HTTP/2, as new clients of BuildKit do.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.first.starts_with(b"PRI * HTTP/2.0\r\n")
    }

    /// The connection, and what of its beginning has not been read.
    pub(crate) fn into_parts(self) -> (Connection, Vec<u8>) {
        (self.stream, self.first)
    }
}

/// Escapes what an address must not have, in the first line alone.
fn accepted(first: Vec<u8>) -> Vec<u8> {
    let Some(end) = first.iter().position(|byte| *byte == b'\n') else { return first };
    let mut line = Vec::with_capacity(first.len());
    for byte in &first[..end] {
        match byte {
            b'"' | b'<' | b'>' | b'`' | b'{' | b'}' => line.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => line.push(*byte),
        }
    }
    line.extend_from_slice(&first[end..]);
    line
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..count]);
        self.first.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_changes() {
        let typed = b"GET /x?filters={\"a\":1} HTTP/1.1\r\nX: {\"b\"}\r\n\r\n".to_vec();
        let wanted = b"GET /x?filters=%7B%22a%22:1%7D HTTP/1.1\r\nX: {\"b\"}\r\n\r\n";
        assert_eq!(accepted(typed), wanted);
        assert_eq!(accepted(b"no end \"".to_vec()), b"no end \"");
    }
}
