//! exec and attach from the client's side: standard input goes, output comes, and at the end the server says
//! how the command ended. Protocol: k8s.io/apimachinery/pkg/util/remotecommand, versions 4 and 5.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::dial::{self, Upgrade};
use super::{Error, Target, Transport};
use crate::outbox::Outbox;
use crate::queue::{Inbox, PIECE};
use crate::websocket::{self, Framing};
use crate::{Size, Streams, spdy};

/// What is kept of the words that a command's end is told with.
const WORDS: usize = 64 << 10;

/// How long the connection has to close once all has come.
const LINGER: Duration = Duration::from_secs(5);

const SPDY: &[&str] = &["v4.channel.k8s.io"];
const WEBSOCKET: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What the client's side of the streams is.
pub struct Stdio {
    /// Where standard input comes from, if it is wanted.
    pub stdin: Option<Pin<Box<dyn AsyncRead + Send>>>,
    /// Where standard output goes.
    pub stdout: Pin<Box<dyn AsyncWrite + Send>>,
    /// Where standard error goes.
    pub stderr: Pin<Box<dyn AsyncWrite + Send>>,
    /// Sizes of the terminal, as they change.
    pub sizes: Option<mpsc::Receiver<Size>>,
}

impl std::fmt::Debug for Stdio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stdio")
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub i32);

/// The connection's streams.
struct Channels {
    stdin: Option<Outbox>,
    resize: Option<Outbox>,
    stdout: Option<Inbox>,
    stderr: Option<Inbox>,
    error: Inbox,
    /// Our direction of what only the server writes to: dropped, they would reset the streams.
    silent: Vec<Outbox>,
    /// The end of standard input can be told.
    ends: bool,
    session: Session,
    moved: JoinHandle<io::Result<()>>,
}

enum Session {
    Spdy(spdy::Opener),
    WebSocket(websocket::Session),
}

/// Connects standard streams with those of a command until it has ended.
///
/// # Errors
/// No stream, a broken one, or a command that could not be run; its exit code is none.
pub async fn run(target: &Target, streams: Streams, stdio: Stdio) -> Result<Exit, Error> {
    let versions = match target.transport {
        Transport::Spdy => SPDY,
        Transport::WebSocket => WEBSOCKET,
    };
    let (io, version) = dial::upgrade(target, versions).await?;
    let channels = match target.transport {
        Transport::Spdy => over_spdy(io, streams).await?,
        Transport::WebSocket => over_websocket(io, streams, &version).await,
    };
    connected(channels, stdio).await
}

async fn over_spdy(io: Upgrade, streams: Streams) -> Result<Channels, Error> {
    let (opener, moved) = spdy::connect(io)?;
    let moved = tokio::spawn(moved);
    let mut silent = Vec::new();
    let opened = async |kind: &str| opener.open(&[("streamtype", kind)]).await;
    let error = opened("error").await?;
    silent.push(Outbox::Spdy(error.outbox));
    let (mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None);
    if streams.stdin {
        stdin = Some(Outbox::Spdy(opened("stdin").await?.outbox));
    }
    for (wanted, kind, inbox) in [
        (streams.stdout, "stdout", &mut stdout),
        (streams.stderr, "stderr", &mut stderr),
    ] {
        if wanted {
            let stream = opened(kind).await?;
            silent.push(Outbox::Spdy(stream.outbox));
            *inbox = Some(stream.inbox);
        }
    }
    if streams.tty {
        resize = Some(Outbox::Spdy(opened("resize").await?.outbox));
    }
    Ok(Channels {
        stdin,
        resize,
        stdout,
        stderr,
        error: error.inbox,
        silent,
        ends: true,
        session: Session::Spdy(opener),
        moved,
    })
}

async fn over_websocket(io: Upgrade, streams: Streams, version: &str) -> Channels {
    let framing = Framing {
        base64: false,
        close: version.starts_with("v5"),
    };
    let socket = websocket::connected(io).await;
    let (session, mut inboxes, moved) = websocket::serve(socket, framing, &[1, 2, 3]);
    let moved = tokio::spawn(moved);
    let outbox = |channel| Outbox::WebSocket(session.outbox(channel));
    let error = inboxes.remove(2);
    let stderr = Some(inboxes.remove(1));
    let stdout = Some(inboxes.remove(0));
    Channels {
        stdin: streams.stdin.then(|| outbox(0)),
        resize: streams.tty.then(|| outbox(4)),
        stdout,
        stderr,
        error,
        silent: Vec::new(),
        ends: framing.close,
        session: Session::WebSocket(session),
        moved,
    }
}

