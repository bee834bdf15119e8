//! Lists in parts, for the Stream… RPCs: each item once, at least one in a message, and no message
//! at all for an empty list.

use prost::Message;
use tonic::{Response, Status};

/// Bytes of items after which a message is full: far below the 16 MiB that clients accept, since one
/// item with all the annotations that Kubernetes allows may still follow.
const FULL: usize = 4 * 1024 * 1024;

/// The answer of a Stream… RPC.
pub(crate) type Chunks<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// Cuts a list into messages.
pub(crate) fn chunks<T: Message, M>(
    items: Vec<T>,
    message: impl Fn(Vec<T>) -> M,
) -> Response<Chunks<M>> {
    let mut messages = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for item in items {
        bytes += item.encoded_len();
        part.push(item);
        if bytes >= FULL {
            messages.push(Ok(message(std::mem::take(&mut part))));
            bytes = 0;
        }
    }
    if !part.is_empty() {
        messages.push(Ok(message(part)));
    }
    Response::new(tokio_stream::iter(messages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    /// The number of items in each message, for items of these sizes.
    async fn parts(sizes: &[usize]) -> Vec<usize> {
        let item = |size: &usize| cri::PodSandbox {
            id: "x".repeat(*size),
            ..Default::default()
        };
        let stream = chunks(sizes.iter().map(item).collect(), |part| part).into_inner();
        stream
            .map(|part| part.map_or(0, |part| part.len()))
            .collect()
            .await
    }

    #[tokio::test]
    async fn every_item_comes_once_and_nothing_comes_of_nothing() {
        assert_eq!(parts(&[]).await, [0; 0]);
        assert_eq!(parts(&[10]).await, [1]);
        assert_eq!(parts(&[10; 3000]).await, [3000]);
    }

    #[tokio::test]
    async fn a_message_is_sent_when_it_is_full_however_few_items_it_has() {
        assert_eq!(parts(&[FULL, 1, 1]).await, [1, 2]);
        assert_eq!(parts(&[1, FULL, FULL]).await, [2, 1]);
        assert_eq!(parts(&[FULL / 2; 5]).await, [2, 2, 1]);
    }
}
