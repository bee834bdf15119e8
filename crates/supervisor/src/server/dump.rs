//! A frozen container is written down: criu is driven, or the OCI program that made it asked, by a child
//! beside the loop, which leads a process group and is killed with it when the container is let go on.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use runtime::criu::{CgroupMode, Checkpoint, Settings};
use runtime::spec::Spec;
use rustix::fs::fstat;
use rustix::stdio::dup2_stdout;

use super::Supervisor;
use super::child;
use super::container::Container;
use super::create::read_spec;
use super::hold::{Stage, not_held};
use super::poller::Key;
use super::requests::Reply;
use crate::error::{Error, Result};
use crate::protocol::{Dump, Response};

/// How much a failure may say.
pub(super) const WORDS: u64 = 4096;
/// The annotation that names a file of options for criu: whoever asks for a container could name one of
/// his own, and have criu execute what that says.
pub(super) const CRIU_CONFIG: &str = "org.criu.config";

/// A container that is being written down, filed under the process that does.
#[derive(Debug)]
pub(super) struct DumpRun {
    client: Key,
    id: String,
    /// Why it failed comes here.
    reason: File,
}

impl Supervisor {
    /// Writes down a container that is frozen for the client; answered when that is done.
    pub(super) fn dump(&mut self, request: &Dump, client: Key) -> Result<Reply> {
        let key = self.find(&request.id)?;
        let hold = self.holds.get(&client);
        let holds = hold.is_some_and(|hold| {
            matches!(hold.stage, Stage::Held) && hold.containers.contains(&key)
        });
        let container = self.containers.get(&key).filter(|_| holds);
        let container = container.ok_or_else(|| not_held("checkpoint"))?;
        if container.is_exited() {
            return Err(container.wrong_state("checkpoint"));
        }
        let (pid, reason) = in_child(container, request)?;
        let run = DumpRun {
            client,
            id: request.id.clone(),
            reason: reason.into(),
        };
        self.dumps.insert(pid, run);
        if let Some(hold) = self.holds.get_mut(&client) {
            hold.stage = Stage::Dumping(pid);
        }
        Ok(Reply::Later)
    }

    /// A child is reaped; was it one that wrote a container down?
    pub(super) fn dump_ended(&mut self, pid: i32, code: i32) -> bool {
        let Some(run) = self.dumps.remove(&pid) else {
            return false;
        };
        let hold = self.holds.get_mut(&run.client);
        let Some(hold) = hold.filter(|hold| matches!(hold.stage, Stage::Dumping(of) if of == pid))
        else {
            // The client was told when the containers were let go on.
            return true;
        };
        hold.stage = Stage::Held;
        let mut message = String::new();
        let read = (&run.reason).take(WORDS).read_to_string(&mut message);
        if read.is_err() || message.is_empty() {
            message = format!("what wrote it down has ended with code {code}");
        }
        let answer = match code {
            0 => Response::Done,
            _ => Response::Failed(Error::Runtime {
                verb: "checkpoint".to_owned(),
                id: run.id,
                message,
            }),
        };
        self.connections.answer(run.client, &answer, Vec::new());
        true
    }
}

/// Has a child do it; what it says, if that fails, is in the pipe when it has ended.
fn in_child(container: &Container, request: &Dump) -> Result<(i32, OwnedFd)> {
    let spec = read_spec(&container.dir)?;
    let descriptors = descriptors(container)?;
    child::in_group("criu", |write| {
        // Clients and streams close when the supervisor closes them.
        let kept = dup2_stdout(write).is_ok();
        runtime::close_all_but_cgroups(&[]);
        let outcome = match (kept, &container.program) {
            (false, _) => Err("its words have no place".to_owned()),
            (true, Some(driven)) => {
                by_program(driven.program.command(None, "checkpoint"), request, &spec)
            }
            (true, None) => by_criu(container, request, spec, &descriptors),
        };
        let code = i32::from(outcome.is_err());
        if let Err(reason) = outcome {
            // Whoever would read it is gone, or there is room for it.
            let _ = std::io::stdout().write_all(reason.as_bytes());
            let _ = std::io::stdout().flush();
        }
        code
    })
}

/// How criu is asked, for a checkpoint and for a restore.
pub(super) fn settings(criu: &Path, images: &Path, work: &Path) -> Settings {
    Settings {
        program: criu.to_owned(),
        images: images.to_owned(),
        work: Some(work.to_owned()),
        tcp_established: true,
        ext_unix_sk: true,
        shell_job: false,
        file_locks: true,
        auto_dedup: false,
        lazy_pages: false,
        cgroups: CgroupMode::Ignore,
    }
}

fn by_criu(
    container: &Container,
    request: &Dump,
    mut spec: Spec,
    descriptors: &[String],
) -> std::result::Result<(), String> {
    // An empty name is no file.
    spec.annotations
        .insert(CRIU_CONFIG.to_owned(), String::new());
    let settings = settings(&request.criu, &request.images, &request.work);
    let checkpoint = Checkpoint {
        settings: &settings,
        bundle: &container.dir,
        rootfs: &spec.root_in(&container.dir),
        pid: container.state.pid.unwrap_or_default(),
        cgroup: &container.cgroup,
        descriptors,
        pre_dump: false,
        leave_running: true,
        tcp_skip_in_flight: true,
        link_remap: true,
        parent: None,
        page_server: None,
        status: None,
        spec: &spec,
    };
    checkpoint.take().map_err(|error| error.to_string())
}

fn by_program(
    mut command: Command,
    request: &Dump,
    spec: &Spec,
) -> std::result::Result<(), String> {
    if spec.annotations.contains_key(CRIU_CONFIG) {
        return Err(format!("the annotation {CRIU_CONFIG} is not obeyed"));
    }
    let words = std::io::stdout().as_fd().try_clone_to_owned();
    let words = words.map_err(|error| format!("duplicate a pipe: {error}"))?;
    command.arg("--image-path").arg(&request.images);
    command.arg("--work-path").arg(&request.work);
    command.args(["--leave-running", "--tcp-established", "--ext-unix-sk"]);
    command.args(["--file-locks", "--manage-cgroups-mode", "ignore"]);
    command.arg(&request.id);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(words).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(" ({status})")),
        Err(error) => Err(format!("execute it: {error}")),
    }
}

/// What its streams look like from outside, as criu names them.
fn descriptors(container: &Container) -> Result<[String; 3]> {
    let none = || "/dev/null".to_owned();
    if container.terminal {
        return Ok([none(), none(), none()]);
    }
    let named = |fd: Option<&OwnedFd>| match fd {
        None => Ok(none()),
        Some(fd) => {
            let stat = fstat(fd).map_err(Error::io("stat", "a container's stream"))?;
            Ok(format!("pipe:[{}]", stat.st_ino))
        }
    };
    Ok([
        named(container.stdin.as_ref().map(super::stdin::Stdin::fd))?,
        named(container.stdout.as_ref().map(super::streams::Output::fd))?,
        named(container.stderr.as_ref().map(super::streams::Output::fd))?,
    ])
}
