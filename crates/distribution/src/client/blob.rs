//! Pulling blobs (distribution-spec, "Pulling blobs") as a stream that survives broken connections.
//!
//! After a break the rest is asked for by `Range`. A large blob comes in parts over several connections
//! where the server knows ranges: far away, one connection alone does not fill the line. Must never end
//! well with too few, too many or other bytes than the descriptor says, and never hold more than one
//! chunk, or the parts on their way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt, try_unfold};
use image::{Descriptor, Digest, Verifier};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::answer::Answer;
use super::exchange::{Ask, Repo, Target};
use super::patience::{Broken, LEAST, Pace};
use super::retry::Again;
use super::{Client, PULL};
use crate::auth::Credentials;
use crate::error::{At, Error, ProtocolFlaw, Result};
use crate::registries::Source;

/// A blob from this size on comes in parts.
const IN_PARTS: u64 = 64 << 20;
/// The size of a part, in bytes.
const PART: u64 = 4 << 20;
/// Parts on their way, or held because one before them is late.
const PARTS: usize = 3;

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
    /// and a mismatch of the digest.
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
        let size = descriptor.size;
        let mut download = Download {
            client: self.clone(),
            repo: self.inner.repo(source, credentials, PULL).await?,
            digest: descriptor.digest.clone(),
            subject: format!("blob {} of {}", descriptor.digest, source.reference.name()),
            size,
            end: if size < IN_PARTS { size } else { PART },
            is_part: size >= IN_PARTS,
            received: 0,
            answer: None,
            pace: Pace::new(&self.inner.config),
            pending: Bytes::new(),
            failures: 0,
            mark: 0,
        };
        download.connect().await?;
        let whole = Whole {
            client: self.clone(),
            source: download.repo.source.clone(),
            digest: descriptor.digest.clone(),
            at: download.at(),
            verifier,
        };
        let chunks = match download.is_part {
            true => in_parts(download),
            false => download.stream(),
        };
        let chunks = try_unfold((chunks, whole), |(mut chunks, mut whole)| async move {
            match chunks.try_next().await? {
                Some(chunk) => {
                    whole.update(&chunk);
                    Ok(Some((chunk, (chunks, whole))))
                }
                None => whole.finish().map(|()| None),
            }
        });
        Ok(BlobStream {
            chunks: chunks.boxed(),
            size,
        })
    }
}

/// The parts after and with the first one, in order.
fn in_parts(first: Download) -> BoxStream<'static, Result<Bytes>> {
    let (end, size) = (first.end, first.size);
    let step = usize::try_from(PART).unwrap_or(usize::MAX);
    let rest: Vec<_> = (end..size)
        .step_by(step)
        .map(|from| first.part(from))
        .collect();
    let parts = stream::once(async { first }).chain(stream::iter(rest));
    let parts = parts.map(|part| part.stream().try_collect::<Vec<_>>());
    let chunks = parts
        .buffered(PARTS)
        .map_ok(|chunks| stream::iter(chunks.into_iter().map(Ok)));
    chunks.try_flatten().boxed()
}

/// What is known of a blob when all of it has come.
struct Whole {
    client: Client,
    source: Source,
    digest: Digest,
    at: At,
    verifier: Option<Verifier>,
}

impl Whole {
    fn update(&mut self, chunk: &[u8]) {
        if let Some(verifier) = &mut self.verifier {
            verifier.update(chunk);
        }
    }

    fn finish(self) -> Result<()> {
        if let Some(verifier) = self.verifier {
            let At { subject, endpoint } = &self.at;
            verifier.finish(&format!("{subject} from {endpoint}"))?;
        }
        let locations = &self.client.inner.locations;
        locations.remember(&self.source.reference, &self.digest);
        Ok(())
    }
}

/// A range of a blob, on its way.
struct Download {
    client: Client,
    repo: Repo,
    digest: Digest,
    subject: String,
    /// Of the whole blob.
    size: u64,
    /// Where the range ends.
    end: u64,
    /// Others fetch what is before and after it.
    is_part: bool,
    /// All before this place is here, or is another's affair.
    received: u64,
    answer: Option<Answer>,
    /// Of that answer.
    pace: Pace,
    /// The first new bytes of a connection that began too early.
    pending: Bytes,
    /// Broken connections since the last progress.
    failures: u32,
    /// What had been received when a connection broke last.
    mark: u64,
}

