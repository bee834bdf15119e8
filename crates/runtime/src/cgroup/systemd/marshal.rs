//! D-Bus messages as bytes: method calls out, replies and signals in (D-Bus specification, "Type
//! System" and "Message Protocol"). Only what systemd's manager needs; numbers are in the order of
//! this machine, as systemd on the same machine writes them.
//!
//! Never reads past what it was given: what comes in is checked before it is used.

/// The order of bytes, as the first one of a message says it.
const ORDER: u8 = if cfg!(target_endian = "little") {
    b'l'
} else {
    b'B'
};

/// Bytes before the header's fields.
pub(super) const PREFIX: usize = 16;
/// Longer messages than anything that is asked for here are refused.
const LONGEST: usize = 1 << 20;

// Kinds of messages.
const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
pub(super) const MEMBER: u8 = 3;
pub(super) const ERROR_NAME: u8 = 4;
pub(super) const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A value with its type. Types are D-Bus's letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) enum Value {
    /// A number or a boolean (`y b n q i u x t d`), as its bits.
    Fixed(u8, u64),
    /// A string, an object path or a signature (`s o g`).
    Text(u8, String),
    /// The type of the elements, and these.
    Array(String, Vec<Value>),
    /// Values one after the other.
    Struct(Vec<Value>),
    /// A value that carries its type.
    Variant(Box<Value>),
}

impl Value {
    pub(super) fn bool(value: bool) -> Value {
        Value::Fixed(b'b', u64::from(value))
    }

    pub(super) fn u64(value: u64) -> Value {
        Value::Fixed(b't', value)
    }

    pub(super) fn text(value: impl Into<String>) -> Value {
        Value::Text(b's', value.into())
    }

    /// The type in D-Bus's letters.
    pub(super) fn signature(&self) -> String {
        match self {
            Value::Fixed(kind, _) | Value::Text(kind, _) => char::from(*kind).to_string(),
            Value::Array(of, _) => format!("a{of}"),
            Value::Struct(parts) => format!("({})", signature(parts)),
            Value::Variant(_) => "v".to_owned(),
        }
    }
}

fn signature(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

/// What a type's values start at a multiple of.
fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' => 4,
        b'x' | b't' | b'd' | b'(' => 8,
        _ => 1,
    }
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn number(out: &mut Vec<u8>, kind: u8, bits: u64) {
    align(out, alignment(kind));
    match alignment(kind) {
        1 => out.push(bits as u8),
        2 => out.extend((bits as u16).to_ne_bytes()),
        4 => out.extend((bits as u32).to_ne_bytes()),
        _ => out.extend(bits.to_ne_bytes()),
    }
}

fn length(out: &mut Vec<u8>, length: usize) {
    number(out, b'u', length as u64);
}

fn value(out: &mut Vec<u8>, one: &Value) {
    match one {
        Value::Fixed(kind, bits) => number(out, *kind, *bits),
        Value::Text(kind, text) => {
            match kind {
                b'g' => out.push(text.len() as u8),
                _ => length(out, text.len()),
            }
            out.extend(text.bytes().chain([0]));
        }
        Value::Array(of, elements) => {
            length(out, 0);
            let counted = out.len();
            align(out, alignment(of.bytes().next().unwrap_or(0)));
            // The padding before the first element does not count.
            let start = out.len();
            elements.iter().for_each(|element| value(out, element));
            let size = (out.len() - start) as u32;
            out[counted - 4..counted].copy_from_slice(&size.to_ne_bytes());
        }
        Value::Struct(parts) => {
            align(out, 8);
            parts.iter().for_each(|part| value(out, part));
        }
        Value::Variant(inner) => {
            value(out, &Value::Text(b'g', inner.signature()));
            value(out, inner);
        }
    }
}

/// A call of a method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

impl Call<'_> {
    /// The whole message.
    pub(super) fn bytes(self, serial: u32, arguments: &[Value]) -> Vec<u8> {
        let fields = [
            (PATH, Value::Text(b'o', self.path.to_owned())),
            (INTERFACE, Value::text(self.interface)),
            (MEMBER, Value::text(self.member)),
            (DESTINATION, Value::text(self.destination)),
        ];
        message(METHOD_CALL, serial, fields.into(), arguments)
    }
}

/// A message with these fields in its header, and that of the body's type.
pub(super) fn message(
    kind: u8,
    serial: u32,
    mut fields: Vec<(u8, Value)>,
    arguments: &[Value],
) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|one| value(&mut body, one));
    fields.push((SIGNATURE, Value::Text(b'g', signature(arguments))));
    let field = |(code, value): (u8, Value)| {
        let code = Value::Fixed(b'y', u64::from(code));
        Value::Struct(vec![code, Value::Variant(Box::new(value))])
    };
    let fields = fields.into_iter().map(field).collect();
    // No flags; the version of the protocol.
    let mut out = vec![ORDER, kind, 0, 1];
    length(&mut out, body.len());
    number(&mut out, b'u', u64::from(serial));
    value(&mut out, &Value::Array("(yv)".to_owned(), fields));
    align(&mut out, 8);
    out.extend(body);
    out
}

/// A message that came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// The serial of the call that it answers.
    pub(super) reply_to: u32,
    /// The signal's name.
    pub(super) member: String,
    /// The error's name.
    pub(super) error: String,
    body: Vec<u8>,
}

