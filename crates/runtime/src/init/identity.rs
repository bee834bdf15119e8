//! config.md, process: user, groups, capabilities, limits, no_new_privs and where in that order
//! the seccomp filter comes. After [`assume`] the process is what the container asked for.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::fs::{
    CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, fchown, fstat, makedev, openat2,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::files;
use super::program::Program;
use crate::capability::Sets;
use crate::error::InitFailure;
use crate::labels::Labels;
use crate::message::{Channel, FromInit};
use crate::seccomp::Filter;
use crate::spec::{Capabilities, Process};
use crate::sys;
use crate::users::Groups;

const RLIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_STACK", Resource::Stack),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
];

/// A limit by the name that config.json has for it.
#[must_use]
pub fn rlimit(name: &str) -> Option<Resource> {
    let mut all = RLIMITS.iter();
    all.find(|(known, _)| *known == name)
        .map(|(_, resource)| *resource)
}

/// Sets oom_score_adj, by the host's /proc. Without CAP_SYS_RESOURCE a lower one is a warning:
/// the process is only killed earlier than asked for.
pub(crate) fn oom_score_adj(process: &Process) -> Result<Option<String>, InitFailure> {
    let Some(value) = process.oom_score_adj else {
        return Ok(None);
    };
    match std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
        Ok(()) => Ok(None),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            Ok(Some(format!(
                "process.oomScoreAdj {value} is not allowed here (needs CAP_SYS_RESOURCE): left as it is"
            )))
        }
        Err(e) => Err(InitFailure::because(format!(
            "process.oomScoreAdj {value}: {e}"
        ))),
    }
}

/// Which limits are to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// All.
    All,
    /// All but the number of processes, which a process that makes another must not be held to.
    AllButProcesses,
    /// What [`Limits::AllButProcesses`] leaves.
    Processes,
}

impl Limits {
    fn cover(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::AllButProcesses => name != "RLIMIT_NPROC",
            Self::Processes => name == "RLIMIT_NPROC",
        }
    }
}

/// Sets the rlimits. Without CAP_SYS_RESOURCE a hard limit cannot be raised: a warning, and as much
/// of what was asked for as the present one allows.
pub(crate) fn limits(process: &Process, which: Limits) -> Result<Vec<String>, InitFailure> {
    let mut warnings = Vec::new();
    let limits = process.rlimits.iter();
    for limit in limits.filter(|limit| which.cover(&limit.kind)) {
        let resource = rlimit(&limit.kind).ok_or_else(|| {
            InitFailure::because(format!("process.rlimits: {:?} is no limit", limit.kind))
        })?;
        match set_limit(resource, limit.soft, limit.hard) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                let hard = hard_limit(resource).min(limit.hard);
                let soft = limit.soft.min(hard);
                set_limit(resource, soft, hard).map_err(InitFailure::at(format_args!(
                    "process.rlimits: {}",
                    limit.kind
                )))?;
                warnings.push(format!(
                    "process.rlimits: {} {}:{} is not allowed here (needs CAP_SYS_RESOURCE): {soft}:{hard} instead",
                    limit.kind, limit.soft, limit.hard
                ));
            }
            Err(errno) => {
                return Err(InitFailure::new(
                    format_args!("process.rlimits: {}", limit.kind),
                    errno,
                ));
            }
        }
    }
    Ok(warnings)
}

/// Puts another file in a standard stream's place.
type Replace = fn(&OwnedFd) -> rustix::io::Result<()>;

