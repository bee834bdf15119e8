//! The shim's program. `start` begins a shim, or finds the one of the pod, and prints where it
//! listens; `delete` undoes what a shim left that was killed. Both are run in the container's
//! bundle, have a limit, and may say a bounded number of words.
//!
//! Commands: <https://github.com/containerd/containerd/blob/main/docs/runtime-v2.md#commands>

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Deserialize;
use ttrpc::printable;

use crate::error::{Error, Result};
use crate::value::{Exit, Options};
use crate::{Shim, Version, wire};

/// How long the program may run.
pub const PROGRAM_LIMIT: Duration = Duration::from_secs(60);
/// The most that is kept of what it says, in bytes a stream.
const SAID: usize = 64 << 10;
/// As many bytes as a Unix socket's path may have.
const MAX_SOCKET: usize = 107;
/// What fits into a pipe before anybody reads it.
const MAX_STDIN: usize = 60 << 10;

/// A shim's program, for the containers of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program's file.
    pub path: PathBuf,
    /// The namespace of the containers' ids.
    pub namespace: String,
    /// The socket that takes the shim's events; also tells engines apart.
    pub events: PathBuf,
    /// The program that publishes events for shims that have no client: `BIN --address A publish
    /// --topic T --namespace N`, with the event on its stdin.
    pub publisher: PathBuf,
    /// What the runtime is told at the start; for shims of containerd 2.3 and later.
    pub options: Option<Options>,
}

/// A command to be run, by whomever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// All of its environment.
    pub env: Vec<(String, OsString)>,
    /// Where it runs.
    pub dir: PathBuf,
    /// What it reads.
    pub stdin: Vec<u8>,
}

/// Where a shim listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Its socket.
    pub address: PathBuf,
    /// The version of its task service.
    pub version: Version,
}

impl Program {
    fn invocation(&self, action: &str, id: &str, bundle: &Path, stdin: Vec<u8>) -> Invocation {
        let mut argv: Vec<OsString> = vec![self.path.clone().into()];
        let pairs: [(&str, OsString); 5] = [
            ("-namespace", self.namespace.clone().into()),
            ("-address", self.events.clone().into()),
            ("-publish-binary", self.publisher.clone().into()),
            ("-id", id.into()),
            ("-bundle", bundle.into()),
        ];
        for (flag, value) in pairs {
            argv.extend([flag.into(), value]);
        }
        argv.push(action.into());
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let env = [
            ("PATH", path),
            ("TTRPC_ADDRESS", self.events.clone().into()),
            ("GRPC_ADDRESS", self.events.clone().into()),
            ("NAMESPACE", self.namespace.clone().into()),
            ("MAX_SHIM_VERSION", "2".into()),
            ("GOMAXPROCS", "2".into()),
        ];
        Invocation {
            argv,
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            dir: bundle.to_owned(),
            stdin,
        }
    }

    /// How a shim is begun for the container whose bundle that is: as shims up to containerd 2.2
    /// want it, and then as those of 2.3 and later do, which refuse the former without doing
    /// anything.
    #[must_use]
    pub fn start_invocations(&self, id: &str, bundle: &Path) -> [Invocation; 2] {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let options = self.options.iter().map(|options| wire::Extension {
            value: Some(options.any()),
        });
        let parameters = wire::BootstrapParams {
            instance_id: id.to_owned(),
            namespace: self.namespace.clone(),
            containerd_version: String::new(),
            containerd_ttrpc_address: text(&self.events),
            containerd_grpc_address: text(&self.events),
            containerd_binary: text(&self.publisher),
            extensions: options.collect(),
        };
        [Vec::new(), parameters.encode_to_vec()]
            .map(|stdin| self.invocation("start", id, bundle, stdin))
    }

    /// Begins a shim, or finds the one that has the container's pod.
    ///
    /// # Errors
    /// A program that cannot be run, fails, takes longer than [`PROGRAM_LIMIT`], or does not say
    /// where its shim listens.
    pub fn start(&self, id: &str, bundle: &Path) -> Result<Shim> {
        let [first, second] = self.start_invocations(id, bundle);
        let said = match first.run(PROGRAM_LIMIT) {
            Ok(said) => said,
            Err(as_before) => second.run(PROGRAM_LIMIT).map_err(|reason| {
                let reason = match as_before == reason {
                    true => reason,
                    false => format!("{as_before}; with parameters on its stdin: {reason}"),
                };
                self.failed("start", reason)
            })?,
        };
        let found = Bootstrap::parse(&said).map_err(|reason| self.failed("start", reason))?;
        Ok(Shim::new(found.address, found.version, &self.namespace))
    }

