//! MQTT in a WebSocket: binary frames as a stream of bytes. A packet may span frames, and a frame may have several.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

/// Bytes of the largest message that is read: a packet of MQTT has fewer.
const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Bytes of a frame that is written.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Bytes that wait to be written, beyond which the rest waits.
const WRITE_BYTES: usize = 32 * 1024;
const WRITE_BYTES_MAX: usize = 256 * 1024;

/// Any stream of bytes.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A connection that was upgraded to a WebSocket, to be served.
pub struct Visitor {
    pub io: Box<dyn Io>,
    pub peer: SocketAddr,
    /// The certificate that the client has the key of.
    pub chain: Vec<CertificateDer<'static>>,
}

/// The bytes in the frames of a WebSocket.
pub struct FramedBytes<S> {
    socket: WebSocketStream<S>,
    /// What has come and was not read.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FramedBytes<S> {
    /// Takes over the server's side of a connection that was upgraded.
    pub async fn new(io: S) -> FramedBytes<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(WRITE_BYTES)
            .max_write_buffer_size(WRITE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        FramedBytes { socket, rest: Bytes::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FramedBytes<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let own = self.get_mut();
        while own.rest.is_empty() {
            match ready!(Pin::new(&mut own.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => own.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "MQTT is in binary frames")));
                }
                // A ping is answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(Error::other(error))),
            }
        }
        let length = own.rest.len().min(buffer.remaining());
        buffer.put_slice(&own.rest[..length]);
        own.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FramedBytes<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let mut socket = Pin::new(&mut self.get_mut().socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(Error::other)?;
        let part = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        socket.start_send(Message::binary(part.to_vec())).map_err(Error::other)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context).map_err(Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(context).map_err(Error::other)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn bytes_are_the_same_in_any_frames() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(1_000);
            let mut server = FramedBytes::new(near).await;
            let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            let sending = async {
                for part in [&b"a"[..], b"", b"bcd", b"ef"] {
                    client.send(Message::binary(part.to_vec())).await.unwrap();
                }
                let mut back = Vec::new();
                while back.len() < 100_000 {
                    back.extend(client.next().await.unwrap().unwrap().into_data());
                }
                client.send(Message::text("x")).await.unwrap();
                back
            };
            let reading = async {
                let mut read = [0; 6];
                server.read_exact(&mut read).await.unwrap();
                server.write_all(&[7; 100_000]).await.unwrap();
                server.flush().await.unwrap();
                (read, server.read(&mut [0; 10]).await.unwrap_err().kind())
            };
            let (back, (read, text)) = tokio::join!(sending, reading);
            assert_eq!((&read, text), (b"abcdef", ErrorKind::InvalidData));
            assert!(back.len() == 100_000 && back.iter().all(|byte| *byte == 7));
        });
    }
}
