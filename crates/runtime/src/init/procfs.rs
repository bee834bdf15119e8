//! procfs(5) of a PID namespace that the mounting process is not in: a container that joins one is set up
//! by a process outside of it ([`crate::intermediate`]), whom nobody in there sees.
//!
//! Since Linux 6.17 procfs takes the namespace as an option. Before, it is that of whoever opens the file
//! system's context, so that a process in the namespace has to: one that opens it, passes it on and ends. It
//! has an empty root, no other descriptor, and rights in a user namespace of its own alone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::process::WaitOptions;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::sys::{self, Forked, MountAttr};

/// A procfs of the namespace, attached nowhere, with the options of a mount of config.json.
pub(super) fn of(
    processes: BorrowedFd<'_>,
    data: &str,
    attr: &MountAttr,
) -> Result<OwnedFd, Errno> {
    let context = match by_option(processes) {
        Err(Errno::INVAL) => by_process(processes)?,
        other => other?,
    };
    for option in data.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, option)?,
        }
    }
    fsconfig_set_string(&context, "source", "proc")?;
    fsconfig_create(&context)?;
    let none = MountAttrFlags::empty();
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none)?;
    sys::mount_setattr(&mount, false, attr)?;
    Ok(mount)
}

fn open() -> Result<OwnedFd, Errno> {
    fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)
}

fn by_option(processes: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let context = open()?;
    fsconfig_set_fd(&context, "pidns", processes)?;
    Ok(context)
}

/// The context is opened by a grandchild, which is in the namespace; its parent is not.
fn by_process(processes: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let (ours, theirs) = crate::message::Channel::pair()?;
    let pid = match sys::clone_process(0, None)? {
        Forked::Child => {
            let keep = [theirs.as_fd().as_raw_fd(), processes.as_raw_fd()];
            sys::close_all_but(&keep);
            let done = in_namespace(processes, &theirs);
            sys::exit(done.map_or_else(Errno::raw_os_error, |()| 0))
        }
        Forked::Parent { pid, .. } => pid,
    };
    drop(theirs);
    let received = sys::receive(&ours, true);
    let child = rustix::process::Pid::from_raw(pid);
    let ended =
        rustix::io::retry_on_intr(|| rustix::process::waitpid(child, WaitOptions::empty()))?;
    let code = ended.and_then(|(_, status)| status.exit_status());
    match (received?.1, code) {
        (Some(context), Some(0)) => Ok(context),
        (_, Some(errno)) if errno != 0 => Err(Errno::from_raw_os_error(errno)),
        _ => Err(Errno::IO),
    }
}

/// Empties everything that its child would show, and has that open the context.
fn in_namespace(processes: BorrowedFd<'_>, channel: &crate::message::Channel) -> Result<(), Errno> {
    let empty = empty_directory()?;
    sys::setns(processes, libc::CLONE_NEWPID)?;
    // A host without user namespaces: then CAP_SYS_ADMIN is the host's, for two system calls.
    let _ = sys::unshare_rights();
    rustix::process::fchdir(&empty)?;
    rustix::process::chroot(".")?;
    drop(empty);
    sys::close_all_but(&[channel.as_fd().as_raw_fd()]);
    let only = CapabilitySets {
        effective: CapabilitySet::SYS_ADMIN,
        permitted: CapabilitySet::SYS_ADMIN,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, only)?;
    sys::not_dumpable()?;
    let pid = match sys::clone_process(0, None)? {
        Forked::Child => {
            let done = open().and_then(|context| channel.send(&"procfs", Some(context.as_fd())));
            sys::exit(done.map_or_else(Errno::raw_os_error, |()| 0))
        }
        Forked::Parent { pid, .. } => pid,
    };
    let child = rustix::process::Pid::from_raw(pid);
    let ended =
        rustix::io::retry_on_intr(|| rustix::process::waitpid(child, WaitOptions::empty()))?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(errno)),
        None => Err(Errno::IO),
    }
}

/// A directory with nothing in it and nothing above it.
fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let none = MountAttrFlags::empty();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processes that a procfs shows.
    fn shown(mount: &OwnedFd) -> Vec<String> {
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let entries = std::fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let numbers = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        names.filter(numbers).collect()
    }

    #[test]
    fn a_procfs_of_a_namespace_shows_its_processes_whichever_way_it_is_made() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: needs root");
            return;
        }
        let (ours, theirs) = crate::message::Channel::pair().unwrap();
        let Forked::Parent { pid, .. } =
            sys::clone_process(libc::CLONE_NEWPID as u64, None).unwrap()
        else {
            sys::close_all_but(&[theirs.as_fd().as_raw_fd()]);
            // Until the test ends.
            let _ = theirs.receive::<()>();
            sys::exit(0)
        };
        drop(theirs);
        let _inside = crate::guard::ChildGuard::of(pid);
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/pid")).unwrap();
        let context = by_process(namespace.as_fd()).unwrap();
        fsconfig_create(&context).unwrap();
        let none = MountAttrFlags::empty();
        let old = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none).unwrap();
        assert_eq!(shown(&old), ["1"]);
        let attr = MountAttr::default();
        let new = of(namespace.as_fd(), "hidepid=0", &attr).unwrap();
        assert_eq!(shown(&new), ["1"]);
        drop(ours);
    }
}
