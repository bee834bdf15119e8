//! The frame of every RPC of every service: the line of its refusal, its client's deadline and the memory
//! of its answer, in this order around what `runtime_service.rs` and `image_service.rs` do.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::answer::Answers;
use crate::metrics::Metrics;
use crate::trace::{Trace, Tracer};
use crate::{deadline, refusal};

/// What an RPC answers.
pub(crate) type Answer = http::Response<tonic::body::Body>;

/// A service whose RPCs run in the frame.
#[derive(Debug, Clone)]
pub(crate) struct Framed<S> {
    service: S,
    answers: Answers,
    metrics: Metrics,
    tracer: Tracer,
}

impl<S> Framed<S> {
    pub(crate) fn new(service: S, answers: &Answers, metrics: &Metrics, tracer: &Tracer) -> Self {
        Self {
            service,
            answers: answers.clone(),
            metrics: metrics.clone(),
            tracer: tracer.clone(),
        }
    }
}

impl<S: NamedService> NamedService for Framed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Framed<S>
where
    S: Service<http::Request<B>, Response = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let rpc = path.rsplit('/').next().unwrap_or_default().to_owned();
        let limit = deadline::of(request.headers());
        let traced = self.tracer.begin(request.headers());
        let traced = traced.map(|trace| Ended::new(trace, path));
        let answer = deadline::keep(limit, self.service.call(request));
        let (answers, metrics) = (self.answers.clone(), self.metrics.clone());
        Box::pin(async move {
            let begun = Instant::now();
            let answer = answers.encoded(refusal::log(&rpc, answer));
            let answer = match &traced {
                Some(traced) => traced.trace.clone().during(answer).await?,
                None => answer.await?,
            };
            metrics.answered(&rpc, code(&answer), begun.elapsed());
            if let Some(traced) = traced {
                traced.with(code(&answer));
            }
            Ok(answer)
        })
    }
}

/// The end of an RPC's trace, also when its client leaves before there is an answer.
struct Ended {
    trace: Trace,
    path: String,
    code: Code,
}

impl Ended {
    fn new(trace: Trace, path: &str) -> Self {
        Self {
            trace,
            path: path.to_owned(),
            code: Code::Cancelled,
        }
    }

    fn with(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.trace.end(&self.path, self.code);
    }
}

/// How an RPC ended that has its answer; of a stream, how it began.
fn code(answer: &Answer) -> Code {
    let said = answer.headers().get(Status::GRPC_STATUS);
    said.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}
