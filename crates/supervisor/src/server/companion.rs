//! Companions: programs that work for the pod beside its containers, such as the shim that runs them.
//! One is begun as a child, in the pod's cgroup and namespaces, leads a session of its own, and has
//! a limit. What it leaves running lives on as a child of the supervisor, its subreaper: it is in the
//! pod's cgroup, and so ends with the pod at the latest. A companion that dies takes nothing else with it;
//! containers of it are ended by what they were watched with ([`super::shim_container`]).

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::process::{PidfdFlags, pidfd_open, setsid};

use super::poller::Key;
use super::requests::Reply;
use super::{SET_UP, Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::protocol::{Companion, CompanionExit, Response};
use crate::sys::process::{Fork, Process, exit_now, fork};
use crate::sys::signal::unblock_all;

/// As many bytes as a companion may say on each stream, until it has ended or lives apart.
const SAID: usize = 64 << 10;
/// As many companions may be begun at a time.
const MOST: usize = 16;

/// A companion that has not ended, filed under its process.
#[derive(Debug)]
pub(super) struct Begun {
    process: Process,
    name: String,
    said: [File; 2],
    client: Key,
    limit: Instant,
    late: bool,
}

impl Begun {
    /// When it is killed.
    pub(super) fn deadline(&self) -> Instant {
        self.limit
    }
}

impl Supervisor {
    /// Begins a companion; answered when the process that is executed has ended.
    pub(super) fn begin_companion(&mut self, request: Companion, client: Key) -> Result<Reply> {
        let name = request
            .argv
            .first()
            .map(|name| name.display().to_string())
            .ok_or_else(|| Error::invalid("argv", "names no program"))?;
        if self.companions.len() >= MOST {
            let reason = format!("{MOST} programs are being run");
            return Err(Error::invalid("companion", reason));
        }
        self.tidy = true;
        let said = [paper()?, paper()?];
        let pid = match fork(0, None).map_err(Error::io("fork for", &name))? {
            Fork::Parent(pid) => pid,
            Fork::Child => {
                let reason = become_it(&request, &said);
                let [_, mut words] = said;
                // There is room for it, or nobody reads it.
                let _ = words.write_all(reason.as_bytes());
                exit_now(127)
            }
        };
        // It is not reaped before this function returns: the number is its own.
        let pidfd = pidfd_open(pid, PidfdFlags::empty());
        let pidfd = pidfd.map_err(Error::io("open the pidfd of", &name))?;
        let pid = pid.as_raw_nonzero().get();
        let begun = Begun {
            process: Process::new(pid, pidfd),
            name,
            said,
            client,
            limit: Instant::now() + request.limit.min(SET_UP),
            late: false,
        };
        self.companions.insert(pid, begun);
        Ok(Reply::Later)
    }

    /// A child is reaped; was it a companion?
    pub(super) fn companion_ended(&mut self, pid: i32, code: i32) -> bool {
        let Some(begun) = self.companions.remove(&pid) else {
            return false;
        };
        let [stdout, stderr] = begun.said.map(read);
        let exit = CompanionExit {
            code,
            timed_out: begun.late,
            stdout,
            stderr,
        };
        let answer = Response::CompanionEnded(exit);
        self.connections.answer(begun.client, &answer, Vec::new());
        true
    }

    /// Kills companions whose time is over.
    pub(super) fn end_late_companions(&mut self, now: Instant) {
        for begun in self.companions.values_mut() {
            if begun.limit <= now {
                if !begun.late {
                    diagnose(format_args!("{} does not end, and is killed", begun.name));
                }
                begun.late = true;
                begun.limit = now + super::LAST_WAIT;
                begun.process.kill_with_group();
            }
        }
    }
}

/// A file in memory that cannot grow: where it is read to is how much was said.
fn paper() -> Result<File> {
    let failed = |what| Error::io::<rustix::io::Errno>(what, "what a companion says");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let paper = memfd_create("companion", flags).map_err(failed("make"))?;
    ftruncate(&paper, SAID as u64).map_err(failed("size"))?;
    fcntl_add_seals(&paper, SealFlags::GROW | SealFlags::SHRINK).map_err(failed("seal"))?;
    Ok(File::from(paper))
}

fn read(mut paper: File) -> Vec<u8> {
    let length = paper.stream_position().unwrap_or_default();
    let length = usize::try_from(length).unwrap_or(SAID).min(SAID);
    let mut bytes = vec![0; length];
    match paper.read_exact_at(&mut bytes, 0) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// The rest of the child's life as this program; why it could not become the other.
fn become_it(request: &Companion, [out, err]: &[File; 2]) -> String {
    // It leads no group yet, so this cannot fail.
    let _ = setsid();
    unblock_all();
    let stdin = || -> std::io::Result<Stdio> {
        let mut stdin = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
        stdin.write_all(&request.stdin)?;
        stdin.rewind()?;
        Ok(stdin.into())
    };
    let stream = |file: &File| file.as_fd().try_clone_to_owned().map(Stdio::from);
    let (stdin, out, err) = match (stdin(), stream(out), stream(err)) {
        (Ok(stdin), Ok(out), Ok(err)) => (stdin, out, err),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            return format!("its streams: {error}");
        }
    };
    let [program, arguments @ ..] = &request.argv[..] else {
        return "no program".to_owned();
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(request.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&request.dir)
        .stdin(stdin)
        .stdout(out)
        .stderr(err)
        .exec();
    format!("execute {}: {error}", program.display())
}
