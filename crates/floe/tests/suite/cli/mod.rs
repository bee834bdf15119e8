//! What the command-line tests share: a machine of their own (private network, registry, roots and
//! cgroups), an image in its registry, and `floe` run on it with and without a terminal.

#![allow(dead_code, reason = "each test file uses a part of this")]

pub(crate) mod crictl;
pub(crate) mod fake;
pub(crate) mod foreign;
pub(crate) mod linked;
pub(crate) mod places;
pub(crate) mod proxy;
pub(crate) mod screen;
pub(crate) mod served;
pub(crate) mod signed;
pub(crate) mod xml;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use testkit::{Node, NodeOptions, Registry, images, net};

/// Nothing that a test waits for takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine with floe on it.
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) registry: Registry,
    /// A busybox whose default command prints `default`.
    pub(crate) image: String,
}

/// What a command said and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Standard output without blanks around it, of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out.trim().to_owned()
    }

    /// Checks that it ended with this code, saying these words, whatever it printed.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(words), "no {words:?} in {}", self.err);
    }

    /// Checks that it failed with this code, saying these words, and nothing on standard output.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {:?}", self.err);
        }
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

/// Runs a test on a machine of its own and checks that nothing of it remains.
pub(crate) fn machine(test: impl FnOnce(&mut Machine)) {
    // Before any other thread exists, so that all of them share the private network.
    net::isolate().expect("a private network");
    let registry = Registry::start().expect("a registry");
    let options = NodeOptions {
        insecure: vec![registry.host()],
        ..NodeOptions::default()
    };
    let node = Node::prepare(&options).expect("a private node");
    let image = format!("{}/cli/busybox:1", registry.host());
    let mut machine = Machine {
        node,
        registry,
        image: String::new(),
    };
    machine.push(&image, &["echo", "default"]);
    machine.image = image;
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&mut machine)));
    let cleaned = machine.node.clean();
    match outcome {
        Ok(()) => cleaned.expect("the test passed and left something behind"),
        Err(panic) => resume_unwind(panic),
    }
}

impl Machine {
    /// Pushes a busybox with this default command.
    pub(crate) fn push(&self, name: &str, words: &[&str]) {
        let config = serde_json::json!({ "Cmd": words, "Env": ["PATH=/bin", "FROM=image"] });
        self.push_layers(name, &[images::busybox().expect("busybox-static")], config);
    }

    /// Pushes an image of these layers; returns the manifest's digest.
    pub(crate) fn push_layers(
        &self,
        name: &str,
        layers: &[images::Layer],
        config: serde_json::Value,
    ) -> image::Digest {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an async runtime");
        let client = images::client(&[&self.registry.host()]).expect("a client");
        tokio
            .block_on(images::push(&client, name, layers, config))
            .expect("push the image")
    }

    /// Has layers that are pulled from now on get this form.
    pub(crate) fn set_layer_form(&self, form: &str) {
        let config = std::fs::read_to_string(self.node.config()).expect("read");
        let lines = config.lines();
        let config: Vec<&str> = lines
            .filter(|line| !line.starts_with("layer_form"))
            .collect();
        let key = format!("[crio.image]\nlayer_form = \"{form}\"\n");
        let config = config.join("\n").replacen("[crio.image]\n", &key, 1);
        std::fs::write(self.node.config(), config).expect("write");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.node.floe(arguments).expect("floe is built");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `floe` to its end.
    pub(crate) fn floe(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().expect("run floe");
        output.into()
    }

    /// `floe run` without a network, which most tests do not need.
    pub(crate) fn run(&self, options: &[&str], words: &[&str]) -> Said {
        let mut arguments = vec!["run", "--network", "none"];
        arguments.extend(options);
        arguments.push(&self.image);
        arguments.extend(words);
        self.floe(&arguments)
    }

    /// Starts a named container in the background that goes on until it is stopped; returns its id.
    pub(crate) fn background(&self, name: &str, script: &str) -> String {
        self.run(&["-d", "--name", name], &["sh", "-c", script])
            .ok()
    }

    /// The names that `floe ps` prints with these options.
    pub(crate) fn listed(&self, options: &[&str]) -> Vec<String> {
        let mut arguments = vec!["ps", "--format", "json"];
        arguments.extend(options);
        let list = self.floe(&arguments).ok();
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let names = list.as_array().expect("a list").iter();
        names
            .flat_map(|one| one["Names"].as_array().cloned().unwrap_or_default())
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    }

    /// Starts `floe` on a terminal of 30 rows and 100 columns.
    pub(crate) fn on_terminal(&self, arguments: &[&str]) -> Terminal {
        self.on_terminal_of((30, 100), arguments)
    }

    /// The same on one of so many rows and columns.
    pub(crate) fn on_terminal_of(&self, size: (u16, u16), arguments: &[&str]) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&master).expect("grant the terminal");
        unlockpt(&master).expect("unlock the terminal");
        let size = Winsize {
            ws_row: size.0,
            ws_col: size.1,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("set its size");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).expect("open its other side");
        let copy = || Stdio::from(slave.try_clone().expect("a copy"));
        let mut command = self.command(arguments);
        command
            .env("TERM", "xterm")
            .stdin(copy())
            .stdout(copy())
            .stderr(copy());
        // SAFETY: both calls are async-signal-safe and touch only the child.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                // SAFETY: standard input is the terminal, open until execve.
                let stdin = rustix::stdio::stdin();
                rustix::process::ioctl_tiocsctty(stdin)?;
                Ok(())
            });
        }
        let child = command.spawn().expect("start floe");
        Terminal {
            child,
            master: File::from(master),
            seen: String::new(),
        }
    }
}

/// `floe` on a terminal.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    seen: String,
}

impl Terminal {
    pub(crate) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("type");
    }

    /// Reads until these words were shown.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, words: &str) {
        let mut buffer = [0; 1024];
        while !self.seen.contains(words) {
            match self.master.read(&mut buffer) {
                Ok(count) if count > 0 => self
                    .seen
                    .push_str(&String::from_utf8_lossy(&buffer[..count])),
                _ => panic!("no {words:?} in {:?}", self.seen),
            }
        }
    }

    /// Waits for the end: all that was shown, and the exit code.
    pub(crate) fn end(mut self) -> (String, i32) {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = self.master.read(&mut buffer) {
            self.seen
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let status = self.child.wait().expect("wait for floe");
        (self.seen.replace("\r\n", "\n"), status.code().unwrap_or(-1))
    }
}

/// Waits until `holds`.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("signal floe");
}

/// Debian's podman with a private storage on this machine.
pub(crate) struct Podman(std::path::PathBuf);

impl Machine {
    pub(crate) fn podman(&self) -> Podman {
        Podman(self.node.path("podman"))
    }
}

impl Podman {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        for (option, dir) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(option).arg(self.0.join(dir));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output();
        output.expect("podman is installed").into()
    }
}
