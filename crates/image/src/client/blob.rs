//! Pulling blobs (distribution-spec, "Pulling blobs") as a stream that survives broken connections.
//!
//! After a break the rest is asked for by `Range`. Must never end well with too few, too many or
//! other bytes than the descriptor says, and never hold more than one chunk.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::answer::Answer;
use super::exchange::{Ask, Repo, Target};
use super::retry::Again;
use super::transport::chain;
use super::{Client, PULL};
use crate::auth::Credentials;
use crate::digest::{Digest, Verifier};
use crate::error::{At, Error, ProtocolFlaw, Result};
use crate::manifest::Descriptor;
use crate::registries::Source;

/// How much must come through a connection for it to count as progress. Less would let a server
/// keep us busy for ever, byte by byte.
const PROGRESS: u64 = 64 << 10;

/// The bytes of a blob. Ends with an error unless all of them came and have the right digest: what
/// was read before that is not to be used.
pub struct BlobStream {
    chunks: BoxStream<'static, Result<Bytes>>,
    size: u64,
}

impl BlobStream {
    /// The size of the whole, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(context)
    }
}

impl Client {
    /// A blob of the image at `source`, as its manifest's answer named it. The connection is made,
    /// and an error of the registry known, when this returns.
    ///
    /// Errors as [`Error`] says, in the stream also with [`Error::Truncated`], [`Error::TooLarge`]
    /// and [`Error::DigestMismatch`].
    pub async fn blob(
        &self,
        source: &Source,
        descriptor: &Descriptor,
        credentials: &Credentials,
    ) -> Result<BlobStream> {
        let verifier = descriptor.digest.verifier();
        self.download(source, descriptor, credentials, Some(verifier))
            .await
    }

    /// The same for a reader that computes the digest itself, such as the store, so that it is not
    /// computed twice. The size is still exact.
    pub async fn blob_unverified(
        &self,
        source: &Source,
        descriptor: &Descriptor,
        credentials: &Credentials,
    ) -> Result<BlobStream> {
        self.download(source, descriptor, credentials, None).await
    }

    async fn download(
        &self,
        source: &Source,
        descriptor: &Descriptor,
        credentials: &Credentials,
        verifier: Option<Verifier>,
    ) -> Result<BlobStream> {
        let mut download = Download {
            client: self.clone(),
            repo: self.inner.repo(source, credentials, PULL).await?,
            digest: descriptor.digest.clone(),
            subject: format!("blob {} of {}", descriptor.digest, source.reference.name()),
            size: descriptor.size,
            received: 0,
            verifier,
            answer: None,
            pending: Bytes::new(),
            failures: 0,
            mark: 0,
        };
        download.connect().await?;
        let chunks = try_unfold(download, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        });
        Ok(BlobStream {
            chunks: chunks.boxed(),
            size: descriptor.size,
        })
    }
}

