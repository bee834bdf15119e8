//! Hostile headers: no panic, no endless loop, and nothing that has no meaning is understood. For the
//! seeded test, and for `fuzz/`.

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER, WARNING, WWW_AUTHENTICATE};

use super::challenge::Challenge;
use super::retry::retry_after;
use super::tags::next_link;
use super::warning::{Shown, Warnings};

/// Reads any bytes as each header that registries send. Panics when something does not hold.
pub fn headers(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let warnings = Warnings::to(|_, words| {
        assert!(words.chars().count() <= 300 && !words.chars().any(char::is_control));
    });
    let mut headers = HeaderMap::new();
    for name in [WWW_AUTHENTICATE, RETRY_AFTER, WARNING] {
        headers.append(name, value.clone());
    }
    if let Some(Challenge::Bearer { realm, .. }) = Challenge::find(&headers) {
        assert!(realm.len() <= bytes.len());
    }
    let _ = retry_after(&headers);
    Shown::default().show(&warnings, "a.example", &headers);
    if let Some(link) = value.to_str().ok().and_then(next_link) {
        assert!(!link.contains('>'));
    }
}

#[cfg(test)]
#[test]
fn hostile_headers_are_understood_or_passed_over() {
    let corpus: [&[u8]; 6] = [
        br#"Bearer realm="https://a.example/token",service="a",scope="repository:a/b:pull,push""#,
        br#"Basic realm="x", Bearer realm="y\"z", error="invalid_token""#,
        br#"</v2/a/tags/list?n=2&last=x>; rel="next", <b>; rel=prev"#,
        br#"299 - "going \"soon\"" "Wed, 21 Oct 2015 07:28:00 GMT""#,
        b"Wed, 21 Oct 2015 07:28:00 GMT",
        b"120",
    ];
    crate::mutator::run(60_000, &corpus, headers);
}
