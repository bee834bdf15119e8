//! Building netlink messages, and the request that carries one together with the words for its
//! error. netlink(7): nlmsghdr, attributes with native byte order unless said otherwise.

use std::io;
use std::net::IpAddr;

use crate::Error;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
const F_EXCL: u16 = 0x200;
const F_CREATE: u16 = 0x400;
const F_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// One netlink message under construction.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
    /// An attribute did not fit into the 64 KiB that one can have.
    too_long: bool,
}

impl Message {
    fn with_flags(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Message {
            bytes,
            too_long: false,
        }
    }

    /// Changes something that exists, or asks for one object; acknowledged.
    pub fn change(kind: u16) -> Self {
        Self::with_flags(kind, F_ACK)
    }

    /// Asks for one object; the object itself is the answer.
    pub fn get(kind: u16) -> Self {
        Self::with_flags(kind, 0)
    }

    /// Makes something new, and fails when it exists.
    pub fn create(kind: u16) -> Self {
        Self::with_flags(kind, F_ACK | F_CREATE | F_EXCL)
    }

    /// Makes something, or accepts that it exists.
    pub fn ensure(kind: u16) -> Self {
        Self::with_flags(kind, F_ACK | F_CREATE)
    }

    /// Makes something at the end of an ordered list.
    pub fn append(kind: u16) -> Self {
        Self::with_flags(kind, F_ACK | F_CREATE | F_APPEND)
    }

    /// Asks for all objects of a kind.
    pub fn dump(kind: u16) -> Self {
        Self::with_flags(kind, F_DUMP)
    }

    /// A message that is not answered (the brackets of an nftables batch).
    pub fn silent(kind: u16) -> Self {
        Self::with_flags(kind, 0)
    }

    /// The family's fixed header; once, before any attribute.
    pub fn header(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = self.length(4 + value.len());
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// A NUL-terminated string attribute.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// A 32-bit number in the host's byte order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A 32-bit number in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An IP address.
    pub fn ip(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        match value {
            IpAddr::V4(ip) => self.bytes(kind, &ip.octets()),
            IpAddr::V6(ip) => self.bytes(kind, &ip.octets()),
        }
    }

    /// An attribute that holds what `fill` writes: a fixed header, attributes, or both.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = self.length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// A fixed header inside a nested attribute.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute's length as it is written; one that is too long makes the message unusable.
    fn length(&mut self, length: usize) -> u16 {
        u16::try_from(length).unwrap_or_else(|_| {
            self.too_long = true;
            u16::MAX
        })
    }

    /// Whether an attribute was longer than one can be.
    pub(crate) fn is_too_long(&self) -> bool {
        self.too_long
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Whether the kernel answers this message with an acknowledgement.
    pub(crate) fn is_acknowledged(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & F_ACK != 0
    }

    /// Appends the finished message to `buffer`.
    pub(crate) fn write(mut self, sequence: u32, buffer: &mut Vec<u8>) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        buffer.extend_from_slice(&self.bytes);
    }
}

/// A message with the words for its error.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) message: Message,
    pub(crate) operation: &'static str,
    pub(crate) object: String,
    pub(crate) accepted: Option<i32>,
}

impl Request {
    /// "OPERATION OBJECT: cause" is how a failure will read.
    pub fn new(operation: &'static str, object: impl Into<String>, message: Message) -> Self {
        Request {
            message,
            operation,
            object: object.into(),
            accepted: None,
        }
    }

    /// The kernel's refusal of this request.
    pub(crate) fn refused(&self, source: io::Error, detail: Option<String>) -> Error {
        Error::Refused {
            operation: self.operation,
            object: self.object.clone(),
            source,
            detail,
        }
    }

    /// An answer to this request that cannot be used.
    pub(crate) fn unanswered(&self, what: &'static str) -> Error {
        Error::Answer {
            operation: self.operation,
            object: self.object.clone(),
            what,
        }
    }

    /// Takes this errno as success: the wanted state is there already.
    pub fn accept(mut self, errno: i32) -> Self {
        self.accepted = Some(errno);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Attributes;

    #[test]
    fn attributes_read_back_as_written() {
        let mut message = Message::create(16).header(&[1, 2, 3, 4]);
        message.text(3, "eth0").nest(18, |inner| {
            inner.u32(1, 7).u8(2, 9);
        });
        let mut wire = Vec::new();
        message.write(5, &mut wire);
        assert_eq!(
            wire.len() as u32,
            u32::from_ne_bytes(wire[0..4].try_into().unwrap())
        );
        let read = Attributes::after(&wire, HEADER + 4);
        assert_eq!(read.get(3), Some(&b"eth0\0"[..]));
        let inner = Attributes::nested(read.get(18).unwrap());
        assert_eq!(inner.get(1), Some(&7u32.to_ne_bytes()[..]));
        assert_eq!(inner.get(2), Some(&[9u8][..]));
    }

    #[test]
    fn an_attribute_above_64_kib_is_never_cut_in_silence() {
        let mut message = Message::create(16);
        message.bytes(1, &[0; 65_531]);
        assert!(!message.is_too_long());
        message.nest(2, |inner| {
            inner.bytes(1, &[0; 65_528]);
        });
        assert!(message.is_too_long());
    }
}
