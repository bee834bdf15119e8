//! Making a container from what criu has written: a child beside the loop drives criu, which makes the
//! processes in the container's cgroup and leaves them frozen there, before their next instruction. The child
//! looks at what they may do, says which is the first, and ends: the supervisor is their parent then.
//!
//! What is not restored in time, or may do what config.json does not allow, is killed with its cgroup.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use runtime::cgroup::{Cgroup, Unit};
use runtime::criu::Restore;
use runtime::spec::Spec;
use runtime::{CgroupManager, Rootfs, Stdio, mount_for_program};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::Supervisor;
use super::child;
use super::confined;
use super::create::{NewLog, Planned, Ready, Standing, make_root, read_spec, rootfs, streams};
use super::creation::Creation;
use super::dump::{CRIU_CONFIG, WORDS, settings};
use super::poller::Key;
use super::program::create::descriptors;
use super::requests::Reply;
use crate::error::{Error, Result};
use crate::protocol::{Response, RestoreContainer};
use crate::sys::process::Process;

/// The longest that a client may give it.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the child says after the number of a process in a time namespace.
const OWN_TIME: &str = " in its own time";

/// A container that is being restored.
#[derive(Debug)]
pub(super) struct Restoring {
    /// The child that drives criu, and leads a process group.
    pub(super) child: i32,
    /// The path of the cgroup that is being made.
    pub(super) cgroup: String,
    pub(super) limit: Instant,
    /// The first process's number comes here, or why there is none.
    said: File,
}

impl Supervisor {
    /// Begins to make a container from its images; answered when it stands, frozen.
    pub(super) fn restore(
        &mut self,
        request: RestoreContainer,
        fds: Vec<OwnedFd>,
        client: Key,
    ) -> Result<Reply> {
        let limit = Instant::now() + request.limit.min(LONGEST);
        let container = &request.container;
        self.may_create(container)?;
        if container.terminal || container.program.is_some() {
            let reason = "a container with a terminal, or a program's, cannot be restored";
            return Err(Error::invalid("restore", reason));
        }
        self.tidy = true;
        let mut spec = read_spec(&container.bundle)?;
        spec.annotations
            .insert(CRIU_CONFIG.to_owned(), String::new());
        let process = spec.process.get_or_insert_default();
        process.terminal = false;
        process.oom_score_adj = process.oom_score_adj.or(self.oom_score_adj);
        make_root(&container.bundle, &spec)?;
        let log = NewLog::open(container)?;
        let (ours, theirs) = streams(container, &spec)?;
        let root = rootfs(container, fds)?;
        let unit = self.unit_of(&container.id, &spec)?;
        let linux = spec.linux.as_ref();
        let named = linux.and_then(|linux| linux.cgroups_path.clone());
        let cgroup = unit.as_ref().map(Unit::cgroup_path).or(named);
        let cgroup = cgroup.ok_or_else(|| Error::invalid("linux.cgroupsPath", "is missing"))?;
        let (child, said) = in_child(&request, &spec, root, unit.as_ref(), theirs)?;
        let plan = Planned::new(request.container, &spec, ours, log);
        let restoring = Restoring {
            child,
            cgroup,
            limit,
            said: said.into(),
        };
        let key = self.new_key();
        let creation = Creation::of_restore(plan, client, restoring);
        self.creations.insert(key, creation);
        Ok(Reply::Later)
    }

    /// A child is reaped; was it one that restored a container?
    pub(super) fn restore_ended(&mut self, pid: i32, code: i32) -> bool {
        let is_it = |one: &&Creation| one.restored_by() == Some(pid);
        let of = |(key, one): (&Key, _)| Some(one).filter(is_it).map(|_| *key);
        let Some(key) = self.creations.iter().find_map(of) else {
            return false;
        };
        let creation = self.creations.remove(&key).and_then(Creation::restoring);
        let Some((id, plan, mut restoring, client)) = creation else {
            return true;
        };
        let mut words = String::new();
        let read = (&mut restoring.said).take(WORDS).read_to_string(&mut words);
        let own_time = words.ends_with(OWN_TIME);
        let stands = match (code, read) {
            (0, Ok(_)) => self.stands_restored(words.trim_end_matches(OWN_TIME), &restoring.cgroup),
            (code, _) if words.is_empty() => {
                Err(format!("what restores it has ended with code {code}"))
            }
            _ => Err(words),
        };
        let failed = |message| Error::Runtime {
            verb: "restore".to_owned(),
            id: id.clone(),
            message,
        };
        let container = stands.map_err(failed).and_then(|standing| {
            let (pid, cgroup) = (standing.process.pid(), standing.cgroup.path().to_owned());
            let mut container = Ready::of(plan, pid, &cgroup, None)?.into_container(key, standing);
            container.restored = true;
            container.own_time = own_time;
            Ok(container)
        });
        let answer = match container {
            Ok(container) => Response::Created(self.add_container(key, container)),
            Err(error) => {
                let ending = Creation::abandoned(id, client, None, restoring.cgroup);
                self.creations.insert(key, ending);
                self.try_end(key);
                Response::Failed(error)
            }
        };
        self.connections.answer(client, &answer, Vec::new());
        true
    }

