//! A rule for the bridges of pods: what a pod tells multicast routers about its groups is for routers,
//! and no other pod gets it. A pod's link sends four such reports (MLDv2, RFC 3810) as it comes up, and a
//! bridge without a querier gives each to every port: among 500 pods that was six milliseconds of
//! processor time for each new one. RFC 4541, section 2.1.1, wants the same of switches. The host still
//! gets them, as its own or another multicast router would need; so do ports that are no pods', and
//! neighbour discovery is left alone.
//!
//! ```text
//! table bridge floe-BRIDGE {
//!   chain reports  filter, forward: to a port "veth" and 11 more characters: icmpv6 type 143: drop
//! }
//! ```

use super::batch::{Batch, Hook, NFT_MSG_GETTABLE, NFTA_TABLE_NAME, bridge as family, kind};
use super::expression::{Base, Expression, Meta};
use crate::Result;
use netlink::{Message, Request, Socket};

const CHAIN: &str = "reports";
/// NF_BR_FORWARD, NF_BR_PRI_FILTER_BRIDGED (linux/netfilter_bridge.h).
const FORWARD: Hook = Hook {
    kind: "filter",
    number: 2,
    priority: -200,
};
const ETH_P_IPV6: [u8; 2] = 0x86dd_u16.to_be_bytes();
const IPPROTO_ICMPV6: u8 = 58;
/// Version 2 Multicast Listener Report.
const MLD2_REPORT: u8 = 143;
/// The fifteenth character of a link's name, in the last four of its 16 bytes. Names of that length
/// are floe's among those that begin as other programs' do (`host::link_name`).
const FIFTEENTH: [u8; 4] = [0, 0, 0xff, 0];

/// Keeps the reports from the pods' ports; harmless when it is so already.
pub(crate) fn keep_from_pods(socket: &mut Socket, table: &str) -> Result<()> {
    let mut batch = Batch::of_bridge(table);
    batch.table();
    batch.empty_chain(CHAIN, Some(FORWARD));
    batch.rule(
        CHAIN,
        &[
            Expression::Meta(Meta::EtherType, 0),
            Expression::Equal(0, &ETH_P_IPV6),
            Expression::Meta(Meta::Protocol, 0),
            Expression::Equal(0, &[IPPROTO_ICMPV6]),
            Expression::Payload(Base::Transport, 0, 1, 0),
            Expression::Equal(0, &[MLD2_REPORT]),
            Expression::Meta(Meta::OutputName, 0),
            Expression::Equal(0, b"veth"),
            Expression::Mask(3, &FIFTEENTH),
            Expression::Differs(3, &[0; 4]),
            Expression::Drop,
        ],
    );
    batch.commit(socket)
}

/// Removes the rule, if it is there.
pub(crate) fn forget(socket: &mut Socket, table: &str) -> Result<()> {
    let mut message = Message::get(kind(NFT_MSG_GETTABLE)).header(&family());
    message.text(NFTA_TABLE_NAME, table);
    let found = socket.get(
        Request::new("look up nftables table", table, message),
        |_| Some(()),
    );
    match found {
        Ok(()) => {
            let mut batch = Batch::of_bridge(table);
            batch.delete_table();
            batch.commit(socket)
        }
        // Without the family, there is no table.
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
