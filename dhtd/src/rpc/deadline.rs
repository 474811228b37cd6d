//! Deadlines that clients set.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use tonic::{Status, metadata::MetadataMap};

use super::status;

/// Carries out a unary call within the client's deadline. Tonic would answer CANCELLED a moment later, which is the
/// wrong code; the margin makes sure that ours comes first.
pub(super) async fn within<T>(
    metadata: &MetadataMap,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(limit) = limit(metadata) else { return call.await };
    let margin = (limit / 20).min(Duration::from_millis(5));
    timeout(limit.saturating_sub(margin), call).await.unwrap_or_else(|_| Err(status::deadline_exceeded()))
}

/// The `grpc-timeout` header: up to eight digits and a unit.
fn limit(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
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
    use super::*;

    fn header(text: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().expect("it is ASCII"));
        metadata
    }

    #[test]
    fn the_header_is_read_in_all_its_units() {
        assert_eq!(limit(&header("2S")), Some(Duration::from_secs(2)));
        assert_eq!(limit(&header("1500m")), Some(Duration::from_millis(1500)));
        assert_eq!(limit(&header("7u")), Some(Duration::from_micros(7)));
        assert_eq!(limit(&header("123456789S")), None);
        assert_eq!(limit(&header("S")), None);
        assert_eq!(limit(&MetadataMap::new()), None);
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_answers_deadline_exceeded() {
        let status = within::<()>(&header("10m"), std::future::pending()).await.expect_err("it never ends");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
