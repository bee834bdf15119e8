//! Exec, Attach and PortForward: the URL that CRI gives, and a client that comes with it over a
//! WebSocket, as kubectl's. The crate `streaming` has the tests of both transports.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tonic::{Code, Status};

use crate::common::{World, pod_security, secured, world, world_with};
use crate::user_namespaces::{FIRST, users};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESIZE: u8 = 4;

/// A client of a stream.
struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(url: &str) -> Self {
        Self::speaking(url, "v5.channel.k8s.io").await
    }

    async fn speaking(url: &str, version: &str) -> Self {
        let url = url.replace("http://", "ws://");
        let mut request = url.as_str().into_client_request().unwrap();
        let version = HeaderValue::from_str(version).unwrap();
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", version);
        let address = url.split('/').nth(2).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        Self(socket)
    }

    async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.0.send(Message::Binary(message.into())).await.unwrap();
    }

    /// Says that nothing more comes on a channel.
    async fn end(&mut self, channel: u8) {
        let message = Bytes::from(vec![255, channel]);
        self.0.send(Message::Binary(message)).await.unwrap();
    }

    /// The next message that has something in it; `None` at the end.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Binary(bytes) if bytes.len() > 1 => {
                    return Some((bytes[0], bytes[1..].to_vec()));
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Reads a channel until that text has come.
    async fn until(&mut self, channel: u8, text: &str) -> String {
        let (mut read, mut others) = (String::new(), String::new());
        while !read.contains(text) {
            let next = self.next().await;
            let (from, bytes) = next.unwrap_or_else(|| panic!("only {read:?}, beside {others:?}"));
            let to = if from == channel {
                &mut read
            } else {
                &mut others
            };
            to.push_str(&String::from_utf8_lossy(&bytes));
        }
        read
    }

    /// All of stdout and of stderr, and the status at the end.
    async fn finish(mut self) -> ([Vec<u8>; 2], serde_json::Value) {
        let mut channels = [const { Vec::new() }; 5];
        while let Some((channel, bytes)) = self.next().await {
            channels[usize::from(channel)].extend(bytes);
        }
        let [_, stdout, stderr, error, _] = channels;
        ([stdout, stderr], serde_json::from_slice(&error).unwrap())
    }
}

fn exec(id: &str, command: &[&str]) -> cri::ExecRequest {
    cri::ExecRequest {
        container_id: id.to_owned(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

async fn url(world: &World, request: cri::ExecRequest) -> Result<String, Status> {
    let answer = world.runtime().exec(request).await?;
    Ok(answer.into_inner().url)
}

async fn connect(world: &World, request: cri::ExecRequest) -> Client {
    Client::connect(&url(world, request).await.unwrap()).await
}

#[test]
fn a_command_has_its_streams_and_its_exit_code() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let script = "cat; echo err >&2; exit 5";
        let mut client = connect(world, exec(&id, &["sh", "-c", script])).await;
        client.send(STDIN, b"in and out").await;
        client.end(STDIN).await;
        let ([stdout, stderr], status) = client.finish().await;
        assert_eq!(
            (stdout.as_slice(), stderr.as_slice()),
            (&b"in and out"[..], &b"err\n"[..])
        );
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "5");
        let client = connect(world, exec(&id, &["true"])).await;
        assert_eq!(client.finish().await.1["status"], "Success");
        let client = connect(world, exec(&id, &["no-such-program"])).await;
        let (_, status) = client.finish().await;
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .contains("no-such-program"),
            "{status}"
        );
    });
}

#[test]
fn all_that_a_command_writes_arrives_and_a_child_of_it_holds_nobody() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let script = "sleep 1000 & head -c 50000000 /dev/zero; printf end";
        let client = connect(world, exec(&id, &["sh", "-c", script])).await;
        let ([stdout, _], status) = client.finish().await;
        assert_eq!(stdout.len(), 50_000_003);
        assert!(stdout.ends_with(b"end"));
        assert_eq!(status["status"], "Success");
    });
}

#[test]
fn a_terminal_is_one_and_has_the_size_of_the_clients() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let mut request = exec(&id, &["sh"]);
        (request.tty, request.stderr) = (true, false);
        let mut client = connect(world, request).await;
        client.send(RESIZE, br#"{"Width":111,"Height":33}"#).await;
        client
            .send(
                STDIN,
                b"tty && until stty size | grep '33 111'; do :; done; exit 4\n",
            )
            .await;
        let ([stdout, stderr], status) = client.finish().await;
        let shown = String::from_utf8_lossy(&stdout);
        assert!(shown.contains("/dev/pts/"), "{shown}");
        assert!(stderr.is_empty());
        assert_eq!(status["details"]["causes"][0]["message"], "4");
    });
}

