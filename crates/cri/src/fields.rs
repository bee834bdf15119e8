//! Fields of a request that the schema does not have: what a newer client asks for, and would believe
//! to have got. They do no harm and have no effect, so each is told once in the log.
//!
//! Requests are hostile input: this reads what prost has accepted, in one pass and no deeper than the
//! schema is.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// A message of the schema.
struct Message {
    name: &'static str,
    /// Numbers in ascending order, with the place in [`MESSAGES`] of a field that is a message.
    fields: &'static [(u32, Option<usize>)],
}

include!(concat!(env!("OUT_DIR"), "/fields.rs"));

/// A field by its message's name and its number.
pub(crate) type Field = (&'static str, u32);

/// Fields that are remembered; a client with more of them is none of Kubernetes'.
const REMEMBERED: usize = 64;

/// Those that the log has told.
static TOLD: Mutex<BTreeSet<Field>> = Mutex::new(BTreeSet::new());

/// The fields of a message that the schema does not have, as many as are remembered. Of answers
/// nothing is said: there, the newer side is floe's server.
pub(crate) fn unknown(message: &str, bytes: &[u8]) -> BTreeSet<Field> {
    let mut found = BTreeSet::new();
    if !message.ends_with("Request") {
        return found;
    }
    let first = MESSAGES.iter().position(|one| one.name == message);
    let mut open: Vec<(usize, &[u8])> = first.map(|first| (first, bytes)).into_iter().collect();
    while let Some((place, mut rest)) = open.pop() {
        let message = &MESSAGES[place];
        while rest.has_remaining() && found.len() < REMEMBERED {
            // What prost cannot read it has refused already.
            let Ok((number, wire)) = decode_key(&mut rest) else {
                return found;
            };
            let known = message
                .fields
                .binary_search_by_key(&number, |field| field.0);
            if let Ok(field) = known
                && let Some(inside) = message.fields[field].1
                && wire == WireType::LengthDelimited
            {
                let part = decode_varint(&mut rest).ok();
                let length = part.and_then(|length| usize::try_from(length).ok());
                let Some((inner, after)) = length.and_then(|length| rest.split_at_checked(length))
                else {
                    return found;
                };
                open.push((place, after));
                open.push((inside, inner));
                break;
            }
            if known.is_err() {
                found.insert((message.name, number));
            }
            if skip_field(wire, number, &mut rest, DecodeContext::default()).is_err() {
                return found;
            }
        }
    }
    found
}

/// Those of the fields that the log has not told yet.
pub(crate) fn new(found: BTreeSet<Field>) -> Vec<Field> {
    if found.is_empty() {
        return Vec::new();
    }
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut new = Vec::new();
    for field in found {
        if told.len() < REMEMBERED && told.insert(field) {
            new.push(field);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerConfig, CreateContainerRequest, Mount};
    use prost::Message as _;
    use prost::encoding::{encode_key, encode_varint, string};

    /// Message `inner` as field `number` of another.
    fn inside(number: u32, inner: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_key(number, WireType::LengthDelimited, &mut bytes);
        encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend(inner);
        bytes
    }

    #[test]
    fn each_field_that_the_schema_lacks_is_found_at_any_depth() {
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let mut config = ContainerConfig {
            mounts: vec![Mount::default(), Mount::default()],
            labels,
            ..Default::default()
        }
        .encode_to_vec();
        let mut mount = Mount {
            container_path: "/a".into(),
            ..Default::default()
        }
        .encode_to_vec();
        string::encode(99, &"new".to_owned(), &mut mount);
        config.extend(inside(7, &mount));
        config.extend(inside(7, &mount));
        let mut request = inside(2, &config);
        request.extend(inside(1, b"a-pod"));
        encode_key(40, WireType::Varint, &mut request);
        encode_varint(7, &mut request);
        assert!(CreateContainerRequest::decode(request.as_slice()).is_ok());
        assert_eq!(
            Vec::from_iter(unknown("CreateContainerRequest", &request)),
            [("CreateContainerRequest", 40), ("Mount", 99)]
        );
        assert!(unknown("CreateContainerResponse", &request).is_empty());
    }

    #[test]
    fn a_request_of_this_schema_has_none() {
        let request = CreateContainerRequest {
            pod_sandbox_id: "a".into(),
            config: Some(ContainerConfig {
                annotations: [("a".to_owned(), "b".to_owned())].into(),
                mounts: vec![Mount {
                    mount_options: vec!["noexec".into()],
                    ..Default::default()
                }],
                ..Default::default()
            }),
            sandbox_config: Some(Default::default()),
        };
        let bytes = request.encode_to_vec();
        assert!(unknown("CreateContainerRequest", &bytes).is_empty());
    }

    #[test]
    fn what_is_broken_or_endless_is_no_harm() {
        for bytes in [&[0x0a, 0xff][..], &[0x80], &[0x12, 5, 0x3a, 9], &[0x0f]] {
            unknown("CreateContainerRequest", bytes);
        }
        let mut bytes = Vec::new();
        for number in 1000..100_000 {
            encode_key(number, WireType::Varint, &mut bytes);
            bytes.push(1);
        }
        assert_eq!(unknown("VersionRequest", &bytes).len(), REMEMBERED);
    }

    #[test]
    fn a_field_is_told_once_and_only_so_many_are() {
        let fields = || (1..=2 * REMEMBERED as u32).map(|number| ("Mount", number));
        assert_eq!(new(fields().collect()).len(), REMEMBERED);
        assert!(new(fields().collect()).is_empty());
    }
}
