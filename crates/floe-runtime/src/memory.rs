//! Memory of a command: a fixed piece of the program first, the C library's after that.
//!
//! A verb lives for milliseconds and needs some hundred kilobytes in pieces of a few bytes. musl asks the kernel
//! for each handful of them and gives them back at once, which were a hundred system calls for every verb; here
//! they are cut off a piece that is there, one after the other, and only the last one is ever taken back. What
//! lives long (a supervisor) never begins with it, and what needs more goes on with the C library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of which only the pages that are used are ever backed by memory.
const SIZE: usize = 512 << 10;
/// Larger ones the C library maps and unmaps.
const LARGEST: usize = 64 << 10;
/// So much is used, for what nobody has begun with.
const CLOSED: usize = usize::MAX;

#[global_allocator]
static MEMORY: Memory = Memory {
    used: AtomicUsize::new(CLOSED),
};

/// A static of its own, as all of it is zero: so it takes no place in the program's file.
static PIECE: Piece = Piece(UnsafeCell::new([0; SIZE]));

#[repr(C, align(4096))]
struct Piece(UnsafeCell<[u8; SIZE]>);

// SAFETY: it is never read or written but through pointers that were given away, each for bytes of its own.
unsafe impl Sync for Piece {}

/// Changed atomically: it decides who gets which bytes of the piece.
struct Memory {
    used: AtomicUsize,
}

/// From here on memory comes from the piece, until it is used up.
pub(crate) fn begin() {
    let _ = MEMORY.exchange(CLOSED, 0);
}

impl Memory {
    fn start() -> *mut u8 {
        PIECE.0.get().cast()
    }

    fn exchange(&self, from: usize, to: usize) -> bool {
        let order = Ordering::Relaxed;
        self.used.compare_exchange(from, to, order, order).is_ok()
    }

    /// Where a pointer into the piece points to.
    fn offset(pointer: *const u8) -> Option<usize> {
        let offset = pointer.addr().wrapping_sub(Self::start().addr());
        (offset < SIZE).then_some(offset)
    }

    /// Bytes that nobody else has, if there are so many.
    fn cut(&self, layout: Layout) -> Option<*mut u8> {
        if layout.size() > LARGEST || layout.align() > align_of::<Piece>() {
            return None;
        }
        loop {
            let used = self.used.load(Ordering::Relaxed);
            let offset = used.checked_next_multiple_of(layout.align())?;
            let end = offset.checked_add(layout.size())?;
            if end > SIZE {
                return None;
            }
            if self.exchange(used, end) {
                // SAFETY: the offset is inside the piece.
                return Some(unsafe { Self::start().add(offset) });
            }
        }
    }
}

// SAFETY: `cut` gives every byte to one owner at most, until that gives it back; the rest is the C library's.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        self.cut(layout)
            .unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(new) = self.cut(layout) else {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: it has that many bytes. They may have been somebody's.
        unsafe { new.write_bytes(0, layout.size()) };
        new
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match Self::offset(pointer) {
            // Only the last one can be taken back.
            Some(offset) => drop(self.exchange(offset + layout.size(), offset)),
            // SAFETY: it is the C library's, as it is not in the piece; the rest the caller promises.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = Self::offset(pointer) else {
            // SAFETY: it is the C library's; the rest the caller promises.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        let grows = offset + size <= SIZE;
        if size <= layout.size() || grows && self.exchange(offset + layout.size(), offset + size) {
            return pointer;
        }
        // SAFETY: the caller promises that the size is a valid one for this alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: the new one is larger, and they are apart.
            unsafe { new.copy_from_nonoverlapping(pointer, layout.size()) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_its_owners_alone_wherever_it_comes_from() {
        begin();
        let mut all: Vec<Vec<u8>> = Vec::new();
        // More than there is, in pieces that grow, shrink and go.
        for number in 0..3000_usize {
            let byte = u8::try_from(number % 251).unwrap();
            all.push(vec![byte; 1 + number % 700]);
            if number % 3 == 0 {
                let old = number / 2;
                let first = all[old].first().copied().unwrap_or(0);
                all[old].resize(900, first);
                all[old].shrink_to_fit();
            }
            if number % 7 == 0 {
                all[number / 3] = Vec::new();
            }
        }
        for one in &all {
            assert!(one.iter().all(|byte| Some(byte) == one.first()));
        }
        let some = all.iter().filter(|one| one.capacity() > 0);
        let (inside, outside): (Vec<_>, Vec<_>) =
            some.partition(|one| Memory::offset(one.as_ptr()).is_some());
        assert!(!inside.is_empty() && !outside.is_empty());
        assert!(vec![0_u8; 300].iter().all(|byte| *byte == 0));
    }
}
