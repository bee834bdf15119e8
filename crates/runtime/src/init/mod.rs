//! The container's first process, from its clone to execve. Each step is one call below, in the
//! order that the kernel and the runtime-spec need; what a step must not do is said in its file.
//! It never returns: it becomes the program, or says why not and ends.

mod console;
mod devices;
mod files;
mod identity;
mod locked_flags;
mod masked_paths;
mod mountpoints;
mod mounts;
mod options;
mod procfs;
mod program;
mod rootfs;
mod target;
mod tmpfs;

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::thread::UnshareFlags;

use crate::cgroup::Cgroup;
use crate::cgroup_placement::CgroupPlacement;
use crate::container::{NewContainer, Rootfs};
use crate::error::InitFailure;
use crate::gate::GateKind;
use crate::hooks::{self, Environment, HookState};
use crate::intermediate;
use crate::labels::Labels;
use crate::message::{Channel, FromInit, ToInit};
use crate::namespaces::Plan;
use crate::procfs::Procfs;
use crate::scheduling;
use crate::seccomp::Filter;
use crate::spec::{Linux, NamespaceKind, Process, Spec};
use crate::stdio::Stdio;
use crate::sys;
use crate::users::{self, Groups};
use mounts::Mounts;

/// What init needs of its parent, as it was at the clone.
pub(crate) struct Inputs<'a> {
    pub(crate) new: NewContainer<'a>,
    pub(crate) namespaces: Plan,
    pub(crate) filter: Option<Filter>,
    pub(crate) placement: CgroupPlacement<'a>,
    pub(crate) channel: Channel,
    /// The user namespace of each mount of config.json that is idmapped.
    pub(crate) idmaps: Vec<Option<OwnedFd>>,
}

/// Why init ends.
pub(crate) enum Stop {
    /// A step of the set-up.
    Failed(InitFailure),
    /// The program itself.
    NotExecuted(InitFailure),
}

impl From<InitFailure> for Stop {
    fn from(failure: InitFailure) -> Self {
        Self::Failed(failure)
    }
}

/// Runs the container's first process.
pub(crate) fn container(inputs: Inputs<'_>) -> ! {
    let mut channel = inputs.channel;
    if let Some(mut keep) = inputs.placement.waits_with() {
        // Nobody is to take an open file for a sign that the runtime lives, or a client is there.
        keep.extend(kept(
            &inputs.new,
            &inputs.namespaces,
            &inputs.idmaps,
            &channel,
        ));
        sys::close_all_but(&keep);
    }
    let cgroup = match inputs.placement.wait(&channel) {
        Ok(cgroup) => cgroup,
        Err(failure) => end(&channel, Stop::Failed(failure)),
    };
    let init = Init {
        new: &inputs.new,
        namespaces: &inputs.namespaces,
        filter: inputs.filter.as_ref(),
        cgroup: &cgroup,
        idmaps: &inputs.idmaps,
        linux: inputs.new.spec.linux(),
        groups: Groups::of(inputs.new.spec, "self"),
        environment: environment_for_hooks(inputs.new.spec),
        warnings: Vec::new(),
    };
    let Err(stop) = init.run(&mut channel);
    end(&channel, stop)
}

/// The descriptors of the parent that are meant for the container.
fn kept(
    new: &NewContainer<'_>,
    namespaces: &Plan,
    idmaps: &[Option<OwnedFd>],
    channel: &Channel,
) -> Vec<i32> {
    let mut keep = new.stdio.fds();
    keep.push(channel.as_fd().as_raw_fd());
    keep.extend(namespaces.fds());
    if let Rootfs::Mount(tree) = &new.rootfs {
        keep.push(tree.as_raw_fd());
    }
    keep.extend(idmaps.iter().flatten().map(AsRawFd::as_raw_fd));
    if let GateKind::Listening(listener) = &new.gate {
        keep.push(listener.as_raw_fd());
    }
    keep.extend((0..new.preserve_fds).filter_map(|number| i32::try_from(number + 3).ok()));
    keep
}

