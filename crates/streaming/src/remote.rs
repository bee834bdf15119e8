//! exec and attach: a client's streams and a process's, until the process has ended and all that it
//! wrote has been sent. Kubernetes calls it remote command; versions 1 to 5 of it differ in how the end
//! is said and in whether there is a terminal's size.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;

use crate::outbox::Outbox;
use crate::process::{Process, Reading, Resize, Sink, Size, Source, Writing};
use crate::queue::{Inbox, PIECE};

/// How long the kernel may take to move the last output of a terminal whose process has ended.
const TERMINAL: Duration = Duration::from_millis(100);

/// What is kept of a size that has not come whole.
const SIZE: usize = 4 << 10;

/// A client's streams.
pub(crate) struct Channels {
    pub stdin: Option<Inbox>,
    pub stdout: Option<Outbox>,
    pub stderr: Option<Outbox>,
    /// Where the end is said.
    pub error: Outbox,
    pub resize: Option<Inbox>,
    /// Our direction of those that only the client writes to: they end when all has.
    pub silent: Vec<Outbox>,
}

/// How the end is said on the error stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Words, or nothing after success: versions 1 to 3.
    Words,
    /// A `Status` of meta/v1 as JSON: versions 4 and 5.
    Status,
}

impl Ending {
    fn text(self, outcome: &Result<i32, String>) -> String {
        let words = |code| format!("command terminated with non-zero exit code {code}");
        match (self, outcome) {
            (Self::Words, Ok(0)) => String::new(),
            (Self::Words, Ok(code)) => words(code),
            (Self::Words, Err(error)) => error.clone(),
            (Self::Status, Ok(0)) => json!({"metadata": {}, "status": "Success"}).to_string(),
            (Self::Status, Ok(code)) => json!({
                "metadata": {},
                "status": "Failure",
                "message": words(code),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            })
            .to_string(),
            (Self::Status, Err(error)) => json!({
                "metadata": {},
                "status": "Failure",
                "message": error,
                "reason": "InternalError",
                "details": {"causes": [{"message": error}]},
                "code": 500,
            })
            .to_string(),
        }
    }
}

/// Connects the two until the process has ended, and says how it did.
pub(crate) async fn run(channels: Channels, process: Process, ending: Ending) {
    let (over, ended) = watch::channel(false);
    let outputs = async {
        let stdout = output(process.stdout, channels.stdout, ended.clone());
        let stderr = output(process.stderr, channels.stderr, ended.clone());
        tokio::join!(stdout, stderr)
    };
    let exit = async {
        let outcome = process.exit.await;
        // The outputs wait for it until they are done.
        over.send_replace(true);
        outcome
    };
    let inputs = async {
        tokio::join!(
            input(channels.stdin, process.stdin),
            resizes(channels.resize, process.resize)
        );
        // The end of the input is not the end of the process.
        std::future::pending::<()>().await;
    };
    let outcome = async { tokio::join!(exit, outputs).0 };
    let outcome = tokio::select! {
        outcome = outcome => outcome,
        () = inputs => return,
    };
    end(channels.silent, channels.error, ending, &outcome).await;
}

/// Says why nothing is run.
pub(crate) async fn refuse(channels: Channels, ending: Ending, why: String) {
    for outbox in [channels.stdout, channels.stderr].into_iter().flatten() {
        outbox.close();
    }
    end(channels.silent, channels.error, ending, &Err(why)).await;
}

/// Says how it ended.
async fn end(silent: Vec<Outbox>, error: Outbox, ending: Ending, outcome: &Result<i32, String>) {
    silent.into_iter().for_each(Outbox::close);
    let mut text = Bytes::from(ending.text(outcome));
    text.truncate(PIECE);
    // A client that has left does not hear it.
    let _ = error.write(text).await;
    error.close();
}

async fn output(source: Option<Source>, outbox: Option<Outbox>, ended: watch::Receiver<bool>) {
    let Some(outbox) = outbox else { return };
    if let Some(source) = source
        && let Err(error) = send_all(source, &outbox, ended).await
    {
        tracing::debug!("output to a client: {error}");
    }
    outbox.close();
}

async fn send_all(
    source: Source,
    outbox: &Outbox,
    mut ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut source = Reading::new(source)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let waits = !source.ends_by_itself();
        let read = tokio::select! {
            read = source.read(&mut buffer) => read?,
            _ = ended.wait_for(|&ended| ended), if waits => break,
        };
        if read == 0 {
            return Ok(());
        }
        outbox
            .write(Bytes::copy_from_slice(&buffer[..read]))
            .await?;
    }
    loop {
        let mut read = source.read_now(&mut buffer)?;
        if read == 0 && source.is_terminal() {
            let last = tokio::time::timeout(TERMINAL, source.read(&mut buffer));
            read = last.await.unwrap_or(Ok(0))?;
        }
        if read == 0 {
            return Ok(());
        }
        outbox
            .write(Bytes::copy_from_slice(&buffer[..read]))
            .await?;
    }
}

async fn input(inbox: Option<Inbox>, sink: Option<Sink>) {
    let (Some(mut inbox), Some(sink)) = (inbox, sink) else {
        return;
    };
    let written = async {
        let mut sink = Writing::new(sink)?;
        while let Some(bytes) = inbox.read().await {
            sink.write(&bytes).await?;
        }
        io::Result::Ok(())
    };
    if let Err(error) = written.await {
        // A process that has closed its stdin: what comes is dropped with the inbox.
        tracing::debug!("input of a client: {error}");
    }
}

/// Sizes come as JSON documents, one after the other.
async fn resizes(inbox: Option<Inbox>, resize: Option<Resize>) {
    let (Some(mut inbox), Some(resize)) = (inbox, resize) else {
        return;
    };
    let mut kept = Vec::new();
    while let Some(bytes) = inbox.read().await {
        kept.extend_from_slice(&bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&kept).into_iter::<RawSize>();
        let mut read = 0;
        while let Some(size) = sizes.next() {
            match size {
                Ok(RawSize { width, height }) => {
                    read = sizes.byte_offset();
                    // A size of nothing is what clients without a terminal send.
                    if width > 0 && height > 0 {
                        resize(Size { width, height });
                    }
                }
                Err(error) if error.is_eof() => break,
                Err(error) => {
                    tracing::debug!("size of a client's terminal: {error}");
                    return;
                }
            }
        }
        kept.drain(..read);
        if kept.len() > SIZE {
            return;
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSize {
    width: u16,
    height: u16,
}

#[cfg(test)]
mod tests;
