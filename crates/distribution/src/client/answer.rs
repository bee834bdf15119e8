//! Answers: what a status means, and bodies that are documents.
//!
//! Must never read more of an answer than its limit, and never show a registry's words unfiltered.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::retry::{Failure, retry_after};
use super::transport::chain;
use crate::error::{At, Error, Result};

/// The most of an error's body that is read for its message.
const MAX_ERROR_BODY: usize = 8 << 10;
/// How long an error's body may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// The most of a registry's message that is shown.
const MAX_MESSAGE: usize = 300;

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) at: At,
}

/// A successful answer with its whole body.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) at: At,
    pub(super) bytes: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Reads the whole body. Errors with [`Error::TooLarge`] above `limit` bytes, and when it takes longer
    /// than `patience`.
    pub(super) async fn document(
        mut self,
        limit: u64,
        patience: Duration,
    ) -> Result<Document, Failure> {
        let deadline = Instant::now() + patience;
        let too_large = |at: &At| {
            Failure::from(Error::TooLarge {
                at: at.clone(),
                limit,
            })
        };
        let announced = self.response.content_length();
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(&self.at));
        }
        let mut body = BytesMut::new();
        loop {
            let broken = match timeout_at(deadline, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    body.extend_from_slice(&chunk);
                    None
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => Some((chain(&error), false)),
                Err(_) => Some((format!("it comes too slowly: not in {patience:?}"), true)),
            };
            if let Some((cause, timed_out)) = broken {
                let error = Error::Truncated {
                    at: self.at,
                    expected: announced.unwrap_or_default(),
                    received: body.len() as u64,
                    cause,
                    timed_out,
                };
                return Err(Failure::transient(error, None));
            }
            if body.len() as u64 > limit {
                return Err(too_large(&self.at));
            }
        }
        let (headers, url) = (self.response.headers().clone(), self.response.url().clone());
        Ok(Document {
            headers,
            url,
            at: self.at,
            bytes: body.freeze(),
        })
    }
}

/// Whether these bytes are a page for people and no document.
pub(super) fn is_page(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"<")
}

/// Success as it is, and every other status as the error that it means.
pub(super) async fn understand(at: At, response: Response) -> Result<Answer, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(Answer { response, at });
    }
    let retry_after = retry_after(response.headers());
    let detail = detail(response).await;
    let status = status.as_u16();
    Err(match status {
        404 => Error::NotFound { at, detail }.into(),
        401 | 403 => Error::Unauthorized { at, status, detail }.into(),
        429 => {
            let error = Error::RateLimited {
                at,
                retry_after,
                detail,
            };
            Failure::transient(error, retry_after)
        }
        501 | 505 => Error::ServerError { at, status, detail }.into(),
        408 | 500..=599 => {
            Failure::transient(Error::ServerError { at, status, detail }, retry_after)
        }
        _ => Error::UnexpectedStatus { at, status, detail }.into(),
    })
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What the registry says about an error, cleaned for one line of a terminal.
async fn detail(mut response: Response) -> String {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BODY - body.len())]);
            if body.len() == MAX_ERROR_BODY {
                break;
            }
        }
    };
    // The message is a courtesy; what has come by then will do.
    let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, read).await;
    message(&body)
}

fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(parsed) => {
            let entries = parsed
                .errors
                .iter()
                .map(|entry| match entry.message.as_str() {
                    "" => entry.code.to_lowercase(),
                    message => message.to_owned(),
                });
            let entries = entries.chain(parsed.details).chain(parsed.message);
            entries
                .filter(|entry| !entry.is_empty())
                .collect::<Vec<_>>()
                .join("; ")
        }
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    if text.starts_with('<') {
        return String::new();
    }
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_message_is_shown_on_one_clean_line() {
        let body =
            br#"{"errors":[{"code":"DENIED","message":"no\nway\u001b[31m"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(message(body), "no way [31m; unknown");
        assert_eq!(
            message(br#"{"details":"incorrect username or password"}"#),
            "incorrect username or password"
        );
        assert_eq!(message(b" slow down \r\n"), "slow down");
        assert_eq!(message(b"<html>long page</html>"), "");
        assert_eq!(message(b""), "");
        assert!(message(&vec![0xff; 8192]).chars().count() <= MAX_MESSAGE);
    }
}