/// The program's user must be able to reopen its streams by /dev/stdout. /dev/null is everybody's:
/// the host's becomes the container's own, so that no stream of it is a file of the host.
pub(crate) fn own_stdio(uid: u32) -> Result<(), InitFailure> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams: [(BorrowedFd<'_>, Replace); 3] = [
        (stdin.as_fd(), |by| dup2_stdin(by)),
        (stdout.as_fd(), |by| dup2_stdout(by)),
        (stderr.as_fd(), |by| dup2_stderr(by)),
    ];
    let mut null = None;
    for (fd, replace) in streams {
        // A stream that is closed has no owner.
        let Ok(stat) = fstat(fd) else { continue };
        if is_null(&stat) {
            // A container without one goes on with the host's.
            if let Some(own) = null.get_or_insert_with(own_null) {
                replace(own).map_err(InitFailure::at("reopen /dev/null"))?;
            }
            continue;
        }
        if stat.st_uid == uid {
            continue;
        }
        match fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>) {
            // A file system that has no owners, or is read-only, keeps what it has.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => {
                return Err(InitFailure::new(
                    "change the owner of a standard stream",
                    errno,
                ));
            }
        }
    }
    Ok(())
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3)
}

/// The /dev/null that is inside.
fn own_null() -> Option<OwnedFd> {
    let own = files::open("/dev/null", OFlags::RDWR, is_null).ok()?;
    // Nothing that is written to or read from it has to wait.
    rustix::fs::fcntl_setfl(&own, OFlags::RDWR).ok()?;
    Some(own)
}

/// Raises hard limits as far as `process` asks, for a process that will not be allowed to any more
/// in its user namespace; [`limits`] tells of those that could not be raised.
pub(crate) fn raise_limits(process: &Process) {
    for limit in &process.rlimits {
        let Some(resource) = rlimit(&limit.kind) else {
            continue;
        };
        if limit.hard > hard_limit(resource) {
            let soft = getrlimit(resource).current.unwrap_or(u64::MAX);
            let _ = set_limit(resource, soft, limit.hard);
        }
    }
}

/// A limit that is not there is the highest number, as config.json and setrlimit(2) have it.
fn set_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), Errno> {
    let (current, maximum) = (Some(soft), Some(hard));
    setrlimit(resource, Rlimit { current, maximum })
}

fn hard_limit(resource: Resource) -> u64 {
    getrlimit(resource).maximum.unwrap_or(u64::MAX)
}

/// Who a process becomes, and how.
pub(crate) struct Identity<'a> {
    pub(crate) process: &'a Process,
    pub(crate) filter: Option<&'a Filter>,
    /// May it not change its groups, or is it to keep those of the caller?
    pub(crate) groups: Groups,
    /// To the runtime, which passes a listener on.
    pub(crate) channel: &'a Channel,
    /// What security modules call it.
    pub(crate) labels: &'a Labels<'a>,
}

/// Must a process that is to have a successor make it before it assumes its identity? Only where the
/// filter is loaded by [`assume`] and then refuses the successor, or has an agent decide on it.
pub(crate) fn succeeds_first(process: &Process, filter: Option<&Filter>) -> bool {
    let early = filter.filter(|_| !process.no_new_privileges);
    early.is_some_and(|filter| filter.notifies() || !filter.allows_successor())
}

/// Becomes the user of `process` with its capabilities; returns the program to execute. Without
/// no_new_privs the filter is loaded here, while that is still allowed; with it, at the very end,
/// but for one with a listener ([`listen`]).
pub(crate) fn assume(
    identity: &Identity<'_>,
    warnings: &mut Vec<String>,
) -> Result<Program, InitFailure> {
    let process = identity.process;
    identity.labels.apply()?;
    // As root where the user may not go; else as the user, who may be the only one let in.
    let mut entered = enter_directory(process);
    if process.no_new_privileges {
        sys::no_new_privs().map_err(InitFailure::at("set no_new_privs"))?;
    } else if let Some(filter) = identity.filter {
        load(filter, identity.channel)?;
    }
    let none = Capabilities::default();
    let (sets, unknown) = Sets::parse(process.capabilities.as_ref().unwrap_or(&none));
    let failed = |error: crate::capability::Error| {
        InitFailure::because(format!("process.capabilities: {error}"))
    };
    warnings.extend(
        unknown
            .iter()
            .chain(&sets.out_of_bounds())
            .map(|warning| format!("process.capabilities: {warning}")),
    );
    let missing = sets.drop_bounding().map_err(failed)?;
    warnings.extend(
        missing
            .iter()
            .map(|warning| format!("process.capabilities: {warning}")),
    );
    sys::keep_capabilities(true).map_err(InitFailure::at("keep capabilities"))?;
    become_user(process, identity.groups)?;
    sys::keep_capabilities(false).map_err(InitFailure::at("keep capabilities"))?;
    if entered.is_err() {
        entered = enter_directory(process);
    }
    // Those that the bounding set lacks are told of already.
    let applied = sets.apply().map_err(failed)?;
    let ambient = applied.iter().filter(|warning| warning.is_ambient());
    warnings.extend(ambient.map(|warning| format!("process.capabilities: {warning}")));
    if entered.is_err() {
        enter_directory(process)?;
    }
    rustix::process::umask(Mode::from_raw_mode(
        process.user.umask.unwrap_or(0o022) & 0o777,
    ));
    Program::new(process, warnings)
}

