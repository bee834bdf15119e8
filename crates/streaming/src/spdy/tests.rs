//! The server's connection, frame by frame.

use tokio::io::duplex;
use tokio::task::JoinHandle;

use super::client::{Client, Got};
use super::*;

fn connect() -> (Client, Session, JoinHandle<io::Result<()>>) {
    let (ours, theirs) = duplex(64 << 10);
    let (session, moved) = serve(theirs).unwrap();
    (Client::new(ours), session, tokio::spawn(moved))
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_and_each_way_ends_by_itself() {
    let (mut client, mut session, _moved) = connect();
    client.open(1, &[("streamType", "stdin")]).await;
    assert_eq!(client.next().await, Got::Reply(1));
    let mut stream = session.accept().await.unwrap();
    assert_eq!(stream.headers.get("streamtype"), Some("stdin"));
    client.send(1, false, b"hello").await;
    client.send(1, true, b" world").await;
    assert_eq!(stream.inbox.read().await.unwrap(), "hello");
    assert_eq!(stream.inbox.read().await.unwrap(), " world");
    assert_eq!(stream.inbox.read().await, None);
    stream
        .outbox
        .write(Bytes::from_static(b"answer"))
        .await
        .unwrap();
    stream.outbox.close();
    assert_eq!(client.next().await, Got::Data(1, false, b"answer".into()));
    assert_eq!(client.next().await, Got::Data(1, true, vec![]));
}

#[tokio::test]
async fn the_end_comes_after_all_that_was_written_and_the_connection_is_closed() {
    let (mut client, mut session, moved) = connect();
    client.open(1, &[]).await;
    let stream = session.accept().await.unwrap();
    for _ in 0..10 {
        stream
            .outbox
            .write(Bytes::from(vec![1; PIECE]))
            .await
            .unwrap();
    }
    stream.outbox.close();
    session.finish();
    assert_eq!(client.next().await, Got::Reply(1));
    let mut bytes = 0;
    loop {
        match client.next().await {
            Got::Data(1, fin, data) => {
                bytes += data.len();
                if fin {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bytes, 10 * PIECE);
    assert_eq!(client.next().await, Got::GoAway);
    assert_eq!(client.next().await, Got::Closed);
    drop(client);
    moved.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset_and_one_that_was_reset_takes_no_more() {
    let (mut client, mut session, _moved) = connect();
    client.open(1, &[]).await;
    client.open(3, &[]).await;
    assert_eq!(client.next().await, Got::Reply(1));
    assert_eq!(client.next().await, Got::Reply(3));
    drop(session.accept().await);
    assert_eq!(client.next().await, Got::Reset(1));
    let mut stream = session.accept().await.unwrap();
    let reset = frame::reset(3, ResetStatus::Cancel);
    client.io.write_all(&reset).await.unwrap();
    assert_eq!(stream.inbox.read().await, None);
    let refused = stream.outbox.write(Bytes::from_static(b"x")).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn pings_are_answered_and_what_nobody_knows_is_passed_over() {
    let (mut client, _session, _moved) = connect();
    client
        .io
        .write_all(b"\x80\x03\0\x0a\0\0\0\x02ab")
        .await
        .unwrap();
    let more = frame::window_update(77, 5);
    client.io.write_all(&more).await.unwrap();
    client.io.write_all(&frame::ping(5)).await.unwrap();
    assert_eq!(client.next().await, Got::Ping(5));
}

#[tokio::test]
async fn a_client_has_so_many_streams_and_numbers_that_grow() {
    let (mut client, mut session, _moved) = connect();
    let mut held = Vec::new();
    for number in 0..STREAMS {
        let id = StreamId::try_from(2 * number + 1).unwrap();
        client.open(id, &[]).await;
        assert_eq!(client.next().await, Got::Reply(id));
        held.push(session.accept().await.unwrap());
    }
    let next = StreamId::try_from(2 * STREAMS + 1).unwrap();
    client.open(next, &[]).await;
    assert_eq!(client.next().await, Got::Reset(next));
    client.open(2, &[]).await;
    assert_eq!(client.next().await, Got::Reset(2));
    client.open(1, &[]).await;
    assert_eq!(client.next().await, Got::Reset(1));
    // One ends in both directions, and there is room again.
    let first = held.remove(0);
    client.send(1, true, b"").await;
    first.outbox.close();
    assert_eq!(client.next().await, Got::Data(1, true, vec![]));
    client.open(next, &[]).await;
    assert_eq!(client.next().await, Got::Reply(next));
}

#[tokio::test]
async fn one_large_frame_comes_in_pieces_and_reading_tells_of_it() {
    let (mut client, mut session, _moved) = connect();
    client.open(1, &[]).await;
    assert_eq!(client.next().await, Got::Reply(1));
    let mut stream = session.accept().await.unwrap();
    let sent = tokio::spawn(async move {
        client.send(1, true, &vec![9; 1 << 20]).await;
        client
    });
    let mut length = 0;
    while let Some(piece) = stream.inbox.read().await {
        assert!(piece.len() <= PIECE);
        length += piece.len();
    }
    assert_eq!(length, 1 << 20);
    let mut client = sent.await.unwrap();
    assert_eq!(client.next().await, Got::Other);
}

#[tokio::test]
async fn what_is_no_spdy_ends_the_connection() {
    let (mut client, mut session, moved) = connect();
    client
        .io
        .write_all(b"\x80\x02\0\x01\0\0\0\0")
        .await
        .unwrap();
    assert!(moved.await.unwrap().is_err());
    assert!(session.accept().await.is_none());
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_sent_no_more_than_has_room() {
    let (mut client, mut session, _moved) = connect();
    client.open(1, &[]).await;
    let stream = session.accept().await.unwrap();
    let all = async {
        for _ in 0..1000 {
            stream
                .outbox
                .write(Bytes::from(vec![1; PIECE]))
                .await
                .unwrap();
        }
    };
    let done = tokio::time::timeout(Duration::from_millis(50), all).await;
    assert!(done.is_err(), "32 MiB had room");
    // One that leaves ends the wait.
    drop(client);
    let failed = async {
        while stream
            .outbox
            .write(Bytes::from(vec![1; PIECE]))
            .await
            .is_ok()
        {}
    };
    tokio::time::timeout(Duration::from_secs(20), failed)
        .await
        .unwrap();
}
