//! Plugins that the runtime starts: programs `NN-NAME` of a directory, each with its own configuration and one
//! end of a socket as descriptor 3. They end with the engine, however it ends.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;

use base::child::{die_with_caller, hand_over};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::plugin::check_name;

/// The descriptor of a program's socket.
const SOCKET: i32 = 3;
/// The longest configuration, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// What a WebAssembly module begins with.
const WASM: [u8; 4] = *b"\0asm";

/// A plugin that can be started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) path: PathBuf,
    pub(crate) index: String,
    pub(crate) base: String,
    /// The text of its configuration; empty: it has none.
    pub(crate) config: String,
}

/// A plugin's program that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    /// Ends it; one that has ended is fine.
    pub(crate) fn kill(&self) {
        // A descriptor of the very process: nobody else is met.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// The plugins of a directory, by their names; a directory that is not there has none. What is there and cannot
/// be used is a warning.
pub(crate) fn installed(dir: &Path, configs: &Path) -> Vec<Installed> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "NRI plugins are not looked for");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let runs = |it: std::fs::Metadata| it.is_file() && it.permissions().mode() & 0o111 != 0;
        if !std::fs::metadata(&path).is_ok_and(runs) {
            continue;
        }
        match one(&path, configs) {
            Ok(plugin) => found.push(plugin),
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "an NRI plugin is not started");
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn one(path: &Path, configs: &Path) -> Result<Installed, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (index, base) = name
        .and_then(|name| name.split_once('-'))
        .ok_or("its name is not NN-NAME")?;
    check_name(index, base)?;
    let mut magic = [0; WASM.len()];
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    // A file that is shorter is no module.
    if (&file).read_exact(&mut magic).is_ok() && magic == WASM {
        return Err("WebAssembly is not supported".to_owned());
    }
    let names = [format!("{index}-{base}.conf"), format!("{base}.conf")];
    let mut config = String::new();
    for name in names {
        match base::file::read_text(&configs.join(&name), MAX_CONFIG) {
            Ok(Some(text)) => {
                config = text;
                break;
            }
            Ok(None) => {}
            Err(error) => return Err(format!("its configuration {name}: {error}")),
        }
    }
    Ok(Installed {
        path: path.to_owned(),
        index: index.to_owned(),
        base: base.to_owned(),
        config,
    })
}

/// Starts a plugin; our end of its socket.
///
/// # Errors
/// As socketpair(2), clone(2) and execve(2).
pub(crate) fn start(plugin: &Installed) -> std::io::Result<(UnixStream, Program)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&plugin.path);
    command
        .env_clear()
        .env("NRI_PLUGIN_NAME", &plugin.base)
        .env("NRI_PLUGIN_IDX", &plugin.index)
        .env("NRI_PLUGIN_SOCKET", SOCKET.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    hand_over(&mut command, theirs.into(), SOCKET)?;
    let (say, said) = sync_channel(1);
    let name = plugin.path.clone();
    // It dies with the thread that starts it, which has nothing else to do.
    std::thread::Builder::new()
        .name("nri-program".to_owned())
        .spawn(move || {
            let mut child = match die_with_caller(&mut command).spawn() {
                Ok(child) => child,
                Err(error) => return drop(say.send(Err(error))),
            };
            // The child's end of the socket is the child's alone.
            drop(command);
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let opened = pid
                .ok_or(std::io::ErrorKind::NotFound.into())
                .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
            if opened.is_err() {
                // Nobody could end it later.
                let _ = child.kill();
            }
            drop(say.send(opened.map(Program)));
            match child.wait() {
                Ok(status) => {
                    tracing::info!(path = %name.display(), %status, "an NRI plugin has ended")
                }
                Err(error) => tracing::warn!(path = %name.display(), %error, "an NRI plugin"),
            }
        })?;
    let program = said.recv().map_err(std::io::Error::other)??;
    Ok((ours, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_with_whoever_has_it() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let flags = rustix::process::PidfdFlags::empty();
        drop(Program(rustix::process::pidfd_open(pid, flags).unwrap()));
        let ended = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&ended),
            Some(9)
        );
    }

    #[test]
    fn programs_of_the_right_name_are_plugins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, mode: u32, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        write("20-b", 0o755, b"");
        write("10-a", 0o755, b"#!/bin/sh");
        write("10-no-program", 0o644, b"");
        write("nothing", 0o755, b"");
        write("1-short", 0o755, b"");
        write("30-wasm", 0o755, b"\0asm\x01\0\0\0");
        write("a.conf", 0o644, b"of a");
        write("20-b.conf", 0o644, b"of 20-b");
        write("b.conf", 0o644, b"of b");
        let found = installed(dir.path(), dir.path());
        let said: Vec<_> = found
            .iter()
            .map(|one| (one.index.as_str(), one.base.as_str(), one.config.as_str()))
            .collect();
        assert_eq!(said, [("10", "a", "of a"), ("20", "b", "of 20-b")]);
        assert!(installed(&dir.path().join("none"), dir.path()).is_empty());
    }
}