#[test]
fn a_command_ends_with_its_client_and_with_the_engine() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let up = ["sh", "-c", "echo up; exec sleep 777"];
        let gone = async |world: &World| {
            world
                .until("the command is gone", async || {
                    let processes = world.exec(&id, &["ps"], 10).await.unwrap().stdout;
                    (!String::from_utf8(processes).unwrap().contains("777")).then_some(())
                })
                .await;
        };
        let mut client = connect(world, exec(&id, &up)).await;
        client.until(STDOUT, "up").await;
        drop(client);
        gone(world).await;
        let mut terminal = exec(&id, &up);
        (terminal.tty, terminal.stderr) = (true, false);
        let mut client = connect(world, terminal).await;
        client.until(STDOUT, "up").await;
        drop(client);
        gone(world).await;
        let mut client = connect(world, exec(&id, &up)).await;
        client.until(STDOUT, "up").await;
        world.node.kill().unwrap();
        assert_eq!(client.next().await, None);
        world.serve_again().await;
        gone(world).await;
    });
}

#[test]
fn a_client_joins_the_streams_of_a_container() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "echo before; while read line; do echo got $line; echo err >&2; done; exit 3";
        let mut config = world.script("c", script);
        (config.stdin, config.stdin_once) = (true, true);
        let id = world.run(&pod, config).await;
        let attach = cri::AttachRequest {
            container_id: id.clone(),
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let answer = world.runtime().attach(attach.clone()).await.unwrap();
        let mut client = Client::connect(&answer.into_inner().url).await;
        // Joined when the first line is answered.
        client.send(STDIN, b"one\n").await;
        client.until(STDOUT, "got one\n").await;
        // A second one sees what the first one does.
        let second = cri::AttachRequest {
            stdin: false,
            ..attach
        };
        let answer = world.runtime().attach(second).await.unwrap();
        let mut second = Client::connect(&answer.into_inner().url).await;
        let seen = async {
            second.until(STDOUT, "got again\n").await;
            second
        };
        let typed = async {
            loop {
                client.send(STDIN, b"again\n").await;
                client.until(STDERR, "err\n").await;
            }
        };
        let second = tokio::select! {
            second = seen => second,
            () = typed => unreachable!(),
        };
        client.end(STDIN).await;
        let (_, status) = client.finish().await;
        assert_eq!(status["status"], "Success");
        second.finish().await;
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.exit_code, 3);
    });
}

#[test]
fn a_client_that_leaves_an_attached_container_leaves_it_alone() {
    world(async |world| {
        let pod = world.pod("a").await;
        let mut config = world.script("c", "while :; do echo tick; sleep 0.05; done");
        config.tty = true;
        let id = world.run(&pod, config).await;
        let attach = cri::AttachRequest {
            container_id: id.clone(),
            stdout: true,
            tty: true,
            ..cri::AttachRequest::default()
        };
        let threads = |world: &World| {
            let pid = world.node.engine_pid().unwrap();
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let names =
                tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
            names
                .filter(|name| name.as_ref().is_ok_and(|name| name.starts_with("attach")))
                .count()
        };
        for _ in 0..5 {
            let answer = world.runtime().attach(attach.clone()).await.unwrap();
            let mut client = Client::connect(&answer.into_inner().url).await;
            client.until(STDOUT, "tick").await;
        }
        world
            .until("no thread is left", async || {
                (threads(world) == 0).then_some(())
            })
            .await;
        let status = world.status(&id).await.unwrap();
        assert_eq!(status.state, cri::ContainerState::ContainerRunning as i32);
    });
}

#[test]
fn connections_reach_ports_of_the_pod_and_its_loopback_only() {
    world(async |world| {
        let pod = world.pod("a").await;
        let script = "nc -l -p 8080 -e sh -c 'read line; echo got $line'; sleep 1000";
        let id = world.run(&pod, world.script("c", script)).await;
        world
            .until("somebody listens", async || {
                let listens = world
                    .exec(&id, &["netstat", "-ltn"], 10)
                    .await
                    .unwrap()
                    .stdout;
                String::from_utf8(listens)
                    .unwrap()
                    .contains(":8080")
                    .then_some(())
            })
            .await;
        let forward = |ports: &[i32]| cri::PortForwardRequest {
            pod_sandbox_id: pod.id.clone(),
            port: ports.to_vec(),
        };
        let answer = world
            .runtime()
            .port_forward(forward(&[8080, 9]))
            .await
            .unwrap();
        let mut client = Client::speaking(&answer.into_inner().url, "v4.channel.k8s.io").await;
        client.send(0, b"hello\n").await;
        let (mut answer, mut refused) = (String::new(), String::new());
        while !(answer.contains("got hello") && refused.contains("refused")) {
            let (channel, bytes) = client.next().await.unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match channel {
                0 => answer += &text,
                3 => refused += &text,
                _ => {}
            }
        }
        assert!(refused.contains("port 9"), "{refused}");
        let bad = world
            .runtime()
            .port_forward(forward(&[0]))
            .await
            .unwrap_err();
        assert_eq!(bad.code(), Code::InvalidArgument);
        world.stop_pod(&pod).await.unwrap();
        let stopped = world
            .runtime()
            .port_forward(forward(&[80]))
            .await
            .unwrap_err();
        assert_eq!(stopped.code(), Code::FailedPrecondition);
    });
}

