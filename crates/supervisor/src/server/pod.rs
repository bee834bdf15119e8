//! The pod itself: the namespaces the supervisor lives in, the mount on `shm`, the cgroup, and the
//! first process of a shared PID namespace. Dropping it takes everything back that does not go
//! with the process.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::pod_init::{Beginning, PodInit};
use super::{diagnose, sysctl};
use crate::address;
use crate::error::{Error, Result};
use crate::info::{INFO_FILE, SHM_DIR, SOCKET_FILE, SupervisorInfo};
use crate::setup::PodSetup;
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
}

impl Pod {
    /// Makes it; `supervisor.json` comes last, so that who finds it finds all. `netns` is what came along with
    /// the set-up.
    pub(super) fn set_up(setup: &PodSetup, netns: Option<OwnedFd>) -> Result<Self> {
        enter_namespaces(setup, netns)?;
        sysctl::apply(setup)?;
        let (init, beginning) = match setup.shared_pid {
            true => PodInit::start().map(|(init, beginning)| (Some(init), Some(beginning)))?,
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
        let info = SupervisorInfo::of_this_process(init.as_ref().map(PodInit::pid))?;
        beginning.map_or(Ok(()), Beginning::wait)?;
        info.write(&setup.dir)?;
        Ok(Self {
            init,
            listener,
            info,
            has_units: setup.unit().is_some(),
            _files: files,
            _shm: shm,
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
    sysctl::validate(setup)
}

fn enter_namespaces(setup: &PodSetup, netns: Option<OwnedFd>) -> Result<()> {
    let failed = |error: std::io::Error| Error::SetUp {
        part: "namespaces".to_owned(),
        reason: error.to_string(),
    };
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWNET, setup.new_net && !setup.netns_given);
    flags.set(UnshareFlags::NEWIPC, setup.new_ipc);
    flags.set(UnshareFlags::NEWUTS, setup.new_uts);
    if !flags.is_empty() {
        unshare(flags).map_err(failed)?;
    }
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
    Ok(())
}

/// The mount on `shm`, unmounted when dropped.
#[derive(Debug)]
struct Shm(PathBuf);

impl Shm {
    fn mount(setup: &PodSetup) -> Result<Self> {
        let dir = setup.dir.join(SHM_DIR);
        shm::mount_at(&dir, setup.shm_size)?;
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
