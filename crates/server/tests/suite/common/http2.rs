//! Hand-made bytes of HTTP/2 (RFC 9113), for clients that no library would be.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const SETTINGS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

/// A field with a place in the compression's table, its name by number or in full.
pub(crate) fn field(name: &[u8], value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [name, &[length], value.as_bytes()].concat()
}

pub(crate) fn named(name: &str) -> Vec<u8> {
    [&[0x40, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat()
}
