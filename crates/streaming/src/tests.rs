//! Clients over TCP, with commands of this machine in the place of containers.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::spdy::client::{Client, Got};
use crate::{
    Attach, Backend, Exec, Options, PortForward, Process, Server, Sink, Source, Streams, Urls,
};

/// Runs commands of this machine.
#[derive(Default)]
struct Host {
    /// Commands that were ended with their client.
    dropped: Arc<AtomicUsize>,
}

/// Kills what is still running when the last of its streams is gone.
struct Child(std::process::Child, Arc<AtomicUsize>);

impl Drop for Child {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Backend for Host {
    fn exec(&self, exec: &Exec) -> impl Future<Output = Result<Process, String>> + Send {
        let spawned = Command::new(&exec.command[0])
            .args(&exec.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let dropped = Arc::clone(&self.dropped);
        async move {
            let mut child = Child(spawned.map_err(|error| error.to_string())?, dropped);
            let stdin = OwnedFd::from(child.0.stdin.take().unwrap());
            let stdout = OwnedFd::from(child.0.stdout.take().unwrap());
            let stderr = OwnedFd::from(child.0.stderr.take().unwrap());
            Ok(Process {
                stdin: Some(Sink::Fd(stdin)),
                stdout: Some(Source::Pipe(stdout)),
                stderr: Some(Source::Pipe(stderr)),
                resize: None,
                exit: Box::pin(async move {
                    loop {
                        if let Some(status) = child.0.try_wait().unwrap() {
                            return Ok(status.code().unwrap_or(255));
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }),
            })
        }
    }

    async fn attach(&self, _: &Attach) -> Result<Process, String> {
        Err("there is nothing to attach to".to_owned())
    }

    async fn connect(&self, _: &str, port: u16) -> Result<TcpStream, String> {
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        connected.map_err(|error| format!("port {port}: {error}"))
    }
}

pub(crate) struct World {
    urls: Urls,
    dropped: Arc<AtomicUsize>,
    end: Option<oneshot::Sender<()>>,
}

async fn world_with(idle: Duration) -> World {
    let host = Host::default();
    let dropped = Arc::clone(&host.dropped);
    let options = Options {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        idle,
    };
    let (server, urls) = Server::bind(options, Arc::new(host)).await.unwrap();
    let (end, ended) = oneshot::channel::<()>();
    tokio::spawn(server.run(async {
        let _ = ended.await;
    }));
    let end = Some(end);
    World { urls, dropped, end }
}

pub(crate) async fn world() -> World {
    world_with(Duration::from_secs(600)).await
}

impl World {
    /// Ends the server with all its streams.
    pub(crate) fn finish(&mut self) {
        self.end.take().unwrap().send(()).unwrap();
    }

    pub(crate) fn sh(&self, script: &str, streams: Streams) -> String {
        let exec = Exec {
            container: "c".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            streams,
        };
        self.urls.exec(exec).unwrap()
    }

    pub(crate) fn ports(&self, ports: Vec<u16>) -> String {
        let pod = "p".to_owned();
        self.urls.port_forward(PortForward { pod, ports }).unwrap()
    }
}

pub(crate) const OUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: false,
    tty: false,
};

pub(crate) const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// Asks for an upgrade; the head of the answer.
async fn upgrade(url: &str, headers: &str) -> (TcpStream, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte.into()),
            Err(_) => break,
        }
    }
    (stream, head)
}

