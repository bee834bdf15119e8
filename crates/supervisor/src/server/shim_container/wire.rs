//! The one answer that a supervisor reads of a shim: how a process ended (ttrpc's frame, then its
//! Response with the Task service's WaitResponse). By hand, as this program has no protobuf library:
//! bounded, without recursion, and every number checked.

type Read<T> = std::result::Result<T, String>;

/// A frame's header: length, stream, kind, flags.
const HEADER: usize = 10;
/// A frame that is an answer.
const RESPONSE: u8 = 2;
/// What is told for a number that is no exit code.
const UNKNOWN: i32 = 255;

/// The code and the time of an answer, if all of it has come; nanoseconds since 1970.
///
/// # Errors
/// In words: it is no such answer, or a refusal.
pub(super) fn exit(bytes: &[u8]) -> Read<Option<(i32, Option<i64>)>> {
    let Some([a, b, c, d, _, _, _, _, kind, _]) = bytes.first_chunk::<HEADER>().copied() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if kind != RESPONSE || length > super::ANSWER {
        return Err("its shim does not answer the question".to_owned());
    }
    let Some(body) = bytes.get(HEADER..HEADER + length) else {
        return Ok(None);
    };
    let mut payload: &[u8] = &[];
    for field in Fields(body) {
        match field? {
            (1, Value::Bytes(status)) => refusal(status)?,
            (2, Value::Bytes(bytes)) => payload = bytes,
            _ => {}
        }
    }
    let (mut code, mut at) = (0, None);
    for field in Fields(payload) {
        match field? {
            (1, Value::Number(number)) => {
                code = u8::try_from(number).map_or(UNKNOWN, i32::from);
            }
            (2, Value::Bytes(bytes)) => at = time(bytes)?,
            _ => {}
        }
    }
    Ok(Some((code, at)))
}

fn refusal(status: &[u8]) -> Read<()> {
    for field in Fields(status) {
        if let (1, Value::Number(code @ 1..)) = field? {
            return Err(format!("its shim does not say how it ends: code {code}"));
        }
    }
    Ok(())
}

/// A time after 1970, in nanoseconds since then.
fn time(bytes: &[u8]) -> Read<Option<i64>> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Number(number)) => seconds = number.cast_signed(),
            (2, Value::Number(number)) => nanos = number.cast_signed(),
            _ => {}
        }
    }
    let valid = seconds > 0 && (0..1_000_000_000).contains(&nanos);
    let time = seconds.checked_mul(1_000_000_000);
    let time = time.and_then(|time| time.checked_add(nanos));
    Ok(time.filter(|_| valid))
}

/// A field's value.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no field of ours has.
    Fixed,
}

/// The fields of a message, one after the other; an error is the last.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Read<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "its shim answers what is no message".to_owned()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * place).min(63);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        [&length.to_be_bytes()[..], &[0, 0, 0, 1, 2, 0], body].concat()
    }

    #[test]
    fn an_answer_is_whole_or_not_there() {
        // exit_status 7, exited_at 2 s and 5 ns.
        let bytes = frame(&[2 << 3 | 2, 8, 8, 7, 2 << 3 | 2, 4, 8, 2, 16, 5]);
        for cut in 0..bytes.len() {
            assert_eq!(exit(&bytes[..cut]), Ok(None));
        }
        assert_eq!(exit(&bytes), Ok(Some((7, Some(2_000_000_005)))));
        // Success is not said.
        assert_eq!(exit(&frame(&[2 << 3 | 2, 0])), Ok(Some((0, None))));
        assert_eq!(exit(&frame(&[])), Ok(Some((0, None))));
    }

    #[test]
    fn what_is_no_exit_code_is_255() {
        let status = [2 << 3 | 2, 6, 8, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(exit(&frame(&status)), Ok(Some((255, None))));
    }

    #[test]
    fn refusals_and_lies_are_errors() {
        let refused = exit(&frame(&[1 << 3 | 2, 2, 8, 5])).unwrap_err();
        assert!(refused.contains("code 5"), "{refused}");
        for body in [
            &[2 << 3 | 2, 9, 1][..],
            &[0xff; 20],
            &[2 << 3 | 3],
            &[2 << 3],
        ] {
            assert!(exit(&frame(body)).is_err(), "{body:?}");
        }
        let mut long = frame(&[]);
        long[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(exit(&long).is_err());
        let mut other = frame(&[]);
        other[8] = 1;
        assert!(exit(&other).is_err());
    }
}
