//! Errors to gRPC statuses: the one place. kubelet acts on few codes (NOT_FOUND: treat as gone;
//! DEADLINE_EXCEEDED: a probe timed out; UNIMPLEMENTED: do without). The reason of a failed pull it
//! takes from the word that the message begins with, and it looks for that word only in errors of
//! code UNKNOWN: of all others it reads the code first.
//!
//! A message travels in a header, of which clients take 8 KiB, and it may hold what a request or an
//! image held: it is short, and has no control characters.

use engine::{Error, Kind};
use tonic::{Code, Status};

/// The status of an engine's error, with its message.
pub(crate) fn of(error: Error) -> Status {
    match word(&error) {
        Some(word) => Status::unknown(brief(&format!("{word}: {error}"))),
        None => Status::new(code(error.kind()), brief(&error.to_string())),
    }
}

/// The most of a message that is told, in bytes.
const BRIEF: usize = 1024;

/// A text that may come from anywhere, as a person and a header can take it: cut where it gets too
/// long, and with control characters written out.
pub(crate) fn brief(text: &str) -> String {
    let mut told = String::with_capacity(text.len().min(BRIEF));
    for character in text.chars() {
        let before = told.len();
        match character {
            // Marks that turn the direction of what follows, too.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => {
                told.extend(character.escape_unicode());
            }
            _ if character.is_control() => told.extend(character.escape_default()),
            _ => told.push(character),
        }
        if told.len() > BRIEF {
            told.truncate(before);
            told.push('…');
            break;
        }
    }
    told
}

/// The status of an RPC that is in the schema and not built.
pub(crate) fn unimplemented(rpc: &str) -> Status {
    let rpc = brief(rpc);
    Status::unimplemented(format!("{rpc} is not implemented by this version of floe"))
}

/// The status of work that ended without an outcome: it panicked.
pub(crate) fn lost(rpc: &str) -> Status {
    Status::internal(format!("{rpc} failed inside floe: its log has more"))
}

/// The status of an RPC that comes when serving has ended.
pub(crate) fn ending(rpc: &str) -> Status {
    Status::unavailable(format!("{rpc}: floe is ending; try again"))
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

/// The word by which kubelet knows why an image is not there.
fn word(error: &Error) -> Option<&'static str> {
    match error {
        Error::Pull { .. } | Error::PullShort { .. } if error.is_policy() => {
            Some("SignatureValidationFailed")
        }
        Error::Pull { .. } | Error::PullShort { .. } if error.kind() == Kind::Unavailable => {
            Some("RegistryUnavailable")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_not_found_by_the_name_the_user_wrote() {
        let status = of(Error::NotFound {
            what: "pod",
            name: "abc".into(),
        });
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains("abc"), "{}", status.message());
    }

    #[test]
    fn a_probe_that_ran_out_of_time_is_deadline_exceeded() {
        let status = of(Error::ExecTimeout {
            id: "c".into(),
            seconds: 3,
        });
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_bad_field_is_named() {
        let status = of(Error::Invalid {
            field: "config.metadata".into(),
            reason: "is missing".into(),
        });
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "config.metadata: is missing");
    }

    #[test]
    fn a_message_fits_in_a_header_and_has_no_control_characters() {
        let long = of(Error::NotFound {
            what: "pod",
            name: "é".repeat(1 << 20),
        });
        assert!(long.message().len() <= BRIEF + '…'.len_utf8());
        assert!(long.message().starts_with("pod \"é") && long.message().ends_with('…'));
        let nasty = of(Error::Invalid {
            field: "config.metadata.name\n".into(),
            reason: "\u{1b}[31mred\0\u{202e}\u{7f}".into(),
        });
        let expected = r"config.metadata.name\n: \u{1b}[31mred\u{0}\u{202e}\u{7f}";
        assert_eq!(nasty.message(), expected);
        assert_eq!(brief("plain — text"), "plain — text");
        assert_eq!(brief(&"x".repeat(BRIEF)), "x".repeat(BRIEF));
    }

    #[test]
    fn an_rpc_that_is_not_built_says_its_name() {
        let status = unimplemented("SleepContainer");
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("SleepContainer"));
    }
}
