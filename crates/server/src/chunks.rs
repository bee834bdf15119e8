//! Lists in parts, for the Stream… RPCs: each item once, at least one in a message, and no message
//! at all for an empty list.

use tonic::{Response, Status};

/// Items of one message. A pod or container with many labels takes some 4 KiB, so that a message
/// stays below a client's usual limit of 16 MiB.
const ITEMS: usize = 1000;

/// The answer of a Stream… RPC.
pub(crate) type Chunks<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// Cuts a list into messages.
pub(crate) fn chunks<T, M>(items: Vec<T>, message: impl Fn(Vec<T>) -> M) -> Response<Chunks<M>> {
    let mut messages = Vec::with_capacity(items.len().div_ceil(ITEMS));
    let mut items = items.into_iter();
    loop {
        let part: Vec<T> = items.by_ref().take(ITEMS).collect();
        if part.is_empty() {
            return Response::new(tokio_stream::iter(messages));
        }
        messages.push(Ok(message(part)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    async fn sizes(items: usize) -> Vec<usize> {
        let stream = chunks((0..items).collect(), |part| part).into_inner();
        stream
            .map(|part| part.map_or(0, |part| part.len()))
            .collect()
            .await
    }

    #[tokio::test]
    async fn every_item_comes_once_and_nothing_comes_of_nothing() {
        assert_eq!(sizes(0).await, [0; 0]);
        assert_eq!(sizes(1).await, [1]);
        assert_eq!(sizes(ITEMS).await, [ITEMS]);
        assert_eq!(sizes(2 * ITEMS + 1).await, [ITEMS, ITEMS, 1]);
    }
}
