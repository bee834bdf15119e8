//! Reading netlink attributes (type, length, value; padded to four bytes). Writing them is
//! `message`'s work. Bytes come from the kernel, but a wrong length must still never panic.

/// Iterator over the attributes in a byte slice; ends at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes after a fixed header of `header` bytes.
    pub fn after(payload: &'a [u8], header: usize) -> Self {
        Attributes(payload.get(header..).unwrap_or_default())
    }

    /// The attributes inside a nested one.
    pub fn nested(value: &'a [u8]) -> Self {
        Attributes(value)
    }

    /// The value of the first attribute of this type.
    pub fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

/// Strips NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;

/// A number in the host's byte order.
pub fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A number in network byte order, as nftables writes them.
pub fn be32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// A string that ends at the first NUL.
pub fn text_of(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_attributes_end_the_iteration() {
        for bytes in [
            &[][..],
            &[4],
            &[3, 0, 1, 0],
            &[9, 0, 1, 0, 7],
            &[255, 255, 1, 0, 0, 0],
        ] {
            assert_eq!(Attributes::nested(bytes).count(), 0, "{bytes:?}");
        }
        let two = [5, 0, 1, 0, 42, 0, 0, 0, 4, 0, 2, 0x80];
        let read: Vec<_> = Attributes::nested(&two).collect();
        assert_eq!(read, [(1, &[42u8][..]), (2, &[][..])]);
    }
}
