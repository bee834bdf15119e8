//! One request and its answer: scheme, login, redirects and retries.
//!
//! Must never send credentials to another origin than the one they are for, and never follow a
//! redirect of a write.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::answer::{Answer, Document, understand};
use super::challenge::Challenge;
use super::endpoint::{self, Scheme, is_local_address};
use super::patience::{self, Sending};
use super::retry::{Again, Failure};
use super::transport::chain;
use super::upload::BlobContent;
use super::{Inner, PULL};
use crate::auth::Credentials;
use crate::error::{At, Error, ProtocolFlaw, RedirectFlaw, Result};
use crate::registries::Source;

const MAX_REDIRECTS: usize = 5;
/// A body of so many bytes is sent at once, in effect.
const SMALL: usize = 64 << 10;

/// A repository at a registry, and who asks.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    pub(super) source: Source,
    pub(super) credentials: Credentials,
    /// What is to be done there, as token services write it.
    pub(super) actions: &'static str,
    /// Another repository of the registry, which is to be read.
    pub(super) from: Option<String>,
}

impl Repo {
    /// What a token must permit; nothing in particular when there is nothing to be done.
    pub(super) fn scopes(&self) -> Vec<String> {
        let path = self.source.reference.path();
        let own = (!self.actions.is_empty()).then(|| format!("repository:{path}:{}", self.actions));
        let from = self.from.as_ref();
        own.into_iter()
            .chain(from.map(|path| format!("repository:{path}:{PULL}")))
            .collect()
    }

    /// Whether a URL is not of the registry's own host.
    fn is_foreign(&self, url: &Url) -> bool {
        let own = endpoint::root(self.source.reference.domain(), Scheme::Https);
        own.is_none_or(|own| own.host() != url.host())
    }
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// `/v2/` of the registry.
    Root,
    /// Below `/v2/NAME/` of the repository.
    Api(String),
    /// Exactly here, as the registry says: a place for an upload, a next page, a token service.
    Url(Url),
    /// Exactly here, by our own choice.
    Own(Url),
}

/// The body of a request.
pub(super) enum Content {
    None,
    Bytes(Bytes),
    /// A stream of known size, which can be sent only once.
    Once(Mutex<Option<BlobContent>>, u64),
}

/// A request.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    /// For token services; registries are logged in at by challenge.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) content: Content,
    pub(super) subject: String,
    /// The head of the answer may take as long as its body may stall: caches fetch a blob first.
    pub(super) patient: bool,
}

impl Ask {
    pub(super) fn new(method: Method, target: Target, subject: String) -> Ask {
        let (headers, content) = (HeaderMap::new(), Content::None);
        Ask {
            method,
            target,
            headers,
            authorization: None,
            content,
            subject,
            patient: false,
        }
    }

    fn at(&self, url: &Url) -> At {
        At {
            subject: self.subject.as_str().into(),
            endpoint: endpoint::origin(url).into(),
        }
    }

    fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// Whether the body, if any, is still there to be sent.
    fn is_sendable(&self) -> bool {
        match &self.content {
            Content::None | Content::Bytes(_) => true,
            Content::Once(body, _) => body
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some(),
        }
    }
}

impl Inner {
    /// Sends a request until it is answered with success.
    pub(super) async fn ask(&self, repo: &Repo, ask: &Ask) -> Result<Answer> {
        let mut tried = 0;
        loop {
            match self.ask_once(repo, ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.config.retry.wait(&mut tried, failure).await?,
            }
        }
    }

    /// The same, with the whole body.
    pub(super) async fn ask_bytes(&self, repo: &Repo, ask: &Ask, limit: u64) -> Result<Document> {
        let mut tried = 0;
        loop {
            let document = match self.ask_once(repo, ask).await {
                Ok(answer) => answer.document(limit, self.patience()).await,
                Err(failure) => Err(failure),
            };
            match document {
                Ok(document) => return Ok(document),
                Err(failure) => self.config.retry.wait(&mut tried, failure).await?,
            }
        }
    }

    /// What a token service at `url` answers; it sets no challenges.
    pub(super) async fn ask_token(
        &self,
        repo: &Repo,
        ask: &Ask,
        url: &Url,
        limit: u64,
    ) -> Result<Bytes> {
        let mut tried = 0;
        loop {
            let document = match self
                .follow(repo, ask, url.clone(), ask.authorization.as_ref())
                .await
            {
                Ok(sent) => match understand(ask.at(&sent.url), sent.response).await {
                    Ok(answer) => answer.document(limit, self.patience()).await,
                    Err(failure) => Err(failure),
                },
                Err(failure) => Err(failure),
            };
            match document {
                Ok(document) => return Ok(document.bytes),
                Err(failure) => self.config.retry.wait(&mut tried, failure).await?,
            }
        }
    }