    /// The first process, if it is a child of this one by now.
    fn stands_restored(&self, words: &str, cgroup: &str) -> std::result::Result<Standing, String> {
        let lies = || format!("process {words:?}, which is to be restored, is none");
        let pid: i32 = words.trim().parse().map_err(|_| lies())?;
        let number = Pid::from_raw(pid).ok_or_else(lies)?;
        // Asked after the pidfd is held: from here on the number is that process's.
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|_| lies())?;
        let own = getpid().as_raw_nonzero().get();
        let stat = base::process::stat(pid).ok().flatten();
        if stat.is_none_or(|stat| stat.parent != own) {
            return Err(lies());
        }
        let cgroup = Cgroup::open(cgroup).map_err(|error| error.to_string())?;
        Ok(Standing {
            process: Process::new(pid, pidfd),
            cgroup,
            resctrl: None,
            gate: None,
            program: None,
        })
    }
}

/// Has a child do it; what it says is in the pipe when it has ended.
fn in_child(
    request: &RestoreContainer,
    spec: &Spec,
    root: Rootfs,
    unit: Option<&Unit>,
    stdio: Stdio,
) -> Result<(i32, OwnedFd)> {
    child::in_group("criu", |write| {
        let done = descriptors(stdio)
            .ok_or_else(|| "it has no streams".to_owned())
            .and_then(|[stdin, stdout, stderr]| {
                let given = dup2_stdin(stdin)
                    .and_then(|()| dup2_stdout(stdout))
                    .and_then(|()| dup2_stderr(stderr));
                given.map_err(|errno| format!("give it its streams: {errno}"))
            });
        // Clients and streams close when the supervisor closes them.
        let mount = match &root {
            Rootfs::Mount(mount) => vec![write.as_fd(), mount.as_fd()],
            Rootfs::Path(_) | Rootfs::Overlay { .. } => vec![write.as_fd()],
        };
        runtime::close_all_but_cgroups(&mount);
        let outcome = done.and_then(|()| restore(request, spec, &root, unit));
        let code = i32::from(outcome.is_err());
        let words = match outcome {
            Ok((pid, false)) => pid.to_string(),
            Ok((pid, true)) => format!("{pid}{OWN_TIME}"),
            Err(reason) => reason,
        };
        // Whoever would read it is gone, or there is room for it.
        let _ = rustix::io::write(write, words.as_bytes());
        code
    })
}

fn restore(
    request: &RestoreContainer,
    spec: &Spec,
    root: &Rootfs,
    unit: Option<&Unit>,
) -> std::result::Result<(i32, bool), String> {
    let bundle = &request.container.bundle;
    let said = |error: runtime::Error| error.to_string();
    mount_for_program(bundle, spec, root).map_err(said)?;
    let settings = settings(&request.criu, &request.images, &request.work);
    let restore = Restore {
        settings: &settings,
        id: &request.container.id,
        bundle,
        spec,
        rootfs: &spec.root_in(bundle),
        cgroup_manager: unit.map_or(CgroupManager::Fs, CgroupManager::Systemd),
        lsm_profile: None,
        lsm_mount_context: None,
        held: true,
    };
    let restored = restore.run(&mut |_| true).map_err(said)?;
    // It is frozen, or freezes before it does anything.
    let checked = confined::check(&restored.cgroup, restored.pid, spec);
    if let Err(reason) = checked {
        // Its cgroup ends it for good.
        let _ = restored.cgroup.kill_all();
        return Err(reason);
    }
    Ok((restored.pid, restored.time_namespace))
}
