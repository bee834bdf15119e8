//! The runtime's own program file, out of reach of containers (CVE-2019-5736): until execve the
//! first process of a container, and every exec, runs the runtime's program, so that a container
//! could open that file by /proc/PID/exe and overwrite it. So that program runs from a detached,
//! read-only clone of its file's mount, which no container can make writable.
//!
//! Who may not clone mounts (an ordinary user) runs from a sealed copy in memory instead, unless the
//! file is none of the user's anyway. The clone is never reachable by a path.
//!
//! So a verb that makes a process of a container is executed twice, unless its file is on a read-only mount
//! (a supervisor is executed once, by [`read_only_program`]). Being not dumpable is no way around it: a
//! container's program may be a script whose interpreter is `/proc/self/exe`, which the kernel opens for it,
//! and CAP_SYS_PTRACE looks into what is not dumpable. Linux can exchange a running program's file
//! (PR_SET_MM_MAP), but only once none of its pages is mapped from the old one, and not in every kernel. The
//! second execution is made cheap instead: `floe-runtime` as it ships asks for it in its first instructions,
//! before a C library has begun (its `first.rs`), and costs 0.1 ms there.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    CWD, MemfdFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fstat, memfd_create, statvfs,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Result};
use crate::sys::{self, MountAttr};

const SELF: &str = "/proc/self/exe";
const MOUNT_ATTR_RDONLY: u64 = 1;

/// A descriptor of a program file through which nobody can write to it: execute it by
/// `/proc/self/fd/N` or execveat(2). Closed by execve.
///
/// # Errors
/// A program that does not exist; a caller without CAP_SYS_ADMIN.
pub fn read_only_program(program: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, program, flags).map_err(Error::io("clone the mount of", program))?;
    let attr = MountAttr {
        set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    sys::mount_setattr(&clone, false, &attr).map_err(Error::io("make read-only", program))?;
    Ok(clone)
}

/// Makes sure that the calling program's own file cannot be written through its processes: if it
/// can be, executes the program again, with the same arguments and environment, from a read-only
/// clone. To be called before anything else is done.
///
/// # Errors
/// As [`read_only_program`]; or the program cannot be executed.
pub fn protect_own_program() -> Result<()> {
    let failed = |source| Error::Io {
        operation: "open",
        path: SELF.into(),
        source,
    };
    let mount = statvfs(SELF).map_err(Error::io("stat file system of", SELF))?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let own = File::open(SELF).map_err(failed)?;
    if is_sealed(&own) {
        return Ok(());
    }
    let clone = match read_only_program(Path::new(SELF)) {
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {
            if belongs_to_others(&own)? {
                return Ok(());
            }
            sealed_copy(own)?
        }
        other => other?,
    };
    let arguments: Vec<CString> = std::env::args_os()
        .filter_map(|text| c_text(text.into_vec()))
        .collect();
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        c_text([name.into_vec(), b"=".to_vec(), value.into_vec()].concat())
    });
    let errno = sys::execveat(&clone, &arguments, &environment.collect::<Vec<_>>());
    Err(Error::io("execute a read-only clone of", SELF)(errno))
}

/// Is it a file in memory (only those have seals) that nobody can write to?
fn is_sealed(own: &File) -> bool {
    rustix::fs::fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// A file of root's that the caller cannot write to: neither can a container, which has at most the
/// rights of the caller and of ids that are given to him.
fn belongs_to_others(own: &File) -> Result<bool> {
    let stat = fstat(own).map_err(Error::io("stat", SELF))?;
    let caller = rustix::process::geteuid();
    let others = stat.st_uid == 0 && !caller.is_root() && stat.st_mode & 0o022 == 0;
    Ok(others)
}

/// A copy of a file in memory that nobody can change any more.
fn sealed_copy(mut file: File) -> Result<OwnedFd> {
    let failed = |source| Error::Io {
        operation: "copy",
        path: SELF.into(),
        source,
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let exec = MemfdFlags::EXEC;
    let memory = match memfd_create("floe-runtime", flags | exec) {
        // Before Linux 6.3 there is no flag, and all may be executed.
        Err(Errno::INVAL) => memfd_create("floe-runtime", flags),
        other => other,
    };
    let mut memory = File::from(memory.map_err(Error::io("make a copy of", SELF))?);
    std::io::copy(&mut file, &mut memory).map_err(failed)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals).map_err(Error::io("seal a copy of", SELF))?;
    Ok(memory.into())
}

/// None of what execve gave can hold a NUL byte.
fn c_text(bytes: Vec<u8>) -> Option<CString> {
    CString::new(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_copy_in_memory_cannot_be_opened_for_writing_and_is_known() {
        let own = File::open(SELF).unwrap();
        let copy = File::from(sealed_copy(own).unwrap());
        assert!(is_sealed(&copy));
        let magic = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let mut again = File::options().write(true).open(&magic).unwrap();
        let refused = std::io::Write::write(&mut again, b"x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_program_opened_so_cannot_be_opened_for_writing() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: needs root");
            return;
        }
        let file = std::env::temp_dir().join(format!("floe-program-{}", std::process::id()));
        std::fs::write(&file, "program").unwrap();
        let clone = read_only_program(&file).unwrap();
        let magic = format!("/proc/self/fd/{}", clone.as_raw_fd());
        let refused = File::options().write(true).open(&magic).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        assert_eq!(std::fs::read_to_string(&magic).unwrap(), "program");
        std::fs::write(&file, "the host may").unwrap();
        std::fs::remove_file(file).unwrap();
    }
}