    /// Undoes what a dead shim left of a container: its processes, mounts and records. Says how the
    /// container ended, as the program sees it.
    ///
    /// # Errors
    /// As [`Program::start`], and one that takes longer than `limit`.
    pub fn clean_up(&self, id: &str, bundle: &Path, limit: Duration) -> Result<Exit> {
        let invocation = self.invocation("delete", id, bundle, Vec::new());
        let said = invocation
            .run(limit.min(PROGRAM_LIMIT))
            .map_err(|reason| self.failed("delete", reason))?;
        let exit = wire::DeleteResponse::decode(&said[..])
            .map_err(|error| self.failed("delete", format!("no such answer: {error}")))?;
        Ok(Exit::of(exit.exit_status, exit.exited_at))
    }

    fn failed(&self, verb: &'static str, reason: String) -> Error {
        Error::Program {
            program: self.path.clone(),
            verb,
            reason,
        }
    }
}

/// Where programs are looked for by who has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What shims from containerd 1.7 to 2.2 print.
#[derive(Deserialize)]
struct JsonBootstrap {
    version: i64,
    address: String,
    protocol: String,
}

impl Bootstrap {
    /// Reads what `start` printed: a message (containerd 2.3), JSON (1.7 to 2.2), or the address
    /// alone.
    ///
    /// # Errors
    /// In words: none of these, another protocol than ttrpc, or no Unix socket.
    pub fn parse(said: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(said).map(str::trim).unwrap_or_default();
        let (version, address, protocol) = if text.starts_with("unix:") || text.starts_with('/') {
            (2, text.to_owned(), "ttrpc".to_owned())
        } else if text.starts_with('{') {
            let json: JsonBootstrap = serde_json::from_str(text)
                .map_err(|error| format!("it prints no bootstrap parameters: {error}"))?;
            (json.version, json.address, json.protocol)
        } else {
            match wire::BootstrapResult::decode(said) {
                Ok(it) if !it.address.is_empty() => (it.version.into(), it.address, it.protocol),
                _ => {
                    let said = printable(&String::from_utf8_lossy(said));
                    return Err(format!("it prints no address of a shim but {said:?}"));
                }
            }
        };
        if !protocol.eq_ignore_ascii_case("ttrpc") {
            return Err(format!(
                "its shim speaks {:?}; only ttrpc is built",
                printable(&protocol)
            ));
        }
        let version = Version::from_number(version)
            .ok_or_else(|| format!("its shim has version {version}; 2 and 3 are known"))?;
        Ok(Self {
            address: socket(&address)?,
            version,
        })
    }
}

/// The path of a shim's socket.
fn socket(address: &str) -> Result<PathBuf, String> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    let shown = || printable(address);
    if !path.starts_with('/') || path.contains('\0') {
        return Err(format!(
            "its shim listens at {:?}; only Unix sockets with a path are built",
            shown()
        ));
    }
    if path.len() > MAX_SOCKET {
        return Err(format!(
            "its shim listens at {:?}: longer than {MAX_SOCKET} bytes",
            shown()
        ));
    }
    Ok(path.into())
}

impl Invocation {
    /// Runs the command and returns what it printed. What it leaves running keeps running.
    ///
    /// # Errors
    /// In words: it cannot be run, fails, says too much, or takes longer than `limit`, and is killed
    /// then with its process group.
    pub fn run(&self, limit: Duration) -> Result<Vec<u8>, String> {
        let [program, arguments @ ..] = &self.argv[..] else {
            return Err("no program".to_owned());
        };
        if self.stdin.len() > MAX_STDIN {
            return Err(format!("parameters of more than {MAX_STDIN} bytes"));
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot be run: {error}"))?;
        let mut running = Running::new(child)?;
        running.feed(&self.stdin)?;
        running.finish(limit)
    }
}

/// A command that runs; killed with its process group unless it ends by itself.
struct Running {
    child: Child,
    ended: Option<ExitStatus>,
    said: [Vec<u8>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // It is not reaped yet, so the number is still its own.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Running {
    fn new(child: Child) -> Result<Self, String> {
        let running = Self {
            child,
            ended: None,
            said: Default::default(),
        };
        let streams = (&running.child.stdout, &running.child.stderr);
        if let (Some(stdout), Some(stderr)) = streams {
            for stream in [stdout.as_fd(), stderr.as_fd()] {
                rustix::io::ioctl_fionbio(stream, true).map_err(|error| error.to_string())?;
            }
        }
        Ok(running)
    }

    /// A program may end before it has read.
    fn feed(&mut self, stdin: &[u8]) -> Result<(), String> {
        let Some(mut pipe) = self.child.stdin.take() else {
            return Ok(());
        };
        match pipe.write_all(stdin) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(format!("write its parameters: {error}"))
            }
            _ => Ok(()),
        }
    }

    /// Takes what is there of both streams; a stream's end closes it.
    fn listen(&mut self) -> Result<(), String> {
        let [out, err] = &mut self.said;
        listen(&mut self.child.stdout, out)?;
        listen(&mut self.child.stderr, err)
    }

