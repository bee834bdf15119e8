//! The way to a client, over whichever transport it came.

use std::io;

use bytes::Bytes;

use crate::{spdy, websocket};

/// Our direction of a stream or channel.
#[derive(Debug)]
pub(crate) enum Outbox {
    Spdy(spdy::Outbox),
    WebSocket(websocket::Outbox),
}

impl Outbox {
    /// Sends at most [`crate::queue::PIECE`] bytes. Cancel-safe: all of them are sent or none.
    ///
    /// # Errors
    /// A client that has left, or does not want this stream any more.
    pub(crate) async fn write(&self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Spdy(outbox) => outbox.write(bytes).await,
            Self::WebSocket(outbox) => outbox.write(bytes).await,
        }
    }

    /// The client has not taken the stream back.
    pub(crate) fn is_wanted(&self) -> bool {
        match self {
            Self::Spdy(outbox) => outbox.is_open(),
            Self::WebSocket(_) => true,
        }
    }

    /// Says that no more comes. A channel of a WebSocket ends with the connection.
    pub(crate) fn close(self) {
        if let Self::Spdy(outbox) = self {
            outbox.close();
        }
    }
}