/// The caller's environment, if a hook of the container's namespaces is to have it.
fn environment_for_hooks(spec: &Spec) -> Environment {
    let hooks = spec.hooks.iter().flat_map(|hooks| &hooks.create_container);
    match hooks.into_iter().any(|hook| hook.env.is_none()) {
        true => Environment::of_caller(),
        false => Environment::default(),
    }
}

/// Says why and ends.
pub(crate) fn end(channel: &Channel, stop: Stop) -> ! {
    let message = match stop {
        Stop::Failed(failure) => FromInit::Failed(failure),
        Stop::NotExecuted(failure) => FromInit::NotExecuted(failure),
    };
    // If the runtime is gone, nobody is left to tell.
    let _ = channel.send(&message, None);
    sys::exit(1)
}

struct Init<'a> {
    new: &'a NewContainer<'a>,
    namespaces: &'a Plan,
    filter: Option<&'a Filter>,
    cgroup: &'a Cgroup,
    idmaps: &'a [Option<OwnedFd>],
    linux: &'a Linux,
    groups: Groups,
    /// The runtime's, for hooks that are to have it.
    environment: Environment,
    warnings: Vec<String>,
}

impl<'a> Init<'a> {
    fn process(&self) -> &'a Process {
        static NONE: std::sync::LazyLock<Process> = std::sync::LazyLock::new(Process::default);
        self.new.spec.process.as_ref().unwrap_or(&NONE)
    }

    fn run(mut self, channel: &mut Channel) -> Result<Infallible, Stop> {
        // Before the hierarchies' descriptors are closed with the parent's others.
        join_cgroup(self.cgroup)?;
        scheduling::all_cpus();
        self.leave_the_parent(channel);
        self.warnings
            .extend(identity::oom_score_adj(self.process())?);
        // Before any namespace is joined: /proc still is the host's.
        let labels = Labels::of(self.process())?;
        let proc = match self.linux.sysctl.is_empty() {
            true => None,
            false => Some(Procfs::open()?),
        };
        let opened = if self.namespaces.has_users() {
            self.enter_users(channel)?
        } else {
            sys::not_dumpable().map_err(InitFailure::at("prctl PR_SET_DUMPABLE"))?;
            self.namespaces.join()?;
            None
        };
        rustix::process::setsid().map_err(InitFailure::at("setsid"))?;
        self.name_namespaces(&labels)?;
        proc.map_or(Ok(()), |proc| self.set_parameters(&proc))?;
        let own = self.namespaces.is_new(NamespaceKind::Mount);
        let root = rootfs::prepare(self.new, self.opened_or_open(opened)?, own)?;
        let read_only = self.build(&root, channel)?;
        self.container_hooks(channel)?;
        // Hooks may still write everywhere.
        read_only
            .iter()
            .try_for_each(masked_paths::make_read_only)?;
        let root = rootfs::in_order(root, own, self.new)?;
        let terminal = self.terminal(&root, channel)?;
        self.close_up(&root)?;
        rootfs::switch(&root, own, self.new.no_pivot)?;
        drop((root, read_only));
        rootfs::propagation(self.linux)?;
        self.connect_stdio(terminal)?;
        self.finish(channel, &labels)
    }

    /// Signals as a program expects them, and no descriptor of the parent but those that are meant
    /// for the container.
    fn leave_the_parent(&self, channel: &Channel) {
        sys::forget_signals();
        sys::forget_environment();
        sys::close_all_but(&kept(self.new, self.namespaces, self.idmaps, channel));
    }

    /// Into the user namespace, as its root; see [`intermediate`]. Returns what only the host's root
    /// could open.
    fn enter_users(
        &mut self,
        channel: &Channel,
    ) -> Result<Option<rootfs::Opened<'a>>, InitFailure> {
        identity::raise_limits(self.process());
        let privileged = rustix::process::geteuid().is_root();
        let opened = match privileged {
            true => Some(rootfs::open(self.new, self.idmaps)?),
            false => None,
        };
        if privileged {
            // Without privileges the runtime could not write the ids of one it may not look into.
            sys::not_dumpable().map_err(InitFailure::at("prctl PR_SET_DUMPABLE"))?;
        }
        self.namespaces.join_as_parent()?;
        intermediate::succeed(channel, self.namespaces.clone_flags(), None, None)
            .map_err(InitFailure::at("clone"))?;
        expect(channel, ToInit::UsersMapped)?;
        self.groups = Groups::of(self.new.spec, "self");
        users::become_root(self.groups)?;
        Ok(opened)
    }

    fn opened_or_open(
        &self,
        opened: Option<rootfs::Opened<'a>>,
    ) -> Result<rootfs::Opened<'a>, InitFailure> {
        match opened {
            Some(opened) => Ok(opened),
            None => rootfs::open(self.new, self.idmaps),
        }
    }

    /// What the namespaces are called and how they behave.
    fn name_namespaces(&self, labels: &Labels<'_>) -> Result<(), InitFailure> {
        if self.namespaces.is_new(NamespaceKind::Cgroup) {
            // SAFETY: a new cgroup namespace changes only how this process sees cgroup paths.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }
                .map_err(InitFailure::at("unshare cgroup namespace"))?;
        }
        if self.namespaces.is_new(NamespaceKind::Network) {
            bring_up_loopback()?;
        }
        if let Some(name) = &self.new.spec.hostname {
            rustix::system::sethostname(name.as_bytes())
                .map_err(InitFailure::at(format_args!("sethostname {name:?}")))?;
        }
        if let Some(name) = &self.new.spec.domainname {
            rustix::system::setdomainname(name.as_bytes())
                .map_err(InitFailure::at(format_args!("setdomainname {name:?}")))?;
        }
        if self.new.no_new_keyring {
            return Ok(());
        }
        labels.of_keys(true)?;
        session_keyring(self.new.id)?;
        labels.of_keys(false)
    }

    /// Kernel parameters of the namespaces that this process is in.
    fn set_parameters(&self, proc: &Procfs) -> Result<(), InitFailure> {
        self.linux.sysctl.iter().try_for_each(|(name, value)| {
            let path = format!("sys/{}", name.replace('.', "/"));
            proc.write(&path, value)
                .map_err(InitFailure::at(format_args!(
                    "write sysctl {name}={value:?}"
                )))
        })
    }

    /// What is in the root file system, all by descriptor below `root`; returns the mounts that are to be
    /// read-only.
    fn build(
        &self,
        root: &rootfs::Root<'_>,
        channel: &Channel,
    ) -> Result<Vec<OwnedFd>, InitFailure> {
        let read_only = Mounts {
            root,
            new: self.new,
            cgroup: self.cgroup,
            runtime: self.namespaces.has_users().then_some(channel),
            processes: self
                .namespaces
                .joined(NamespaceKind::Pid)
                .filter(|_| self.joins_processes())
                .map(AsFd::as_fd),
        }
        .perform()?;
        if !devices::is_bound(&self.new.spec.mounts) {
            devices::create(root.fd(), self.linux)?;
        }
        if matches!(self.new.stdio, Stdio::Terminal { .. }) {
            console::place(root.fd())?;
        }
        let cwd = &self.process().cwd;
        target::make_directory(root.fd(), Path::new(cwd))
            .map_err(InitFailure::at(format_args!("make cwd ({cwd:?})")))?;
        Ok(read_only)
    }

    fn terminal(
        &self,
        root: &rootfs::Root<'_>,
        channel: &Channel,
    ) -> Result<Option<console::Terminal>, InitFailure> {
        match &self.new.stdio {
            Stdio::Terminal { size, raw_output } => {
                let terminal = console::open(root.fd(), self.process(), *size, *raw_output)?;
                terminal.bind(root.fd())?;
                terminal.send(channel)?;
                Ok(Some(terminal))
            }
            Stdio::Inherit | Stdio::Fds { .. } => Ok(None),
        }
    }

    /// What is hidden or read-only becomes so.
    fn close_up(&self, root: &rootfs::Root<'_>) -> Result<(), InitFailure> {
        masked_paths::perform(root, self.linux)?;
        let asked = self.new.spec.root.as_ref();
        match asked.is_some_and(|root| root.readonly) {
            true => root.make_read_only(),
            false => Ok(()),
        }
    }

    /// Lets the runtime run its hooks, then runs createContainer's here: with the runtime's environment,
    /// in the host's tree.
    fn container_hooks(&mut self, channel: &Channel) -> Result<(), InitFailure> {
        let Some(hooks) = &self.new.spec.hooks else {
            return Ok(());
        };
        channel
            .send(&FromInit::Mounted, None)
            .map_err(InitFailure::at("report mounts"))?;
        expect(channel, ToInit::HooksDone)?;
        rustix::process::chdir("/").map_err(InitFailure::at("chdir /"))?;
        let environment = std::mem::take(&mut self.environment);
        hooks::run_with(
            "createContainer",
            &hooks.create_container,
            &self.hook_state("creating"),
            Some(&environment),
        )
        .map_err(|error| InitFailure::because(error.to_string()))
    }

    fn hook_state(&self, status: &'static str) -> HookState {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        HookState::new(
            self.new.id,
            status,
            Some(pid),
            self.new.bundle,
            self.new.spec,
        )
    }

    fn connect_stdio(&self, terminal: Option<console::Terminal>) -> Result<(), InitFailure> {
        let uid = self.process().user.uid;
        match (&self.new.stdio, terminal) {
            (_, Some(terminal)) => terminal.take_over(),
            (
                Stdio::Fds {
                    stdin,
                    stdout,
                    stderr,
                },
                None,
            ) => {
                program::replace_stdio([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
                identity::own_stdio(uid)
            }
            (Stdio::Inherit | Stdio::Terminal { .. }, None) => identity::own_stdio(uid),
        }
    }

    /// A container that joins a PID namespace is seen there by those that are in it already: its first
    /// process is made once it is nothing but the container's. With a user namespace it was made before,
    /// but belongs to the host's until execve, and nobody in there may look into it.
    fn joins_processes(&self) -> bool {
        self.namespaces.joined(NamespaceKind::Pid).is_some() && !self.namespaces.has_users()
    }

    /// Becomes what the container is to be, but for the program.
    fn assume(
        &mut self,
        channel: &Channel,
        labels: &Labels<'_>,
    ) -> Result<program::Program, InitFailure> {
        let process = self.process();
        let joins = self.joins_processes();
        let terminal = matches!(self.new.stdio, Stdio::Terminal { .. });
        let which = if joins {
            self.namespaces.join_processes()?;
            identity::raise_limits(process);
            Limits::AllButProcesses
        } else {
            scheduling::schedule(0, process.scheduler.as_ref())?;
            Limits::All
        };
        self.warnings.extend(identity::limits(process, which)?);
        scheduling::apply(process, Some(self.linux))?;
        if terminal && !joins {
            console::control()?;
        }
        let identity = Identity {
            process,
            filter: self.filter,
            groups: self.groups,
            channel,
            labels,
        };
        let first = identity::succeeds_first(process, self.filter);
        if joins && first {
            self.succeed(channel)?;
        }
        let program = identity::assume(&identity, &mut self.warnings)?;
        if joins && !first {
            self.succeed(channel)?;
        }
        if joins {
            let rest = identity::limits(process, Limits::Processes)?;
            self.warnings.extend(rest);
        }
        identity::listen(&identity)?;
        Ok(program)
    }

    /// Makes the process that is in the PID namespace, and ends.
    fn succeed(&self, channel: &Channel) -> Result<(), InitFailure> {
        intermediate::succeed(channel, 0, None, None).map_err(InitFailure::at("clone"))?;
        expect(channel, ToInit::Known)?;
        console::lead_session(&self.new.stdio)
    }

    /// Identity, the gate, and the program.
    fn finish(mut self, channel: &mut Channel, labels: &Labels<'_>) -> Result<Infallible, Stop> {
        sys::cloexec_from(3 + self.new.preserve_fds);
        let program = self.assume(channel, labels)?;
        if self.new.check_program {
            program.find().map_err(Stop::NotExecuted)?;
        }
        let warnings = std::mem::take(&mut self.warnings);
        sys::end_on_signals();
        channel
            .send(&FromInit::Ready { warnings }, None)
            .map_err(InitFailure::at("report ready"))?;
        self.wait_at_gate(channel)?;
        let mut filter = self.filter;
        if let Some(hooks) = &self.new.spec.hooks
            && !hooks.start_container.is_empty()
        {
            // These are of the container, so its filter is theirs.
            program.load_filter(filter.take())?;
            let state = self.hook_state("created");
            hooks::run_with(
                "startContainer",
                &hooks.start_container,
                &state,
                Some(&Environment::of(program.environment())),
            )
            .map_err(|error| InitFailure::because(error.to_string()))?;
        }
        program.execute(filter)
    }

    fn wait_at_gate(&self, channel: &mut Channel) -> Result<(), InitFailure> {
        if let GateKind::Listening(listener) = &self.new.gate {
            let connected = rustix::io::retry_on_intr(|| {
                rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
            })
            .map_err(InitFailure::at("accept at gate"))?;
            *channel = Channel(connected);
        }
        expect(channel, ToInit::Start)
    }
}

/// A session keyring of its own for this process and all that it makes.
pub(crate) fn session_keyring(id: &str) -> Result<(), InitFailure> {
    let name = CString::new(format!("_ses.{id}")).unwrap_or_default();
    match sys::join_session_keyring(&name) {
        // A kernel or filter without keyrings, or a quota used up: nothing to keep apart then.
        Ok(()) | Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::DQUOT) => Ok(()),
        Err(errno) => Err(InitFailure::new("join session keyring", errno)),
    }
}

