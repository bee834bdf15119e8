//! Commands in containers, at once and over the streams behind a URL; attach; and ports.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use streaming::client::{self, Error, Exit, Ports, Stdio, Target, Tls, Transport};
use streaming::{Size, Streams};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::Code;

use super::check::{Group, Verdict, checks, failed, holds, same, skipped};
use super::trial::{Trial, Up};
use crate::connection::Refusal;
use crate::fixture::told;

pub(super) const GROUP: Group = Group {
    name: "streaming",
    checks: checks! {
        401 "exec-sync" Image exec_sync, "output, errors and exit code of a command come apart", "ExecSync: ExecSyncResponse.stdout, stderr, exit_code";
        402 "exec-sync-timeout" Image exec_sync_timeout, "a command that takes too long is ended, and kubelet's probe is told so by its code", "ExecSync: DEADLINE_EXCEEDED at ExecSyncRequest.timeout";
        403 "exec-sync-large" Image exec_sync_large, "a megabyte of output comes whole", "ExecSync: ExecSyncResponse.stdout";
        404 "exec-environment" Image exec_environment, "a command has the container's variables and working directory", "ExecSync";
        405 "exec" Image exec_spdy, "a command's input, output, errors and exit code travel over SPDY", "Exec: ExecResponse.url";
        406 "exec-terminal" Image exec_terminal, "a command has a terminal of the size that its person's has", "Exec: ExecRequest.tty";
        407 "exec-websocket" Image exec_websocket, "a command's input, output, errors and exit code travel over a WebSocket", "Exec: ExecResponse.url";
        408 "attach" Image attach_spdy, "the streams of a container's own process can be joined over SPDY", "Attach: AttachResponse.url";
        409 "attach-websocket" Image attach_websocket, "the streams of a container's own process can be joined over a WebSocket", "Attach: AttachResponse.url";
        410 "port-forward" Image ports_spdy, "a connection reaches a port on the pod's loopback over SPDY", "PortForward: PortForwardResponse.url";
        411 "port-forward-websocket" Image ports_websocket, "a connection reaches a port on the pod's loopback over a WebSocket", "PortForward: PortForwardResponse.url";
        412 "port-forward-refused" Image ports_refused, "a port that nobody listens on is told as an error", "PortForward";
    },
};

/// The most that is kept of a stream.
const KEPT: usize = 1 << 20;

async fn exec_sync(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let script = "printf out; printf err >&2; exit 5";
    let answer = trial
        .exec(&up.container, &["/bin/sh", "-c", script])
        .await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = (text(&answer.stdout), text(&answer.stderr), answer.exit_code);
    same(
        "stdout, stderr and exit_code",
        ("out".to_owned(), "err".to_owned(), 5),
        found,
    )
}

async fn exec_sync_timeout(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let request = cri::ExecSyncRequest {
        container_id: up.container.clone(),
        cmd: ["/bin/sh", "-c", "echo $$ > /dev/shm/pid; exec sleep 100001"]
            .map(str::to_owned)
            .into(),
        timeout: 1,
    };
    let status = trial
        .refused(
            "ExecSync of a command that takes longer than its timeout",
            async |mut client| client.exec_sync(request).await,
        )
        .await?;
    same("code", Code::DeadlineExceeded, status.code())?;
    trial
        .until("the command is gone", async || {
            let look = "kill -0 \"$(cat /dev/shm/pid)\"";
            let (code, _) = trial.outcome(&up.container, look).await?;
            Ok(match code {
                0 => Err("it still runs".to_owned()),
                _ => Ok(()),
            })
        })
        .await
}

async fn exec_sync_large(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let words = ["head", "-c", "1048576", "/dev/zero"];
    let answer = trial.exec(&up.container, &words).await?;
    same(
        "exit_code and bytes of stdout",
        (0, 1 << 20),
        (answer.exit_code, answer.stdout.len()),
    )
}

async fn exec_environment(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| {
            config.working_dir = "/dev".to_owned();
            config.envs.push(cri::KeyValue {
                key: "FLOE_VALUE".to_owned(),
                value: "given".into(),
            });
        })
        .await?;
    let found = trial.output(&up.container, "echo $FLOE_VALUE $PWD").await?;
    same("variable and working directory", "given /dev", &found)
}

