//! The inspect endpoints: HTTP/1 on the socket that gRPC has, with CRI-O's paths and answers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::common::{World, world};

/// Status and body of what is answered to these bytes.
fn ask(socket: &Path, request: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // One that is refused may be disconnected before it has said all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return (0, answer);
    };
    (head[9..12].parse().unwrap(), body.to_owned())
}

pub(crate) fn get(socket: &Path, path: &str) -> (u16, String) {
    ask(
        socket,
        format!("GET {path} HTTP/1.1\r\nHost: crio\r\n\r\n").as_bytes(),
    )
}

pub(crate) fn json(socket: &Path, path: &str) -> Value {
    let (status, body) = get(socket, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn containers_configuration_and_engine_are_described_in_crios_words() {
    world(async |world: &mut World| {
        let socket = world.node.socket();
        let info = json(&socket, "/info");
        assert_eq!(info["cgroup_driver"], "cgroupfs");
        assert_eq!(
            info["storage_root"],
            world.node.path("root").display().to_string()
        );
        assert_eq!(info["default_id_mappings"]["uids"][0]["size"], u32::MAX);
        let (status, config) = get(&socket, "/config");
        assert_eq!(status, 200);
        assert!(config.contains("[crio.api]"), "{config}");
        assert!(
            config.contains(&format!("listen = \"{}\"", socket.display())),
            "{config}"
        );
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let told = json(&socket, &format!("/containers/{id}"));
        let status = world.status(&id).await.unwrap();
        let ip = world.pod_status(&pod).await.unwrap().network.unwrap().ip;
        assert_eq!(told["name"], "c");
        assert_eq!(told["sandbox"], pod.id);
        assert_eq!(told["ip_addresses"][0], ip);
        assert_eq!(told["created_time"], status.created_at);
        assert_eq!(told["image_ref"], status.image_ref);
        assert_eq!(told["host_network"], false);
        assert!(Path::new(told["root"].as_str().unwrap()).is_dir(), "{told}");
        let pid = told["pid"].as_i64().unwrap();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        let (status, threads) = get(&socket, "/debug/goroutines");
        assert_eq!(status, 200);
        assert!(
            threads.lines().any(|line| line.contains("floe")),
            "{threads}"
        );
    });
}

#[test]
fn a_container_is_frozen_and_thawed() {
    world(async |world: &mut World| {
        let socket = world.node.socket();
        let pod = world.pod("a").await;
        let script = world.script("c", "while true; do echo x; sleep 0.05; done");
        let id = world.run(&pod, script).await;
        let log = world.status(&id).await.unwrap().log_path;
        let length = || std::fs::metadata(&log).map_or(0, |file| file.len());
        let grows = async |world: &World| {
            let before = length();
            world
                .until("the container writes", async || {
                    (length() > before).then_some(())
                })
                .await;
        };
        grows(world).await;
        assert_eq!(
            get(&socket, &format!("/pause/{id}")),
            (200, "200 OK".to_owned())
        );
        let before = length();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(length() <= before + 200, "it goes on");
        let (status, why) = get(&socket, &format!("/pause/{id}"));
        assert!(status >= 400, "{status} {why}");
        assert_eq!(get(&socket, &format!("/unpause/{id}")).0, 200);
        grows(world).await;
        world.stop(&id, 0).await.unwrap();
        assert_eq!(get(&socket, &format!("/pause/{id}")).0, 409);
    });
}

#[test]
fn what_is_not_there_or_no_request_is_refused_and_grpc_goes_on() {
    world(async |world: &mut World| {
        let socket = world.node.socket();
        for path in [
            "/containers/0123",
            "/pause/0123",
            "/unpause/0123",
            "/",
            "/nothing",
            "/debug/heap",
            "/containers/",
        ] {
            assert_eq!(get(&socket, path).0, 404, "{path}");
        }
        assert_eq!(
            ask(
                &socket,
                b"POST /info HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            )
            .0,
            405
        );
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20));
        assert!([0, 414, 431].contains(&ask(&socket, long.as_bytes()).0));
        assert!([0, 400].contains(&ask(&socket, b"\0\0\0\0\r\n\r\n").0));
        assert_eq!(ask(&socket, b"PRI * HTTP/1.1\r\n\r\n").0, 405);
        // Silent ones, and those that never end a request, are many and hold up nobody.
        let mut held = Vec::new();
        for number in 0..200 {
            let mut client = UnixStream::connect(&socket).unwrap();
            let words: &[u8] = match number % 3 {
                0 => b"",
                1 => b"PRI * HT",
                _ => b"GET /info HTTP/1.1\r\nx: ",
            };
            let _ = client.write_all(words);
            held.push(client);
        }
        world
            .runtime()
            .version(cri::VersionRequest::default())
            .await
            .unwrap();
        let pod = world.pod("a").await;
        world.remove_pod(&pod).await.unwrap();
        drop(held);
        world
            .until("their places are free again", async || {
                (get(&socket, "/info").0 == 200).then_some(())
            })
            .await;
    });
}