/// Programs expect to reach themselves in a network of their own. The kernel makes the device, down, as
/// the first one.
fn bring_up_loopback() -> Result<(), InitFailure> {
    let up = netlink::link::up(1, "lo");
    netlink::Socket::route()
        .and_then(|mut socket| socket.send_one(up))
        .map_err(|error| InitFailure::because(error.to_string()))
}

/// The v2 part of the cgroup was joined at birth; the v1 hierarchies are joined here, by the process
/// itself, which spares the kernel a wait that a move by another process needs.
pub(crate) fn join_cgroup(cgroup: &Cgroup) -> Result<(), InitFailure> {
    cgroup
        .join_v1()
        .map_err(|error| InitFailure::because(error.to_string()))
}

/// Waits for exactly this message; a runtime that is gone ends init.
pub(crate) fn expect(channel: &Channel, wanted: ToInit) -> Result<(), InitFailure> {
    match channel
        .receive::<ToInit>()
        .map_err(InitFailure::at("read from runtime"))?
    {
        Some((message, _)) if message == wanted => Ok(()),
        Some((message, _)) => Err(InitFailure::because(format!(
            "{message:?} came where {wanted:?} was due"
        ))),
        None => sys::exit(1),
    }
}

pub(crate) use console::{Terminal, lead_session, open as open_terminal};
pub(crate) use devices::paths as device_paths;
pub use identity::rlimit;
pub(crate) use identity::{
    Identity, Limits, assume, limits, listen, oom_score_adj, own_stdio, raise_limits,
    succeeds_first,
};
pub(crate) use mountpoints::make_mountpoints;
pub(crate) use mounts::{inside, set_ids};
pub(crate) use options::{is_bind, is_shared, words as mount_options};
pub(crate) use program::replace_stdio;
pub(crate) use rootfs::overlay as mount_overlay;
pub(crate) use target::{open as open_inside, resolve};
