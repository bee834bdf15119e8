//! The pod itself: the namespaces the supervisor lives in, the mount on `shm`, the cgroup, and the
//! first process of a shared PID namespace. Dropping it takes everything back that does not go
//! with the process.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::pod_init::{Beginning, PodInit};
use super::users::Users;
use super::{diagnose, sysctl};
use crate::address;
use crate::error::{Error, Result};
use crate::info::{INFO_FILE, SHM_DIR, SOCKET_FILE, SupervisorInfo};
use crate::setup::{PodSetup, UserIds};
use crate::shm;
use crate::state::remove_file;
use crate::sys::process::unshare;

/// A pod that stands. The order of the fields is the order in which they are taken back.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) init: Option<PodInit>,
    pub(super) listener: UnixListener,
    pub(super) info: SupervisorInfo,
    /// systemd makes the cgroups of its containers.
    pub(super) has_units: bool,
    _files: Files,
    _shm: Option<Shm>,
    /// Containers join it, whoever makes them.
    _users: Option<Users>,
}

impl Pod {
    /// Makes it; `supervisor.json` comes last, so that who finds it finds all. `netns` is what came along with
    /// the set-up.
    pub(super) fn set_up(setup: &PodSetup, netns: Option<OwnedFd>) -> Result<Self> {
        let users = enter_namespaces(setup, netns)?;
        let set = users.as_ref().map_or(&[][..], |users| &users.set);
        sysctl::apply(setup, set)?;
        let (init, beginning) = match setup.shared_pid {
            true => {
                let (init, beginning) = PodInit::start(users.as_ref())?;
                (Some(init), Some(beginning))
            }
            false => (None, None),
        };
        let shm = if setup.new_ipc {
            Some(Shm::mount(setup)?)
        } else {
            None
        };
        let files = Files {
            dir: setup.dir.clone(),
        };
        let listener = address::listen(&setup.dir)?;
        let pod_init = init.as_ref().map(PodInit::pid);
        let number = users.as_ref().map(Users::number);
        let info = SupervisorInfo::of_this_process(pod_init, number)?;
        beginning.map_or(Ok(()), Beginning::wait)?;
        info.write(&setup.dir)?;
        Ok(Self {
            init,
            listener,
            info,
            has_units: setup.unit().is_some(),
            _files: files,
            _shm: shm,
            _users: users,
        })
    }
}

/// Checks what can be checked before anything is made.
pub(super) fn validate(setup: &PodSetup) -> Result<()> {
    if let Some(hostname) = &setup.hostname {
        if !setup.new_uts {
            return Err(Error::invalid(
                "hostname",
                "the pod uses the node's UTS namespace",
            ));
        }
        if hostname.is_empty() || hostname.len() > 64 {
            return Err(Error::invalid(
                "hostname",
                format!("{hostname:?} does not have 1 to 64 bytes"),
            ));
        }
    }
    if setup.users.as_ref().is_some_and(|ids| ids.root().is_none()) {
        return Err(Error::invalid(
            "users",
            "the user namespace has no user 0 or no group 0",
        ));
    }
    if setup.users.is_some() && setup.netns_given {
        return Err(Error::invalid(
            "netns_given",
            "a network namespace that was made before belongs to no user namespace of the pod's",
        ));
    }
    sysctl::validate(setup)
}

fn enter_namespaces(setup: &PodSetup, netns: Option<OwnedFd>) -> Result<Option<Users>> {
    let failed = |error: std::io::Error| Error::SetUp {
        part: "namespaces".to_owned(),
        reason: error.to_string(),
    };
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWNET, setup.new_net && !setup.netns_given);
    flags.set(UnshareFlags::NEWIPC, setup.new_ipc);
    flags.set(UnshareFlags::NEWUTS, setup.new_uts);
    let users = match &setup.users {
        Some(ids) => Some(Users::enter(setup, ids, flags)?),
        None if flags.is_empty() => None,
        None => unshare(flags).map(|()| None).map_err(failed)?,
    };
    if setup.netns_given {
        let netns = netns.ok_or_else(|| Error::protocol("no network namespace came along"))?;
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(netns.as_fd(), kind).map_err(|errno| failed(errno.into()))?;
    }
    if let Some(hostname) = &setup.hostname {
        rustix::system::sethostname(hostname.as_bytes()).map_err(|error| Error::SetUp {
            part: format!("hostname {hostname}"),
            reason: error.to_string(),
        })?;
    }
    Ok(users)
}

/// The mount on `shm`, unmounted when dropped.
#[derive(Debug)]
struct Shm(PathBuf);

impl Shm {
    fn mount(setup: &PodSetup) -> Result<Self> {
        let dir = setup.dir.join(SHM_DIR);
        let owner = setup.users.as_ref().and_then(UserIds::root);
        shm::mount_at(&dir, setup.shm_size, owner.unwrap_or((0, 0)))?;
        Ok(Self(dir))
    }
}

impl Drop for Shm {
    fn drop(&mut self) {
        if let Err(error) = shm::unmount(&self.0) {
            diagnose(format_args!("{error}"));
        }
    }
}

/// The supervisor's own files in the pod's directory, removed when dropped.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        for name in [INFO_FILE, SOCKET_FILE] {
            if let Err(error) = remove_file(&self.dir.join(name)) {
                diagnose(format_args!("{error}"));
            }
        }
    }
}