    fn finish(mut self, limit: Duration) -> Result<Vec<u8>, String> {
        let failed = |error: rustix::io::Errno| error.to_string();
        let until = Instant::now() + limit;
        let pid = Pid::from_raw(self.child.id().cast_signed()).ok_or("no process id")?;
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
        loop {
            self.listen()?;
            let left = until.checked_duration_since(Instant::now());
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let left = left.ok_or_else(|| format!("takes longer than {} s", limit.as_secs()))?;
            let mut fds = vec![PollFd::new(&process, PollFlags::IN)];
            let out = self.child.stdout.as_ref();
            let err = self.child.stderr.as_ref();
            fds.extend(out.map(|stream| PollFd::new(stream, PollFlags::IN)));
            fds.extend(err.map(|stream| PollFd::new(stream, PollFlags::IN)));
            match poll(&mut fds, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
            if !fds[0].revents().is_empty() {
                break;
            }
        }
        // What it left running may hold its streams open: only what is there now is its own.
        self.listen()?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        self.ended = Some(status);
        let [out, err] = std::mem::take(&mut self.said);
        if !status.success() {
            let said = if err.is_empty() { &out } else { &err };
            let words = printable(&String::from_utf8_lossy(said));
            return Err(format!("{status}: {words}"));
        }
        Ok(out)
    }
}

fn listen(stream: &mut Option<impl Read>, said: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 4096];
    while let Some(reader) = stream {
        match reader.read(&mut buffer) {
            Ok(0) => *stream = None,
            Ok(count) if said.len() + count > SAID => {
                return Err(format!("says more than {SAID} bytes"));
            }
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock => return Ok(()),
                std::io::ErrorKind::Interrupted => {}
                _ => return Err(error.to_string()),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_ways_to_say_where_a_shim_listens_are_read() {
        let old = Bootstrap::parse(b"unix:///run/s/1\n").unwrap();
        assert_eq!(old.address, Path::new("/run/s/1"));
        assert_eq!(old.version, Version::V2);
        let json = br#"{"version":3,"address":"unix:///run/s/2","protocol":"ttrpc"}"#;
        let json = Bootstrap::parse(json).unwrap();
        assert_eq!(
            (json.address.to_str(), json.version),
            (Some("/run/s/2"), Version::V3)
        );
        let message = wire::BootstrapResult {
            version: 3,
            address: "unix:///run/s/3".into(),
            protocol: "ttrpc".into(),
        };
        let message = Bootstrap::parse(&message.encode_to_vec()).unwrap();
        assert_eq!(message.address, Path::new("/run/s/3"));
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let refused = |said: &[u8], name: &str| {
            let error = Bootstrap::parse(said).unwrap_err();
            assert!(error.contains(name), "{error}");
        };
        refused(
            br#"{"version":3,"address":"unix:///s","protocol":"grpc"}"#,
            "grpc",
        );
        refused(
            br#"{"version":4,"address":"unix:///s","protocol":"ttrpc"}"#,
            "version 4",
        );
        refused(
            br#"{"version":2,"address":"vsock://3:1","protocol":"ttrpc"}"#,
            "vsock",
        );
        refused(b"", "no address");
        refused(b"panic: \x1b[31mno\x00 such thing", "no address");
        refused(&[&b"unix:///"[..], &[b'x'; 200]].concat(), "longer than");
    }

    fn shell(script: &str) -> Invocation {
        Invocation {
            argv: ["/bin/sh", "-c", script].map(OsString::from).into(),
            env: Vec::new(),
            dir: "/".into(),
            stdin: b"in".to_vec(),
        }
    }

    #[test]
    fn a_program_is_heard_and_fed() {
        let said = shell("cat; echo warning >&2").run(PROGRAM_LIMIT);
        assert_eq!(said.unwrap(), b"in");
        let error = shell("echo why >&2; exit 3")
            .run(PROGRAM_LIMIT)
            .unwrap_err();
        assert!(error.contains("why") && error.contains('3'), "{error}");
    }

    #[test]
    fn who_leaves_a_child_with_its_streams_is_not_waited_for() {
        let said = shell("sleep 30 & echo $!").run(PROGRAM_LIMIT).unwrap();
        let child: i32 = String::from_utf8(said).unwrap().trim().parse().unwrap();
        let child = Pid::from_raw(child).unwrap();
        rustix::process::kill_process(child, Signal::KILL).unwrap();
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_group() {
        let error = shell("sleep 1000 & sleep 1000").run(Duration::from_millis(50));
        assert!(error.unwrap_err().contains("takes longer"));
    }

    #[test]
    fn a_program_that_talks_for_ever_is_killed() {
        let error = shell("while :; do echo words; done").run(PROGRAM_LIMIT);
        assert!(error.unwrap_err().contains("says more"));
    }
}
