//! Small disks in a mount namespace of the calling thread's own, to be filled or made read-only.
//!
//! Must never be mounted where the machine sees it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_change, mount_remount, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::Error;

/// Moves the calling thread, and every process it starts from then on, into a mount namespace of its own.
///
/// # Errors
/// Not root, or the kernel refuses.
pub fn private_mounts() -> Result<(), Error> {
    // SAFETY: a new mount namespace changes nothing that memory safety rests on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    Ok(())
}

/// What a disk is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Memory.
    Tmpfs,
    /// An image file on a loop device, without blocks for root alone.
    Ext4,
}

/// A small disk; it is unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    image: Option<PathBuf>,
}

impl SmallDisk {
    /// Mounts an empty disk of so many MiB at `path`, which is made.
    ///
    /// # Errors
    /// It cannot be mounted; for [`Kind::Ext4`] also a host without loop devices.
    pub fn mount(kind: Kind, path: &Path, megabytes: u64) -> Result<SmallDisk, Error> {
        std::fs::create_dir_all(path)?;
        let mut image = None;
        let mut mount = Command::new("mount");
        match kind {
            Kind::Tmpfs => {
                mount
                    .args(["-t", "tmpfs", "-o"])
                    .arg(format!("size={megabytes}m"))
                    .arg("tmpfs");
            }
            Kind::Ext4 => {
                let file = path.with_extension("ext4");
                std::fs::File::create(&file)?.set_len(megabytes << 20)?;
                run(Command::new("mkfs.ext4")
                    .args(["-q", "-m", "0", "-E", "lazy_itable_init=0"])
                    .arg(&file))?;
                mount.args(["-t", "ext4", "-o", "loop"]).arg(&file);
                image = Some(file);
            }
        }
        run(mount.arg(path))?;
        Ok(SmallDisk {
            path: path.to_owned(),
            image,
        })
    }

    /// Bytes that are free.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn free(&self) -> Result<u64, Error> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Fills it until so many bytes are free, or fewer.
    ///
    /// # Errors
    /// It cannot be written for another reason than that it is full.
    pub fn fill(&self, free: u64) -> Result<(), Error> {
        rustix::fs::sync();
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path.join("filler"))?;
        let chunk = vec![0xaa; 64 << 10];
        // The last bytes one block at a time, as a file system needs some for itself.
        for size in [64 << 10, 4 << 10, 512] {
            while self.free()? >= free + size as u64 {
                match file.write(&chunk[..size]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
            match file.sync_all() {
                Err(error) if error.kind() != std::io::ErrorKind::StorageFull => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes it read-only.
    ///
    /// # Errors
    /// Somebody has a file open for writing.
    pub fn make_read_only(&self) -> Result<(), Error> {
        mount_remount(&self.path, MountFlags::RDONLY, c"")?;
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        if let Some(image) = &self.image {
            let _ = std::fs::remove_file(image);
        }
    }
}

fn run(command: &mut Command) -> Result<(), Error> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}
