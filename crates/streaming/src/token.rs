//! Single-use tokens: what was asked over CRI until its client comes for the streams. A token is the
//! only right that a client of the streams shows, so it cannot be guessed, and is good for one minute.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(60);

/// Tokens that wait for their client.
const MOST: usize = 1000;

/// What waits for its client.
#[derive(Debug)]
pub(crate) struct Tokens<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    requests: HashMap<String, T>,
    /// The oldest first; some may be used.
    ends: VecDeque<(Instant, String)>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            requests: HashMap::new(),
            ends: VecDeque::new(),
        }))
    }
}

impl<T> Tokens<T> {
    /// A token for a request; `None` when too many wait.
    pub(crate) fn add(&self, request: T) -> Option<String> {
        self.add_at(request, Instant::now())
    }

    fn add_at(&self, request: T, now: Instant) -> Option<String> {
        let token = random()?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.forget(now);
        if waiting.requests.len() >= MOST {
            return None;
        }
        waiting.requests.insert(token.clone(), request);
        waiting.ends.push_back((now + LIFETIME, token.clone()));
        Some(token)
    }

    /// The request of a token, which is used up.
    pub(crate) fn take(&self, token: &str) -> Option<T> {
        self.take_at(token, Instant::now())
    }

    fn take_at(&self, token: &str, now: Instant) -> Option<T> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.forget(now);
        waiting.requests.remove(token)
    }
}

impl<T> Waiting<T> {
    fn forget(&mut self, now: Instant) {
        while let Some((end, token)) = self.ends.front()
            && (*end <= now || !self.requests.contains_key(token))
        {
            self.requests.remove(token);
            self.ends.pop_front();
        }
    }
}

fn random() -> Option<String> {
    let mut bytes = [0_u8; 18];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    (filled == Ok(bytes.len())).then(|| URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let first = tokens.add_at(1, now).unwrap();
        let second = tokens.add_at(2, now).unwrap();
        assert_ne!(first, second);
        assert!(first.len() >= 24, "{first} can be guessed");
        assert_eq!(tokens.take_at(&first, now), Some(1));
        assert_eq!(tokens.take_at(&first, now), None);
        let last = now + LIFETIME - Duration::from_millis(1);
        let third = tokens.add_at(3, last).unwrap();
        assert_eq!(tokens.take_at(&second, now + LIFETIME), None);
        assert_eq!(tokens.take_at(&third, now + LIFETIME), Some(3));
    }

    #[test]
    fn so_many_wait_and_used_or_old_ones_make_room() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let first = tokens.add_at(0, now).unwrap();
        for number in 1..MOST {
            tokens.add_at(number, now).unwrap();
        }
        assert_eq!(tokens.add_at(MOST, now), None);
        tokens.take_at(&first, now).unwrap();
        tokens.add_at(MOST, now).unwrap();
        assert_eq!(tokens.add_at(MOST, now), None);
        tokens.add_at(MOST, now + LIFETIME).unwrap();
        assert_eq!(tokens.0.lock().unwrap().requests.len(), 1);
    }

    #[test]
    fn tokens_that_are_used_up_leave_nothing_behind() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        for number in 0..3 * MOST {
            let token = tokens.add_at(number, now).unwrap();
            tokens.take_at(&token, now).unwrap();
        }
        assert!(tokens.0.lock().unwrap().ends.len() <= 1);
    }
}
