//! Making a container: everything is checked and opened first, then the runtime clones the first
//! process, which sets itself up while the pod goes on ([`super::creation`]), then the record is written.
//! Whatever fails takes back what was done.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use runtime::cgroup::{Cgroup, Unit};
use runtime::resctrl::Group;
use runtime::spec::{NamespaceKind, Spec};
use runtime::{CgroupManager, Created, Creating, Gate, GateKind, NewContainer, Rootfs, Stdio};
use rustix::fs::{Mode, mkdir};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::container::{Container, runtime_failed};
use super::cri_log::{CriLog, MadeLog};
use super::health::Checks;
use super::on_exit::Due;
use super::poller::{Key, Token};
use super::program::Driven;
use super::requests::Reply;
use super::seccomp_agent::Agent;
use super::stdin::Stdin;
use super::streams::Output;
use super::{Supervisor, diagnose, hooks, program};
use crate::error::{Error, Result};
use crate::event::Happening;
use crate::health::HealthRecord;
use crate::protocol::{CreateContainer, CreatedInfo, RootfsSource};
use crate::state::{ContainerState, read_json};
use crate::sys::process::Process;

/// The file in a container's directory that says what it is (OCI runtime-spec, bundle).
const CONFIG_FILE: &str = "config.json";

impl Supervisor {
    /// Begins to make a container; answered when it stands at the gate before its program.
    pub(super) fn create(
        &mut self,
        request: CreateContainer,
        fds: Vec<OwnedFd>,
        client: Key,
    ) -> Result<Reply> {
        self.may_create(&request)?;
        self.tidy = true;
        let mut spec = read_spec(&request.bundle)?;
        let by_program = program::create::check(&request, &spec)?;
        let process = spec.process.get_or_insert_default();
        process.terminal = request.terminal;
        // Without a value of its own it would have the supervisor's, and outlive everything.
        process.oom_score_adj = process.oom_score_adj.or(self.oom_score_adj);
        let log = NewLog::open(&request)?;
        let agent = Agent::of(&spec, &request.bundle)?;
        let (ours, theirs) = streams(&request, &spec)?;
        let rootfs = rootfs(&request, fds)?;
        let plan = Planned {
            agent,
            ..Planned::new(request, &spec, ours, log)
        };
        if let Some(program) = by_program {
            return self.create_by_program(plan, (&spec, rootfs), program, theirs, client);
        }
        let unit = self.unit_of(&plan.request.id, &spec)?;
        let creating = begin(&plan, (&spec, rootfs), unit.as_ref(), theirs)?;
        self.add_creation(creating, plan, client)?;
        Ok(Reply::Later)
    }

    /// The container stands at its gate: it becomes one of the pod's.
    pub(super) fn created(
        &mut self,
        key: Key,
        plan: Planned,
        created: Created,
    ) -> Result<CreatedInfo> {
        for warning in &created.warnings {
            diagnose(format_args!("container {}: {warning}", plan.request.id));
        }
        let container = Made(Some(created)).into_container(key, plan)?;
        Ok(self.add_container(key, container))
    }

    /// A container that stands is one of the pod's.
    pub(super) fn add_container(&mut self, key: Key, mut container: Container) -> CreatedInfo {
        if let Some(restarts) = self.restarts.get(container.id()) {
            container.state.restarts = restarts.count;
            container.save();
        }
        let pid = container.state.pid.unwrap_or_default();
        self.events.note(Happening::Created, &container.state);
        self.containers.insert(key, container);
        self.balance(key);
        self.watch_for_oom(key);
        self.watch_agent(key);
        CreatedInfo { pid }
    }

    /// The scope that systemd is to make for a container, if it makes this pod's cgroups.
    pub(super) fn unit_of(&self, id: &str, spec: &Spec) -> Result<Option<Unit>> {
        if !self.pod.has_units {
            return Ok(None);
        }
        let linux = spec.linux.as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path.as_deref());
        let unit = Unit::of_pod(path.unwrap_or_default());
        unit.map(Some).map_err(runtime_failed(id, "create"))
    }

    pub(super) fn may_create(&self, request: &CreateContainer) -> Result<()> {
        let id = &request.id;
        if id.is_empty() || id.contains('/') || id == "." || id == ".." {
            return Err(Error::invalid(
                "id",
                format!("{id:?} is not a plain file name"),
            ));
        }
        if self.find(id).is_ok() || self.is_being_created(id) {
            return Err(Error::Exists { id: id.clone() });
        }
        if self.ending.is_some() {
            let state = "not to be: its pod is being shut down".to_owned();
            return Err(Error::State {
                verb: "create".to_owned(),
                id: id.clone(),
                state,
            });
        }
        Ok(())
    }
}

/// The configuration in a container's directory. Read again for each exec rather than kept: with
/// a seccomp profile it is the largest thing a supervisor would hold.
pub(super) fn read_spec(bundle: &Path) -> Result<Spec> {
    let path = bundle.join(CONFIG_FILE);
    read_json(&path)?
        .ok_or_else(|| Error::io("read", path)(std::io::Error::from(std::io::ErrorKind::NotFound)))
}

