//! The messages in a datagram of the kernel's, and what the kernel refused. netlink(7). Bytes come from
//! the kernel, but a wrong length must still never panic.

use std::io;

use crate::attribute::{Attributes, text_of};
use crate::message::HEADER;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
/// More follow.
pub(crate) const F_MULTI: u16 = 0x2;
/// What is listed changed meanwhile.
pub(crate) const F_DUMP_INTR: u16 = 0x10;
/// The acknowledgement carries extended error attributes.
const F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message of a datagram.
pub(crate) struct Part<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl Part<'_> {
    /// The errno and explanation of an NLMSG_ERROR, or of the end of a list; `None` for an
    /// acknowledgement, and when the list ends well.
    pub(crate) fn refusal(&self) -> Option<(io::Error, Option<String>)> {
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        // An end mark may carry a number that is no error.
        if code >= 0 {
            return None;
        }
        let detail = (self.flags & F_ACK_TLVS != 0)
            .then(|| Attributes::after(self.payload, 4 + HEADER).get(NLMSGERR_ATTR_MSG))
            .flatten()
            .map(text_of);
        Some((io::Error::from_raw_os_error(code.wrapping_neg()), detail))
    }
}

/// Iterator over the messages of a datagram.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let length = u32::from_ne_bytes(self.0.get(0..4)?.try_into().ok()?) as usize;
        let part = Part {
            kind: u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(self.0.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(self.0.get(8..12)?.try_into().ok()?),
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    }
}
