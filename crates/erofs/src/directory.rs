//! A directory's content: blocks of entries, each followed by its names, all in the order of the names' bytes.

use crate::BLOCK;
use crate::format::DIRENT;
use crate::tree::{Id, Node};

/// A block's size, in memory.
const SIZE: usize = BLOCK as usize;

/// One entry: name, number of the inode, type.
pub(crate) type Entry<'a> = (&'a [u8], u64, u8);

/// A directory's names in their order, its own and its parent's included, and whose they are.
pub(crate) fn names(this: Id, node: &Node) -> Vec<(&[u8], Id)> {
    let mut names: Vec<(&[u8], Id)> = Vec::with_capacity(node.names.len() + 2);
    names.push((b".", this));
    names.push((b"..", node.parent));
    names.extend(node.names.iter().map(|(name, id)| (name.as_ref(), *id)));
    names.sort_unstable_by_key(|(name, _)| *name);
    names
}

/// How many bytes the entries of these names take.
pub(crate) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for name in names {
        let more = DIRENT + name.len();
        if used + more > SIZE {
            blocks += 1;
            used = 0;
        }
        used += more;
    }
    blocks * BLOCK + used as u64
}

/// Adds all entries to `out`; the last block ends with its last name.
pub(crate) fn put(entries: &[Entry<'_>], out: &mut Vec<u8>) {
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = |(name, ..): &&Entry<'_>| {
            used += DIRENT + name.len();
            used <= SIZE
        };
        let here = rest.iter().take_while(fits).count();
        let (block, after) = rest.split_at(here);
        let begin = out.len();
        put_block(block, out);
        rest = after;
        if !rest.is_empty() {
            out.resize(begin + SIZE, 0);
        }
    }
}

fn put_block(entries: &[Entry<'_>], out: &mut Vec<u8>) {
    let mut name_at = entries.len() * DIRENT;
    for (name, inode, kind) in entries {
        out.extend(inode.to_le_bytes());
        // A block is 512 bytes.
        out.extend((name_at as u16).to_le_bytes());
        out.extend([*kind, 0]);
        name_at += name.len();
    }
    for (name, ..) in entries {
        out.extend(*name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_what_is_put() {
        for (count, length) in [(1, 1), (3, 255), (40, 7), (1000, 13), (7, 116), (4, 116)] {
            let names: Vec<Vec<u8>> = (0..count)
                .map(|number| format!("{number:0length$}").into_bytes())
                .collect();
            let entries: Vec<Entry<'_>> = names.iter().map(|name| (&name[..], 7, 1)).collect();
            let mut out = Vec::new();
            put(&entries, &mut out);
            let size = size(names.iter().map(Vec::as_slice));
            assert_eq!(out.len() as u64, size, "{count} names of {length}");
        }
    }
}
