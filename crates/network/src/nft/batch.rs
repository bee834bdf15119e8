//! One atomic change of an nftables table: everything in it happens, or nothing.
//! Only the encoding; what the rules say is `table`'s matter.

use super::expression::{Expression, write_rule};
use crate::Result;
use netlink::{Message, Request, Socket};

const SUBSYSTEM: u16 = 10;
const NFPROTO_INET: u8 = 1;
const NFPROTO_BRIDGE: u8 = 7;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

pub(super) const NFT_MSG_NEWTABLE: u16 = 0;
pub(super) const NFT_MSG_GETTABLE: u16 = 1;
pub(super) const NFT_MSG_DELTABLE: u16 = 2;
pub(super) const NFT_MSG_NEWCHAIN: u16 = 3;
pub(super) const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_DELCHAIN: u16 = 5;
pub(super) const NFT_MSG_NEWRULE: u16 = 6;
pub(super) const NFT_MSG_DELRULE: u16 = 8;
pub(super) const NFT_MSG_NEWSET: u16 = 9;
pub(super) const NFT_MSG_NEWSETELEM: u16 = 12;
pub(super) const NFT_MSG_GETSETELEM: u16 = 13;
pub(super) const NFT_MSG_DELSETELEM: u16 = 14;

pub(super) const NFTA_TABLE_NAME: u16 = 1;
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFT_SET_MAP: u32 = 8;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_USERDATA: u16 = 6;
pub(super) const NFTA_DATA_VALUE: u16 = 1;

/// The fixed header of nfnetlink messages.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The message type of an nf_tables operation.
pub(super) fn kind(operation: u16) -> u16 {
    (SUBSYSTEM << 8) | operation
}

/// The header of our table's messages.
pub(super) fn inet() -> [u8; 4] {
    header(NFPROTO_INET, 0)
}

/// The header of the messages of a bridge's table.
pub(super) fn bridge() -> [u8; 4] {
    header(NFPROTO_BRIDGE, 0)
}

/// A base chain: where in the packet's way it hooks in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    /// "nat" or "filter".
    pub(super) kind: &'static str,
    /// NF_INET_* number.
    pub(super) number: u32,
    /// Order among the chains of a hook.
    pub(super) priority: i32,
}

/// A map from a concatenation of fields to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// nft(8) data types of the key, for `nft list`.
    pub(super) key_types: &'static [u32],
    /// Length of the key in bytes, each field padded to four.
    pub(super) key_length: u32,
    /// nft(8) data types of the value.
    pub(super) data_types: &'static [u32],
    /// Length of the value in bytes.
    pub(super) data_length: u32,
}

/// nft(8) writes a concatenation of types as six bits each.
fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, one| (all << 6) | one)
}

/// An element of a map.
#[derive(Debug, Clone)]
pub(super) struct Element {
    /// The map it belongs to.
    pub(super) map: &'static str,
    /// The key's bytes.
    pub(super) key: Vec<u8>,
    /// The value's bytes.
    pub(super) data: Vec<u8>,
    /// A remark that is kept with it.
    pub(super) comment: Vec<u8>,
}

impl Element {
    fn write(&self, message: &mut Message, whole: bool) {
        message.nest(NFTA_SET_ELEM_KEY, |key| {
            key.bytes(NFTA_DATA_VALUE, &self.key);
        });
        if whole {
            message.nest(NFTA_SET_ELEM_DATA, |data| {
                data.bytes(NFTA_DATA_VALUE, &self.data);
            });
            message.bytes(NFTA_SET_ELEM_USERDATA, &self.comment);
        }
    }
}

/// Elements of one message: an attribute holds them all, and has room for 64 KiB. An element takes
/// 224 bytes at most.
const IN_ONE_MESSAGE: usize = 250;

/// The elements of each map, in parts that fit into a message: acknowledged one by one, those of a
/// pod with thousands of ports would not fit into the socket's queue.
fn by_map(elements: &[Element]) -> Vec<(&'static str, Vec<&Element>)> {
    let mut parts: Vec<(&'static str, Vec<&Element>)> = Vec::new();
    for element in elements {
        let open = parts
            .iter_mut()
            .rev()
            .find(|(map, _)| *map == element.map)
            .filter(|(_, some)| some.len() < IN_ONE_MESSAGE);
        match open {
            Some((_, some)) => some.push(element),
            None => parts.push((element.map, vec![element])),
        }
    }
    parts
}

/// A change under construction.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    table: &'a str,
    family: [u8; 4],
    requests: Vec<Request>,
    maps: u32,
}

impl<'a> Batch<'a> {
    /// An empty change of `table` of family inet.
    pub(super) fn new(table: &'a str) -> Self {
        Self::of(inet(), table)
    }

    /// An empty change of `table` of family bridge.
    pub(super) fn of_bridge(table: &'a str) -> Self {
        Self::of(bridge(), table)
    }

    fn of(family: [u8; 4], table: &'a str) -> Self {
        let begin = Message::silent(BATCH_BEGIN).header(&header(0, SUBSYSTEM));
        let begin = Request::new("change nftables table", table, begin);
        Batch {
            table,
            family,
            requests: vec![begin],
            maps: 0,
        }
    }

