//! How an OCI program is called, and `program.json`, which says that a container is one's. That record is
//! written before the program is first executed for the container and goes once it has deleted it, so that
//! whoever finds the supervisor dead can have the container deleted ([`clean_after_death`]).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::client::wait_readable;
use crate::error::{Error, Result};
use crate::protocol::OciProgram;
use crate::state::{read_json, remove_file, write_json};

/// The record's name in the container's directory.
const FILE: &str = "program.json";
/// The version of the record's form that this program writes.
const VERSION: u32 = 1;
/// Where programs look for others: hooks' helpers, criu.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a program may take to delete what it knows of a container whose processes are gone.
pub(crate) const DELETION: Duration = Duration::from_secs(10);

/// How long one that is killed may take to end.
const ENDS: Duration = Duration::from_secs(2);

/// The most bytes of what a program says that it can do.
const FEATURES: u64 = 1 << 20;

/// `program.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProgramRecord {
    version: u32,
    id: String,
    program: OciProgram,
}

impl ProgramRecord {
    /// Writes it down that the container in `dir` is the program's.
    pub(crate) fn write(dir: &Path, id: &str, program: &OciProgram) -> Result<()> {
        let record = Self {
            version: VERSION,
            id: id.to_owned(),
            program: program.clone(),
        };
        write_json(&dir.join(FILE), &record)
    }

    /// The container is the program's no longer.
    pub(crate) fn remove(dir: &Path) -> Result<()> {
        remove_file(&dir.join(FILE))
    }
}

impl OciProgram {
    /// What can be said before it is executed.
    pub(crate) fn validate(&self) -> Result<()> {
        for (field, path) in [("path", &self.path), ("root", &self.root)] {
            if !path.is_absolute() {
                let reason = format!("{:?} is not absolute", path.display());
                return Err(Error::invalid(format!("program.{field}"), reason));
            }
        }
        Ok(())
    }

    /// Its file's name, for messages.
    pub(crate) fn name(&self) -> std::borrow::Cow<'_, str> {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy()
    }

    /// Its command line up to the verb's own arguments; `log` is the file for what it has to say.
    pub(crate) fn command(&self, log: Option<&OsStr>, verb: &str) -> Command {
        let mut command = Command::new(&self.path);
        command
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .args(&self.args)
            .arg("--root")
            .arg(&self.root);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        if let Some(log) = log {
            command.arg("--log").arg(log).args(["--log-format", "json"]);
        }
        command.arg(verb);
        command
    }

    /// What the program keeps of a container goes without its help.
    pub(crate) fn forget(&self, id: &str) -> Result<()> {
        // A file name, as ids are checked to be.
        remove_file(&self.root.join(id))
    }
}

/// Has the programs of a dead supervisor's containers delete what they know of them. To be called when
/// the containers' processes are gone. What a program does not do in time is done without it.
///
/// # Errors
/// A record or a directory that cannot be removed.
pub(crate) fn clean_after_death(pod: &Path) -> Result<()> {
    let containers = pod.join("containers");
    let Ok(entries) = std::fs::read_dir(&containers) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        clean_container(&entry.path())?;
    }
    Ok(())
}

/// As [`crate::clean_after_death`], for the container in `dir`; one that is no program's is fine.
///
/// # Errors
/// A record or a directory that cannot be removed.
pub fn clean_container(dir: &Path) -> Result<()> {
    // Of a record that cannot be read nothing can be said but that it goes with its directory.
    let Ok(Some(record)) = read_json::<ProgramRecord>(&dir.join(FILE)) else {
        return Ok(());
    };
    let id = &record.id;
    if dir.file_name() == Some(OsStr::new(id)) {
        let mut command = record.program.command(None, "delete");
        command.arg("--force").arg(id);
        // That it is missing, hangs or fails is no reason to keep anything.
        let _ = run_within(command.stdout(Stdio::null()), DELETION);
        record.program.forget(id)?;
    }
    ProgramRecord::remove(dir)
}

/// What a program says that it can do (`features`; OCI runtime-spec, features.md).
///
/// # Errors
/// A program that cannot be executed, fails, takes longer than `limit`, or says more than 1 MiB.
pub fn features(program: &OciProgram, limit: Duration) -> std::io::Result<Vec<u8>> {
    // It can hold so much and no more.
    let said = memfd_create("features", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&said, FEATURES)?;
    fcntl_add_seals(&said, SealFlags::GROW)?;
    let mut said = File::from(said);
    let mut command = program.command(None, "features");
    if !run_within(command.stdout(said.try_clone()?), limit)? {
        return Err(std::io::Error::other("it fails, or takes too long"));
    }
    let length = said.stream_position()?;
    said.rewind()?;
    let mut text = Vec::new();
    said.take(length).read_to_end(&mut text)?;
    Ok(text)
}

/// Runs a program to its end, which comes by force when the time is over. Was it successful?
fn run_within(command: &mut Command, limit: Duration) -> std::io::Result<bool> {
    let null = Stdio::null;
    let mut child = command
        .stdin(null())
        .stderr(null())
        .process_group(0)
        .spawn()?;
    let pid = Pid::from_child(&child);
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    if !wait_readable(process.as_fd(), limit)? {
        // Not reaped, so the number is its own still.
        let _ = kill_process_group(pid, Signal::KILL);
        wait_readable(process.as_fd(), ENDS)?;
    }
    // One that the kernel holds is left alone.
    Ok(child.try_wait()?.is_some_and(|status| status.success()))
}

/// A path by which another process opens what this one has open.
pub(crate) fn path_of(fd: &impl AsRawFd) -> PathBuf {
    let pid = rustix::process::getpid();
    format!("/proc/{}/fd/{}", pid.as_raw_nonzero(), fd.as_raw_fd()).into()
}
