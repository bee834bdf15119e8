//! The engine's memory while slow clients have long answers to take, and after they have left.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::common::http2::{DATA, HEADERS, SETTINGS, field, frame, named};
use crate::common::{World, world};

/// Memory in use by the engine, without its program, in MiB.
fn used(world: &World) -> usize {
    let pid = world.node.engine_pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() / 1024
}

/// A client that asks that often at once and never takes an answer: its window is nothing.
fn slow_client(world: &World, rpc: &str, message: &[u8], calls: u8) -> UnixStream {
    let mut socket = UnixStream::connect(world.node.socket()).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for call in 0..calls {
        let block = [
            vec![0x83, 0x86],
            field(&[0x04], &format!("/runtime.v1.RuntimeService/{rpc}")),
            field(&[0x01], "localhost"),
            field(&[0x0f, 0x10], "application/grpc"),
            named_once("te", "trailers"),
        ]
        .concat();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0][..], &length, message].concat();
        bytes.extend(frame(HEADERS, 0x4, call * 2 + 1, &block));
        bytes.extend(frame(DATA, 0x1, call * 2 + 1, &body));
    }
    socket.write_all(&bytes).unwrap();
    socket
}

fn named_once(name: &str, value: &str) -> Vec<u8> {
    let mut named = named(name);
    named[0] = 0;
    field(&named, value)
}

/// An ExecSync request in the encoding of protobuf: container, command.
fn exec(id: &str, words: &[&str]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, text) in [(1_u8, id)]
        .into_iter()
        .chain(words.iter().map(|word| (2, *word)))
    {
        message.push(number << 3 | 2);
        message.push(u8::try_from(text.len()).unwrap());
        message.extend(text.as_bytes());
    }
    message
}

async fn settled(world: &World, most: usize) -> usize {
    let mut last = 0;
    for _ in 0..600 {
        last = used(world);
        if last <= most {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    last
}

#[test]
fn slow_clients_of_long_lists_share_one_answer_and_leave_nothing() {
    world(async |world| {
        for number in 0..12 {
            let mut config = world.pod_config(&format!("p{number}"));
            let note = "n".repeat(900 << 10);
            config.annotations = [("note".to_owned(), note)].into();
            world.try_pod(&config).await.unwrap();
        }
        let before = settled(world, 40).await;
        let lists = ["ListPodSandbox", "StreamPodSandboxes"];
        let mut clients = Vec::new();
        for number in 0..8 {
            clients.push(slow_client(world, lists[number % 2], &[], 12));
        }
        // Their answers are made before this one is.
        for _ in 0..12 {
            let request = cri::ListPodSandboxRequest::default();
            let mut runtime = world.runtime().max_decoding_message_size(16 << 20);
            let pods = runtime.list_pod_sandbox(request).await.unwrap();
            assert_eq!(pods.into_inner().items.len(), 12);
        }
        // 96 answers of 11 MiB each.
        let held = settled(world, 150).await;
        assert!(held <= 150, "{held} MiB with slow clients");
        drop(clients);
        let left = settled(world, before + 30).await;
        assert!(
            left <= before + 30,
            "{before} MiB, and {left} after they have left"
        );
    });
}

#[test]
fn slow_clients_of_long_outputs_share_a_budget_and_short_outputs_are_whole() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.run(&pod, world.config("c", &["sleep", "1000"])).await;
        let message = exec(&id, &["head", "-c", "16000000", "/dev/zero"]);
        let clients: Vec<UnixStream> = (0..8)
            .map(|_| slow_client(world, "ExecSync", &message, 4))
            .collect();
        for _ in 0..20 {
            let said = "for i in $(seq 1000); do echo $i; done; ps | grep -c 'head -c'";
            let answer = world.exec(&id, &["sh", "-c", said], 60).await.unwrap();
            assert!(answer.stdout.starts_with(b"1\n2\n"));
            assert!(answer.stdout.len() > 3000, "{}", answer.stdout.len());
        }
        let held = settled(world, 250).await;
        assert!(held <= 250, "{held} MiB with slow clients");
        drop(clients);
        let left = settled(world, 80).await;
        assert!(left <= 80, "{left} MiB after they have left");
        let whole = world
            .exec(&id, &["head", "-c", "8000000", "/dev/zero"], 60)
            .await;
        assert_eq!(whole.unwrap().stdout.len(), 8_000_000);
    });
}