    /// How long a document may take: what comes drop by drop never stalls.
    fn patience(&self) -> Duration {
        self.config.stall_timeout.saturating_mul(2)
    }

    pub(super) async fn ask_once(&self, repo: &Repo, ask: &Ask) -> Result<Answer, Failure> {
        if !ask.is_sendable() {
            let at = At {
                subject: ask.subject.as_str().into(),
                endpoint: repo.source.reference.domain().into(),
            };
            let source =
                std::io::Error::other("it was read already, and the upload has to begin again");
            return Err(Error::PushContent { at, source }.into());
        }
        let sent = match &ask.target {
            Target::Url(url) | Target::Own(url) => self.logged_in(repo, ask, url.clone()).await?,
            Target::Root => self.by_scheme(repo, ask, "").await?,
            Target::Api(path) => {
                let path = format!("{}/{path}", repo.source.reference.path());
                self.by_scheme(repo, ask, &path).await?
            }
        };
        let headers = sent.response.headers();
        let registry = repo.source.reference.domain();
        self.warned.show(&self.config.warnings, registry, headers);
        let answer = understand(ask.at(&sent.url), sent.response).await;
        answer.map_err(|failure| {
            if ask.is_sendable() {
                failure
            } else {
                Failure::from(*failure.error)
            }
        })
    }

    /// An insecure registry may speak plain HTTP: https is tried first, and what works is remembered.
    async fn by_scheme(&self, repo: &Repo, ask: &Ask, path: &str) -> Result<Sent, Failure> {
        let domain = repo.source.reference.domain();
        let url = |scheme| {
            let root = endpoint::root(domain, scheme);
            let url = root.and_then(|root| root.join(path).ok());
            url.ok_or_else(|| {
                let at = At {
                    subject: ask.subject.as_str().into(),
                    endpoint: domain.into(),
                };
                Failure::from(Error::Unreachable {
                    at,
                    cause: "this is no valid address".to_owned(),
                    timed_out: false,
                })
            })
        };
        if !repo.source.insecure {
            let sent = self.logged_in(repo, ask, url(Scheme::Https)?).await;
            return sent.map_err(advised);
        }
        if let Some(scheme) = self.scheme(domain) {
            return self.logged_in(repo, ask, url(scheme)?).await;
        }
        let first = match self.logged_in(repo, ask, url(Scheme::Https)?).await {
            Ok(sent) => {
                self.remember_scheme(domain, Scheme::Https);
                return Ok(sent);
            }
            Err(failure) => failure,
        };
        if !matches!(&*first.error, Error::Unreachable { .. }) {
            return Err(first);
        }
        match self.logged_in(repo, ask, url(Scheme::Http)?).await {
            Ok(sent) => {
                self.remember_scheme(domain, Scheme::Http);
                Ok(sent)
            }
            Err(second) => Err(neither(&first, second)),
        }
    }

    /// Sends with the login that the registry wants; asks it once when that is not known yet.
    async fn logged_in(&self, repo: &Repo, ask: &Ask, url: Url) -> Result<Sent, Failure> {
        let origin = endpoint::origin(&url);
        let at = ask.at(&url);
        let mut authorization = None;
        if let Some(challenge) = self.logins.challenge(&origin) {
            authorization = self.authorization(repo, &challenge, false, &at).await?;
        }
        let sent = self
            .follow(repo, ask, url.clone(), authorization.as_ref())
            .await?;
        if sent.response.status() != StatusCode::UNAUTHORIZED
            || endpoint::origin(&sent.url) != origin
        {
            return Ok(sent);
        }
        let Some(challenge) = Challenge::find(sent.response.headers()) else {
            if sent.response.headers().contains_key(WWW_AUTHENTICATE) {
                return Err(Error::Protocol {
                    at,
                    flaw: ProtocolFlaw::Challenge,
                }
                .into());
            }
            return Ok(sent);
        };
        self.logins.remember(origin, challenge.clone());
        let answer = self
            .authorization(repo, &challenge, authorization.is_some(), &at)
            .await?;
        if answer.is_none() || answer == authorization || !ask.is_sendable() {
            return Ok(sent);
        }
        self.follow(repo, ask, url, answer.as_ref()).await
    }

