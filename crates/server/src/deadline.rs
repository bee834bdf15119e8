//! The client's deadline (`grpc-timeout` of gRPC over HTTP/2), answered as DEADLINE_EXCEEDED.
//!
//! tonic keeps that deadline too, but answers CANCELLED, which clients take for their own doing.
//! The frame stands inside of it and so is asked first when both are over. It ends the wait, never the
//! work: what an RPC has begun goes on in [`crate::work`].

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tonic::Status;
use tonic::codegen::http;

use crate::frame::Answer;

/// The deadline that a request's client has set, from now on.
pub(crate) fn of(headers: &http::HeaderMap) -> Option<Duration> {
    timeout(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// The same, of a request that tonic has taken apart.
pub(crate) fn of_request<T>(request: &tonic::Request<T>) -> Option<Duration> {
    timeout(request.metadata().get("grpc-timeout")?.to_str().ok()?)
}

/// The answer, or DEADLINE_EXCEEDED when the limit is over before.
pub(crate) async fn keep(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<Answer, Infallible>>,
) -> Result<Answer, Infallible> {
    let Some(limit) = limit else {
        return answer.await;
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = tokio::time::sleep(limit) => Ok(Status::deadline_exceeded(format!(
            "the client's deadline of {limit:?} is over"
        ))
        .into_http()),
    }
}

/// At most eight digits and a unit. Anything else is no deadline, as for tonic.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = Some(digits)
        .filter(|digits| digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status(answers_after: Duration, timeout: &str) -> String {
        let mut headers = http::HeaderMap::new();
        headers.insert("grpc-timeout", timeout.parse().unwrap());
        let answer = async move {
            tokio::time::sleep(answers_after).await;
            Ok(Status::ok("").into_http())
        };
        let answer = keep(of(&headers), answer).await.unwrap();
        answer.headers()["grpc-status"].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_takes_longer_than_the_client_waits_is_deadline_exceeded() {
        let never = Duration::from_secs(3600);
        assert_eq!(status(never, "1m").await, "4");
        assert_eq!(status(Duration::ZERO, "1H").await, "0");
        assert_eq!(status(Duration::from_millis(5), "no deadline").await, "0");
    }

    #[test]
    fn a_deadline_is_at_most_eight_digits_and_a_unit() {
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(timeout("15m"), Some(Duration::from_millis(15)));
        assert_eq!(timeout("999u"), Some(Duration::from_micros(999)));
        assert_eq!(timeout("7n"), Some(Duration::from_nanos(7)));
        for bad in ["", "S", "100000000S", "-1S", "+1S", "1", "1s", "1 S", "é"] {
            assert_eq!(timeout(bad), None, "{bad:?}");
        }
    }
}
