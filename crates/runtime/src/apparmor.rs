//! AppArmor: is it there, what is loaded, and the profile that containers have when nobody says otherwise,
//! which is loaded by apparmor_parser(8) when it is first needed.
//!
//! The profile denies what no container has business with, as CRI-O's, containerd's and Docker's do: to
//! mount, to write to the kernel's own files, and to look into processes that are not of such containers.
//! Must never run a container that is to have a profile without it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::hooks;
use crate::labels;

/// What the profile is called if nobody names it.
pub const DEFAULT_PROFILE: &str = "floe-default";
/// As CRI-O calls its own: a `crio.conf` may have that name.
const NAMES: [&str; 2] = [DEFAULT_PROFILE, "crio-default"];

const SECURITYFS: &str = "/sys/kernel/security/apparmor";
const PARSERS: [&str; 3] = [
    "/sbin/apparmor_parser",
    "/usr/sbin/apparmor_parser",
    "/usr/bin/apparmor_parser",
];
/// Seconds that the parser may take; it takes a fraction of one.
const LIMIT: i64 = 30;
/// More profiles than that are not read.
const LIST_BYTES: u64 = 4 << 20;

/// Can containers of this host have profiles?
#[must_use]
pub fn is_usable() -> bool {
    labels::apparmor() && Path::new(SECURITYFS).exists()
}

/// Is a profile of this name loaded?
///
/// # Errors
/// The kernel's list cannot be read.
pub fn is_loaded(name: &str) -> Result<bool> {
    let path = Path::new(SECURITYFS).join("profiles");
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(LIST_BYTES).read_to_string(&mut text));
    read.map_err(|source| Error::Io {
        operation: "read",
        path,
        source,
    })?;
    Ok(lists(&text, name))
}

/// Lines are `NAME (MODE)`.
fn lists(text: &str, name: &str) -> bool {
    let names = text.lines().filter_map(|line| line.rsplit_once(" ("));
    names.map(|(listed, _)| listed).any(|listed| listed == name)
}

/// Makes sure that the profile for containers of this name is loaded: one of the names of the default
/// profile is, if it is not; any other must be already.
///
/// # Errors
/// It is not, or cannot be, loaded.
pub fn ensure(name: &str) -> Result<()> {
    static LOADING: Mutex<()> = Mutex::new(());
    let refused = |reason: String| Err(Error::invalid("process.apparmorProfile", reason));
    if is_loaded(name)? {
        return Ok(());
    }
    if !NAMES.contains(&name) {
        return refused(format!("the profile {name:?} is not loaded"));
    }
    let _one = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if is_loaded(name)? {
        return Ok(());
    }
    match load(&default_profile(name)) {
        Ok(()) => Ok(()),
        Err(reason) => refused(format!("the profile {name:?} cannot be loaded: {reason}")),
    }
}

/// Has apparmor_parser(8) load profiles.
fn load(text: &str) -> std::result::Result<(), String> {
    let found = PARSERS
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists());
    let parser = found.ok_or("there is no apparmor_parser (Debian's package apparmor)")?;
    let mut stdin = hooks::anonymous("profile")?;
    let written = stdin
        .write_all(text.as_bytes())
        .and_then(|()| stdin.rewind());
    written.map_err(|error| error.to_string())?;
    let mut said = hooks::anonymous("stderr")?;
    let stderr = said.try_clone().map_err(|error| error.to_string())?;
    let mut child = Command::new(&parser)
        .args(["--replace", "--skip-cache"])
        .env_clear()
        .current_dir("/")
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .map_err(|error| format!("{}: {error}", parser.display()))?;
    let status = hooks::wait(&mut child, Some(LIMIT))?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    let read = said
        .rewind()
        .and_then(|()| said.take(4096).read_to_end(&mut text));
    read.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    Err(format!("{} ({status}): {}", parser.display(), text.trim()))
}

/// The profile. `/proc/sys/kernel/shm*` and what belongs to a container's own processes stay writable.
fn default_profile(name: &str) -> String {
    format!(
        "profile {name} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,

  # The engine and its runtime are not confined; containers may end each other.
  signal (receive) peer=unconfined,
  signal (send,receive) peer={name},
  ptrace (trace,read,tracedby,readby) peer={name},

  deny mount,

  deny /proc/* w,
  deny /proc/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_whole_name() {
        let text = "floe-default-2 (enforce)\n/usr/bin/man (complain)\nwith space (enforce)\n";
        for (name, want) in [
            ("floe-default", false),
            ("floe-default-2", true),
            ("/usr/bin/man", true),
            ("with space", true),
            ("with", false),
            ("", false),
        ] {
            assert_eq!(lists(text, name), want, "{name}");
        }
    }

    /// Runs a shell script in the profile: by the name that the kernel gives a process at its next execve.
    fn confined(name: &str, script: &str) -> String {
        let enter =
            format!("echo -n 'exec {name}' >/proc/self/attr/exec && exec /bin/sh -c '{script}'");
        // The shell's own echo writes to its own file of /proc.
        let output = Command::new("/bin/sh")
            .args(["-c", &enter])
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    #[test]
    fn the_default_profile_loads_and_denies_what_no_container_has_business_with() {
        if !is_usable() || !PARSERS.iter().any(|path| Path::new(path).exists()) {
            eprintln!("SKIP: the kernel has no AppArmor, or there is no apparmor_parser");
            return;
        }
        let fresh = !is_loaded(DEFAULT_PROFILE).unwrap();
        ensure(DEFAULT_PROFILE).unwrap();
        assert!(is_loaded(DEFAULT_PROFILE).unwrap());
        ensure(DEFAULT_PROFILE).unwrap();
        let told = ensure("no-such-profile").unwrap_err().to_string();
        assert!(told.contains("\"no-such-profile\" is not loaded"), "{told}");
        let seen = confined(
            DEFAULT_PROFILE,
            "cat /proc/self/attr/current; mount -t tmpfs none /tmp || echo unmounted; \
             (echo 1 >/proc/sys/vm/swappiness) 2>/dev/null || echo unwritten; \
             head -c 1 /proc/kcore 2>/dev/null || echo unread; \
             echo x >/tmp/floe-apparmor && rm /tmp/floe-apparmor && echo written; \
             sleep 1000 & kill $! && echo killed",
        );
        for word in [
            "floe-default (enforce)",
            "unmounted",
            "unwritten",
            "unread",
            "written",
            "killed",
        ] {
            assert!(seen.contains(word), "{word}: {seen}");
        }
        if fresh {
            let removal = format!("profile {DEFAULT_PROFILE} {{}}\n");
            remove(&removal);
        }
    }

    fn remove(text: &str) {
        let parser = PARSERS
            .iter()
            .find(|path| Path::new(path).exists())
            .unwrap();
        let mut child = Command::new(parser)
            .args(["--remove", "--skip-cache"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    }
}