/// What a stream has brought, up to a limit; more is read and dropped.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

impl AsyncWrite for Kept {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

type Input = Pin<Box<dyn AsyncRead + Send>>;

/// The stream behind a URL.
fn target(url: String, transport: Transport) -> Target {
    Target {
        url,
        transport,
        tls: Tls {
            server_name: "localhost".to_owned(),
            ..Tls::default()
        },
    }
}

/// An error of a stream: a runtime that does not speak WebSocket is not asked for it.
fn broken<T>(transport: Transport, error: &Error) -> Verdict<T> {
    match (transport, error) {
        (Transport::WebSocket, Error::Refused { status, .. }) => skipped(format!(
            "the runtime does not speak WebSocket here: HTTP status {status}"
        )),
        _ => failed("a stream behind the URL", error.to_string()),
    }
}

/// How a stream ended: the exit code, standard output, standard error.
type Told = (i32, String, String);

async fn joined(
    trial: &Trial<'_>,
    (url, transport): (String, Transport),
    streams: Streams,
    stdin: Option<Input>,
    sizes: Option<mpsc::Receiver<Size>>,
) -> Verdict<Told> {
    let (out, err) = (Kept::default(), Kept::default());
    let stdio = Stdio {
        stdin,
        stdout: Box::pin(out.clone()),
        stderr: Box::pin(err.clone()),
        sizes,
    };
    let target = target(url, transport);
    let ended = tokio::time::timeout(trial.fixture.limit, client::run(&target, streams, stdio));
    match ended.await {
        Ok(Ok(Exit(code))) => Ok((code, out.text(), err.text())),
        Ok(Err(error)) => broken(transport, &error),
        Err(_) => failed(
            "the stream ends with its command",
            format!(
                "no end within {:?}, after {:?} and {:?}",
                trial.fixture.limit,
                out.text(),
                err.text()
            ),
        ),
    }
}

async fn exec_url(trial: &Trial<'_>, up: &Up, script: &str, streams: Streams) -> Verdict<String> {
    let request = cri::ExecRequest {
        container_id: up.container.clone(),
        cmd: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let answer = trial
        .ask("Exec", async |mut client| client.exec(request).await)
        .await?;
    Ok(answer.url)
}

async fn exec_over(trial: &Trial<'_>, transport: Transport) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let script = "read line; echo \"got $line\"; echo bad >&2; exit 9";
    let url = exec_url(trial, &up, script, streams).await?;
    let input: Input = Box::pin(&b"typed\n"[..]);
    let told = joined(trial, (url, transport), streams, Some(input), None).await?;
    let expected = (9, "got typed\n".to_owned(), "bad\n".to_owned());
    same("exit code, output and errors", expected, told)
}

async fn exec_spdy(trial: &Trial<'_>) -> Verdict {
    exec_over(trial, Transport::Spdy).await
}

async fn exec_websocket(trial: &Trial<'_>) -> Verdict {
    exec_over(trial, Transport::WebSocket).await
}

async fn exec_terminal(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    // The size may come after the command has begun.
    let script = "test -t 0 || exit 8; i=0; while [ $i -lt 100 ]; do \
        [ \"$(stty size)\" = '33 77' ] && exit 4; i=$((i+1)); sleep 0.1; done; stty size; exit 7";
    let url = exec_url(trial, &up, script, streams).await?;
    let (send, sizes) = mpsc::channel(1);
    let size = Size {
        width: 77,
        height: 33,
    };
    // There is room for one.
    let _ = send.try_send(size);
    // Standard input stays open: its end would be the terminal's.
    let (_open, input) = tokio::io::duplex(64);
    let told = joined(
        trial,
        (url, Transport::Spdy),
        streams,
        Some(Box::pin(input)),
        Some(sizes),
    )
    .await?;
    drop(send);
    holds(
        "exit code 4: a terminal of 33 rows and 77 columns",
        told.0 == 4,
        told,
    )
}

async fn attach_over(trial: &Trial<'_>, transport: Transport) -> Verdict {
    let script = "read line; echo \"got $line\"; sleep 1; exit 6";
    let up = trial
        .up_with(script, |_, config| {
            config.stdin = true;
            config.stdin_once = true;
        })
        .await?;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let request = cri::AttachRequest {
        container_id: up.container.clone(),
        stdin: true,
        tty: false,
        stdout: true,
        stderr: true,
    };
    let answer = trial
        .ask("Attach", async |mut client| client.attach(request).await)
        .await?;
    let (mut ours, theirs) = tokio::io::duplex(64);
    let typed = async {
        // Who is attached first hears all that is said after it.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        ours.write_all(b"typed\n").await.is_ok()
    };
    let stream = joined(
        trial,
        (answer.url, transport),
        streams,
        Some(Box::pin(theirs)),
        None,
    );
    let (told, _) = tokio::join!(stream, typed);
    let (_, out, _) = told?;
    same(
        "what the process says to what was typed",
        "got typed\n",
        out.as_str(),
    )?;
    let status = trial.ended(&up.container).await?;
    same("exit_code of the container", 6, status.exit_code)
}

async fn attach_spdy(trial: &Trial<'_>) -> Verdict {
    attach_over(trial, Transport::Spdy).await
}

async fn attach_websocket(trial: &Trial<'_>) -> Verdict {
    attach_over(trial, Transport::WebSocket).await
}

/// A script that serves `hello` over HTTP on this port.
pub(super) fn web(port: u16) -> String {
    format!(
        "mkdir -p /dev/shm/web && echo hello > /dev/shm/web/index.html && exec httpd -f -p {port} -h /dev/shm/web"
    )
}

/// A page over an open connection.
pub(super) async fn page(mut stream: TcpStream) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut page = Vec::new();
    stream.take(64 << 10).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

async fn ports(trial: &Trial<'_>, pod: &str, transport: Transport) -> Verdict<Ports> {
    let request = cri::PortForwardRequest {
        pod_sandbox_id: pod.to_owned(),
        port: Vec::new(),
    };
    let answer = trial
        .ask("PortForward", async |mut client| {
            client.port_forward(request).await
        })
        .await?;
    match Ports::connect(&target(answer.url, transport)).await {
        Ok(ports) => Ok(ports),
        Err(error) => broken(transport, &error),
    }
}

/// A connection of ours: its both ends.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let (theirs, _) = listener.accept().await?;
    Ok((ours, theirs))
}

/// What comes of a page asked for through a connection to the pod's ports.
async fn asked(trial: &Trial<'_>, ports: &Ports, port: u16) -> Verdict<Result<String, String>> {
    let (ours, theirs) = match pair().await {
        Ok(pair) => pair,
        Err(error) => return failed("a connection on this machine", error.to_string()),
    };
    let both = async { tokio::join!(page(ours), ports.join(port, theirs)) };
    match tokio::time::timeout(trial.fixture.limit, both).await {
        Ok((_, Err(error))) => Ok(Err(error.to_string())),
        Ok((page, Ok(()))) => Ok(page.map_err(|error| error.to_string())),
        Err(_) => Ok(Err(told(&Refusal::Silence(trial.fixture.limit)))),
    }
}

async fn ports_over(trial: &Trial<'_>, transport: Transport) -> Verdict {
    let up = trial.up_with(&web(8080), |_, _| {}).await?;
    let ports = ports(trial, &up.pod, transport).await?;
    trial
        .until("port 8080 of the pod answers with `hello`", async || {
            Ok(match asked(trial, &ports, 8080).await? {
                Ok(page) if page.ends_with("hello\n") => Ok(()),
                Ok(page) => Err(format!("{page:?}")),
                Err(error) => Err(error),
            })
        })
        .await
}

async fn ports_spdy(trial: &Trial<'_>) -> Verdict {
    ports_over(trial, Transport::Spdy).await
}

async fn ports_websocket(trial: &Trial<'_>) -> Verdict {
    ports_over(trial, Transport::WebSocket).await
}

async fn ports_refused(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let ports = ports(trial, &up.pod, Transport::Spdy).await?;
    match asked(trial, &ports, 8081).await? {
        Err(_) => Ok(()),
        Ok(page) => failed(
            "an error of port 8081, where nobody listens",
            format!("{page:?}"),
        ),
    }
}
