//! W3C Trace Context: the headers `traceparent` and `tracestate`, by which a client says whose part its
//! request is. What is not well-formed is as if it were not there.

use tonic::codegen::http::HeaderMap;

/// The longest `tracestate` that is kept, in bytes.
const STATE: usize = 512;

/// Whose part an RPC is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    /// The trace.
    pub(super) trace: [u8; 16],
    /// The span of the client's; `None`: it begins here.
    pub(super) parent: Option<u64>,
    /// `tracestate`, as it came.
    pub(super) state: String,
    /// Is the trace told to a collector?
    pub(super) sampled: bool,
}

impl Context {
    /// A trace that begins here.
    pub(super) fn new(id: [u64; 2]) -> Self {
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&id[0].to_be_bytes());
        trace[8..].copy_from_slice(&id[1].to_be_bytes());
        Self {
            trace,
            parent: None,
            state: String::new(),
            sampled: true,
        }
    }

    /// What the client says.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let parent = headers.get("traceparent")?.to_str().ok()?;
        let (trace, span, flags) = read(parent)?;
        let state = headers
            .get("tracestate")
            .and_then(|state| state.to_str().ok());
        let state = state.filter(|state| state.len() <= STATE);
        Some(Self {
            trace,
            parent: Some(span),
            state: state.unwrap_or_default().to_owned(),
            sampled: flags & 1 == 1,
        })
    }
}

/// `VERSION-TRACE-SPAN-FLAGS`, in lower-case hexadecimal digits; a later version may have more behind.
fn read(text: &str) -> Option<([u8; 16], u64, u8)> {
    let mut parts = text.split('-');
    let mut next = |digits: usize| {
        let part = parts.next()?;
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (part.len() == digits && part.bytes().all(digit)).then_some(part)
    };
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    Some((
        trace.to_be_bytes(),
        span,
        u8::from_str_radix(flags, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_read_and_what_is_none_is_not_there() {
        let (trace, span, flags) =
            read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!(trace[..2], [0x0a, 0xf7]);
        assert_eq!((span, flags), (0xb7ad_6b71_6920_3331, 1));
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
        assert!(read(later).is_some());
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", parent.parse().unwrap());
        headers.insert("tracestate", "a=1".parse().unwrap());
        assert_eq!(Context::of(&headers).unwrap().state, "a=1");
        headers.insert("tracestate", "a".repeat(513).parse().unwrap());
        assert_eq!(Context::of(&headers).unwrap().state, "");
    }
}
