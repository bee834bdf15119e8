//! Traces: what a collector gets over its socket when RPCs are asked, and that nobody waits for it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use testkit::NodeOptions;

use crate::common::{World, image_spec, world_on};

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    begun: u64,
    #[prost(fixed64, tag = "8")]
    ended: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Taken {}

type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector of traces on a socket of its own; it ends with the value.
struct Collector {
    address: SocketAddr,
    spans: Spans,
    ends: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone)]
struct Collects(Spans);

impl NamedService for Collects {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl UnaryService<Export> for Collects {
    type Response = Taken;
    type Future = BoxFuture<Response<Taken>, Status>;

    fn call(&mut self, request: Request<Export>) -> Self::Future {
        let scopes = request.into_inner().resources.into_iter();
        let spans = scopes
            .flat_map(|resource| resource.scopes)
            .flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans);
        Box::pin(async { Ok(Response::new(Taken {})) })
    }
}

impl Service<http::Request<tonic::body::Body>> for Collects {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Taken, Export>::default();
            Ok(tonic::server::Grpc::new(codec)
                .unary(service, request)
                .await)
        })
    }
}

impl Collector {
    fn start() -> Self {
        let spans = Spans::default();
        let (ends, ended) = oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Collects(Arc::clone(&spans));
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let clients = tonic::transport::server::TcpIncoming::from(listener);
                let server = tonic::transport::Server::builder().add_service(service);
                tokio::select! {
                    served = server.serve_with_incoming(clients) => served.unwrap(),
                    _ = ended => {}
                }
            });
        };
        Self {
            address,
            spans,
            ends: Some(ends),
            thread: Some(std::thread::spawn(serve)),
        }
    }

    fn stop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    fn of(&self, trace: u8) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        let its = spans.iter().filter(|span| span.trace == [trace; 16]);
        its.cloned().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a test with a collector on the test's own network, to which an engine with these lines in its
/// configuration tells its traces.
fn collected(lines: &str, test: impl AsyncFnOnce(&mut World, &mut Collector)) {
    let started = RefCell::new(None);
    let options = |_: &testkit::Registry| {
        let collector = Collector::start();
        let config = format!(
            "[crio.tracing]\nenable_tracing = true\ntracing_endpoint = '{}'\n{lines}",
            collector.address
        );
        started.replace(Some(collector));
        NodeOptions {
            config,
            ..NodeOptions::default()
        }
    };
    world_on(options, async |world: &mut World| {
        let mut collector = started.take().unwrap();
        test(world, &mut collector).await;
    });
}

/// A request that is a part of the trace whose every byte is that.
fn traced<T>(message: T, trace: u8, flags: &str) -> Request<T> {
    let id = format!("{trace:02x}").repeat(16);
    let parent = format!("00-{id}-00000000000000aa-{flags}");
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", parent.parse().unwrap());
    request
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(found.len(), 1, "{name} in {names:?}");
    found[0]
}

#[test]
fn an_rpc_is_a_span_of_its_clients_trace_with_its_long_steps_below_it() {
    collected("", async |world: &mut World, collector: &mut Collector| {
        let root = async |world: &World, trace: u8, name: &str| {
            let spans = world.until(name, async || {
                let spans = collector.of(trace);
                let over = spans.iter().any(|span| span.name.ends_with(name));
                over.then_some(spans)
            });
            let spans = spans.await;
            let full = format!("runtime.v1.{name}");
            let root = named(&spans, &full).clone();
            assert_eq!(root.parent, [0, 0, 0, 0, 0, 0, 0, 0xaa]);
            assert!(root.begun <= root.ended);
            (spans, root)
        };
        let request = cri::RunPodSandboxRequest {
            config: Some(world.pod_config("a")),
            runtime_handler: String::new(),
        };
        let made = world
            .runtime()
            .run_pod_sandbox(traced(request, 1, "01"))
            .await;
        let pod = made.unwrap().into_inner().pod_sandbox_id;
        let (spans, of_pod) = root(world, 1, "RuntimeService/RunPodSandbox").await;
        for step in ["supervisor", "network"] {
            let step = named(&spans, step);
            assert_eq!(step.parent, of_pod.id);
            assert!(step.begun >= of_pod.begun && step.ended <= of_pod.ended);
        }
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(world.container("c", &["sleep", "1000"])),
            sandbox_config: Some(world.pod_config("a")),
        };
        let made = world
            .runtime()
            .create_container(traced(request, 2, "01"))
            .await;
        let container = made.unwrap().into_inner().container_id;
        let (spans, of_create) = root(world, 2, "RuntimeService/CreateContainer").await;
        assert_eq!(named(&spans, "create").parent, of_create.id);
        let request = cri::StartContainerRequest {
            container_id: container,
        };
        let started = world
            .runtime()
            .start_container(traced(request, 3, "01"))
            .await;
        started.unwrap();
        let (spans, of_start) = root(world, 3, "RuntimeService/StartContainer").await;
        assert_eq!(named(&spans, "supervisor").parent, of_start.id);
        world.remove_pod(&pod).await.unwrap();
        world.remove_image(&world.image).await.unwrap();
        let request = cri::PullImageRequest {
            image: Some(image_spec(&world.image)),
            ..cri::PullImageRequest::default()
        };
        let pulled = world.images().pull_image(traced(request, 4, "01")).await;
        pulled.unwrap();
        let (spans, of_pull) = root(world, 4, "ImageService/PullImage").await;
        let blobs: Vec<&Span> = spans.iter().filter(|span| span.name == "blob").collect();
        assert!(!blobs.is_empty() && blobs.iter().all(|blob| blob.parent == of_pull.id));
        // Whoever wants none, or says nothing at a rate of 0, has none.
        let version = || cri::VersionRequest::default();
        world
            .runtime()
            .version(traced(version(), 5, "00"))
            .await
            .unwrap();
        world.runtime().version(version()).await.unwrap();
        world
            .runtime()
            .version(traced(version(), 6, "01"))
            .await
            .unwrap();
        root(world, 6, "RuntimeService/Version").await;
        assert!(collector.of(5).is_empty());
        let all = collector.spans.lock().unwrap().clone();
        assert!(all.iter().all(|span| span.trace[0] < 7), "{all:?}");
    });
}

#[test]
fn nobody_waits_for_a_collector_that_is_gone() {
    let rate = "tracing_sampling_rate_per_million = 1000000\n";
    collected(
        rate,
        async |world: &mut World, collector: &mut Collector| {
            world
                .until("a span has come", async || {
                    let spans = collector.spans.lock().unwrap();
                    (!spans.is_empty()).then_some(())
                })
                .await;
            collector.stop();
            let pod = world.pod("a").await;
            assert_eq!(world.ran(&pod, world.script("c", "true")).await.0, 0);
            let line = world.logged("does not take spans", 1).await;
            assert!(line.contains("dropped"), "{line}");
            assert_eq!(world.ran(&pod, world.script("d", "true")).await.0, 0);
        },
    );
}
