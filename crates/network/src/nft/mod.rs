//! A minimal nf_tables client: tables, chains, rules, maps and their elements, changed in atomic
//! batches. linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
//!
//! [`batch`] speaks the protocol, [`expression`] writes rules, [`table`] is floe's own table.

mod batch;
mod expression;
pub(crate) mod foreign;
pub(crate) mod table;

pub(crate) use table::{Forward, Table};
