//! Connections to CRI sockets: found, tried again, and each call with a limit, as Kubernetes' own client has
//! them. Nothing here knows what a call means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};

use crate::failure::{Context, Failure, Outcome};
use crate::say;
use crate::settings::{ENDPOINTS, Settings};

/// Between two tries to connect: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Pods and containers of a socket.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    channel: Channel,
    /// How long a call may take.
    pub(crate) limit: Duration,
}

/// Images of a socket.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    channel: Channel,
    /// How long a call may take.
    pub(crate) limit: Duration,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The runtime says so.
    Status(Status),
    /// Nobody has said anything for so long.
    Silence(Duration),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status(status) => status,
            Refusal::Silence(_) => Status::deadline_exceeded("context deadline exceeded"),
        }
    }
}

/// cri-client's words for a socket that is no use.
fn unfit(endpoint: &str) -> String {
    format!("validate service connection: validate CRI v1 runtime API for endpoint {endpoint:?}")
}

impl Runtime {
    /// Connects to the socket that the settings name, or to the first usual one that answers.
    pub(crate) async fn connect(settings: &Settings) -> Outcome<Self> {
        Self::with_limit(settings, None).await
    }

    /// The same with another limit for its calls.
    pub(crate) async fn with_limit(settings: &Settings, limit: Option<Duration>) -> Outcome<Self> {
        let limit = limit.filter(|limit| !limit.is_zero());
        let limit = limit.unwrap_or(settings.timeout);
        let Some(endpoint) = &settings.runtime_endpoint else {
            return Self::first(settings, limit).await;
        };
        if endpoint.is_empty() {
            return Err(Failure::new("--runtime-endpoint is not set"));
        }
        let (mut tried, mut pause) = (0, PAUSES.0);
        loop {
            match Self::at(endpoint, limit).await.context(unfit(endpoint)) {
                Ok(runtime) => return Ok(runtime),
                Err(error) if settings.retries.is_some_and(|most| tried >= most) => {
                    return Err(error);
                }
                Err(_) => {}
            }
            tried += 1;
            say::debug(format!(
                "Connection attempt {tried} failed, retrying in {pause:?}"
            ));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn first(settings: &Settings, limit: Duration) -> Outcome<Self> {
        let mut why = Vec::new();
        for endpoint in ENDPOINTS {
            // A socket that is not there need not be said of where another answers.
            match Self::at(endpoint, limit).await.context(unfit(endpoint)) {
                Ok(runtime) => {
                    say::debug(format!("Connected successfully using endpoint: {endpoint}"));
                    return Ok(runtime);
                }
                Err(Failure::Said(words)) => why.push(words),
                Err(other) => return Err(other),
            }
        }
        why.iter().for_each(|why| say::error(why));
        Err(Failure::new(format!(
            "no CRI socket answers: give --runtime-endpoint, or write runtime-endpoint into {}",
            settings.file.display()
        )))
    }

    async fn at(endpoint: &str, limit: Duration) -> Outcome<Self> {
        let channel = channel(endpoint, limit).await?;
        let runtime = Self { channel, limit };
        let version = cri::VersionRequest::default();
        runtime
            .call(async |mut client| client.version(version).await)
            .await?;
        Ok(runtime)
    }

    /// Makes a call within the usual limit.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Outcome<T> {
        self.call_within(Some(self.limit), call).await
    }

    /// The same within another, or none.
    pub(crate) async fn call_within<T>(
        &self,
        limit: Option<Duration>,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Outcome<T> {
        self.ask(limit, call).await.map_err(plain)
    }

    /// The same for whoever tells the runtime's refusal from its silence.
    pub(crate) async fn ask<T>(
        &self,
        limit: Option<Duration>,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Refusal> {
        let client = RuntimeServiceClient::new(self.channel.clone())
            .max_decoding_message_size(cri::MAX_MESSAGE)
            .max_encoding_message_size(cri::MAX_MESSAGE);
        within(limit, call(client)).await
    }
}

impl Images {
    /// The images of the socket that the settings name, or of that of the pods.
    pub(crate) async fn connect(settings: &Settings) -> Outcome<Self> {
        if settings.image_endpoint.is_none() {
            let runtime = Runtime::connect(settings).await?;
            return Self::beside(&runtime, settings).await;
        }
        Self::named(settings).await
    }

    /// The same beside a connection to pods, which is shared where the settings name no other socket.
    pub(crate) async fn beside(runtime: &Runtime, settings: &Settings) -> Outcome<Self> {
        match settings.image_endpoint {
            Some(_) => Self::named(settings).await,
            None => Ok(Self {
                channel: runtime.channel.clone(),
                limit: settings.timeout,
            }),
        }
    }

    async fn named(settings: &Settings) -> Outcome<Self> {
        let endpoint = settings.image_endpoint.as_deref().unwrap_or_default();
        if endpoint.is_empty() {
            return Err(Failure::new("--image-endpoint is not set"));
        }
        let limit = settings.timeout;
        let channel = channel(endpoint, limit).await.context(format!(
            "validate service connection: validate CRI v1 image API for endpoint {endpoint:?}"
        ))?;
        Ok(Self { channel, limit })
    }

    /// Makes a call within the usual limit.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(ImageServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Outcome<T> {
        self.call_within(Some(self.limit), call).await
    }

    /// The same within another, or none.
    pub(crate) async fn call_within<T>(
        &self,
        limit: Option<Duration>,
        call: impl AsyncFnOnce(ImageServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Outcome<T> {
        self.ask(limit, call).await.map_err(plain)
    }

    /// The same for whoever tells the runtime's refusal from its silence.
    pub(crate) async fn ask<T>(
        &self,
        limit: Option<Duration>,
        call: impl AsyncFnOnce(ImageServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Refusal> {
        let client = ImageServiceClient::new(self.channel.clone())
            .max_decoding_message_size(cri::MAX_MESSAGE)
            .max_encoding_message_size(cri::MAX_MESSAGE);
        within(limit, call(client)).await
    }
}

fn plain(refusal: Refusal) -> Failure {
    Status::from(refusal).into()
}

async fn within<T>(
    limit: Option<Duration>,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Refusal> {
    let answer = match limit {
        Some(limit) => tokio::time::timeout(limit, call)
            .await
            .map_err(|_| Refusal::Silence(limit))?,
        None => call.await,
    };
    answer.map(Response::into_inner).map_err(Refusal::Status)
}

/// A connection to a unix socket. Whether anybody listens there is found out at once.
async fn channel(endpoint: &str, limit: Duration) -> Outcome<Channel> {
    let path = path(endpoint)?;
    let unreachable = |why: String| {
        let at = path.display();
        Status::unavailable(format!(
            "connection error: desc = \"transport: Error while dialing: dial unix {at}: connect: {why}\""
        ))
    };
    let first = tokio::time::timeout(limit, UnixStream::connect(&path)).await;
    let first = match first {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(as_go_says(&error)).into()),
        Err(_) => return Err(unreachable("i/o timeout".to_owned()).into()),
    };
    let mut first = Some(first);
    let dial = move |_: Uri| {
        let (first, path) = (first.take(), path.clone());
        async move {
            let stream = match first {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            std::io::Result::Ok(TokioIo::new(stream))
        }
    };
    let endpoint = Endpoint::from_static("http://localhost");
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(dial)))
}

/// The path of `unix:///path`, or of a path alone, which crictl calls deprecated.
fn path(endpoint: &str) -> Outcome<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    match path.starts_with('/') {
        true => Ok(Path::new(path).to_owned()),
        false => Err(Failure::new(format!(
            "endpoint {endpoint:?}: only support unix socket endpoint, as unix:///run/floe/floe.sock"
        ))),
    }
}

/// `no such file or directory`, without Rust's number and capital.
fn as_go_says(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
