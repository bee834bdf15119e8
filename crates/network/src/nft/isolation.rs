//! Which bridges' packets are forwarded to which others. Every bridge that floe makes is in a group of links: that
//! of bridges which are kept apart, or that of bridges which let others in. A chain for each network that is kept
//! apart says the rest, and holds whichever other bridges come and go, also those of other engines on the host.
//!
//! ```text
//! table inet floe-BRIDGE {
//!   chain apart_NETWORK'S BRIDGE  filter, forward:
//!     between the bridge and one of the groups, and not by a host port: drop      (strict: both groups)
//!     between the bridge and any other link: drop                                 (internal)
//! }
//! ```

use super::batch::{Batch, Hook, NFT_MSG_GETCHAIN, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, inet, kind};
use super::expression::{Expression, Meta};
use super::table::NOT_TRANSLATED;
use crate::Result;
use netlink::{Message, Request, Socket};

/// The group of bridges that are kept apart from each other, and that of those which are not.
pub(crate) const APART: u32 = 0xf10e_0000;
/// See [`APART`].
pub(crate) const OPEN: u32 = APART + 1;
/// What both have in common.
const ANY_MASK: [u8; 4] = (!1u32).to_ne_bytes();
const ALL_BITS: [u8; 4] = [0xff; 4];

const FORWARD: Hook = Hook {
    kind: "filter",
    number: 2,
    priority: 0,
};

/// How much a network has to do with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    /// With all that let others in.
    Open,
    /// With all but those which are kept apart as well.
    Normal,
    /// With no other network.
    Strict,
    /// With nobody outside at all.
    Internal,
}

impl Apart {
    /// The group of its bridge.
    pub(crate) fn group(self) -> u32 {
        match self {
            Self::Open => OPEN,
            Self::Normal | Self::Strict | Self::Internal => APART,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Normal => "normal",
            Self::Strict => "strict",
            Self::Internal => "internal",
        }
    }
}

/// Keeps a bridge apart; harmless when it is so already.
pub(crate) fn keep(socket: &mut Socket, table: &str, bridge: &str, apart: Apart) -> Result<()> {
    let name = chain(bridge, apart);
    if apart == Apart::Open || has(socket, table, &name)? {
        return Ok(());
    }
    let link = padded(bridge);
    let mut batch = Batch::new(table);
    batch.table();
    batch.empty_chain(&name, Some(FORWARD));
    for (from, to, group) in [
        (Meta::InputName, Meta::OutputName, Meta::OutputGroup),
        (Meta::OutputName, Meta::InputName, Meta::InputGroup),
    ] {
        let apart_bytes = APART.to_ne_bytes();
        let mask = match apart {
            Apart::Strict => ANY_MASK,
            _ => ALL_BITS,
        };
        let mut rule = vec![
            Expression::Meta(from, 0),
            Expression::Equal(0, &link),
            Expression::Meta(to, 0),
            Expression::Differs(0, &link),
        ];
        if apart != Apart::Internal {
            rule.push(Expression::Meta(group, 0));
            rule.push(Expression::Mask(0, &mask));
            rule.push(Expression::Equal(0, &apart_bytes));
            rule.extend_from_slice(&NOT_TRANSLATED);
        }
        rule.push(Expression::Drop);
        batch.rule(&name, &rule);
    }
    batch.commit(socket)
}

/// Removes what is said of a bridge; nothing may be.
pub(crate) fn forget(socket: &mut Socket, table: &str, bridge: &str) -> Result<()> {
    for apart in [Apart::Normal, Apart::Strict, Apart::Internal] {
        let name = chain(bridge, apart);
        if has(socket, table, &name)? {
            let mut batch = Batch::new(table);
            batch.empty_chain(&name, Some(FORWARD));
            batch.delete_chain(&name);
            batch.commit(socket)?;
        }
    }
    Ok(())
}

fn has(socket: &mut Socket, table: &str, name: &str) -> Result<bool> {
    let mut message = Message::get(kind(NFT_MSG_GETCHAIN)).header(&inet());
    message
        .text(NFTA_CHAIN_TABLE, table)
        .text(NFTA_CHAIN_NAME, name);
    let object = format!("{name} in nftables table {table}");
    match socket.get(Request::new("look up chain", object, message), |_| Some(())) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A name of letters, digits and underscores, of which each belongs to one bridge.
fn chain(bridge: &str, apart: Apart) -> String {
    let mut name = format!("apart_{}_", apart.word());
    for byte in bridge.bytes() {
        match byte.is_ascii_alphanumeric() {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

/// A link's name as nftables compares it.
fn padded(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bridge_has_a_chain_of_its_own() {
        assert_eq!(chain("floe1", Apart::Strict), "apart_strict_floe1");
        assert_ne!(chain("a-b", Apart::Strict), chain("a.b", Apart::Strict));
        assert_ne!(chain("a", Apart::Strict), chain("a", Apart::Internal));
        assert_eq!(&padded("floe1")[..6], b"floe1\0");
    }

    #[test]
    fn both_groups_are_one_under_the_mask() {
        let mask = u32::from_ne_bytes(ANY_MASK);
        assert_eq!(APART & mask, OPEN & mask);
        assert_ne!(APART, OPEN);
    }
}
