//! Telling subscribers what happens. The last events are kept as the frames that are sent, up to
//! [`KEPT`] bytes; a subscriber is no more than the number of the event that it gets next. So one that
//! reads slowly costs nothing and holds nobody up: it is told that it has missed some, and how the pod
//! is now.

use std::collections::VecDeque;

use super::connection::Role;
use super::poller::Key;
use super::requests::Reply;
use super::{Supervisor, diagnose};
use crate::error::{Error, Result};
use crate::event::{Event, Happening, Present};
use crate::frame::encode;
use crate::protocol::Response;
use crate::state::{ContainerState, Status, now_ns};

/// How many bytes of events are kept: some forty of them.
const KEPT: usize = 16 << 10;
/// How long a container's message may be in an event; all of it is in the container's record.
const MESSAGE: usize = 1024;
/// How many clients may be subscribed.
const SUBSCRIBERS: usize = 16;

/// The last events, and who is told of the next.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The number of the last one.
    last: u64,
    /// The number of the last one that subscribers were told of.
    told: u64,
    /// The last ones, as they are sent.
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    subscribers: Vec<Key>,
}

impl Events {
    /// Notes what has just happened to a container.
    pub(super) fn note(&mut self, what: Happening, state: &ContainerState) {
        let mut state = state.clone();
        if let Status::Exited {
            message: Some(message),
            ..
        } = &mut state.status
        {
            message.truncate(message.floor_char_boundary(MESSAGE));
        }
        self.push(what, Some(state));
    }

    /// Notes what has just happened to the pod.
    pub(super) fn note_pod(&mut self, what: Happening) {
        self.push(what, None);
    }

    fn push(&mut self, what: Happening, container: Option<ContainerState>) {
        self.last += 1;
        let event = Event {
            seq: self.last,
            at_ns: now_ns(),
            what,
            container,
        };
        // A plain value always has a form; an empty frame would be passed over by nobody.
        let frame = encode(&Response::Event(event)).unwrap_or_default();
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.bytes > KEPT
            && let Some(oldest) = self.frames.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// The number of the oldest event that is kept, or of the next one.
    fn first(&self) -> u64 {
        self.last + 1 - self.frames.len() as u64
    }

    fn frame(&self, seq: u64) -> Option<&[u8]> {
        let number = usize::try_from(seq.checked_sub(self.first())?).ok()?;
        self.frames.get(number).map(Vec::as_slice)
    }

    /// What the one who has seen the events up to `after` gets first: the number of an event that is
    /// kept, or of the next one; and whether there were others in between.
    fn next_after(&self, after: Option<u64>) -> (u64, bool) {
        let newest = self.last + 1;
        match after.map(|seq| seq.saturating_add(1)) {
            None => (newest, false),
            Some(next) if (self.first()..=newest).contains(&next) => (next, false),
            // Too old: those that are kept, then.
            Some(next) if next < newest => (self.first(), true),
            // Of no event of this pod.
            Some(_) => (newest, true),
        }
    }

    pub(super) fn unsubscribe(&mut self, client: Key) {
        self.subscribers.retain(|subscriber| *subscriber != client);
    }
}

impl Supervisor {
    /// Makes the client a subscriber: it is told how the pod is, and then of what happens after the
    /// event of that number.
    pub(super) fn subscribe(&mut self, after: Option<u64>, client: Key) -> Result<Reply> {
        if self.events.subscribers.len() >= SUBSCRIBERS {
            let reason = format!("{SUBSCRIBERS} clients have subscribed already");
            return Err(Error::invalid("subscribe", reason));
        }
        let (next, gap) = self.events.next_after(after);
        self.events.subscribers.push(client);
        Ok(Reply::Now {
            response: Response::Subscribed(self.present(gap)),
            role: Role::Subscribed(next),
        })
    }

    fn present(&self, gap: bool) -> Present {
        let containers = self.containers.values();
        Present {
            seq: self.events.last,
            gap,
            containers: containers.map(|one| one.state.clone()).collect(),
        }
    }

    /// If something has happened, all subscribers are looked at.
    pub(super) fn tell_subscribers(&mut self) {
        if self.events.told == self.events.last {
            return;
        }
        self.events.told = self.events.last;
        for subscriber in &self.events.subscribers {
            let _ = self.connections.get(*subscriber);
        }
    }

    /// Sends a subscriber what it has not had, as far as there is room: the rest when there is again.
    pub(super) fn feed(&mut self, client: Key) {
        loop {
            let newest = self.events.last + 1;
            let Some(connection) = self.connections.look(client) else {
                return;
            };
            let Role::Subscribed(next) = connection.role else {
                return;
            };
            if connection.gone || connection.backlog() > 0 || next >= newest {
                return;
            }
            if let Some(frame) = self.events.frame(next) {
                connection.role = Role::Subscribed(next + 1);
                connection.frame(frame);
                continue;
            }
            let missed = encode(&Response::Subscribed(self.present(true)));
            let Some(connection) = self.connections.look(client) else {
                return;
            };
            connection.role = Role::Subscribed(newest);
            match missed {
                Ok(frame) => connection.frame(&frame),
                Err(error) => {
                    diagnose(format_args!("a subscriber is given up: {error}"));
                    connection.gone = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: u64) -> Events {
        let mut events = Events::default();
        let state = ContainerState::created("c", 1, "g");
        for _ in 0..count {
            events.note(Happening::Paused, &state);
        }
        events
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_or_learns_that_it_is_gone() {
        let events = with(3);
        assert_eq!(events.next_after(None), (4, false));
        assert_eq!(events.next_after(Some(0)), (1, false));
        assert_eq!(events.next_after(Some(2)), (3, false));
        assert_eq!(events.next_after(Some(3)), (4, false));
        assert_eq!(events.next_after(Some(9)), (4, true));
        assert_eq!(events.next_after(Some(u64::MAX)), (4, true));
        let many = with(10_000);
        assert_eq!(many.next_after(Some(0)), (many.first(), true));
        assert!(many.first() < 10_000);
        assert_eq!(many.next_after(Some(9_999)), (10_000, false));
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_whatever_happens() {
        let mut events = with(1000);
        let mut state = ContainerState::created("c", 1, "g");
        state.status = Status::Exited {
            started_at: None,
            finished_at: 1,
            exit_code: 1,
            oom_killed: false,
            message: Some("é".repeat(1 << 20)),
        };
        events.note(Happening::Exited, &state);
        let kept: usize = events.frames.iter().map(Vec::len).sum();
        assert!(kept <= KEPT, "{kept}");
        assert_eq!(events.bytes, kept);
        assert!(
            events
                .frame(1001)
                .is_some_and(|frame| frame.len() < 2 * MESSAGE)
        );
        assert_eq!(events.frame(1002), None);
        assert_eq!(events.frame(events.first() - 1), None);
    }
}
