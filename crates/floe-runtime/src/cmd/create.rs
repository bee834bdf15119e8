//! `create`: everything up to the gate. `run` shares it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::file::{Lasts, replace};
use base::process;
use runtime::cgroup::{Cgroup, Unit, default_path};
use runtime::resctrl::Group;
use runtime::spec::Spec;
use runtime::{Created, GateKind, NewContainer, Rootfs, Stdio};

use super::{Failure, Outcome};
use crate::activation::Activation;
use crate::cli::Global;
use crate::notify::Notify;
use crate::state::{NewDir, State, namespace_paths};
use crate::{log, terminal};

/// Options of `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Container id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Options that `create` and `run` share.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Directory of config.json
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Socket that receives the master side of the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Where to write the process id
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Socket that receives a pidfd of the container's first process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Do not use pivot_root
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// How many descriptors after 2 the container gets
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(crate) preserve_fds: u32,
}

pub(crate) fn run(global: &Global, args: &Args) -> Outcome {
    let made = Made::new(global, &args.id, &args.options, true)?;
    made.commit(&args.options)?;
    Ok(0)
}

/// A container of which only its directory exists, with what is known so far.
pub(crate) struct Planned {
    pub(crate) dir: NewDir,
    pub(crate) state: State,
    pub(crate) terminal: bool,
}

impl Planned {
    pub(crate) fn new(
        global: &Global,
        id: &str,
        options: &Options,
        detached: bool,
    ) -> Result<Self, Failure> {
        let bundle = options
            .bundle
            .canonicalize()
            .map_err(Failure::at(format_args!(
                "bundle {}",
                options.bundle.display()
            )))?;
        let spec = load_spec(&bundle)?;
        let terminal = spec
            .process
            .as_ref()
            .is_some_and(|process| process.terminal);
        if terminal && detached && options.console_socket.is_none() {
            return Err(Failure::new(
                "cannot allocate tty if runc will detach without setting console socket",
            ));
        }
        let dir = NewDir::make(global, id)?;
        let unit = global
            .systemd_cgroup
            .then(|| Unit::of_container(&spec, id))
            .transpose()?;
        let mut state = planned(id, &bundle, spec, unit)?;
        if !terminal {
            state.external_descriptors = streams();
        }
        dir.note(&state)?;
        Ok(Self {
            dir,
            state,
            terminal,
        })
    }
}

/// A container at its gate, or one that is restored, whose state is not written yet. Dropped, it
/// goes with its process: nobody could reach it any more.
pub(crate) struct Made {
    pid: i32,
    pidfd: OwnedFd,
    cgroup: Cgroup,
    console: Option<OwnedFd>,
    dir: NewDir,
    state: State,
}

impl Made {
    pub(crate) fn new(
        global: &Global,
        id: &str,
        options: &Options,
        detached: bool,
    ) -> Result<Self, Failure> {
        let Planned {
            dir,
            mut state,
            terminal,
        } = Planned::new(global, id, options, detached)?;
        let activation = Activation::of_caller();
        let notify = Notify::of_caller(dir.path());
        let told = told(&state.spec, activation, notify.as_ref())?;
        let created = NewContainer {
            id,
            bundle: &state.bundle,
            spec: &told,
            rootfs: Rootfs::Path(state.rootfs.clone()),
            cgroup_manager: state.cgroup_manager(),
            stdio: if terminal {
                Stdio::Terminal {
                    size: terminal::size(),
                    raw_output: options.console_socket.is_none(),
                }
            } else {
                Stdio::Inherit
            },
            gate: GateKind::Listening(dir.gate()?),
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
            preserve_fds: options.preserve_fds + activation.fds,
            check_program: true,
        }
        .create()?;
        created
            .warnings
            .iter()
            .for_each(|warning| log::warn(global, warning));
        drop(told);
        let Created {
            pid,
            pidfd,
            cgroup,
            console,
            resctrl,
            ..
        } = created;
        state.resctrl = resctrl;
        Ok(Self::of(dir, state, (pid, pidfd), cgroup, console))
    }

    /// Of what is there, but for its state.
    pub(crate) fn of(
        dir: NewDir,
        mut state: State,
        (pid, pidfd): (i32, OwnedFd),
        cgroup: Cgroup,
        console: Option<OwnedFd>,
    ) -> Self {
        complete(&mut state, pid, &cgroup);
        Self {
            pid,
            pidfd,
            cgroup,
            console,
            dir,
            state,
        }
    }

