//! Replies on their way back to another peer: whatever waits goes into one message.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use dhtd_proto::v1::{self, peer_reply::Reply};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// Where replies to calls are put. Nobody waits: how many there are is bounded by the calls that are under way.
pub(super) type ReplySender = mpsc::UnboundedSender<Result<v1::PeerReply, Status>>;

/// The messages of the stream of replies. It ends when all senders are gone, or with the first refusal.
#[derive(Debug)]
pub struct Replies {
    replies: mpsc::UnboundedReceiver<Result<v1::PeerReply, Status>>,
    waiting: VecDeque<Result<v1::PeerReply, Status>>,
    buffer: Vec<Result<v1::PeerReply, Status>>,
}

impl Replies {
    /// A stream and the way into it.
    pub(super) fn new() -> (ReplySender, Self) {
        let (sender, replies) = mpsc::unbounded_channel();
        (sender, Self { replies, waiting: VecDeque::new(), buffer: Vec::new() })
    }

    /// As much of what waits as fits into one message, at least one reply. None if the refusal comes first.
    fn pack(&mut self) -> Option<v1::CallResponse> {
        let (mut replies, mut bytes) = (Vec::with_capacity(self.waiting.len()), 0);
        while let Some(Ok(reply)) = self.waiting.front() {
            bytes += size_of_reply(reply);
            if bytes > MESSAGE_BYTES && !replies.is_empty() {
                break;
            }
            replies.extend(self.waiting.pop_front().and_then(Result::ok));
        }
        (!replies.is_empty()).then_some(v1::CallResponse { replies })
    }
}

impl Stream for Replies {
    type Item = Result<v1::CallResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.waiting.is_empty() {
            if ready!(this.replies.poll_recv_many(context, &mut this.buffer, BATCH)) == 0 {
                return Poll::Ready(None);
            }
            this.waiting.extend(this.buffer.drain(..));
        }
        Poll::Ready(match this.pack() {
            Some(message) => Some(Ok(message)),
            None => this.waiting.pop_front().and_then(Result::err).map(Err),
        })
    }
}

/// Roughly: what counts is a value that was read.
fn size_of_reply(reply: &v1::PeerReply) -> usize {
    match &reply.reply {
        Some(Reply::Read(v1::ReadReply { record: Some(record), .. })) => {
            record.key.len() + record.value.as_ref().map_or(0, |value| value.len()) + 64
        }
        Some(Reply::Failure(failure)) => failure.message.len() + failure.reason.len() + 16,
        _ => 48,
    }
}

/// Replies in one message at most.
const BATCH: usize = 256;

/// Bytes in one message at most, unless a single reply is larger: well below gRPC's customary 4 MiB.
const MESSAGE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_stream::StreamExt;

    use super::*;

    fn pushed(tag: u64) -> v1::PeerReply {
        v1::PeerReply { tag, reply: Some(Reply::Push(v1::PushReply {})) }
    }

    fn read(tag: u64, bytes: usize) -> v1::PeerReply {
        let record = v1::StoredRecord { value: Some(Bytes::from(vec![0; bytes])), ..v1::StoredRecord::default() };
        v1::PeerReply { tag, reply: Some(Reply::Read(v1::ReadReply { record: Some(record), synced: true })) }
    }

    /// The tags of each message, and how it ended.
    async fn messages(replies: impl IntoIterator<Item = Result<v1::PeerReply, Status>>) -> (Vec<Vec<u64>>, bool) {
        let (sender, mut stream) = Replies::new();
        replies.into_iter().for_each(|reply| sender.send(reply).expect("it is read"));
        drop(sender);
        let mut tags = Vec::new();
        while let Some(message) = stream.next().await {
            match message {
                Ok(message) => tags.push(message.replies.iter().map(|reply| reply.tag).collect()),
                Err(_) => return (tags, false),
            }
        }
        (tags, true)
    }

    #[tokio::test]
    async fn replies_that_wait_share_a_message_up_to_its_size() {
        assert_eq!(messages([Ok(pushed(1)), Ok(pushed(2)), Ok(pushed(3))]).await, (vec![vec![1, 2, 3]], true));
        let large = MESSAGE_BYTES - 1000;
        let replies = [Ok(pushed(1)), Ok(read(2, large)), Ok(read(3, large)), Ok(read(4, 2 * large)), Ok(pushed(5))];
        assert_eq!(messages(replies).await, (vec![vec![1, 2], vec![3], vec![4], vec![5]], true));
    }

    #[tokio::test]
    async fn a_refusal_comes_after_the_replies_before_it() {
        let refused = Err(Status::failed_precondition("another ring"));
        assert_eq!(messages([Ok(pushed(1)), refused]).await, (vec![vec![1]], false));
    }
}