    /// Sends, and follows redirects of reads. Credentials stay behind with the first origin.
    async fn follow(
        &self,
        repo: &Repo,
        ask: &Ask,
        mut url: Url,
        mut authorization: Option<&HeaderValue>,
    ) -> Result<Sent, Failure> {
        let origin = endpoint::origin(&url);
        let mut led = matches!(ask.target, Target::Url(_)) && repo.is_foreign(&url);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(repo, ask, &url, led, authorization).await?;
            if !is_redirect(response.status()) {
                return Ok(Sent { response, url });
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let refused = |target: String, flaw| Error::Redirect {
                at: ask.at(&url),
                target,
                flaw,
            };
            let location =
                location.ok_or_else(|| refused("nowhere".to_owned(), RedirectFlaw::NoLocation))?;
            let next = endpoint::redirect(&url, location, repo.source.insecure);
            let next = next.map_err(|(target, flaw)| refused(target, flaw))?;
            if !ask.is_read() {
                return Err(refused(endpoint::shown(&next), RedirectFlaw::Write).into());
            }
            if endpoint::origin(&next) != origin {
                authorization = None;
            }
            led |= next.host() != url.host();
            url = next;
        }
        let (at, target) = (ask.at(&url), endpoint::shown(&url));
        Err(Error::Redirect {
            at,
            target,
            flaw: RedirectFlaw::TooMany,
        }
        .into())
    }

    async fn send(
        &self,
        repo: &Repo,
        ask: &Ask,
        url: &Url,
        led: bool,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let domain = repo.source.reference.domain();
        let guarded = led && !self.is_near(domain);
        let client = self
            .transport
            .client(&self.config, url, repo.source.insecure, guarded)?;
        let mut request = client
            .request(ask.method.clone(), url.clone())
            .headers(ask.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let (request, sending) = with_content(request, ask);
        let answered = match sending {
            Some(sending) => sending.answer(&self.config, request.send()).await,
            None => {
                let limit = match ask.patient {
                    true => self.config.stall_timeout,
                    false => self.config.answer_timeout,
                };
                patience::answer(limit, request.send()).await
            }
        };
        let peer = answered.as_ref().ok().and_then(|sent| sent.as_ref().ok());
        let peer = peer.and_then(Response::remote_addr);
        if !led && peer.is_some_and(|peer| is_local_address(peer.ip())) {
            self.remember_near(domain);
        }
        let (cause, timed_out, is_final) = match answered {
            Ok(Ok(response)) => return Ok(response),
            // Nobody there is worth the next source; a broken connection is worth another try.
            Ok(Err(error)) => (
                chain(&error),
                error.is_timeout(),
                error.is_connect() || error.is_builder(),
            ),
            Err(broken) => (broken.cause, broken.timed_out, false),
        };
        let failed = Error::Unreachable {
            at: ask.at(url),
            cause,
            timed_out,
        };
        Err(match is_final || !ask.is_sendable() {
            true => failed.into(),
            false => Failure::transient(failed, None),
        })
    }
}

/// The request with its body, and how that gets on.
fn with_content(request: RequestBuilder, ask: &Ask) -> (RequestBuilder, Option<Sending>) {
    let (sending, body) = match &ask.content {
        Content::None if ask.is_read() => return (request, None),
        Content::None => return (request.header(CONTENT_LENGTH, 0), None),
        Content::Bytes(bytes) if bytes.len() <= SMALL => {
            return (request.body(bytes.clone()), None);
        }
        Content::Bytes(bytes) => {
            let sending = Sending::new(bytes.len() as u64);
            let body = sending.bytes(bytes.clone());
            (sending, body)
        }
        Content::Once(body, size) => {
            let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
            let sending = Sending::new(*size);
            let body = sending.stream(body.unwrap_or_else(|| stream::empty().boxed()));
            (sending, body)
        }
    };
    let request = request.header(CONTENT_LENGTH, sending.size()).body(body);
    (request, Some(sending))
}

/// The failure over http, with the one over https before it.
fn neither(over_https: &Failure, mut over_http: Failure) -> Failure {
    if let (
        Error::Unreachable {
            cause: first,
            timed_out: first_late,
            ..
        },
        Error::Unreachable {
            cause, timed_out, ..
        },
    ) = (&*over_https.error, &mut *over_http.error)
    {
        cause.push_str(&format!(" (and over https: {first})"));
        // Once more for both of them would take too long.
        if *first_late && *timed_out {
            over_http.again = Again::No;
        }
    }
    over_http
}

/// What helps where a registry cannot be talked to by checked TLS.
fn advised(mut failure: Failure) -> Failure {
    if let Error::Unreachable { cause, .. } = &mut *failure.error
        && let Some(advice) = endpoint::advice(cause)
    {
        cause.push_str(advice);
    }
    failure
}

/// An answer of any status, and the URL that gave it after all redirects.
struct Sent {
    response: Response,
    url: Url,
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
