//! The expressions that floe's rules are made of, and how they are written. Each loads into, or
//! compares, 32-bit registers; names and numbers as in linux/netfilter/nf_tables.h.

use netlink::Message;

const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG32_00: u32 = 8;
const NFT_JUMP: i32 = -3;
const NF_DROP: i32 = 0;
const NFT_NAT_DNAT: u32 = 1;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;

/// A register: 32 bits, the n-th of sixteen. Longer values take the following ones too.
pub(super) type Register = u32;

/// Which part of the packet a payload expression reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base {
    /// IP header.
    Network = 1,
    /// TCP, UDP or SCTP header.
    Transport = 2,
}

/// What a meta expression loads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    /// Number of the protocol in the Ethernet header (two bytes, the high one first).
    EtherType = 1,
    /// Number of the interface the packet came in by.
    InputInterface = 4,
    /// Name of the interface the packet came in by (16 bytes).
    InputName = 6,
    /// Name of the interface the packet leaves by (16 bytes).
    OutputName = 7,
    /// Address family (one byte).
    Family = 15,
    /// Transport protocol (one byte).
    Protocol = 16,
    /// Group of the interface the packet came in by.
    InputGroup = 21,
    /// Group of the interface the packet leaves by.
    OutputGroup = 22,
}

/// One expression of a rule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expression<'a> {
    /// Loads a property of the packet.
    Meta(Meta, Register),
    /// Loads bytes of the packet: base, offset, length.
    Payload(Base, u32, u32, Register),
    /// Keeps the bits that are set in the mask.
    Mask(Register, &'a [u8]),
    /// Loads the status bits of the connection.
    Status(Register),
    /// Loads the kind of the destination address, as the routing table sees it.
    DestinationKind(Register),
    /// Goes on if equal.
    Equal(Register, &'a [u8]),
    /// Goes on if not equal.
    Differs(Register, &'a [u8]),
    /// Goes on if the key is in the map, with its value loaded: map, key, value.
    Lookup(&'a str, Register, Register),
    /// Sends the packet elsewhere: family, register with the address, register with the port.
    Destination(u8, Register, Register),
    /// Gives the packet the address of the interface it leaves by.
    Masquerade,
    /// Continues in another chain.
    Jump(&'a str),
    /// Ends the packet.
    Drop,
}

/// Writes a rule's expressions into its message.
pub(super) fn write_rule(message: &mut Message, expressions: &[Expression<'_>]) {
    message.nest(NFTA_RULE_EXPRESSIONS, |list| {
        for expression in expressions {
            list.nest(NFTA_LIST_ELEM, |one| {
                one.text(NFTA_EXPR_NAME, name(expression));
                one.nest(NFTA_EXPR_DATA, |data| write(data, expression));
            });
        }
    });
}

fn name(expression: &Expression<'_>) -> &'static str {
    match expression {
        Expression::Meta(..) => "meta",
        Expression::Payload(..) => "payload",
        Expression::Mask(..) => "bitwise",
        Expression::Status(..) => "ct",
        Expression::DestinationKind(..) => "fib",
        Expression::Equal(..) | Expression::Differs(..) => "cmp",
        Expression::Lookup(..) => "lookup",
        Expression::Destination(..) => "nat",
        Expression::Masquerade => "masq",
        Expression::Jump(..) | Expression::Drop => "immediate",
    }
}

/// The attributes of each expression, numbered as in nf_tables.h.
fn write(data: &mut Message, expression: &Expression<'_>) {
    match *expression {
        Expression::Meta(key, to) => {
            data.be32(1, NFT_REG32_00 + to).be32(2, key as u32);
        }
        Expression::Payload(base, offset, length, to) => {
            data.be32(1, NFT_REG32_00 + to)
                .be32(2, base as u32)
                .be32(3, offset)
                .be32(4, length);
        }
        Expression::Mask(register, mask) => {
            let register = NFT_REG32_00 + register;
            data.be32(1, register)
                .be32(2, register)
                .be32(3, mask.len() as u32);
            data.nest(4, |value| {
                value.bytes(NFTA_DATA_VALUE, mask);
            });
            data.nest(5, |value| {
                value.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]);
            });
        }
        Expression::Status(to) => {
            const NFT_CT_STATUS: u32 = 2;
            data.be32(1, NFT_REG32_00 + to).be32(2, NFT_CT_STATUS);
        }
        Expression::DestinationKind(to) => {
            data.be32(1, NFT_REG32_00 + to)
                .be32(2, NFT_FIB_RESULT_ADDRTYPE)
                .be32(3, NFTA_FIB_F_DADDR);
        }
        Expression::Equal(from, value) => compare(data, from, 0, value),
        Expression::Differs(from, value) => compare(data, from, 1, value),
        Expression::Lookup(map, key, value) => {
            data.text(1, map)
                .be32(2, NFT_REG32_00 + key)
                .be32(3, NFT_REG32_00 + value);
        }
        Expression::Destination(family, address, port) => {
            data.be32(1, NFT_NAT_DNAT)
                .be32(2, u32::from(family))
                .be32(3, NFT_REG32_00 + address)
                .be32(5, NFT_REG32_00 + port);
        }
        Expression::Masquerade => {}
        Expression::Jump(chain) => verdict(data, NFT_JUMP, Some(chain)),
        Expression::Drop => verdict(data, NF_DROP, None),
    }
}

fn compare(data: &mut Message, from: Register, operator: u32, value: &[u8]) {
    data.be32(1, NFT_REG32_00 + from)
        .be32(2, operator)
        .nest(3, |nest| {
            nest.bytes(NFTA_DATA_VALUE, value);
        });
}

fn verdict(data: &mut Message, code: i32, chain: Option<&str>) {
    data.be32(1, NFT_REG_VERDICT).nest(2, |value| {
        value.nest(NFTA_DATA_VERDICT, |verdict| {
            verdict.be32(NFTA_VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}
