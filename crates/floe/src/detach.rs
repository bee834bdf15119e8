//! The keys by which a person leaves a container without ending it (podman's `--detach-keys`), and finding them
//! in what is typed.

use crate::failure::Failure;

/// podman's.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// The bytes of the keys, in order; none: it is not left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

impl Keys {
    /// Those of an option's value; `None`: the usual ones.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Failure> {
        let text = text.unwrap_or(DEFAULT);
        if text.is_empty() {
            return Ok(Self::default());
        }
        let key = |word: &str| {
            let wrong = || {
                Failure::new(format!(
                    "--detach-keys {text:?}: {word:?} is no key: write a character, or ctrl- and one of a-z, @, [, \\, ], ^, _"
                ))
            };
            let byte = match (word.strip_prefix("ctrl-"), word.as_bytes()) {
                (Some(rest), _) => match rest.as_bytes() {
                    [letter @ b'a'..=b'z'] => letter - b'a' + 1,
                    [sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => sign & 0x1f,
                    _ => return Err(wrong()),
                },
                (None, [byte]) if byte.is_ascii_graphic() => *byte,
                _ => return Err(wrong()),
            };
            Ok(byte)
        };
        Ok(Self(text.split(',').map(key).collect::<Result<_, _>>()?))
    }
}

/// Looks for the keys in what is typed: what may be their beginning is held back.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Keys,
    /// So many of them were typed.
    seen: usize,
}

impl Watch {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, seen: 0 }
    }

    /// What of the bytes is for the container, and whether all keys came.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let keys = &self.keys.0;
        let mut passed = Vec::with_capacity(typed.len());
        if keys.is_empty() {
            passed.extend(typed);
            return (passed, false);
        }
        for byte in typed {
            if keys[self.seen] == *byte {
                self.seen += 1;
                if self.seen == keys.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend(&keys[..self.seen]);
            self.seen = usize::from(keys[0] == *byte);
            match self.seen {
                0 => passed.push(*byte),
                _ if keys.len() == 1 => return (passed, true),
                _ => {}
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_characters_and_control_characters() {
        let bytes = |text| Keys::parse(Some(text)).map(|keys| keys.0).ok();
        assert_eq!(Keys::parse(None).unwrap().0, [16, 17]);
        assert_eq!(bytes("").unwrap(), [0_u8; 0]);
        assert_eq!(bytes("a,ctrl-[,ctrl-@").unwrap(), [b'a', 27, 0]);
        for wrong in ["ctrl-A", "ctrl-", "ab", "a,,b", "ctrl-ä", "\u{1}"] {
            assert_eq!(bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_the_whole_of_the_keys_reaches_the_container() {
        let mut watch = Watch::new(Keys::parse(None).unwrap());
        assert_eq!(watch.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(watch.pass(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(watch.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watch.pass(b"\x11rest"), (Vec::new(), true));
        let mut none = Watch::new(Keys::default());
        assert_eq!(none.pass(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
        let mut one = Watch::new(Keys::parse(Some("x")).unwrap());
        assert_eq!(one.pass(b"abx"), (b"ab".to_vec(), true));
    }
}
