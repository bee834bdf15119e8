//! Looking at other programs' base chains: who drops forwarded packets by policy. Only reads.

use super::batch::{
    NFT_MSG_GETCHAIN, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_HOOK_HOOKNUM,
    header, kind,
};
use crate::Result;
use netlink::attribute::{Attributes, be32_of, text_of};
use netlink::{Message, Request, Socket};

const NFTA_CHAIN_POLICY: u16 = 5;
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;

/// "TABLE/CHAIN" of the first chain that drops forwarded IP packets by policy, if there is one.
pub(crate) fn dropping_forward_chain(socket: &mut Socket) -> Result<Option<String>> {
    // Families inet, ip and ip6: a bridge's or netdev chain is not in the way of routed packets.
    for family in [1, 2, 10] {
        let message = Message::dump(kind(NFT_MSG_GETCHAIN)).header(&header(family, 0));
        let request = Request::new("list", "nftables chains", message);
        if let Some(found) = socket.dump(request, dropping)?.into_iter().next() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The name of a chain that drops forwarded packets.
fn dropping(payload: &[u8]) -> Option<String> {
    let attributes = Attributes::after(payload, 4);
    let hook = Attributes::nested(attributes.get(NFTA_CHAIN_HOOK)?)
        .get(NFTA_HOOK_HOOKNUM)
        .and_then(be32_of)?;
    let policy = attributes.get(NFTA_CHAIN_POLICY).and_then(be32_of)?;
    if hook != NF_INET_FORWARD || policy != NF_DROP {
        return None;
    }
    let text = |kind| attributes.get(kind).map(text_of).unwrap_or_default();
    Some(format!(
        "{}/{}",
        text(NFTA_CHAIN_TABLE),
        text(NFTA_CHAIN_NAME)
    ))
}
