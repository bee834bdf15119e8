//! A runtime that is wrong: a socket that hands each call on to a node that serves, but for those that a test has
//! answered otherwise. Its thread ends with the test.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response, Uri};
use tonic::server::NamedService;
use tonic::transport::{Channel, Error, Server};

use super::Machine;

/// What becomes of a call.
pub(crate) enum Deed {
    /// What the node says.
    Pass,
    /// This error.
    Fail(Status),
    /// Nothing is ever said.
    Hang,
    /// Success, and nothing is done.
    Nothing,
}

/// By the name of the RPC.
type Deeds = Arc<dyn Fn(&str) -> Deed + Send + Sync>;

#[derive(Clone)]
struct Between {
    channel: Channel,
    deeds: Deeds,
}

/// The same under the name of each service.
#[derive(Clone)]
struct Pods(Between);

#[derive(Clone)]
struct Images(Between);

impl NamedService for Pods {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

impl NamedService for Images {
    const NAME: &'static str = "runtime.v1.ImageService";
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl Between {
    fn answer(&self, mut request: Request<Body>) -> Answer<std::convert::Infallible> {
        let mut channel = self.channel.clone();
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let deed = (self.deeds)(name);
        Box::pin(async move {
            match deed {
                Deed::Pass => {}
                Deed::Fail(status) => return Ok(status.into_http()),
                Deed::Hang => std::future::pending().await,
                // Its answer has no field that the answers to removals have.
                Deed::Nothing => {
                    *request.uri_mut() = Uri::from_static("/runtime.v1.RuntimeService/Version");
                }
            }
            let ready = std::future::poll_fn(|context| channel.poll_ready(context)).await;
            let passed: Result<_, Error> = match ready {
                Ok(()) => channel.call(request).await,
                Err(error) => Err(error),
            };
            Ok(passed.unwrap_or_else(|error| Status::unavailable(error.to_string()).into_http()))
        })
    }
}

macro_rules! service {
    ($name:ident) => {
        impl Service<Request<Body>> for $name {
            type Response = Response<Body>;
            type Error = std::convert::Infallible;
            type Future = Answer<Self::Error>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<Body>) -> Self::Future {
                self.0.answer(request)
            }
        }
    };
}
service!(Pods);
service!(Images);

impl Machine {
    /// A socket before that of the node, which serves.
    pub(crate) fn wrong(
        &self,
        name: &str,
        deeds: impl Fn(&str) -> Deed + Send + Sync + 'static,
    ) -> PathBuf {
        let socket = self.node.path(name);
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("listen");
        listener.set_nonblocking(true).expect("a listener");
        let (ours, deeds): (_, Deeds) = (self.node.socket(), Arc::new(deeds));
        std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("an async runtime");
            tokio.block_on(serve(listener, &ours, deeds));
        });
        socket
    }
}

async fn serve(listener: std::os::unix::net::UnixListener, node: &Path, deeds: Deeds) {
    let listener = tokio::net::UnixListener::from_std(listener).expect("a listener");
    let channel = testkit::connect(node.to_owned()).await.expect("the node");
    let between = Between { channel, deeds };
    let incoming = futures_util::stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let served = Server::builder()
        .add_service(Pods(between.clone()))
        .add_service(Images(between))
        .serve_with_incoming(incoming);
    served.await.expect("serve");
}
