//! Deadlines that clients set, as a tower layer around all services.
//!
//! Tonic would answer CANCELLED a moment after the deadline, which is the wrong code; this answers DEADLINE_EXCEEDED a
//! moment before it. It bounds the time until a reply begins; the messages of a stream are not bounded yet.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;
use tonic::{
    body::Body,
    codegen::http::{HeaderMap, Request, Response},
};
use tower::{Layer, Service};

use super::status;

/// Wraps a service in deadlines.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer;

/// A service whose calls end when their client's deadline has passed.
#[derive(Clone, Debug)]
pub struct Deadline<S>(S);

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline(inner)
    }
}

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = limit(request.headers());
        let call = self.0.call(request);
        Box::pin(async move {
            let Some(limit) = limit else { return call.await };
            let margin = (limit / 20).min(Duration::from_millis(5));
            let answer = timeout(limit.saturating_sub(margin), call).await;
            answer.unwrap_or_else(|_| Ok(status::deadline_exceeded().into_http()))
        })
    }
}

/// How long the client waits: the `grpc-timeout` header, up to eight digits and a unit.
pub(super) fn limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::Status;
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn headers(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([("grpc-timeout".parse().expect("a name"), text.parse().expect("it is ASCII"))])
    }

    #[test]
    fn the_header_is_read_in_all_its_units() {
        assert_eq!(limit(&headers("2S")), Some(Duration::from_secs(2)));
        assert_eq!(limit(&headers("1500m")), Some(Duration::from_millis(1500)));
        assert_eq!(limit(&headers("7u")), Some(Duration::from_micros(7)));
        assert_eq!(limit(&headers("123456789S")), None);
        assert_eq!(limit(&headers("S")), None);
        assert_eq!(limit(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_answers_deadline_exceeded() {
        let never = service_fn(|_| std::future::pending::<Result<Response<Body>, Infallible>>());
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = headers("10m");
        let answer = DeadlineLayer.layer(never).oneshot(request).await.expect("it cannot fail");
        let status = Status::from_header_map(answer.headers()).expect("it has a status");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