    fn push(&mut self, operation: &'static str, object: &str, message: Message) {
        let object = format!("{object} in nftables table {}", self.table);
        self.requests.push(Request::new(operation, object, message));
    }

    /// Makes the table, if it is missing.
    pub(super) fn table(&mut self) {
        let mut message = Message::ensure(kind(NFT_MSG_NEWTABLE)).header(&self.family);
        message.text(NFTA_TABLE_NAME, self.table);
        self.push("create", "itself", message);
    }

    /// Removes the table with all that is in it.
    pub(super) fn delete_table(&mut self) {
        let mut message = Message::change(kind(NFT_MSG_DELTABLE)).header(&self.family);
        message.text(NFTA_TABLE_NAME, self.table);
        self.push("delete", "all", message);
    }

    /// Makes a chain, if it is missing, and removes its rules.
    pub(super) fn empty_chain(&mut self, name: &str, hook: Option<Hook>) {
        let mut message = Message::ensure(kind(NFT_MSG_NEWCHAIN)).header(&self.family);
        message
            .text(NFTA_CHAIN_TABLE, self.table)
            .text(NFTA_CHAIN_NAME, name);
        if let Some(hook) = hook {
            message.nest(NFTA_CHAIN_HOOK, |nest| {
                nest.be32(NFTA_HOOK_HOOKNUM, hook.number)
                    .be32(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
            });
            message.text(NFTA_CHAIN_TYPE, hook.kind);
        }
        self.push("create chain", name, message);
        let mut message = Message::change(kind(NFT_MSG_DELRULE)).header(&self.family);
        message
            .text(NFTA_RULE_TABLE, self.table)
            .text(NFTA_RULE_CHAIN, name);
        self.push("empty chain", name, message);
    }

    /// Removes a chain, which has no rules.
    pub(super) fn delete_chain(&mut self, name: &str) {
        let mut message = Message::change(kind(NFT_MSG_DELCHAIN)).header(&self.family);
        message
            .text(NFTA_CHAIN_TABLE, self.table)
            .text(NFTA_CHAIN_NAME, name);
        self.push("delete chain", name, message);
    }

    /// Adds a rule at the end of a chain.
    pub(super) fn rule(&mut self, chain: &str, expressions: &[Expression<'_>]) {
        let mut message = Message::append(kind(NFT_MSG_NEWRULE)).header(&self.family);
        message
            .text(NFTA_RULE_TABLE, self.table)
            .text(NFTA_RULE_CHAIN, chain);
        write_rule(&mut message, expressions);
        self.push("add rule to chain", chain, message);
    }

    /// Makes a map, if it is missing.
    pub(super) fn map(&mut self, map: &Map) {
        self.maps += 1;
        let mut message = Message::ensure(kind(NFT_MSG_NEWSET)).header(&self.family);
        message
            .text(NFTA_SET_TABLE, self.table)
            .text(NFTA_SET_NAME, map.name)
            .be32(NFTA_SET_FLAGS, NFT_SET_MAP)
            .be32(NFTA_SET_KEY_TYPE, concatenated(map.key_types))
            .be32(NFTA_SET_KEY_LEN, map.key_length)
            .be32(NFTA_SET_DATA_TYPE, concatenated(map.data_types))
            .be32(NFTA_SET_DATA_LEN, map.data_length)
            .be32(NFTA_SET_ID, self.maps);
        self.push("create map", map.name, message);
    }

    /// Adds elements; fails with EEXIST when the key of one is taken.
    pub(super) fn add_elements(&mut self, elements: &[Element]) {
        for (map, some) in by_map(elements) {
            let mut message = Message::create(kind(NFT_MSG_NEWSETELEM)).header(&self.family);
            self.elements(&mut message, map, &some, true);
            self.push("add elements to map", map, message);
        }
    }

    /// Removes elements; fails with ENOENT when one is not there.
    pub(super) fn delete_elements(&mut self, elements: &[Element]) {
        for (map, some) in by_map(elements) {
            let mut message = Message::change(kind(NFT_MSG_DELSETELEM)).header(&self.family);
            self.elements(&mut message, map, &some, false);
            self.push("delete elements of map", map, message);
        }
    }

    fn elements(&self, message: &mut Message, map: &str, elements: &[&Element], whole: bool) {
        message
            .text(NFTA_SET_ELEM_LIST_TABLE, self.table)
            .text(NFTA_SET_ELEM_LIST_SET, map)
            .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                for element in elements {
                    list.nest(NFTA_LIST_ELEM, |one| element.write(one, whole));
                }
            });
    }

    /// Whether nothing has been asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.len() == 1
    }

    /// Makes the change.
    pub(super) fn commit(mut self, socket: &mut Socket) -> Result<()> {
        let end = Message::silent(BATCH_END).header(&header(0, SUBSYSTEM));
        self.requests
            .push(Request::new("change nftables table", self.table, end));
        Ok(socket.send_whole(self.requests)?)
    }
}
