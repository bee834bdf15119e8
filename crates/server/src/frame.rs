//! The frame of every RPC of every service: the line of its refusal, its client's deadline and the memory
//! of its answer, in this order around what `runtime_service.rs` and `image_service.rs` do.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::answer::Answers;
use crate::{deadline, refusal};

/// What an RPC answers.
pub(crate) type Answer = http::Response<tonic::body::Body>;

/// A service whose RPCs run in the frame.
#[derive(Debug, Clone)]
pub(crate) struct Framed<S> {
    service: S,
    answers: Answers,
}

impl<S> Framed<S> {
    pub(crate) fn new(service: S, answers: &Answers) -> Self {
        let answers = answers.clone();
        Self { service, answers }
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
        let answers = self.answers.clone();
        Box::pin(async move { answers.encoded(refusal::log(&rpc, answer)).await })
    }
}
