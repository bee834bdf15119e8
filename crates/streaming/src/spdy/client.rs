//! A client that is written here, frame by frame.

use tokio::io::DuplexStream;

use super::writer::Writer;
use super::*;

/// A client with its own compression.
pub(crate) struct Client<I = DuplexStream> {
    pub io: I,
    writer: Writer,
    inflater: Inflater,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Reply(StreamId),
    Data(StreamId, bool, Vec<u8>),
    Reset(StreamId),
    Ping(u32),
    GoAway,
    Other,
    Closed,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Client<I> {
    pub(crate) fn new(io: I) -> Self {
        Self {
            io,
            writer: Writer::new().unwrap(),
            inflater: Inflater::new(),
        }
    }

    pub(crate) async fn open(&mut self, id: StreamId, headers: &[(&str, &str)]) {
        self.writer.open(id, headers).unwrap();
        self.io.write_all(&self.writer.take()).await.unwrap();
    }

    pub(crate) async fn send(&mut self, id: StreamId, fin: bool, bytes: &[u8]) {
        self.writer.data(id, fin, bytes);
        self.io.write_all(&self.writer.take()).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Got {
        match frame::read(&mut self.io).await.unwrap() {
            None => Got::Closed,
            Some(Frame::Headers { id, headers, .. }) => {
                self.inflater.block(&headers).unwrap();
                Got::Reply(id)
            }
            Some(Frame::Data { id, fin, length }) => {
                let mut bytes = vec![0; length];
                self.io.read_exact(&mut bytes).await.unwrap();
                Got::Data(id, fin, bytes)
            }
            Some(Frame::Reset { id }) => Got::Reset(id),
            Some(Frame::Ping { id }) => Got::Ping(id),
            Some(Frame::GoAway) => Got::GoAway,
            Some(_) => Got::Other,
        }
    }

    /// The next frame that is neither a reply nor of windows.
    pub(crate) async fn news(&mut self) -> Got {
        loop {
            match self.next().await {
                Got::Reply(_) | Got::Other => {}
                news => return news,
            }
        }
    }
}
