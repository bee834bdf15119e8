//! Errors as answers (Distribution spec, "Error Codes"): the one place where an error becomes a status.
//!
//! Must never tell a client what is wrong inside: paths and causes are for the log.

use hyper::header::{ALLOW, CONTENT_RANGE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, value};
use crate::error::Error;

/// The answer that says what is wrong.
pub(super) fn answer(error: &Error, method: &Method) -> Answer {
    let (status, code) = code(error, method);
    let message = match status.is_server_error() {
        true => "internal error: the server's log says more".to_owned(),
        // It may repeat what a client wrote, and may be printed by one.
        false => super::plain(&error.to_string(), usize::MAX),
    };
    let mut entry = json!({ "code": code, "message": message });
    if let Some(detail) = detail(error) {
        entry["detail"] = detail;
    }
    let body = json!({ "errors": [entry] }).to_string();
    let mut answer = super::json(status, "application/json", body.into_bytes());
    let headers = answer.headers_mut();
    match error {
        Error::Unauthorized { challenge, .. } => {
            headers.insert(WWW_AUTHENTICATE, value(challenge));
        }
        Error::OutOfOrder { location, offset } => {
            headers.insert(LOCATION, value(location));
            headers.insert(RANGE, value(&received(*offset)));
        }
        Error::Range { size } => {
            headers.insert(CONTENT_RANGE, value(&format!("bytes */{size}")));
        }
        Error::UploadBusy | Error::TooManyUploads { .. } | Error::TooManyManifests => {
            headers.insert(RETRY_AFTER, value("5"));
        }
        Error::Later => {
            headers.insert(RETRY_AFTER, value("1"));
        }
        Error::ReadOnly | Error::Method(_) => {
            headers.insert(ALLOW, value("GET, HEAD"));
        }
        _ => {}
    }
    answer
}

/// `0-LAST`, as the specification counts what an upload has; nothing is `0-0` too.
pub(super) fn received(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn code(error: &Error, method: &Method) -> (StatusCode, &'static str) {
    let read = *method == Method::GET || *method == Method::HEAD;
    match error {
        Error::NameInvalid(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
        Error::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        // What cannot exist is not found.
        Error::TagInvalid(_) if read => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        Error::TagInvalid(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        Error::DigestInvalid(_) | Error::DigestMismatch { .. } => {
            (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
        }
        Error::BlobUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        Error::ManifestUnknown { .. } | Error::NotAcceptable { .. } => {
            (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN")
        }
        Error::ManifestInvalid(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        Error::ManifestBlobUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
        Error::ManifestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID"),
        Error::BlobTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BLOB_UPLOAD_INVALID"),
        Error::UploadUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        Error::OutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
        Error::UploadInvalid(_) | Error::Body(_) => {
            (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID")
        }
        Error::SizeInvalid { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        Error::Later
        | Error::UploadBusy
        | Error::TooManyUploads { .. }
        | Error::TooManyManifests => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        Error::Slow(_) => (StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID"),
        Error::Query(_) => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
        Error::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID"),
        Error::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        Error::ReadOnly | Error::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
        Error::NoEndpoint => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN")
        }
        Error::Io { .. }
        | Error::NotRegistry(_)
        | Error::Version { .. }
        | Error::Damaged { .. }
        | Error::Store(_)
        | Error::Setting { .. }
        | Error::Tls(_)
        | Error::Options(_)
        | Error::Listen { .. }
        | Error::Task(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

fn detail(error: &Error) -> Option<Value> {
    match error {
        Error::ManifestBlobUnknown { missing, .. } => Some(json!({ "missing": missing })),
        Error::BlobUnknown { digest, .. } => Some(json!({ "digest": digest })),
        Error::DigestMismatch { expected, actual } => {
            Some(json!({ "expected": expected, "actual": actual }))
        }
        _ => None,
    }
}
