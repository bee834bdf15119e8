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
use crate::{deadline, refusal};

/// What an RPC answers.
pub(crate) type Answer = http::Response<tonic::body::Body>;

/// A service whose RPCs run in the frame.
#[derive(Debug, Clone)]
pub(crate) struct Framed<S> {
    service: S,
    answers: Answers,
    metrics: Metrics,
}

impl<S> Framed<S> {
    pub(crate) fn new(service: S, answers: &Answers, metrics: &Metrics) -> Self {
        Self {
            service,
            answers: answers.clone(),
            metrics: metrics.clone(),
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
        let answer = deadline::keep(limit, self.service.call(request));
        let (answers, metrics) = (self.answers.clone(), self.metrics.clone());
        Box::pin(async move {
            let begun = Instant::now();
            let answer = answers.encoded(refusal::log(&rpc, answer)).await?;
            metrics.answered(&rpc, code(&answer), begun.elapsed());
            Ok(answer)
        })
    }
}

/// How an RPC ended that has its answer; of a stream, how it began.
fn code(answer: &Answer) -> Code {
    let said = answer.headers().get(Status::GRPC_STATUS);
    said.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}