async fn connected(channels: Channels, stdio: Stdio) -> Result<Exit, Error> {
    let Channels {
        stdin,
        resize,
        stdout,
        stderr,
        error,
        silent,
        ends,
        session,
        moved,
    } = channels;
    let inputs = async {
        let typed = input(stdio.stdin, stdin, ends);
        let resized = resizes(stdio.sizes, resize);
        let (typed, ()) = tokio::join!(typed, resized);
        if let Err(error) = typed {
            return error;
        }
        // The end of the input is not the end of the command.
        std::future::pending().await
    };
    let outputs = async {
        let (stdout, stderr, words) = tokio::join!(
            output(stdout, stdio.stdout),
            output(stderr, stdio.stderr),
            words(error)
        );
        stdout?;
        stderr?;
        Ok::<_, io::Error>(words)
    };
    let words = tokio::select! {
        words = outputs => words?,
        error = inputs => return Err(error.into()),
    };
    match &session {
        Session::Spdy(opener) => opener.finish(),
        Session::WebSocket(session) => session.finish().await,
    }
    // What the connection carried has come; how it closes changes nothing any more.
    let _ = tokio::time::timeout(LINGER, moved).await;
    drop(silent);
    ended(&words)
}

/// Sends standard input. A command that has closed its own is no error.
async fn input(
    source: Option<Pin<Box<dyn AsyncRead + Send>>>,
    outbox: Option<Outbox>,
    ends: bool,
) -> io::Result<()> {
    let (Some(mut source), Some(outbox)) = (source, outbox) else {
        return Ok(());
    };
    let mut buffer = vec![0; PIECE];
    loop {
        let read = source.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let bytes = Bytes::copy_from_slice(&buffer[..read]);
        if outbox.write(bytes).await.is_err() {
            return Ok(());
        }
    }
    match outbox {
        Outbox::WebSocket(outbox) if ends => outbox.end().await,
        outbox => outbox.close(),
    }
    Ok(())
}

async fn resizes(sizes: Option<mpsc::Receiver<Size>>, outbox: Option<Outbox>) {
    let (Some(mut sizes), Some(outbox)) = (sizes, outbox) else {
        return;
    };
    while let Some(size) = sizes.recv().await {
        let text = serde_json::json!({"Width": size.width, "Height": size.height}).to_string();
        if outbox.write(text.into()).await.is_err() {
            return;
        }
    }
    // Dropped, the stream would be reset.
    outbox.close();
}

async fn output(inbox: Option<Inbox>, mut to: Pin<Box<dyn AsyncWrite + Send>>) -> io::Result<()> {
    let Some(mut inbox) = inbox else {
        return Ok(());
    };
    while let Some(bytes) = inbox.read().await {
        to.write_all(&bytes).await?;
        to.flush().await?;
    }
    Ok(())
}

/// All that comes of the stream of errors, as far as it is kept.
async fn words(mut inbox: Inbox) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = inbox.read().await {
        let room = WORDS.saturating_sub(all.len());
        all.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    all
}

/// A `Status` of meta/v1, as far as it says how a command ended.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    message: String,
    reason: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

fn ended(words: &[u8]) -> Result<Exit, Error> {
    if words.is_empty() {
        let lost = "the connection ended before the command did";
        return Err(Error::Command(lost.to_owned()));
    }
    let Ok(status) = serde_json::from_slice::<Status>(words) else {
        return Err(Error::Command(String::from_utf8_lossy(words).into_owned()));
    };
    if status.status == "Success" {
        return Ok(Exit(0));
    }
    let mut causes = status.details.causes.iter();
    let code = causes.find(|cause| cause.reason == "ExitCode");
    match code.and_then(|cause| cause.message.parse().ok()) {
        Some(code) if status.reason == "NonZeroExitCode" => Ok(Exit(code)),
        _ => Err(Error::Command(status.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_what_the_status_says() {
        let end = |text: &str| ended(text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(end(r#"{"metadata":{},"status":"Success"}"#), Ok(Exit(0)));
        let failed = r#"{"status":"Failure","message":"command terminated with non-zero exit code 3",
            "reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(end(failed), Ok(Exit(3)));
        let refused = r#"{"status":"Failure","message":"no such file","reason":"InternalError"}"#;
        assert_eq!(end(refused), Err("no such file".to_owned()));
        let strange = failed.replace("\"3\"", "\"x\"");
        assert!(end(&strange).is_err());
        assert_eq!(end("no JSON"), Err("no JSON".to_owned()));
        assert!(end("").unwrap_err().contains("connection ended"));
    }
}
