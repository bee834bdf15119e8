//! A pod's events over a connection that waits for them. [`super::Call`] with
//! [`Request::Subscribe`] is the same for callers with an event loop.

use std::time::Duration;

use super::{Client, unexpected};
use crate::error::{Error, Result};
use crate::event::{Event, Present};
use crate::protocol::{Request, Response};

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// How the pod is: it comes first, and again when events were missed.
    Present(Present),
    /// Something has happened.
    Event(Event),
}

impl News {
    /// What an answer to [`Request::Subscribe`], or one that follows it, says.
    ///
    /// # Errors
    /// Another answer.
    pub fn of(response: Response) -> Result<Self> {
        match response {
            Response::Subscribed(present) => Ok(Self::Present(present)),
            Response::Event(event) => Ok(Self::Event(event)),
            other => Err(unexpected(&other)),
        }
    }
}

/// A subscription to a pod's events; dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
}

impl Client {
    /// Subscribes to what happens in the pod after the event of that number; `None`: from now on.
    /// The pod's present state is the first that comes.
    ///
    /// # Errors
    /// [`Error::Protocol`] from a supervisor that is older than events are.
    pub fn subscribe(mut self, after: Option<u64>) -> Result<Subscription> {
        self.send(&Request::Subscribe { after }, &[])?;
        Ok(Subscription { client: self })
    }
}

impl Subscription {
    /// What comes next; `None`: nothing came within `limit`.
    ///
    /// # Errors
    /// [`Error::Gone`] once the supervisor has ended.
    pub fn next(&mut self, limit: Duration) -> Result<Option<News>> {
        match self.client.answer(Some(limit)) {
            Ok(response) => News::of(response).map(Some),
            Err(Error::Silent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
