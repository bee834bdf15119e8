//! What is asked of each entry before anything is made of it, whatever form the layer gets: is there room for it,
//! may it be made, and under which name.
//!
//! Hostile input. Must never answer differently for one form than for another.

use super::name::Name;
use super::{EntryFlaw, Omissions, WHITEOUT_META, WHITEOUT_OPAQUE, devices, metadata};
use crate::archive::{Entry, Kind};
use crate::error::LayerError;
use crate::limits::Limits;

/// Whether an archive may have that many entries, and one of that size.
///
/// # Errors
/// [`LayerError::Limit`].
pub(super) fn fits(entry: &Entry, number: u64, limits: &Limits) -> Result<(), LayerError> {
    for (what, is, max) in [
        ("entries", number, limits.entries),
        ("unpacked bytes", entry.size, limits.unpacked_bytes),
    ] {
        if is > max {
            return Err(LayerError::Limit { what, max });
        }
    }
    Ok(())
}

/// The name of an entry that is to be made; of one that is left out `None`, and `omissions` says so unless the file is
/// aufs's own.
///
/// # Errors
/// A kind that is none, or a name that must not be.
pub(super) fn name(
    entry: &Entry,
    limits: &Limits,
    omissions: &mut Omissions,
) -> Result<Option<Name>, EntryFlaw> {
    if let Kind::Other(flag) = entry.kind {
        return Err(EntryFlaw::Type(char::from(flag)));
    }
    let name = Name::clean(&entry.path, limits)?;
    if let Some(flaw) = devices::flaw(entry) {
        omissions.add_entry(&entry.path, name.bytes(), &flaw);
        return Ok(None);
    }
    for flaw in metadata::forbidden_xattrs(entry) {
        omissions.add(&entry.path, &flaw);
    }
    let meta = |part: &[u8]| part.starts_with(WHITEOUT_META) && part != WHITEOUT_OPAQUE;
    let is_meta = name.parts().any(meta);
    Ok((!is_meta).then_some(name))
}
