//! config.md, process.terminal: a pseudo terminal from the container's own devpts, its slave side
//! as the program's streams and as /dev/console, its master side for the runtime.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Gid, OFlags, Uid, fchown, fcntl_setfl, fstat, fstatfs, makedev};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use super::mounts::attach;
use super::program::replace_stdio;
use super::target::{self, Missing};
use crate::error::InitFailure;
use crate::message::{Channel, FromInit};
use crate::spec::Process;
use crate::stdio::Stdio;
use crate::sys;

/// The type of a devpts, as statfs(2) has it.
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Both sides of a terminal.
pub(crate) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

/// Opens a new terminal below `root`.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    process: &Process,
    size: Option<(u16, u16)>,
    raw_output: bool,
) -> Result<Terminal, InitFailure> {
    let master = open_ptmx(root)?;
    unlockpt(&master).map_err(InitFailure::at("unlock terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(InitFailure::at("open terminal"))?;
    fchown(&slave, Some(Uid::from_raw(process.user.uid)), None::<Gid>)
        .map_err(InitFailure::at("change the terminal's owner"))?;
    if raw_output {
        let failed = || InitFailure::at("set the terminal's modes");
        let mut modes = tcgetattr(&slave).map_err(failed())?;
        modes.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&slave, OptionalActions::Now, &modes).map_err(failed())?;
    }
    let of_config = process.console_size.map(|size| (size.height, size.width));
    if let Some((rows, columns)) = of_config.or(size) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).map_err(InitFailure::at("set the terminal's size"))?;
    }
    Ok(Terminal { master, slave })
}

/// Where the terminal is to be mounted, made if missing: never what a link of the image leads to
/// (CVE-2025-52565).
pub(super) fn place(root: BorrowedFd<'_>) -> Result<OwnedFd, InitFailure> {
    let opened = target::open_or_make_plain(root, Path::new("/dev/console"), Missing::File);
    let (place, _) = opened.map_err(|errno| match errno {
        Errno::LOOP => {
            InitFailure::because("mount /dev/console: it is a symbolic link of the image")
        }
        errno => InitFailure::new("make /dev/console", errno),
    })?;
    Ok(place)
}

/// The multiplexer of the container's devpts. It is looked at before it is opened, and after: whatever
/// else the container has put there is neither opened nor waited for.
fn open_ptmx(root: BorrowedFd<'_>) -> Result<OwnedFd, InitFailure> {
    let path = Path::new("/dev/pts/ptmx");
    let open = |flags| {
        let file =
            target::open(root, path, flags).map_err(InitFailure::at("open /dev/pts/ptmx"))?;
        let failed = || InitFailure::at("stat /dev/pts/ptmx");
        let stat = fstat(&file).map_err(failed())?;
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(5, 2);
        match device && fstatfs(&file).map_err(failed())?.f_type == DEVPTS_SUPER_MAGIC {
            true => Ok(file),
            false => Err(InitFailure::because(
                "/dev/pts/ptmx is not the terminal device of a devpts",
            )),
        }
    };
    open(OFlags::PATH)?;
    let master = open(OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK)?;
    // Whoever gets it decides whether to wait.
    fcntl_setfl(&master, OFlags::RDWR).map_err(InitFailure::at("set up the terminal"))?;
    Ok(master)
}

impl Terminal {
    /// Puts it at /dev/console.
    pub(super) fn bind(&self, root: BorrowedFd<'_>) -> Result<(), InitFailure> {
        let failed = || InitFailure::at("mount /dev/console");
        let place = place(root)?;
        let tree = sys::open_tree_fd(&self.slave, false).map_err(failed())?;
        attach(tree, place).map_err(failed())
    }

    /// Gives the master side to the runtime.
    pub(crate) fn send(&self, channel: &Channel) -> Result<(), InitFailure> {
        channel
            .send(&FromInit::Console, Some(self.master.as_fd()))
            .map_err(InitFailure::at("send the terminal"))
    }

    /// The slave side becomes the streams of this process.
    pub(crate) fn take_over(self) -> Result<(), InitFailure> {
        replace_stdio([self.slave.as_fd(); 3])
    }
}

/// The terminal that is the process's standard input becomes that of its session, which it leads.
pub(crate) fn control() -> Result<(), InitFailure> {
    sys::set_controlling_terminal(std::io::stdin().as_fd())
        .map_err(InitFailure::at("set controlling terminal"))
}

/// A session of its own, with its terminal if it has one, for a successor of the process that opened
/// that.
pub(crate) fn lead_session(stdio: &Stdio) -> Result<(), InitFailure> {
    rustix::process::setsid().map_err(InitFailure::at("setsid"))?;
    match stdio {
        Stdio::Terminal { .. } => control(),
        Stdio::Inherit | Stdio::Fds { .. } => Ok(()),
    }
}
