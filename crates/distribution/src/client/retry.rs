//! Which failures are worth another try, and when.
//!
//! Must never try for ever: every loop calls [`Retry::wait`] or [`Retry::pause`], bounded by [`Retry::attempts`].

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::error::Error;

/// How often and how fast to try again after a broken connection, 429 or 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many times to try in all, at least 1.
    pub attempts: u32,
    /// The pause before the second try; it doubles from then on.
    pub first_delay: Duration,
    /// The longest pause, and the longest `Retry-After` that is waited for.
    pub max_delay: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 4,
            first_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(20),
        }
    }
}

/// A failure, and whether another try may help.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Box<Error>,
    pub(super) again: Again,
}

/// Whether another try may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// After the usual pause, or after the one that the server asked for.
    After(Option<Duration>),
    /// After the usual pause, unless it is the second failure: waiting for nothing takes long.
    Once,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            error: Box::new(error),
            again: Again::No,
        }
    }
}

impl Failure {
    pub(super) fn transient(error: Error, delay: Option<Duration>) -> Failure {
        Failure {
            again: match error.is_timeout() {
                true => Again::Once,
                false => Again::After(delay),
            },
            error: Box::new(error),
        }
    }
}

impl Retry {
    /// Waits for the next try after a failure, or gives the error back when there is none.
    /// `tried` counts the tries; it begins at 0.
    pub(super) async fn wait(&self, tried: &mut u32, failure: Failure) -> Result<(), Error> {
        *tried += 1;
        let Some(pause) = self.pause(*tried, failure.again) else {
            return Err(*failure.error);
        };
        tracing::debug!("trying again in {pause:?}: {}", failure.error);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// How long to wait after `tried` failures; nothing when it is over.
    pub(super) fn pause(&self, tried: u32, again: Again) -> Option<Duration> {
        let (asked, attempts) = match again {
            Again::No => return None,
            Again::After(asked) => (asked, self.attempts),
            Again::Once => (None, self.attempts.min(2)),
        };
        if tried >= attempts.max(1) {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= self.max_delay).then_some(asked);
        }
        let doubled = self.first_delay.saturating_mul(1 << (tried - 1).min(16));
        // Many nodes meet the same outage; they must not come back all at once.
        let jitter = (RandomState::new().hash_one(tried) % 256) as u32;
        Some((doubled / 4 * 3 + doubled / 512 * jitter).min(self.max_delay))
    }
}

/// `Retry-After`, in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let retry = Retry {
            attempts: 4,
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_millis(300),
        };
        let pause = |tried| retry.pause(tried, Again::After(None));
        let first = pause(1).unwrap();
        assert!(
            first >= Duration::from_millis(75) && first <= Duration::from_millis(125),
            "{first:?}"
        );
        assert!(pause(2).unwrap() > Duration::from_millis(149));
        assert_eq!(pause(4), None);
        assert_eq!(retry.pause(1, Again::No), None);
        assert!(retry.pause(1, Again::Once).is_some());
        assert_eq!(retry.pause(2, Again::Once), None);
    }

    #[test]
    fn the_server_may_say_when_but_not_how_long() {
        let retry = Retry::default();
        let asked = |seconds| retry.pause(1, Again::After(Some(Duration::from_secs(seconds))));
        assert_eq!(asked(3), Some(Duration::from_secs(3)));
        assert_eq!(asked(3600), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let header = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(header("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            header("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        assert_eq!(header("soon"), None);
        assert_eq!(header("99999999999999999999999"), None);
    }
}