    /// Writes state and pid file, and hands the terminal over if a socket waits for it.
    pub(crate) fn commit(mut self, options: &Options) -> Result<(State, Option<OwnedFd>), Failure> {
        let pid = self.state.init_process_pid;
        let console = match (&options.console_socket, self.console.take()) {
            (Some(socket), Some(master)) => {
                self.or_undo(terminal::send(socket, &master))?;
                None
            }
            (_, console) => console,
        };
        if let Some(socket) = &options.pidfd_socket {
            self.or_undo(terminal::send_pidfd(socket, &self.pidfd))?;
        }
        if let Some(path) = &options.pid_file {
            self.or_undo(write_pid(path, pid))?;
        }
        let state = self.state.clone();
        if let Err(error) = self.dir.commit(&state) {
            undo(self.pid, &self.cgroup, self.state.resctrl.as_ref());
            return Err(error);
        }
        Ok((state, console))
    }

    fn or_undo(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        if result.is_err() {
            undo(self.pid, &self.cgroup, self.state.resctrl.as_ref());
        }
        result
    }
}

/// The configuration with what the caller's environment gives the first process. It is not kept: an
/// exec later gets none of it.
fn told<'a>(
    spec: &'a Spec,
    activation: Activation,
    notify: Option<&Notify>,
) -> Result<Cow<'a, Spec>, Failure> {
    if activation.fds == 0 && notify.is_none() {
        return Ok(Cow::Borrowed(spec));
    }
    let mut told = spec.clone();
    if let Some(process) = &mut told.process {
        activation.tell(process);
    }
    if let Some(notify) = notify {
        notify.make_directory()?;
        notify.tell(&mut told);
    }
    Ok(Cow::Owned(told))
}

fn undo(pid: i32, cgroup: &Cgroup, resctrl: Option<&Group>) {
    // What led here is what the caller hears of.
    let _ = cgroup.kill_all();
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    let _ = cgroup.delete();
    let _ = resctrl.map(Group::remove);
}

/// A container of which nothing exists yet. Its cgroup must be empty already here: whatever is in
/// it from now on is the container's, should this process be killed.
fn planned(id: &str, bundle: &Path, spec: Spec, unit: Option<Unit>) -> Result<State, Failure> {
    let named = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.cgroups_path.clone());
    let cgroup = match &unit {
        Some(unit) => unit.cgroup_path(),
        None => named.unwrap_or_else(|| default_path(id)),
    };
    let creator = rustix::process::getpid().as_raw_nonzero().get();
    let state = State {
        id: id.to_owned(),
        init_process_pid: 0,
        init_process_start: 0,
        created: log::rfc3339_nanos(rustix::time::clock_gettime(rustix::time::ClockId::Realtime)),
        bundle: bundle.to_owned(),
        rootfs: spec
            .root
            .as_ref()
            .map(|root| bundle.join(&root.path))
            .unwrap_or_default(),
        cgroup,
        cgroup_paths: BTreeMap::new(),
        namespace_paths: BTreeMap::new(),
        rootless: runtime::is_rootless(),
        resctrl: None,
        unit,
        spec,
        external_descriptors: Vec::new(),
        creator: (creator, process::start(creator).unwrap_or(0)),
    };
    let found = match state.cgroup() {
        Ok(Some(old)) => old.processes()?.len(),
        // A path that is not valid, as creation will say.
        Ok(None) | Err(_) => 0,
    };
    if found > 0 {
        return Err(Failure::new(format!(
            "container's cgroup is not empty: {found} process(es) found in {}",
            state.cgroup
        )));
    }
    Ok(state)
}

/// What the standard streams of a container without a terminal are: its caller's.
fn streams() -> Vec<String> {
    let name = |number| {
        let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
        // One that is closed has none.
        link.map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    (0..3).map(name).collect()
}

/// Adds what is known only of a container that exists.
fn complete(state: &mut State, pid: i32, cgroup: &Cgroup) {
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    state.init_process_pid = pid;
    state.init_process_start = process::start(pid).unwrap_or(0);
    cgroup.path().clone_into(&mut state.cgroup);
    state.namespace_paths = namespace_paths(pid);
    state.cgroup_paths = cgroup
        .directories()
        .iter()
        .map(|directory| {
            let key = if directory.unified {
                String::new()
            } else {
                name(&directory.mount)
            };
            (key, directory.path.display().to_string())
        })
        .collect();
}

fn load_spec(bundle: &Path) -> Result<Spec, Failure> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new("JSON specification file config.json not found")
        }
        _ => Failure::at(format_args!("read {}", path.display()))(e),
    })?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// Written beside and renamed, so that a reader never sees a part.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<(), Failure> {
    let failed = || Failure::at(format!("write pid file {}", path.display()));
    let text = pid.to_string();
    replace(path, text.as_bytes(), 0o644, Lasts::UntilBoot).map_err(failed())
}