async fn spdy(url: &str, version: &str) -> Client<TcpStream> {
    let headers = format!(
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {version}\r\n"
    );
    let (stream, head) = upgrade(url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let agreed = format!(
        "x-stream-protocol-version: {}",
        version.split(',').next().unwrap()
    );
    assert!(head.to_lowercase().contains(&agreed), "{head}");
    Client::new(stream)
}

async fn websocket(url: &str, version: &str) -> WebSocketStream<TcpStream> {
    let headers = format!(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {version}\r\n"
    );
    let (stream, head) = upgrade(url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // RFC 6455, 1.3, has this key and this answer.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// Opens streams, one each, numbered 1, 3, 5 …
async fn open(client: &mut Client<TcpStream>, kinds: &[&str]) {
    for (number, kind) in (0_u32..).zip(kinds) {
        client.open(2 * number + 1, &[("streamtype", kind)]).await;
    }
}

/// Everything that comes until the end, stream by stream.
async fn collect(client: &mut Client<TcpStream>, streams: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new(); streams];
    loop {
        match client.news().await {
            Got::Data(id, _, bytes) => all[id as usize / 2].extend(bytes),
            Got::GoAway => return all,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_command_over_spdy_has_its_streams_and_its_code() {
    let world = world().await;
    let url = world.sh("cat; echo oops >&2; exit 7", ALL);
    let mut client = spdy(&url, "v4.channel.k8s.io,v3.channel.k8s.io").await;
    open(&mut client, &["error", "stdin", "stdout", "stderr"]).await;
    client.send(3, true, b"in and out").await;
    let all = collect(&mut client, 4).await;
    assert_eq!(all[2], b"in and out");
    assert_eq!(all[3], b"oops\n");
    let status: serde_json::Value = serde_json::from_slice(&all[0]).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "7");
}

#[tokio::test]
async fn a_gigabyte_divided_by_ten_arrives_and_its_last_byte_too() {
    let world = world().await;
    let url = world.sh("head -c 100000000 /dev/zero; printf end", OUT);
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    open(&mut client, &["error", "stdout"]).await;
    let all = collect(&mut client, 2).await;
    assert_eq!(all[1].len(), 100_000_003);
    assert!(all[1].ends_with(b"end"));
}

#[tokio::test]
async fn a_clients_stdin_is_not_ended_from_here_while_the_command_runs() {
    let world = world().await;
    let url = world.sh("head -c 1000000 | wc -c; read last; echo $last", ALL);
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    open(&mut client, &["error", "stdin", "stdout", "stderr"]).await;
    for _ in 0..100 {
        client.send(3, false, &[b'x'; 10_000]).await;
    }
    // A client that sees the end of stdin sends no more.
    assert_eq!(
        client.news().await,
        Got::Data(5, false, b"1000000\n".into())
    );
    client.send(3, false, b"last\n").await;
    let all = collect(&mut client, 4).await;
    assert_eq!(all[2], b"last\n");
    assert!(all[0].ends_with(b"\"Success\"}"));
}

#[tokio::test]
async fn a_child_that_keeps_the_output_does_not_keep_the_client() {
    let world = world().await;
    let url = world.sh("sleep 1000 & echo $!; exit 0", OUT);
    let mut client = spdy(&url, "channel.k8s.io").await;
    open(&mut client, &["error", "stdout"]).await;
    let all = tokio::time::timeout(Duration::from_secs(60), collect(&mut client, 2)).await;
    let all = all.expect("the sleep held the client");
    let said = String::from_utf8_lossy(&all[1]);
    let child: i32 = said.trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    assert_eq!(all[0], b"");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_command_along() {
    let world = world().await;
    let url = world.sh("echo up; exec sleep 1000", OUT);
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    open(&mut client, &["error", "stdout"]).await;
    assert_eq!(client.news().await, Got::Data(3, false, b"up\n".into()));
    drop(client);
    ended(&world).await;
}

/// Waits until a command was killed.
async fn ended(world: &World) {
    for _ in 0..3000 {
        if world.dropped.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the command goes on without its client");
}

#[tokio::test]
async fn the_end_of_the_server_and_of_patience_end_commands() {
    let mut world = world().await;
    let url = world.sh("echo up; exec sleep 1000", OUT);
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    open(&mut client, &["error", "stdout"]).await;
    assert_eq!(client.news().await, Got::Data(3, false, b"up\n".into()));
    drop(world.end.take());
    ended(&world).await;
    let world = world_with(Duration::from_millis(200)).await;
    let url = world.sh("echo up; exec sleep 1000", OUT);
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    open(&mut client, &["error", "stdout"]).await;
    assert_eq!(client.news().await, Got::Data(3, false, b"up\n".into()));
    ended(&world).await;
}

#[tokio::test]
async fn what_cannot_be_run_is_said_on_the_error_stream() {
    let world = world().await;
    let exec = Exec {
        container: "c".to_owned(),
        command: vec!["/no/such/program".to_owned()],
        streams: OUT,
    };
    let mut client = spdy(&world.urls.exec(exec).unwrap(), "v4.channel.k8s.io").await;
    open(&mut client, &["error", "stdout"]).await;
    let all = collect(&mut client, 2).await;
    let status: serde_json::Value = serde_json::from_slice(&all[0]).unwrap();
    assert!(
        status["message"].as_str().unwrap().contains("No such file"),
        "{status}"
    );
    let attach = Attach {
        container: "c".to_owned(),
        streams: OUT,
    };
    let mut client = spdy(&world.urls.attach(attach).unwrap(), "v2.channel.k8s.io").await;
    open(&mut client, &["error", "stdout"]).await;
    let all = collect(&mut client, 2).await;
    assert_eq!(all[0], b"there is nothing to attach to");
}

#[tokio::test]
async fn a_command_over_a_websocket_has_its_channels_and_ends_its_stdin() {
    let world = world().await;
    let url = world.sh("cat; echo oops >&2; exit 3", ALL);
    let mut client = websocket(&url, "v5.channel.k8s.io").await;
    let message = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
    client.send(message(b"\x00hello")).await.unwrap();
    client.send(message(b"\xff\x00")).await.unwrap();
    let mut all = vec![Vec::new(); 4];
    while let Some(Ok(got)) = client.next().await {
        match got {
            Message::Binary(bytes) => all[usize::from(bytes[0])].extend(&bytes[1..]),
            Message::Close(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (all[1].as_slice(), all[2].as_slice()),
        (&b"hello"[..], &b"oops\n"[..])
    );
    let status: serde_json::Value = serde_json::from_slice(&all[3]).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");
}

/// A server that answers what it is sent, once that has ended.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&all).await.unwrap();
            });
        }
    });
    port
}

#[tokio::test]
async fn forwarded_connections_run_beside_each_other_and_errors_have_their_own_stream() {
    let (world, port) = (world().await, echo().await.to_string());
    let mut client = spdy(&world.ports(vec![]), "portforward.k8s.io").await;
    for number in 0..3_u32 {
        let request = number.to_string();
        for (id, kind) in [(4 * number + 1, "error"), (4 * number + 3, "data")] {
            let port = if number == 1 { "1" } else { &port };
            let headers = [
                ("streamtype", kind),
                ("port", port),
                ("requestid", &request),
            ];
            client.open(id, &headers).await;
        }
    }
    client.send(3, false, b"first").await;
    client.send(11, true, b"third").await;
    let (mut third, mut error) = (Vec::new(), Vec::new());
    let mut ends = 0;
    // The third and the second end, while the first still waits.
    while ends < 3 {
        match client.news().await {
            Got::Data(11, fin, bytes) => {
                third.extend(bytes);
                ends += usize::from(fin);
            }
            Got::Data(5, fin, bytes) => {
                error.extend(bytes);
                ends += usize::from(fin);
            }
            Got::Data(9, true, bytes) if bytes.is_empty() => ends += 1,
            Got::Reset(7) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(third, b"third");
    assert!(
        String::from_utf8_lossy(&error).contains("port 1"),
        "{error:?}"
    );
    client.send(3, true, b"").await;
    assert_eq!(client.news().await, Got::Data(3, false, b"first".into()));
}

#[tokio::test]
async fn ports_over_a_websocket_are_channels_or_a_tunnel() {
    let (world, port) = (world().await, echo().await);
    let named = format!("{}?port={port}", world.ports(vec![]));
    for url in [named, world.ports(vec![port])] {
        let mut client = websocket(&url, "v4.channel.k8s.io").await;
        let [low, high] = port.to_le_bytes();
        for channel in [0, 1] {
            let got = client.next().await.unwrap().unwrap();
            assert_eq!(got, Message::Binary(vec![channel, low, high].into()));
        }
    }
    let mut client = websocket(&world.ports(vec![]), "SPDY/3.1+portforward.k8s.io").await;
    let (mut near, far) = tokio::io::duplex(64 << 10);
    let mut inner = Client::new(far);
    let port = port.to_string();
    for (id, kind) in [(1, "error"), (3, "data")] {
        let headers = [("streamtype", kind), ("port", &port), ("requestid", "0")];
        inner.open(id, &headers).await;
    }
    inner.send(3, true, b"through").await;
    let mut sent = vec![0; 4096];
    let length = near.read(&mut sent).await.unwrap();
    sent.truncate(length);
    client.send(Message::Binary(sent.into())).await.unwrap();
    tokio::spawn(async move {
        while let Some(Ok(Message::Binary(bytes))) = client.next().await {
            near.write_all(&bytes).await.unwrap();
        }
    });
    assert_eq!(inner.news().await, Got::Data(3, false, b"through".into()));
}

#[tokio::test]
async fn what_is_no_stream_is_refused_in_http() {
    let world = world().await;
    let spdy = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    let v4 = format!("{spdy}X-Stream-Protocol-Version: v4.channel.k8s.io\r\n");
    let url = world.sh("true", OUT);
    for (url, headers, status) in [
        (url.clone(), "", "400"),
        (format!("{url}x"), &v4, "404"),
        (format!("{url}/more"), &v4, "404"),
        (world.sh("true", OUT), spdy, "400"),
        (url.replace("/exec/", "/attach/"), &v4, "404"),
    ] {
        let (_, head) = upgrade(&url, headers).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{url}: {head}"
        );
    }
    let v9 = format!("{spdy}X-Stream-Protocol-Version: v9.channel.k8s.io\r\n");
    let (_, head) = upgrade(&world.sh("true", OUT), &v9).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(head.contains("v4.channel.k8s.io"), "{head}");
    // A token is good once.
    let url = world.sh("true", OUT);
    let (_, head) = upgrade(&url, &v4).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (_, head) = upgrade(&url, &v4).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test]
async fn a_client_that_opens_nothing_runs_nothing() {
    let world = world().await;
    let url = world.sh("exec sleep 1000", OUT);
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    client.open(1, &[("streamtype", "stdout")]).await;
    client.open(3, &[("streamtype", "stdin")]).await;
    assert_eq!(client.news().await, Got::Reset(3));
    drop(client);
    assert_eq!(world.dropped.load(Ordering::SeqCst), 0);
}