/// A log that is removed again if its container does not come to be.
#[derive(Debug)]
pub(super) struct NewLog {
    log: Option<CriLog>,
    made: Option<MadeLog>,
}

impl NewLog {
    pub(super) fn open(request: &CreateContainer) -> Result<Self> {
        let Some(target) = &request.log else {
            return Ok(Self {
                log: None,
                made: None,
            });
        };
        let (log, made) = CriLog::create(target)?;
        Ok(Self {
            log: Some(log),
            made,
        })
    }

    pub(super) fn commit(mut self) -> Option<CriLog> {
        self.made = None;
        self.log.take()
    }
}

impl Drop for NewLog {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            made.remove();
        }
    }
}

/// The supervisor's ends of a container's streams; of a terminal they come from the runtime.
#[derive(Debug, Default)]
pub(super) struct Ours {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

pub(super) fn streams(request: &CreateContainer, spec: &Spec) -> Result<(Ours, Stdio)> {
    if request.terminal {
        let size = spec
            .process
            .as_ref()
            .and_then(|process| process.console_size);
        return Ok((
            Ours::default(),
            Stdio::Terminal {
                size: size.map(|size| (size.height, size.width)),
                raw_output: false,
            },
        ));
    }
    let (our_stdin, stdin) = if request.stdin {
        let (read, write) = pipe(request)?;
        (Some(write), read)
    } else {
        (
            None,
            File::open("/dev/null")
                .map_err(Error::io("open", "/dev/null"))?
                .into(),
        )
    };
    let (our_stdout, stdout) = pipe(request)?;
    let (our_stderr, stderr) = pipe(request)?;
    let ours = Ours {
        stdin: our_stdin,
        stdout: Some(our_stdout),
        stderr: Some(our_stderr),
    };
    for fd in ours.stdin.iter().chain(&ours.stdout).chain(&ours.stderr) {
        never_wait(fd)?;
    }
    Ok((
        ours,
        Stdio::Fds {
            stdin,
            stdout,
            stderr,
        },
    ))
}

fn pipe(request: &CreateContainer) -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe for", &request.bundle))
}

fn never_wait(fd: &OwnedFd) -> Result<()> {
    base::file::never_wait(fd).map_err(Error::io("set flags of", "a container's stream"))
}

/// What a container will be once its first process stands at its gate.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) request: CreateContainer,
    own_pid_namespace: bool,
    hooks: bool,
    ours: Ours,
    log: NewLog,
    agent: Option<Box<Agent>>,
}

/// Makes the directory on which a program, or criu, finds the root file system mounted.
pub(super) fn make_root(bundle: &Path, spec: &Spec) -> Result<()> {
    let place = spec.root_in(bundle);
    match mkdir(&place, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::io("make directory", place)(error)),
    }
}

/// The root file system, which for a mount is the one descriptor that came.
pub(super) fn rootfs(request: &CreateContainer, fds: Vec<OwnedFd>) -> Result<Rootfs> {
    let given = fds.len();
    let mut fds = fds.into_iter();
    match (&request.rootfs, fds.next(), given) {
        (RootfsSource::Mount, Some(mount), 1) => Ok(Rootfs::Mount(mount)),
        (RootfsSource::Path(path), None, _) => Ok(Rootfs::Path(path.clone())),
        (RootfsSource::Overlay { lower, upper, work }, None, _) => Ok(Rootfs::Overlay {
            lower: lower.clone(),
            upper: upper.clone(),
            work: work.clone(),
        }),
        (RootfsSource::Mount, _, given) => Err(Error::protocol(format!(
            "{given} descriptors came with the creation of {} and not the one of its root",
            request.id
        ))),
        (_, Some(_), _) => Err(Error::protocol(format!(
            "a descriptor came with the creation of {}, whose root is a path",
            request.id
        ))),
    }
}

impl Planned {
    pub(super) fn new(request: CreateContainer, spec: &Spec, ours: Ours, log: NewLog) -> Self {
        // A program calls the hooks itself, and what it makes may not be what it seems.
        let built_in = request.program.is_none();
        Self {
            own_pid_namespace: built_in && owns_pid_namespace(spec),
            hooks: built_in && hooks::wanted(spec),
            request,
            ours,
            log,
            agent: None,
        }
    }

    /// What was written to its stderr by now, to a limit, if anything was.
    pub(super) fn last_errors(&self) -> Option<String> {
        let mut bytes = [0; 2048];
        let stderr = self.ours.stderr.as_ref()?;
        let count = rustix::io::read(stderr, &mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes[..count]);
        let text = text.trim().replace(char::is_control, " ");
        (!text.is_empty()).then_some(text)
    }
}

