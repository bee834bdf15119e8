//! The log's line for a request that is refused, or that nobody here knows: which RPC, of what, and
//! why. Changes write their own line (`work.rs`), with how long they took; this writes it for all
//! others, in one place. What only is not there, or took too long, is an answer and not worth a
//! line: kubelet asks for both every day.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;

use tonic::{Code, Status};
use tracing::{debug, warn};

use crate::frame::Answer;
use crate::status;

/// What is known of the request that is under way.
#[derive(Debug, Default)]
struct Request {
    /// The pod, container or image that it is about.
    of: String,
    /// It has its line already.
    logged: bool,
}

tokio::task_local! {
    static REQUEST: RefCell<Request>;
}

/// Notes what the request is about.
pub(crate) fn about(of: &str) {
    note(|request| request.of = status::brief(of));
}

/// Notes that the request has its line.
pub(crate) fn logged() {
    note(|request| request.logged = true);
}

fn note(change: impl FnOnce(&mut Request)) {
    // Not set in tests of parts, which have no request.
    let _ = REQUEST.try_with(|request| change(&mut request.borrow_mut()));
}

/// The answer of an RPC, in whose course [`about`] and [`logged`] mean it. If it is refused, that is logged.
pub(crate) async fn log(
    rpc: &str,
    answer: impl Future<Output = Result<Answer, Infallible>>,
) -> Result<Answer, Infallible> {
    let rpc = status::brief(rpc);
    let answered = async move {
        let answer = answer.await?;
        let said = match answer.extensions().get::<Status>() {
            Some(said) => said.clone(),
            None if answer.headers().contains_key(Status::GRPC_STATUS) => {
                // The router's word for a method that it does not know has no words.
                let unknown = status::unimplemented(&rpc);
                write(&rpc, &unknown);
                return Ok(unknown.into_http());
            }
            None => return Ok(answer),
        };
        write(&rpc, &said);
        Ok(answer)
    };
    REQUEST.scope(RefCell::default(), answered).await
}

fn write(rpc: &str, said: &Status) {
    let Ok((of, logged)) = REQUEST.try_with(|request| {
        let request = request.borrow();
        (request.of.clone(), request.logged)
    }) else {
        return;
    };
    let (code, reason) = (said.code(), said.message());
    match code {
        _ if logged => {}
        Code::Ok => {}
        Code::NotFound | Code::DeadlineExceeded | Code::Cancelled => {
            debug!(of, ?code, reason, "{rpc} refused");
        }
        _ => warn!(of, ?code, reason, "{rpc} refused"),
    }
}
