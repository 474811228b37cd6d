//! Deadlines that clients set, as a tower layer around all services.
//!
//! Tonic would answer CANCELLED a moment after the deadline, which is the wrong code; this answers DEADLINE_EXCEEDED a
//! moment before it: with the reply, or as the end of a stream that has begun.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{
    Status,
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
            let deadline = Instant::now() + limit.saturating_sub(margin);
            match timeout_at(deadline, call).await {
                Ok(answer) => Ok(answer?.map(|body| Body::new(Ending { body, at: Box::pin(sleep_until(deadline)) }))),
                Err(_) => Ok(status::deadline_exceeded().into_http()),
            }
        })
    }
}

/// The messages of a reply, until a deadline.
struct Ending {
    body: Body,
    at: Pin<Box<Sleep>>,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if this.at.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        this.body = Body::empty();
        let mut trailers = HeaderMap::new();
        let added = status::deadline_exceeded().add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
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

    use http_body::Body as _;
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

    /// One message, and then nothing.
    struct Stuck(Option<Bytes>);

    impl http_body::Body for Stuck {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.get_mut().0.take().map_or(Poll::Pending, |message| Poll::Ready(Some(Ok(Frame::data(message)))))
        }
    }

    #[tokio::test]
    async fn a_stream_that_goes_on_for_too_long_ends_with_deadline_exceeded() {
        let stuck = service_fn(|_| async {
            Ok::<_, Infallible>(Response::new(Body::new(Stuck(Some(Bytes::from_static(b"message"))))))
        });
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = headers("50m");
        let answer = DeadlineLayer.layer(stuck).oneshot(request).await.expect("it cannot fail");
        let mut body = answer.into_body();
        let mut next = async || std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let message = next().await.expect("it has not ended").expect("it is fine").into_data().expect("a message");
        assert_eq!(message.as_ref(), b"message");
        let trailers = next().await.expect("it ends with a status").expect("it is fine").into_trailers();
        let status = Status::from_header_map(&trailers.expect("a status")).expect("a status");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(next().await.is_none());
    }
}