impl Message {
    /// How long a message is, by its first [`PREFIX`] bytes; `None` if it is none.
    pub(super) fn length(prefix: &[u8]) -> Option<usize> {
        if prefix.first() != Some(&ORDER) || prefix.get(3) != Some(&1) {
            return None;
        }
        let at = |at| Reader { bytes: prefix, at }.u32();
        let (body, fields) = (at(4)? as usize, at(12)? as usize);
        let length = PREFIX
            .checked_add(fields)?
            .checked_next_multiple_of(8)?
            .checked_add(body)?;
        (length <= LONGEST).then_some(length)
    }

    /// Reads a whole message; `None` if it is damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
        let mut message = Message {
            kind: *bytes.get(1)?,
            ..Message::default()
        };
        let mut reader = Reader { bytes, at: 12 };
        let fields = reader.u32()? as usize;
        let end = PREFIX.checked_add(fields)?;
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match (code, kind.as_str()) {
                (MEMBER, "s") => message.member = reader.text()?,
                (ERROR_NAME, "s") => message.error = reader.text()?,
                (REPLY_SERIAL, "u") => message.reply_to = reader.u32()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return None,
            }
        }
        reader.align(8);
        message.body = bytes.get(reader.at..)?.to_vec();
        Some(message)
    }

    /// Reads the body from its beginning.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
        }
    }
}

/// Reads values one after the other; `None` where they end too early.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    /// A string or an object path.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u32()?;
        self.terminated(length as usize)
    }

    pub(super) fn signature(&mut self) -> Option<String> {
        let length = self.byte()?;
        self.terminated(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned_and_counted_as_the_specification_says() {
        let mut out = vec![1];
        value(&mut out, &Value::u64(7));
        assert_eq!(
            out,
            [&[1, 0, 0, 0, 0, 0, 0, 0][..], &7u64.to_ne_bytes()].concat()
        );
        // The length of an array leaves out the padding before its first element.
        let mut out = Vec::new();
        let pairs = vec![Value::Struct(vec![Value::text("a"), Value::text("")])];
        value(&mut out, &Value::Array("(ss)".into(), pairs));
        let size = 13u32.to_ne_bytes();
        let one = 1u32.to_ne_bytes();
        let expected = [&size[..], &[0; 4], &one, b"a\0\0\0", &[0, 0, 0, 0], &[0]];
        assert_eq!(out, expected.concat());
        let mut out = Vec::new();
        value(&mut out, &Value::Variant(Box::new(Value::bool(true))));
        assert_eq!(out, [&b"\x01b\0\0"[..], &one].concat());
    }

    #[test]
    fn types_are_spelt_with_what_they_hold() {
        let inner = Value::Variant(Box::new(Value::text("x")));
        let pair = Value::Struct(vec![Value::text("n"), inner]);
        assert_eq!(Value::Array("(sv)".into(), vec![pair]).signature(), "a(sv)");
        assert_eq!(Value::Struct(vec![Value::u64(1)]).signature(), "(t)");
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let call = Call {
            destination: "d",
            path: "/",
            interface: "i.i",
            member: "m",
        };
        let bytes = call.bytes(7, &[Value::text("x")]);
        if ORDER == b'l' {
            let expected = b"l\x01\0\x01\x06\0\0\0\x07\0\0\0\x47\0\0\0\
                \x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0\
                \x02\x01s\0\x03\0\0\0i.i\0\0\0\0\0\
                \x03\x01s\0\x01\0\0\0m\0\0\0\0\0\0\0\
                \x06\x01s\0\x01\0\0\0d\0\0\0\0\0\0\0\
                \x08\x01g\0\x01s\0\0\x01\0\0\0x\0";
            assert_eq!(bytes, expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(Message::length(&bytes[..PREFIX]), Some(bytes.len()));
    }

    fn incoming(kind: u8, body: &[Value]) -> Vec<u8> {
        message(kind, 9, vec![(MEMBER, Value::text("JobRemoved"))], body)
    }

    #[test]
    fn a_signal_is_read_with_its_arguments() {
        let job = Value::Text(b'o', "/job/3".into());
        let body = [
            Value::Fixed(b'u', 3),
            job,
            Value::text("x.scope"),
            Value::text("done"),
        ];
        let bytes = incoming(SIGNAL, &body);
        assert_eq!(Message::length(&bytes[..PREFIX]), Some(bytes.len()));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.kind, message.member.as_str()),
            (SIGNAL, "JobRemoved")
        );
        let mut body = message.body();
        assert_eq!(body.u32(), Some(3));
        let texts = [body.text(), body.text(), body.text(), body.text()];
        assert_eq!(
            texts.map(Option::unwrap_or_default),
            ["/job/3", "x.scope", "done", ""]
        );
    }

    #[test]
    fn what_is_cut_short_or_no_message_is_refused_and_never_read_past_its_end() {
        let bytes = incoming(METHOD_RETURN, &[Value::text("hello")]);
        for end in 0..bytes.len() {
            let part = Message::parse(&bytes[..end]);
            assert_eq!(
                part.and_then(|message| message.body().text()),
                None,
                "{end}"
            );
        }
        let mut wrong = bytes.clone();
        wrong[0] = b'x';
        assert_eq!(Message::length(&wrong), None);
        let mut huge = bytes;
        huge[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(Message::length(&huge), None);
    }
}
