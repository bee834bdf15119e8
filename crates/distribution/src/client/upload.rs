//! Pushing a blob whose content can be had again (distribution-spec, "Pushing blobs"), so that a
//! broken connection is no end.
//!
//! At first the blob goes up in one request. After a failure the registry is asked how much of it
//! has arrived, and the rest goes up in chunks; a server, or something before it, that calls the
//! request too large (413) gets smaller ones. Must never send a byte that does not belong at the
//! offset that the registry has told, and never try for ever.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use image::{Descriptor, Reference};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Url};

use super::Client;
use super::answer::Answer;
use super::exchange::{Ask, Content, Repo, Target};
use super::offer::{self, OpenUpload};
use super::push::upload_url;
use super::retry::{Again, Failure};
use crate::auth::Credentials;
use crate::error::{At, Error, Result};

/// Bytes of a chunk, unless the registry wants more of them or can take fewer only.
const CHUNK: u64 = 8 << 20;
/// What is too large for a registry even so cannot be sent.
const MIN_CHUNK: u64 = 64 << 10;

/// The content of a blob, from its beginning.
pub type BlobContent = BoxStream<'static, io::Result<Bytes>>;

impl Client {
    /// Pushes a blob that the repository of `reference` lacks, as [`offer_blob`](Client::offer_blob) has
    /// found, and goes on after broken connections: `open` gives the content from its beginning, each
    /// time that it is called.
    pub async fn push_blob_from<F, Opened>(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offered: offer::Opened,
        open: F,
        credentials: &Credentials,
    ) -> Result<()>
    where
        F: Fn() -> Opened + Send + Sync,
        Opened: Future<Output = io::Result<BlobContent>> + Send,
    {
        let repo = self.inner.push_repo(reference, credentials).await?;
        let min_chunk = offered.0.as_ref().map_or(0, |upload| upload.min_chunk);
        let mut upload = Upload {
            client: self,
            subject: format!("blob {} to {}", descriptor.digest, reference.name()),
            repo,
            descriptor,
            open,
            url: offered.0.map(|upload| upload.url),
            offset: 0,
            resume: false,
            chunk: None,
            min_chunk,
            failures: 0,
            mark: 0,
        };
        loop {
            match upload.attempt().await {
                Ok(()) => {
                    self.inner.locations.remember(reference, &descriptor.digest);
                    return Ok(());
                }
                Err(stop) => upload.recover(stop).await?,
            }
        }
    }
}

struct Upload<'a, F> {
    client: &'a Client,
    repo: Repo,
    descriptor: &'a Descriptor,
    subject: String,
    open: F,
    /// Where the opened upload is; none is open without it.
    url: Option<Url>,
    /// How much the registry has.
    offset: u64,
    /// The registry is to be asked what it has.
    resume: bool,
    /// In chunks of this size, or all at once.
    chunk: Option<u64>,
    /// The least that the registry takes in a chunk.
    min_chunk: u64,
    /// Failures since the last progress.
    failures: u32,
    /// What the registry had at the last failure.
    mark: u64,
}

/// Why an attempt ended.
enum Stop {
    /// The content cannot be read: no other attempt will help.
    Content(io::Error),
    Failed(Box<Error>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure.error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(Box::new(error))
    }
}

