//! The 512 byte header block of a tar entry (POSIX.1-2017 pax, "ustar Interchange Format").
//!
//! Must never return a field that was not checked: the block's checksum is verified first.

use super::{Kind, TarFlaw};

/// The size of a block in bytes.
pub(super) const BLOCK: usize = 512;

/// A block whose checksum is right.
pub(super) struct Header([u8; BLOCK]);

/// Which fields follow the common ones.
#[derive(PartialEq, Eq)]
enum Format {
    Old,
    Ustar,
    Gnu,
}

impl Header {
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Header, TarFlaw> {
        let header = Header(block);
        let expected = number(header.field(148, 8)).ok_or(TarFlaw::Checksum)?;
        // Old programs summed signed bytes.
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (position, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&position) {
                b' '
            } else {
                *byte
            };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if expected == unsigned || expected == signed {
            return Ok(header);
        }
        Err(TarFlaw::Checksum)
    }

    pub(super) fn field(&self, start: usize, length: usize) -> &[u8] {
        &self.0[start..start + length]
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    fn format(&self) -> Format {
        match self.field(257, 8) {
            [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Ustar,
            b"ustar  \0" => Format::Gnu,
            _ => Format::Old,
        }
    }

    pub(super) fn kind(&self, path: &[u8]) -> Kind {
        match self.flag() {
            // Before POSIX a directory was a file with a slash at the end.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        }
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        let prefix = match self.format() {
            Format::Ustar => text(self.field(345, 155)),
            Format::Old | Format::Gnu => &[],
        };
        match prefix {
            [] => name.to_vec(),
            _ => [prefix, b"/", name].concat(),
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(self.field(157, 100)).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, TarFlaw> {
        let mode = number(self.field(100, 8)).ok_or(TarFlaw::Number("mode"))?;
        // Go's and other writers keep file type bits in it.
        Ok(u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<u32, TarFlaw> {
        identity(self.field(108, 8)).ok_or(TarFlaw::Number("uid"))
    }

    pub(super) fn gid(&self) -> Result<u32, TarFlaw> {
        identity(self.field(116, 8)).ok_or(TarFlaw::Number("gid"))
    }

    /// Major and minor number of a device node.
    pub(super) fn device(&self) -> Result<(u32, u32), TarFlaw> {
        let part = |start| {
            number(self.field(start, 8))
                .and_then(|number| u32::try_from(number).ok())
                .ok_or(TarFlaw::Number("device number"))
        };
        Ok((part(329)?, part(337)?))
    }

    pub(super) fn size(&self) -> Result<u64, TarFlaw> {
        size(self.field(124, 12))
    }

    pub(super) fn mtime(&self) -> Result<(i64, u32), TarFlaw> {
        let seconds = number(self.field(136, 12)).ok_or(TarFlaw::Number("mtime"))?;
        Ok((seconds, 0))
    }
}

fn identity(field: &[u8]) -> Option<u32> {
    // The last number means "none" to chown(2).
    u32::try_from(number(field)?)
        .ok()
        .filter(|id| *id != u32::MAX)
}

/// A size or offset field.
pub(super) fn size(field: &[u8]) -> Result<u64, TarFlaw> {
    let size = number(field).and_then(|size| u64::try_from(size).ok());
    size.ok_or(TarFlaw::Number("size"))
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// An octal number with blanks around it, or GNU's base 256 (first bit set), which is signed.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..end]
        .iter()
        .try_fold(0i64, |value, digit| match digit {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        })
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (position, byte) in field.iter().enumerate() {
        // The first bit only marks the format; it takes the sign's value.
        let byte = match (position, negative) {
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
    }
    i64::try_from(value).ok()
}
