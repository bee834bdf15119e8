//! What peers of a node get of its store: blobs that it has, those of images that still come included, and "later" (429)
//! for what is on its way, or when too many take something already.
//!
//! A peer gets a blob only under the repository under which this node has it.

use std::fmt;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::header::{HeaderMap, USER_AGENT};
use image::{Digest, Reference};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::http::Body;
use crate::name::Name;

/// Blobs that are sent at once: whoever waits finds one that got it meanwhile.
const SENDING: usize = 16;

/// Knows what is on its way to a node's store.
pub trait Arriving: Send + Sync + fmt::Debug {
    /// How a blob stands for whoever asks, by its `User-Agent`.
    fn arrival(&self, repository: &Reference, digest: &Digest, agent: Option<&str>) -> Arrival;
}

/// How a blob stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Nobody waits for it here.
    Unknown,
    /// It comes.
    Coming,
    /// It is in the store, though no image may have it yet.
    Here,
}

/// What lets peers in.
#[derive(Debug)]
pub(crate) struct PeerGate {
    arriving: Arc<dyn Arriving>,
    free: Arc<Semaphore>,
}

impl PeerGate {
    pub(crate) fn new(arriving: Arc<dyn Arriving>) -> Self {
        Self {
            arriving,
            free: Arc::new(Semaphore::new(SENDING)),
        }
    }

    /// How a blob that no image of the repository has stands.
    pub(crate) fn arrival(
        &self,
        name: &Name,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Result<Arrival> {
        let agent = headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        Ok(self.arriving.arrival(&name.reference()?, digest, agent))
    }

    /// A place to send a blob from its beginning.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| Error::Later)
    }
}

/// The body, which holds its place to its end.
pub(crate) fn holding(body: Body, place: OwnedSemaphorePermit) -> Body {
    body.map_frame(move |frame| {
        let _held = &place;
        frame
    })
    .boxed_unsync()
}
