//! Extended attributes of one file, as they lie behind its inode.

use crate::error::{Error, Result};
use crate::format::XATTR_HEADER;
use crate::tree::{Attributes, Xattr};

/// What a name begins with, its number, and whether that is all of it.
const PREFIXES: [(&[u8], u8, bool); 5] = [
    (b"user.", 1, false),
    (b"system.posix_acl_access", 2, true),
    (b"system.posix_acl_default", 3, true),
    (b"trusted.", 4, false),
    (b"security.", 6, false),
];
/// Before an attribute's name.
const ENTRY: usize = 4;
const ALIGN: usize = 4;

/// Whether the format has a place for all extended attributes of a file.
#[must_use]
pub fn fits(attributes: &Attributes) -> bool {
    let size = |(name, value): &Xattr| {
        let (_, rest) = split(name).ok()?;
        let fits = rest.len() <= u8::MAX.into() && value.len() <= u16::MAX.into();
        fits.then_some((ENTRY + rest.len() + value.len()).next_multiple_of(ALIGN))
    };
    let mut sizes = attributes.xattrs.iter().map(size);
    let all = sizes.try_fold(XATTR_HEADER, |all, size| Some(all + size?));
    all.is_some_and(|all| count(all).is_some())
}

/// Adds a file's attributes to `out`, which is left as it is where there are none.
pub(crate) fn put(attributes: &Attributes, out: &mut Vec<u8>) -> Result<()> {
    if attributes.xattrs.is_empty() {
        return Ok(());
    }
    let begin = out.len();
    out.resize(begin + XATTR_HEADER, 0);
    for (name, value) in &attributes.xattrs {
        let (index, rest) = split(name)?;
        let too_long = || Error::Unsupported(format!("the xattr {}", Error::name(name)));
        out.push(u8::try_from(rest.len()).map_err(|_| too_long())?);
        out.push(index);
        let length = u16::try_from(value.len()).map_err(|_| too_long())?;
        out.extend(length.to_le_bytes());
        out.extend(rest);
        out.extend(value.as_ref());
        out.resize(begin + (out.len() - begin).next_multiple_of(ALIGN), 0);
    }
    match count(out.len() - begin) {
        Some(_) => Ok(()),
        None => Err(Error::Unsupported("so many xattrs of a file".into())),
    }
}

/// What an inode says of attributes that take `length` bytes (i_xattr_icount).
pub(crate) fn count(length: usize) -> Option<u16> {
    match length {
        0 => Some(0),
        _ => u16::try_from((length - XATTR_HEADER) / ALIGN + 1).ok(),
    }
}

fn split(name: &[u8]) -> Result<(u8, &[u8])> {
    PREFIXES
        .iter()
        .find_map(|(prefix, index, whole)| {
            let rest = name.strip_prefix(*prefix)?;
            (rest.is_empty() == *whole).then_some((*index, rest))
        })
        .ok_or_else(|| Error::Unsupported(format!("the xattr {}", Error::name(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xattrs: &[(&[u8], &[u8])]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let xattrs = xattrs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let attributes = Attributes {
            xattrs,
            ..Attributes::default()
        };
        let put = put(&attributes, &mut out);
        assert_eq!(fits(&attributes), put.is_ok());
        put.map(|()| out)
    }

    #[test]
    fn an_attribute_is_its_prefixs_number_and_the_rest_of_its_name() {
        assert!(of(&[]).unwrap().is_empty());
        let one = of(&[(b"user.ab", b"xyz")]).unwrap();
        assert_eq!(&one[..12], [0; 12]);
        assert_eq!(&one[12..], b"\x02\x01\x03\x00abxyz\0\0\0");
        assert_eq!(count(one.len()), Some(4));
        let acl = of(&[(b"system.posix_acl_access", b"v")]).unwrap();
        assert_eq!(&acl[12..], b"\x00\x02\x01\x00v\0\0\0");
    }

    #[test]
    fn what_has_no_place_is_named() {
        for name in [
            &b"user."[..],
            b"system.other",
            b"nothing",
            b"system.posix_acl_access.x",
        ] {
            let error = of(&[(name, b"")]).unwrap_err().to_string();
            assert!(error.contains(&Error::name(name)), "{error}");
        }
        let large = vec![0; 65_535];
        assert!(of(&[(b"user.a", &large)]).is_ok());
        assert!(of(&[(b"user.a", &[0; 65_536])]).is_err());
        let many: Vec<(&[u8], &[u8])> = vec![(b"user.a", &large); 5];
        assert!(of(&many).is_err());
    }
}