impl<F, Opened> Upload<'_, F>
where
    F: Fn() -> Opened + Send + Sync,
    Opened: Future<Output = io::Result<BlobContent>> + Send,
{
    async fn attempt(&mut self) -> Result<(), Stop> {
        let url = match self.url.take() {
            Some(url) if self.resume => self.status(url).await,
            Some(url) => Some(url),
            None => None,
        };
        let url = match url {
            Some(url) => url,
            None => self.begin().await?,
        };
        self.resume = true;
        self.url = Some(url.clone());
        let mut content = (self.open)().await.map_err(Stop::Content)?;
        let rest = skip(&mut content, self.offset)
            .await
            .map_err(Stop::Content)?;
        match self.chunk {
            None => self.whole(url, content).await,
            Some(size) => self.chunks(url, Buffer { content, rest }, size).await,
        }
    }

    /// Opens an upload.
    async fn begin(&mut self) -> Result<Url, Stop> {
        let ask = self.ask(Method::POST, Target::Api("blobs/uploads/".to_owned()));
        let answer = self.client.inner.ask(&self.repo, &ask).await?;
        let upload = OpenUpload::of(&answer)?;
        self.min_chunk = upload.min_chunk;
        self.offset = 0;
        Ok(upload.url)
    }

    /// Asks an upload for what it has; nothing when there is no such upload any more.
    async fn status(&mut self, url: Url) -> Option<Url> {
        let ask = self.ask(Method::GET, Target::Url(url.clone()));
        let answer = self.client.inner.ask(&self.repo, &ask).await.ok()?;
        self.offset = received(&answer)?;
        if self.offset > self.descriptor.size {
            return None;
        }
        match answer.header(LOCATION.as_str()) {
            Some(_) => upload_url(&answer).ok(),
            None => Some(url),
        }
    }

    fn ask(&self, method: Method, target: Target) -> Ask {
        let mut ask = Ask::new(method, target, self.subject.clone());
        let binary = HeaderValue::from_static("application/octet-stream");
        ask.headers.insert(CONTENT_TYPE, binary);
        ask
    }

    fn last(&self, mut url: Url) -> Ask {
        url.query_pairs_mut()
            .append_pair("digest", &self.descriptor.digest.to_string());
        self.ask(Method::PUT, Target::Url(url))
    }

    /// All at once.
    async fn whole(&mut self, url: Url, content: BlobContent) -> Result<(), Stop> {
        let flaw: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let broken = Arc::new(AtomicBool::new(false));
        let (kept, seen) = (Arc::clone(&flaw), Arc::clone(&broken));
        let content = content.map(move |chunk| {
            chunk.map_err(|error| {
                let words = io::Error::new(error.kind(), error.to_string());
                seen.store(true, Ordering::Relaxed);
                *kept
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                words
            })
        });
        let mut put = self.last(url);
        put.content = Content::Once(Mutex::new(Some(content.boxed())), self.descriptor.size);
        let sent = self.client.inner.ask_once(&self.repo, &put).await;
        if broken.load(Ordering::Relaxed) {
            let mut flaw = flaw
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(error) = flaw.take() {
                return Err(Stop::Content(error));
            }
        }
        Ok(sent.map(drop)?)
    }

    /// What is missing, chunk by chunk.
    async fn chunks(&mut self, mut url: Url, mut buffer: Buffer, size: u64) -> Result<(), Stop> {
        let size = size.max(self.min_chunk);
        while self.offset < self.descriptor.size {
            let wanted = size.min(self.descriptor.size - self.offset);
            let chunk = buffer.take(wanted).await.map_err(Stop::Content)?;
            let end = self.offset + chunk.len() as u64;
            let mut patch = self.ask(Method::PATCH, Target::Url(url.clone()));
            let range = format!("{}-{}", self.offset, end.saturating_sub(1));
            let range = HeaderValue::try_from(range).ok();
            patch
                .headers
                .extend(range.map(|range| (CONTENT_RANGE, range)));
            patch.content = Content::Bytes(chunk);
            let answer = self.client.inner.ask_once(&self.repo, &patch).await?;
            if answer.header(LOCATION.as_str()).is_some() {
                url = upload_url(&answer)?;
            }
            self.url = Some(url.clone());
            // A registry may have taken less than it was given: it is asked, then.
            self.offset = match received(&answer) {
                Some(offset) if offset != end => {
                    let cause = format!("it has taken {offset} bytes of {end}");
                    return Err(Error::Unreachable {
                        at: answer.at,
                        cause,
                        timed_out: false,
                    }
                    .into());
                }
                _ => end,
            };
        }
        let put = self.last(url);
        Ok(self
            .client
            .inner
            .ask_once(&self.repo, &put)
            .await
            .map(drop)?)
    }

    /// Waits before the next attempt, or says that there is none.
    async fn recover(&mut self, stop: Stop) -> Result<()> {
        let error = match stop {
            Stop::Content(source) => {
                let at = At {
                    subject: self.subject.as_str().into(),
                    endpoint: self.repo.source.reference.domain().into(),
                };
                return Err(Error::PushContent { at, source });
            }
            Stop::Failed(error) => *error,
        };
        let pause = match &error {
            Error::UnexpectedStatus { status: 413, .. } => {
                let smaller = self.chunk.map_or(CHUNK, |chunk| chunk / 8);
                if smaller < MIN_CHUNK {
                    return Err(error);
                }
                self.chunk = Some(smaller);
                self.url = None;
                return Ok(());
            }
            Error::RateLimited { retry_after, .. } => *retry_after,
            Error::UnexpectedStatus { status: 416, .. }
            | Error::Unreachable { .. }
            | Error::NotFound { .. } => None,
            Error::ServerError { status, .. } if !matches!(status, 501 | 505) => None,
            _ => return Err(error),
        };
        if self.offset > self.mark {
            self.failures = 0;
        }
        self.mark = self.offset;
        self.failures += 1;
        if self.descriptor.size > CHUNK {
            self.chunk.get_or_insert(CHUNK);
        } else {
            // So small that it is as well sent again as a whole.
            self.url = None;
        }
        let again = match error.is_timeout() {
            true => Again::Once,
            false => Again::After(pause),
        };
        match self.client.inner.config.retry.pause(self.failures, again) {
            Some(pause) => {
                tracing::debug!("{error}; going on in {pause:?}");
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}

/// How many bytes an upload has: `Range` is `0-LAST`, which is `0-0` for none, too.
fn received(answer: &Answer) -> Option<u64> {
    let range = answer.header(RANGE.as_str())?.trim();
    let last: u64 = range.rsplit('-').next()?.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last.saturating_add(1) })
}

/// Drops bytes that are not needed; what is left of the chunk in which they end.
async fn skip(content: &mut BlobContent, mut bytes: u64) -> io::Result<Bytes> {
    while bytes > 0 {
        let mut chunk = next(content).await?;
        let dropped = bytes.min(chunk.len() as u64);
        bytes -= dropped;
        let rest = chunk.split_off(usize::try_from(dropped).unwrap_or(chunk.len()));
        if bytes == 0 {
            return Ok(rest);
        }
    }
    Ok(Bytes::new())
}

async fn next(content: &mut BlobContent) -> io::Result<Bytes> {
    let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early");
    content.next().await.unwrap_or_else(|| Err(short()))
}

/// Content that is cut to measure.
struct Buffer {
    content: BlobContent,
    rest: Bytes,
}

impl Buffer {
    /// Exactly so many bytes.
    async fn take(&mut self, wanted: u64) -> io::Result<Bytes> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut taken = BytesMut::with_capacity(wanted);
        while taken.len() < wanted {
            if self.rest.is_empty() {
                self.rest = next(&mut self.content).await?;
                continue;
            }
            let part = self.rest.len().min(wanted - taken.len());
            taken.extend_from_slice(&self.rest.split_to(part));
        }
        Ok(taken.freeze())
    }
}
