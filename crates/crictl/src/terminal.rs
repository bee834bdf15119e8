//! The person's terminal while a container has it: raw mode, its size as it changes, and the keys by which it is
//! left (ctrl-p, ctrl-q). Must give the terminal back as it was, in any case.

use std::io::{self, IsTerminal, Stdin};
use std::pin::Pin;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use streaming::{Size, Streams};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::failure::{Failure, Outcome};

/// ctrl-p, ctrl-q.
const KEYS: [u8; 2] = [0x10, 0x11];

/// Raw mode; dropped, the terminal is as it was.
pub(crate) struct Raw {
    input: Stdin,
    before: Termios,
}

impl Raw {
    fn enter() -> io::Result<Self> {
        let input = io::stdin();
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Self { input, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing better can be done if the terminal has gone away.
        let _ = tcsetattr(&self.input, OptionalActions::Now, &self.before);
    }
}

/// What comes of the person.
pub(crate) struct Typed {
    pub(crate) stdin: Option<Pin<Box<dyn AsyncRead + Send>>>,
    pub(crate) sizes: Option<mpsc::Receiver<Size>>,
    /// Completes when the keys to leave were typed.
    pub(crate) left: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub(crate) raw: Option<Raw>,
}

/// Standard input as far as it is wanted, with all that a terminal asks for.
pub(crate) fn typed(streams: Streams) -> Outcome<Typed> {
    if !streams.tty {
        let stdin = || -> Pin<Box<dyn AsyncRead + Send>> { Box::pin(tokio::io::stdin()) };
        return Ok(Typed {
            stdin: streams.stdin.then(stdin),
            sizes: None,
            left: Box::pin(std::future::pending()),
            raw: None,
        });
    }
    if !streams.stdin {
        return Err(Failure::new(
            "tty=true must be specified with interactive=true",
        ));
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new("input is not a terminal"));
    }
    let (send, sizes) = mpsc::channel(4);
    let mut changes = signal(SignalKind::window_change())?;
    tokio::spawn(async move {
        loop {
            if let Some(size) = size()
                && send.send(size).await.is_err()
            {
                return;
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
    let (ours, theirs) = tokio::io::duplex(4 << 10);
    let (leave, left) = oneshot::channel();
    let raw = Raw::enter()?;
    tokio::spawn(watched(ours, leave));
    Ok(Typed {
        stdin: Some(Box::pin(theirs)),
        sizes: Some(sizes),
        left: Box::pin(async {
            if left.await.is_err() {
                // Standard input has ended without the keys.
                std::future::pending().await
            }
        }),
        raw: Some(raw),
    })
}

fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(Size {
        width: size.ws_col,
        height: size.ws_row,
    })
}

/// Passes on what is typed until the keys to leave come. What may be their beginning is held back.
async fn watched(mut to: tokio::io::DuplexStream, leave: oneshot::Sender<()>) {
    let mut stdin = tokio::io::stdin();
    let (mut buffer, mut seen) = ([0; 1024], 0);
    loop {
        let Ok(read @ 1..) = stdin.read(&mut buffer).await else {
            return;
        };
        let (passed, is_left) = pass(&mut seen, &buffer[..read]);
        if to.write_all(&passed).await.is_err() {
            return;
        }
        if is_left {
            // Nobody waits any more once the command has ended.
            let _ = leave.send(());
            return;
        }
    }
}

/// What of the bytes is for the container, and whether all keys came.
fn pass(seen: &mut usize, typed: &[u8]) -> (Vec<u8>, bool) {
    let mut passed = Vec::with_capacity(typed.len());
    for &byte in typed {
        if byte == KEYS[*seen] {
            *seen += 1;
            if *seen == KEYS.len() {
                return (passed, true);
            }
            continue;
        }
        passed.extend(&KEYS[..*seen]);
        *seen = usize::from(byte == KEYS[0]);
        if *seen == 0 {
            passed.push(byte);
        }
    }
    (passed, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_to_leave_are_found_and_others_pass() {
        let mut seen = 0;
        assert_eq!(pass(&mut seen, b"a\x10b"), (b"a\x10b".to_vec(), false));
        assert_eq!(pass(&mut seen, b"c\x10"), (b"c".to_vec(), false));
        assert_eq!(pass(&mut seen, b"\x10\x11d"), (b"\x10".to_vec(), true));
    }
}
