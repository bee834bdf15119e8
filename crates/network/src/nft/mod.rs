//! A minimal nf_tables client: tables, chains, rules, maps and their elements, changed in atomic
//! batches. linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
//!
//! [`batch`] speaks the protocol, [`expression`] writes rules, [`table`] is floe's own table
//! and [`forward`] its elements;
//! [`isolation`] keeps networks apart, [`reports`] keeps what pods tell multicast routers from other pods;
//! [`foreign`] looks at other programs' chains, [`conntrack`] makes the kernel forget connections.

mod batch;
pub(crate) mod conntrack;
mod expression;
pub(crate) mod foreign;
mod forward;
pub(crate) mod isolation;
pub(crate) mod reports;
pub(crate) mod table;

pub(crate) use forward::Forward;
pub(crate) use table::Table;