/// Loads a filter with a listener where no_new_privs lets it wait until here: the runtime passes that
/// on before the process is at its gate.
pub(crate) fn listen(identity: &Identity<'_>) -> Result<(), InitFailure> {
    match identity.filter {
        Some(filter) if identity.process.no_new_privileges && filter.notifies() => {
            load(filter, identity.channel)
        }
        _ => Ok(()),
    }
}

/// Loads the filter. Its listener, if it has one, stays open until execve: the runtime fetches it.
fn load(filter: &Filter, channel: &Channel) -> Result<(), InitFailure> {
    let Some(listener) = filter.load().map_err(refused)? else {
        return Ok(());
    };
    let number = listener.into_raw_fd();
    channel
        .write(&FromInit::Listener(number))
        .map_err(InitFailure::at("tell of the seccomp listener"))
}

/// Loads a filter that has no listener.
pub(super) fn load_last(filter: &Filter) -> Result<(), InitFailure> {
    filter.load().map(drop).map_err(refused)
}

fn refused(error: crate::seccomp::Error) -> InitFailure {
    InitFailure::because(format!("linux.seccomp: {error}"))
}

fn become_user(process: &Process, kind: Groups) -> Result<(), InitFailure> {
    let user = &process.user;
    let groups: Vec<Gid> = user
        .additional_gids
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    let gid = Gid::from_raw(user.gid);
    let uid = Uid::from_raw(user.uid);
    if kind == Groups::Denied && !groups.is_empty() {
        return Err(InitFailure::because(
            "process.user.additionalGids: the user namespace does not let processes set their groups",
        ));
    }
    if kind == Groups::Free {
        rustix::thread::set_thread_groups(&groups).map_err(InitFailure::at("setgroups"))?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(InitFailure::at(format_args!("setgid {}", user.gid)))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .map_err(InitFailure::at(format_args!("setuid {}", user.uid)))
}

/// The working directory. A filter may refuse getcwd(2): then it could not be told where this is, so that
/// whatever can be entered before the filter is loaded is entered then.
fn enter_directory(process: &Process) -> Result<(), InitFailure> {
    let failed = |errno| {
        InitFailure::new(
            format_args!("chdir to cwd ({:?}) set in config.json failed", process.cwd),
            errno,
        )
    };
    // Not by a descriptor of the runtime's (CVE-2024-21626).
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (cwd, plain) = (process.cwd.as_str(), ResolveFlags::NO_MAGICLINKS);
    match openat2(CWD, cwd, flags, Mode::empty(), plain) {
        Ok(directory) => rustix::process::fchdir(directory).map_err(failed)?,
        // A filter refuses the call: getcwd(2) has to tell.
        Err(Errno::NOSYS | Errno::PERM) => rustix::process::chdir(cwd).map_err(failed)?,
        Err(errno) => return Err(failed(errno)),
    }
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(InitFailure::because(
            "the working directory is outside of the container's root",
        )),
        Err(errno) => Err(failed(errno)),
    }
}