impl Download {
    /// The part that begins here.
    fn part(&self, from: u64) -> Download {
        Download {
            client: self.client.clone(),
            repo: self.repo.clone(),
            digest: self.digest.clone(),
            subject: self.subject.clone(),
            size: self.size,
            end: self.size.min(from + PART),
            is_part: true,
            received: from,
            answer: None,
            pace: Pace::new(&self.client.inner.config),
            pending: Bytes::new(),
            failures: 0,
            mark: from,
        }
    }

    fn stream(self) -> BoxStream<'static, Result<Bytes>> {
        let chunks = try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        });
        chunks.boxed()
    }

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
            let broken = match self.pace.chunk(&mut answer.response).await {
                Ok(Some(chunk)) if chunk.is_empty() => continue,
                Ok(Some(chunk)) => return self.accept(chunk).map(Some),
                Ok(None) if self.received == self.end => return Ok(None),
                Ok(None) => Broken {
                    cause: "the connection ended early".to_owned(),
                    timed_out: false,
                },
                // All is here; that the connection did not end in order is no loss.
                Err(_) if self.received == self.end => return Ok(None),
                Err(broken) => broken,
            };
            let at = answer.at.clone();
            self.answer = None;
            self.pause(at, broken).await?;
        }
    }

    fn accept(&mut self, chunk: Bytes) -> Result<Bytes> {
        let total = self.received.saturating_add(chunk.len() as u64);
        if total > self.end {
            return Err(Error::TooLarge {
                at: self.at(),
                limit: self.size,
            });
        }
        self.received = total;
        Ok(chunk)
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
    async fn pause(&mut self, at: At, broken: Broken) -> Result<()> {
        let Broken { cause, timed_out } = broken;
        if self.received >= self.mark + LEAST {
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
            None => {
                let error = Error::Truncated {
                    at,
                    expected: self.end,
                    received: self.received,
                    cause,
                    timed_out,
                };
                self.client.inner.note_slow(&self.repo.source, &error);
                Err(error)
            }
        }
    }

    /// Asks for the blob, or for what is missing of it.
    async fn connect(&mut self) -> Result<()> {
        let mut ask = Ask::new(
            Method::GET,
            Target::Api(format!("blobs/{}", self.digest)),
            self.subject.clone(),
        );
        ask.patient = true;
        if self.received > 0 || self.is_part {
            let range = match self.is_part {
                true => format!("bytes={}-{}", self.received, self.end - 1),
                false => format!("bytes={}-", self.received),
            };
            ask.headers.extend(
                HeaderValue::try_from(range)
                    .ok()
                    .map(|value| (RANGE, value)),
            );
        }
        let answer = self.client.inner.ask(&self.repo, &ask).await;
        let answer =
            answer.inspect_err(|error| self.client.inner.note_slow(&self.repo.source, error))?;
        let begin = match answer.response.status() {
            StatusCode::PARTIAL_CONTENT => {
                range_start(&answer).filter(|start| *start == self.received)
            }
            // The whole blob: a server that does not know ranges, as long as nobody counts on them.
            _ if self.received == 0 => {
                (self.end, self.is_part) = (self.size, false);
                Some(0)
            }
            _ => (!self.is_part).then_some(0),
        };
        let Some(begin) = begin else {
            return Err(Error::Protocol {
                at: answer.at,
                flaw: ProtocolFlaw::Range,
            });
        };
        self.check_length(&answer, begin)?;
        self.answer = Some(answer);
        self.pace = Pace::new(&self.client.inner.config);
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
        if total > self.end {
            return Err(Error::TooLarge {
                at: answer.at.clone(),
                limit: self.size,
            });
        }
        if total < self.end {
            let cause = "that is all it has".to_owned();
            return Err(Error::Truncated {
                at: answer.at.clone(),
                expected: self.end,
                received: total,
                cause,
                timed_out: false,
            });
        }
        Ok(())
    }

    /// Reads again, and drops, what is here already: the server does not know ranges.
    async fn skip(&mut self) -> Result<()> {
        let mut left = self.received;
        while let Some(answer) = &mut self.answer {
            match self.pace.chunk(&mut answer.response).await {
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