#[test]
fn what_cannot_be_streamed_has_no_url() {
    world(async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let code = async |request: cri::ExecRequest| {
            let asked = format!("{request:?}");
            match url(world, request).await {
                Ok(url) => panic!("{asked} has {url}"),
                Err(refused) => refused.code(),
            }
        };
        assert_eq!(code(exec("nobody", &["true"])).await, Code::NotFound);
        assert_eq!(code(exec(&id, &[])).await, Code::InvalidArgument);
        let mut both = exec(&id, &["true"]);
        both.tty = true;
        assert_eq!(code(both).await, Code::InvalidArgument);
        let nothing = cri::ExecRequest {
            stdin: false,
            stdout: false,
            stderr: false,
            ..exec(&id, &["true"])
        };
        assert_eq!(code(nothing).await, Code::InvalidArgument);
        let created = world
            .create(&pod, world.config("d", &["true"]))
            .await
            .unwrap();
        assert_eq!(
            code(exec(&created, &["true"])).await,
            Code::FailedPrecondition
        );
        for _ in 0..1000 {
            url(world, exec(&id, &["true"])).await.unwrap();
        }
        assert_eq!(code(exec(&id, &["true"])).await, Code::ResourceExhausted);
    });
}

#[test]
fn streams_are_served_where_the_configuration_says() {
    let config = "[floe.api]\nstream_address = \"::1\"\nstream_port = \"10010\"\n".to_owned();
    world_with(config, async |world| {
        let pod = world.pod("a").await;
        let id = world.sleeper(&pod, "c").await;
        let url = url(world, exec(&id, &["true"])).await.unwrap();
        assert!(url.starts_with("http://[::1]:10010/exec/"), "{url}");
        let client = Client::connect(&url).await;
        assert_eq!(client.finish().await.1["status"], "Success");
    });
}

#[test]
fn a_pod_with_its_own_users_streams_and_counts_like_any_other() {
    world(async |world| {
        let users = users(FIRST);
        let mut config = world.pod_config("a");
        pod_security(&mut config)
            .namespace_options
            .get_or_insert_default()
            .userns_options = users.clone();
        let pod = world.pod_of(config).await;
        let script = "nc -ll -p 8080 -e cat & echo up; while read line; do echo got $line; done";
        let mut config = secured(world.script("c", script), |security| {
            let options = security.namespace_options.get_or_insert_default();
            options.userns_options = users;
        });
        config.stdin = true;
        let id = world.run(&pod, config).await;

        let mut client = connect(
            world,
            exec(&id, &["sh", "-c", "id -u; cat /proc/self/uid_map; cat"]),
        )
        .await;
        client.send(STDIN, b"typed").await;
        client.end(STDIN).await;
        let ([stdout, _], status) = client.finish().await;
        let stdout = String::from_utf8(stdout).unwrap();
        let said: Vec<&str> = stdout.split_whitespace().collect();
        assert_eq!(said, ["0", "0", "2000000", "65536", "typed"]);
        assert_eq!(status["status"], "Success");
        let mut terminal = exec(&id, &["sh", "-c", "tty; stat -c %u:%g $(tty)"]);
        (terminal.tty, terminal.stderr) = (true, false);
        let ([stdout, _], status) = connect(world, terminal).await.finish().await;
        let stdout = String::from_utf8(stdout).unwrap();
        assert!(
            stdout.contains("/dev/pts/") && stdout.contains("0:5"),
            "{stdout}"
        );
        assert_eq!(status["status"], "Success");

        let attach = cri::AttachRequest {
            container_id: id.clone(),
            stdin: true,
            stdout: true,
            ..Default::default()
        };
        let answer = world.runtime().attach(attach).await.unwrap();
        let mut client = Client::connect(&answer.into_inner().url).await;
        client.send(STDIN, b"one\n").await;
        client.until(STDOUT, "got one\n").await;

        let forward = cri::PortForwardRequest {
            pod_sandbox_id: pod.id.clone(),
            port: vec![8080],
        };
        let answer = world.runtime().port_forward(forward).await.unwrap();
        let mut client = Client::speaking(&answer.into_inner().url, "v4.channel.k8s.io").await;
        client.send(0, b"through\n").await;
        client.until(0, "through\n").await;

        let request = cri::PodSandboxStatsRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        let stats = world.runtime().pod_sandbox_stats(request).await.unwrap();
        let linux = stats.into_inner().stats.unwrap().linux.unwrap();
        let interfaces = linux.network.unwrap();
        assert!(
            interfaces
                .default_interface
                .unwrap()
                .rx_bytes
                .unwrap()
                .value
                > 0
        );
        assert!(linux.process.unwrap().process_count.unwrap().value >= 2);
        let memory = linux.containers[0].memory.as_ref().unwrap();
        assert!(memory.working_set_bytes.unwrap().value > 0);
    });
}