struct Download {
    client: Client,
    repo: Repo,
    digest: Digest,
    subject: String,
    size: u64,
    received: u64,
    verifier: Option<Verifier>,
    answer: Option<Answer>,
    /// The first new bytes of a connection that began too early.
    pending: Bytes,
    /// Broken connections since the last progress.
    failures: u32,
    /// What had been received when a connection broke last.
    mark: u64,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if !self.pending.is_empty() {
                let chunk = std::mem::take(&mut self.pending);
                return self.accept(chunk).map(Some);
            }
            let Some(answer) = &mut self.answer else {
                self.connect().await?;
                continue;
            };
            let cause = match answer.response.chunk().await {
                Ok(Some(chunk)) if chunk.is_empty() => continue,
                Ok(Some(chunk)) => return self.accept(chunk).map(Some),
                Ok(None) if self.received == self.size => return self.finish(),
                Ok(None) => "the connection ended early".to_owned(),
                // All is here; that the connection did not end in order is no loss.
                Err(_) if self.received == self.size => return self.finish(),
                Err(error) => chain(&error),
            };
            let at = answer.at.clone();
            self.answer = None;
            self.pause(at, cause).await?;
        }
    }

    fn accept(&mut self, chunk: Bytes) -> Result<Bytes> {
        let total = self.received.saturating_add(chunk.len() as u64);
        if total > self.size {
            return Err(Error::TooLarge {
                at: self.at(),
                limit: self.size,
            });
        }
        self.received = total;
        if let Some(verifier) = &mut self.verifier {
            verifier.update(&chunk);
        }
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        if let Some(verifier) = self.verifier.take() {
            let at = self.at();
            verifier.finish(&format!("{} from {}", at.subject, at.endpoint))?;
        }
        let locations = &self.client.inner.locations;
        locations.remember(&self.repo.source.reference, &self.digest);
        Ok(None)
    }

    fn at(&self) -> At {
        let domain = || At {
            subject: self.subject.as_str().into(),
            endpoint: self.repo.source.reference.domain().into(),
        };
        self.answer
            .as_ref()
            .map_or_else(domain, |answer| answer.at.clone())
    }

    /// Waits before the next connection, or gives up.
    async fn pause(&mut self, at: At, cause: String) -> Result<()> {
        if self.received >= self.mark + PROGRESS {
            self.failures = 0;
        }
        self.mark = self.received;
        self.failures += 1;
        match self
            .client
            .inner
            .config
            .retry
            .pause(self.failures, Again::After(None))
        {
            Some(pause) => {
                tracing::debug!(
                    "{}: {cause} after {} bytes; going on in {pause:?}",
                    self.subject,
                    self.received
                );
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(Error::Truncated {
                at,
                expected: self.size,
                received: self.received,
                cause,
            }),
        }
    }

    /// Asks for the blob, or for what is missing of it.
    async fn connect(&mut self) -> Result<()> {
        let mut ask = Ask::new(
            Method::GET,
            Target::Api(format!("blobs/{}", self.digest)),
            self.subject.clone(),
        );
        if self.received > 0 {
            let range = format!("bytes={}-", self.received);
            ask.headers.extend(
                HeaderValue::try_from(range)
                    .ok()
                    .map(|value| (RANGE, value)),
            );
        }
        let answer = self.client.inner.ask(&self.repo, &ask).await?;
        let begin = match answer.response.status() {
            StatusCode::PARTIAL_CONTENT => {
                range_start(&answer).filter(|start| *start == self.received)
            }
            _ => Some(0),
        };
        let Some(begin) = begin else {
            return Err(Error::Protocol {
                at: answer.at,
                flaw: ProtocolFlaw::Range,
            });
        };
        self.check_length(&answer, begin)?;
        self.answer = Some(answer);
        if begin < self.received {
            self.skip().await
        } else {
            Ok(())
        }
    }

    /// A length that cannot be right is known before the first byte.
    fn check_length(&self, answer: &Answer, begin: u64) -> Result<()> {
        let Some(length) = answer.response.content_length() else {
            return Ok(());
        };
        let total = begin.saturating_add(length);
        if total > self.size {
            return Err(Error::TooLarge {
                at: answer.at.clone(),
                limit: self.size,
            });
        }
        if total < self.size {
            let cause = "that is all it has".to_owned();
            return Err(Error::Truncated {
                at: answer.at.clone(),
                expected: self.size,
                received: total,
                cause,
            });
        }
        Ok(())
    }

    /// Reads again, and drops, what is here already: the server does not know ranges.
    async fn skip(&mut self) -> Result<()> {
        let mut left = self.received;
        while let Some(answer) = &mut self.answer {
            match answer.response.chunk().await {
                Ok(Some(chunk)) if (chunk.len() as u64) < left => left -= chunk.len() as u64,
                Ok(Some(mut chunk)) => {
                    self.pending = chunk.split_off(usize::try_from(left).unwrap_or(chunk.len()));
                    return Ok(());
                }
                // The next read meets the end or the error again, and counts it.
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

fn range_start(answer: &Answer) -> Option<u64> {
    let range = answer
        .header(CONTENT_RANGE.as_str())?
        .trim()
        .strip_prefix("bytes")?;
    range.trim_start().split('-').next()?.parse().ok()
}
