//! Space that is kept back, so that removing works when the disk is full: a node that is out of space
//! must be able to evict.
//!
//! Must never be given up for anything that adds to the store.

use rustix::fs::{AtFlags, FallocateFlags, fallocate, fstatvfs, statat, unlinkat};
use rustix::io::Errno;

use crate::layout::{Layout, TempFile};

/// The file's name in the store.
const NAME: &str = "reserve";
/// What a removal writes is a part of it, and frees more.
const SIZE: u64 = 1 << 20;
/// When there is less, it is a multiple of this.
const STEP: u64 = 64 << 10;

/// Gives the space back to the file system; `false` when there was none.
pub(crate) fn give_up(layout: &Layout) -> bool {
    unlinkat(layout.root(), NAME, AtFlags::empty()).is_ok()
}

/// Takes the space, or as much of it as there is.
pub(crate) fn keep(layout: &Layout) {
    if statat(layout.root(), NAME, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return;
    }
    let free = fstatvfs(layout.root()).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let size = free.unwrap_or(0).min(SIZE) / STEP * STEP;
    if size > 0
        && let Err(error) = take(layout, size)
    {
        tracing::debug!("store: no space is kept back for removing: {error}");
    }
}

fn take(layout: &Layout, size: u64) -> crate::Result<()> {
    let mut temp = TempFile::create(layout)?;
    let taken = match fallocate(temp.file(), FallocateFlags::empty(), 0, size) {
        // File systems that cannot reserve take what is written.
        Err(Errno::OPNOTSUPP) => {
            std::io::Write::write_all(&mut temp, &vec![0; usize::try_from(size).unwrap_or(0)])
        }
        other => other.map_err(Into::into),
    };
    let path = layout.path().join(NAME);
    taken.map_err(crate::Error::io("reserve space for", &path))?;
    temp.commit(layout.root(), NAME, &path)
}