fn begin(
    plan: &Planned,
    (spec, rootfs): (&Spec, Rootfs),
    unit: Option<&Unit>,
    stdio: Stdio,
) -> Result<Creating> {
    let request = &plan.request;
    let container = NewContainer {
        id: &request.id,
        bundle: &request.bundle,
        spec,
        rootfs,
        cgroup_manager: unit.map_or(CgroupManager::Fs, CgroupManager::Systemd),
        stdio,
        gate: GateKind::Held,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        check_program: false,
    };
    container
        .begin()
        .map_err(runtime_failed(&request.id, "create"))
}

/// A first process at its gate. Dropped, it is killed and its cgroup removed.
struct Made(Option<Created>);

impl Made {
    fn into_container(mut self, key: Key, plan: Planned) -> Result<Container> {
        let missing = || Error::protocol("the runtime made no process");
        let created = self.0.as_mut().ok_or_else(missing)?;
        let console = created.console.take();
        let (pid, cgroup) = (created.pid, created.cgroup.path().to_owned());
        let ready = Ready::of(plan, pid, &cgroup, console)?;
        let created = self.0.take().ok_or_else(missing)?;
        let standing = Standing {
            process: Process::new(created.pid, created.pidfd),
            cgroup: created.cgroup,
            resctrl: created.resctrl,
            gate: Some(created.gate),
            program: None,
        };
        Ok(ready.into_container(key, standing))
    }
}

/// A first process before its program, with what is its own.
pub(super) struct Standing {
    pub(super) process: Process,
    pub(super) cgroup: Cgroup,
    pub(super) resctrl: Option<Group>,
    /// Holds it, if the runtime library made it.
    pub(super) gate: Option<Gate>,
    /// What holds it, if a program did.
    pub(super) program: Option<Box<Driven>>,
}

/// A container whose record is written: nothing can fail any more.
pub(super) struct Ready {
    plan: Planned,
    state: ContainerState,
}

impl Ready {
    /// Takes the terminal, if it has one, and writes the record.
    pub(super) fn of(
        mut plan: Planned,
        pid: i32,
        cgroup: &str,
        console: Option<OwnedFd>,
    ) -> Result<Self> {
        if let Some(console) = console {
            never_wait(&console)?;
            if plan.request.stdin {
                // One descriptor for each direction: they are watched apart.
                let twin = console.try_clone();
                plan.ours.stdin =
                    Some(twin.map_err(Error::io("duplicate", "a container's terminal"))?);
            }
            plan.ours.stdout = Some(console);
        }
        let state = ContainerState::created(&plan.request.id, pid, cgroup);
        state.write(&plan.request.bundle)?;
        if plan.request.check.is_some() {
            HealthRecord::default().write(&plan.request.bundle)?;
        }
        Ok(Self { plan, state })
    }

    pub(super) fn into_container(self, key: Key, standing: Standing) -> Container {
        let Self { plan, state } = self;
        let Planned {
            request,
            own_pid_namespace,
            hooks,
            ours,
            log,
            agent,
        } = plan;
        let oom = standing.cgroup.oom_events().map_err(|error| {
            diagnose(format_args!(
                "container {}: no word of its OOM kills: {error}",
                request.id
            ));
        });
        Container {
            state,
            dir: request.bundle,
            process: Some(standing.process),
            gate: standing.gate,
            program: standing.program,
            shim: None,
            starting: None,
            start_failure: None,
            cgroup: standing.cgroup,
            resctrl: standing.resctrl,
            oom: oom.ok(),
            oom_told: 0,
            oom_due: None,
            own_pid_namespace,
            hooks,
            terminal: request.terminal,
            stdout: ours.stdout.map(|fd| Output::new(fd, Token::Stdout(key))),
            stderr: ours.stderr.map(|fd| Output::new(fd, Token::Stderr(key))),
            stdin: ours
                .stdin
                .map(|fd| Stdin::new(fd, Token::Stdin(key), request.terminal)),
            stdin_once: request.stdin_once,
            log: log.commit(),
            attached: Vec::new(),
            waiting: Vec::new(),
            stop: None,
            removal: None,
            held: false,
            restored: false,
            own_time: false,
            agent,
            due: request.on_exit.map(Due::of),
            checks: request.check.map(|check| Box::new(Checks::of(check))),
            unwell: None,
            killed: false,
            run_limit: request.run_limit,
            run_until: None,
            unsaved: None,
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(created) = self.0.take() else { return };
        let process = Process::new(created.pid, created.pidfd);
        drop(created.gate);
        process.kill_with_group();
        if let Some(pid) = Pid::from_raw(process.pid()) {
            // Held at its gate, it dies at once.
            while let Err(rustix::io::Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
        }
        if let Err(error) = created.cgroup.delete() {
            diagnose(format_args!("undo of create: {error}"));
        }
    }
}

/// Does the container get a PID namespace that nobody else is in?
fn owns_pid_namespace(spec: &Spec) -> bool {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    namespaces
        .filter(|namespace| namespace.kind == NamespaceKind::Pid)
        .any(|namespace| namespace.path.is_none())
}
