//! config.md, process: AppArmor profile and SELinux label; config-linux.md: the label of mounts.
//!
//! A label is written to /proc/self/attr by the process it is for. The container may have a /proc that
//! lies, so the host's is opened before anything of the container is looked at, checked to be procfs,
//! and everything is reached from that descriptor (CVE-2025-52881). A label that the host cannot
//! enforce is refused: never ignored.

use std::cell::RefCell;

use rustix::io::Errno;

use crate::error::{Error, InitFailure, Result};
use crate::procfs::Procfs;
use crate::spec::{Linux, Process};

/// Where the kernel says whether AppArmor is on.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
/// There as soon as SELinux is on and its file system is mounted.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Is AppArmor on?
pub(crate) fn apparmor() -> bool {
    std::fs::read_to_string(APPARMOR).is_ok_and(|text| text.starts_with('Y'))
}

/// Is SELinux on?
#[must_use]
pub fn selinux() -> bool {
    std::path::Path::new(SELINUX).exists()
}

fn asked(label: Option<&String>) -> Option<&str> {
    label.map(String::as_str).filter(|label| !label.is_empty())
}

/// The profile that `process` asks for. Without AppArmor everything is unconfined, as may be asked for.
fn profile(process: &Process) -> Option<&str> {
    asked(process.apparmor_profile.as_ref()).filter(|name| *name != "unconfined" || apparmor())
}

/// Refuses a process that asks for what the host cannot enforce.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    if profile(process).is_some() && !apparmor() {
        let reason = "AppArmor is not enabled on this host";
        return Err(Error::invalid("process.apparmorProfile", reason));
    }
    if asked(process.selinux_label.as_ref()).is_some() && !selinux() {
        let reason =
            "selinux label is specified in config, but selinux is disabled or not supported";
        return Err(Error::invalid("process.selinuxLabel", reason));
    }
    Ok(())
}

/// Refuses a label of mounts that the host would not know.
pub(crate) fn check_mounts(linux: &Linux) -> Result<()> {
    if mount_label(linux).is_some() && !selinux() {
        let reason = "SELinux is not enabled on this host";
        return Err(Error::invalid("linux.mountLabel", reason));
    }
    Ok(())
}

/// The label of mounts, if there is to be one.
pub(crate) fn mount_label(linux: &Linux) -> Option<&str> {
    asked(linux.mount_label.as_ref())
}

/// Data of mount(2) with the label. The kernels know none for procfs and sysfs.
pub(crate) fn with_label(data: String, kind: &str, label: Option<&str>) -> String {
    match label {
        None => data,
        Some(_) if matches!(kind, "proc" | "sysfs" | "mqueue") => data,
        Some(label) => {
            let comma = if data.is_empty() { "" } else { "," };
            format!("{data}{comma}context=\"{label}\"")
        }
    }
}

/// What is to be written for a process, and the host's /proc, opened while it still is the host's.
#[derive(Debug)]
pub(crate) struct Labels<'a> {
    profile: Option<&'a str>,
    selinux: Option<&'a str>,
    proc: RefCell<Option<Procfs>>,
}

impl<'a> Labels<'a> {
    /// For `process`; called by itself, or by whoever clones it, in the host's mount namespace.
    pub(crate) fn of(process: &'a Process) -> Result<Self, InitFailure> {
        let profile = profile(process);
        let selinux = asked(process.selinux_label.as_ref());
        let proc = match (profile, selinux) {
            (None, None) => None,
            _ => Some(Procfs::open()?),
        };
        Ok(Self {
            profile,
            selinux,
            proc: RefCell::new(proc),
        })
    }

    /// Keys made from now on have the process's label, or again the default one.
    pub(crate) fn of_keys(&self, set: bool) -> Result<(), InitFailure> {
        match self.selinux {
            Some(label) => {
                let label = if set { label } else { "" };
                self.write("keycreate", label, "process.selinuxLabel (of keys)")
            }
            None => Ok(()),
        }
    }

    /// The process gets its labels with its next execve. The host's /proc is closed then: no path of the
    /// container may lead there by a descriptor.
    pub(crate) fn apply(&self) -> Result<(), InitFailure> {
        let applied = self.apply_all();
        drop(self.proc.take());
        applied
    }

    fn apply_all(&self) -> Result<(), InitFailure> {
        if let Some(name) = self.profile {
            let words = format!("exec {name}");
            let what = format!("apply apparmor profile {name}");
            match self.write("apparmor/exec", &words, &what) {
                // Before Linux 5.8 there was one file for all of them.
                Err(error) if error.errno == Some(libc::ENOENT) && self.has("exec") => {
                    self.write("exec", &words, &what)?;
                }
                other => other?,
            }
        }
        match self.selinux {
            Some(label) => self.write("exec", label, &format!("set selinux label {label}")),
            None => Ok(()),
        }
    }

    fn has(&self, name: &str) -> bool {
        let proc = self.proc.borrow();
        proc.as_ref()
            .is_some_and(|proc| proc.has(&format!("self/attr/{name}")))
    }

    fn write(&self, name: &str, text: &str, what: &str) -> Result<(), InitFailure> {
        let proc = self.proc.borrow();
        let proc = proc.as_ref().ok_or(Errno::BADF);
        proc.and_then(|proc| proc.write(&format!("self/attr/{name}"), text))
            .map_err(InitFailure::at(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_get_the_label_where_kernels_take_one() {
        let label = Some("system_u:object_r:container_file_t:s0:c1,c2");
        assert_eq!(
            with_label("size=1m".into(), "tmpfs", label),
            "size=1m,context=\"system_u:object_r:container_file_t:s0:c1,c2\""
        );
        assert_eq!(
            with_label(String::new(), "devpts", label),
            "context=\"system_u:object_r:container_file_t:s0:c1,c2\""
        );
        assert_eq!(with_label("hidepid=2".into(), "proc", label), "hidepid=2");
        assert_eq!(with_label("size=1m".into(), "tmpfs", None), "size=1m");
    }

    #[test]
    fn what_asks_for_nothing_opens_nothing() {
        let process = Process {
            apparmor_profile: Some(String::new()),
            ..Process::default()
        };
        let labels = Labels::of(&process).unwrap();
        assert!(labels.proc.borrow().is_none());
        labels.apply().unwrap();
    }
}
