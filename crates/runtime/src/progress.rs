//! Setting a process up without waiting for it.

/// How far a process that sets itself up has come ([`crate::Creating`], [`crate::Starting`]).
#[derive(Debug)]
pub enum Progress<P, D> {
    /// It has more to say: ask again when its descriptor is readable.
    Pending(P),
    /// It has done what was asked.
    Done(D),
}
