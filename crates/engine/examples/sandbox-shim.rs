//! A shim with containerd's sandbox service, for the tests: Debian has none. The sandboxes are this program's own, as
//! sandbox.proto has them; every other question goes on to Debian's containerd-shim-runc-v2, which runs the
//! containers. `start`, `delete` and the daemon behind them are as the shim protocol wants them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use shim::{Bootstrap, Shim, Version, task};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const RUNC: &str = "/usr/bin/containerd-shim-runc-v2";
const SANDBOXES: &str = "containerd.runtime.sandbox.v1.Sandbox";
const HEADER: usize = 10;
const MAX_FRAME: usize = 4 << 20;
/// gRPC's numbers.
const NOT_FOUND: u64 = 5;
const FAILED_PRECONDITION: u64 = 9;
const UNIMPLEMENTED: u64 = 12;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let action = args.last().map(|last| last.to_string_lossy().into_owned());
    let done = match action.as_deref() {
        Some("start") => start(&args),
        Some("delete") => delete(&args),
        Some("serve") => serve(&args),
        _ => Err("start, delete or serve".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Begins the shim of runc and the daemon before it, and prints where that listens.
fn start(args: &[OsString]) -> Outcome<()> {
    let begun = Command::new(RUNC).args(args).output()?;
    if !begun.status.success() {
        return Err(String::from_utf8_lossy(&begun.stderr).into());
    }
    let behind = Bootstrap::parse(&begun.stdout)?.address;
    let address = address()?;
    let _ = std::fs::remove_file(&address);
    let listener = UnixListener::bind(&address)?;
    let mut daemon = Command::new(std::env::current_exe()?);
    daemon
        .arg(behind)
        .arg("serve")
        .stdin(std::os::fd::OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let daemon = daemon.spawn()?;
    std::fs::write(address.with_extension("pid"), daemon.id().to_string())?;
    print!("unix://{}", address.display());
    Ok(())
}

/// Where a pod's daemon listens: beside where its events are taken.
fn address() -> Outcome<PathBuf> {
    let events = std::env::var_os("TTRPC_ADDRESS").ok_or("no TTRPC_ADDRESS")?;
    Ok(Path::new(&events).with_extension("shim"))
}

/// Ends the daemon, and has the shim of runc undo what is left of a container.
fn delete(args: &[OsString]) -> Outcome<()> {
    let pid = address()?.with_extension("pid");
    let is_sandbox = std::env::current_dir()?.join("rootfs").exists();
    if is_sandbox && let Ok(text) = std::fs::read_to_string(&pid) {
        // Dead as it is in most cases; its number is not taken again while the test runs.
        let program = std::fs::read_link(format!("/proc/{text}/exe"));
        if program.is_ok_and(|program| Some(program) == std::env::current_exe().ok())
            && let Some(pid) = rustix::process::Pid::from_raw(text.parse()?)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        }
        std::fs::remove_file(pid)?;
    }
    Err(Command::new(RUNC).args(args).exec().into())
}

/// How a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Created,
    Ready,
    Stopped,
}

/// The sandboxes, and the shim behind them.
struct Service {
    behind: PathBuf,
    sandboxes: Mutex<HashMap<String, Stage>>,
    changed: Condvar,
}

fn serve(args: &[OsString]) -> Outcome<()> {
    let behind = args.first().ok_or("no shim behind")?;
    let listener = std::io::stdin();
    let listener = std::os::fd::AsFd::as_fd(&listener).try_clone_to_owned()?;
    let service = Arc::new(Service {
        behind: behind.into(),
        sandboxes: Mutex::default(),
        changed: Condvar::new(),
    });
    for client in UnixListener::from(listener).incoming() {
        let (client, service) = (client?, service.clone());
        std::thread::spawn(move || service.converse(&client).ok());
    }
    Ok(())
}

impl Service {
    /// Answers what one client asks, until it leaves.
    fn converse(self: Arc<Self>, mut client: &UnixStream) -> Outcome<()> {
        let behind = UnixStream::connect(&self.behind)?;
        let answers = Arc::new(Mutex::new(client.try_clone()?));
        let (mut from, to) = (behind.try_clone()?, answers.clone());
        std::thread::spawn(move || -> Option<()> {
            loop {
                let frame = frame(&mut from).ok()?;
                let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
                to.write_all(&frame).ok()?;
            }
        });
        loop {
            let question = frame(&mut client)?;
            let (service, method, payload) = request(&question[HEADER..])?;
            if service != SANDBOXES {
                (&behind).write_all(&question)?;
                continue;
            }
            let (own, answers) = (self.clone(), answers.clone());
            // One that waits holds up nobody.
            std::thread::spawn(move || {
                let answer = own.answer(&method, &payload);
                let frame = respond(&question, &answer);
                let mut to = answers.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = to.write_all(&frame);
                if method == "ShutdownSandbox" && answer.is_ok() {
                    std::process::exit(0);
                }
            });
        }
    }

    /// What the service says, or the number and the words of its refusal.
    fn answer(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, (u64, String)> {
        let id = String::from_utf8_lossy(&bytes_of(payload, 1)).into_owned();
        let mut all = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let stage = all.get(&id).copied();
        let none = || (NOT_FOUND, format!("no sandbox {id}"));
        let wrong = |stage| (FAILED_PRECONDITION, format!("it is {stage:?}"));
        match (method, stage) {
            ("Platform", _) => {
                let platform = [text(1, "linux"), text(2, std::env::consts::ARCH)].concat();
                Ok(message(1, &platform))
            }
            ("PingSandbox", _) => Ok(Vec::new()),
            ("CreateSandbox", None) => {
                let bundle = String::from_utf8_lossy(&bytes_of(payload, 2)).into_owned();
                // The network that containers are to be in is told, and its bundle can be read.
                if bytes_of(payload, 5).is_empty()
                    || !Path::new(&bundle).join("config.json").exists()
                {
                    return Err((FAILED_PRECONDITION, "no bundle or no network".to_owned()));
                }
                all.insert(id, Stage::Created);
                Ok(Vec::new())
            }
            ("StartSandbox", Some(Stage::Created)) => {
                all.insert(id, Stage::Ready);
                Ok(number(1, std::process::id().into()))
            }
            ("CreateSandbox" | "StartSandbox", Some(stage)) => Err(wrong(stage)),
            (_, None) => Err(none()),
            ("SandboxStatus", Some(stage)) => {
                let word = match stage {
                    Stage::Ready => "SANDBOX_READY",
                    Stage::Created | Stage::Stopped => "SANDBOX_NOTREADY",
                };
                let pid = number(2, std::process::id().into());
                Ok([text(1, &id), pid, text(3, word)].concat())
            }
            ("WaitSandbox", Some(_)) => {
                let stopped =
                    |all: &mut HashMap<String, Stage>| all.get(&id) != Some(&Stage::Stopped);
                let ended = self.changed.wait_while(all, stopped);
                drop(ended.unwrap_or_else(PoisonError::into_inner));
                Ok(number(1, 137))
            }
            ("StopSandbox", Some(_)) => {
                all.insert(id, Stage::Stopped);
                self.changed.notify_all();
                Ok(Vec::new())
            }
            ("ShutdownSandbox", Some(_)) => {
                drop(all);
                let namespace = std::env::var("NAMESPACE").unwrap_or_default();
                let behind = Shim::new(self.behind.clone(), Version::V2, &namespace);
                // It may end before it has answered.
                let _ = behind.ask(task::shutdown(&behind, &id, true));
                Ok(Vec::new())
            }
            _ => Err((UNIMPLEMENTED, format!("no method {method}"))),
        }
    }
}

/// The next frame of ttrpc, whole: length and stream in big endian, kind, flags, body.
fn frame(from: &mut impl Read) -> Outcome<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    from.read_exact(&mut frame)?;
    let [a, b, c, d, ..] = frame[..] else {
        return Err("no header".into());
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MAX_FRAME {
        return Err("too long".into());
    }
    frame.resize(HEADER + length, 0);
    from.read_exact(&mut frame[HEADER..])?;
    Ok(frame)
}

/// Service, method and payload of a request.
fn request(body: &[u8]) -> Outcome<(String, String, Vec<u8>)> {
    let text = |number| String::from_utf8(bytes_of(body, number));
    Ok((text(1)?, text(2)?, bytes_of(body, 3)))
}

/// The answer to a question, on its stream.
fn respond(question: &[u8], answer: &Result<Vec<u8>, (u64, String)>) -> Vec<u8> {
    let body = match answer {
        Ok(payload) => message(2, payload),
        Err((code, words)) => message(1, &[number(1, *code), text(2, words)].concat()),
    };
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    [&length, &question[4..8], &[2, 0], &body[..]].concat()
}

/// A field of bytes of a message; empty if it is not there.
fn bytes_of(mut message: &[u8], wanted: u64) -> Vec<u8> {
    while let Some(tag) = varint(&mut message) {
        let value = varint(&mut message).unwrap_or(0);
        // Nothing else than numbers and bytes is in these messages.
        if tag & 7 != 2 {
            continue;
        }
        let length = usize::try_from(value)
            .unwrap_or(usize::MAX)
            .min(message.len());
        let (bytes, rest) = message.split_at(length);
        if tag >> 3 == wanted {
            return bytes.to_vec();
        }
        message = rest;
    }
    Vec::new()
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [encoded(field << 3), encoded(value)].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    message(field, value.as_bytes())
}

fn message(field: u64, value: &[u8]) -> Vec<u8> {
    [
        &encoded(field << 3 | 2)[..],
        &encoded(value.len() as u64),
        value,
    ]
    .concat()
}

fn encoded(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}
