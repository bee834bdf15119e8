//! Bytes through Exec, Attach and PortForward, over a WebSocket as kubectl's, beside containerd.

use std::time::{Duration, Instant};

use cri::*;
use futures_util::{SinkExt, StreamExt};
use testkit::{Clients, Containerd, Error, Node, Registry};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::calm::Calm;
use crate::cri_verbs::{container, create, create_as, pod_config};
use crate::table::{Section, figure};

const ROUNDS: usize = 5;
const MIB: usize = 256;
const BYTES: usize = MIB << 20;
const WAYS: [&str; 4] = ["Exec, out", "Exec, in", "Attach, out", "PortForward, out"];
/// What is sent at once.
const PIECE: usize = 32 << 10;
/// Channels of `v4.channel.k8s.io`.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;

/// Of each way.
type Samples = [Vec<Duration>; WAYS.len()];

pub(crate) async fn compare(
    calm: &mut Calm,
    registry: &Registry,
    image: &str,
    pause: &str,
) -> Result<Section, Error> {
    let node = Node::start(&crate::options(registry))?;
    let containerd = Containerd::start(pause)?;
    let mut sides = [
        Side::begin(node.clients().await?, image).await?,
        Side::begin(containerd.clients().await?, image).await?,
    ];
    let [floe, peer]: [Samples; 2] = calm
        .requests(ROUNDS, async |_| {
            let mut samples = <[Samples; 2]>::default();
            for (side, samples) in sides.iter_mut().zip(&mut samples) {
                side.round(samples).await?;
            }
            Ok(samples)
        })
        .await?;
    for side in &mut sides {
        side.end().await?;
    }
    let rows = WAYS
        .iter()
        .zip(floe.into_iter().zip(peer))
        .map(|(way, (floe, peer))| ((*way).to_owned(), vec![figure(floe), figure(peer)]))
        .collect();
    Ok(Section {
        title: "Streams".into(),
        about: format!(
            "{MIB} MiB through each, over a WebSocket (v4.channel.k8s.io), {ROUNDS} rounds, until the last byte is there."
        ),
        who: ["floe", "containerd"].map(String::from).to_vec(),
        unit: "ms",
        rows,
    })
}

/// An engine with a pod and a container to stream from.
struct Side {
    cri: Clients,
    image: String,
    config: PodSandboxConfig,
    pod: String,
    container: String,
    numbers: i32,
}

impl Side {
    async fn begin(mut cri: Clients, image: &str) -> Result<Self, Error> {
        crate::pull(&mut cri, image).await?;
        let config = pod_config("streams", 0);
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let answer = cri.runtime.run_pod_sandbox(request).await?.into_inner();
        let pod = answer.pod_sandbox_id;
        let container = create(&mut cri, &pod, &config, image).await?;
        start(&mut cri, &container).await?;
        Ok(Self {
            cri,
            image: image.to_owned(),
            config,
            pod,
            container,
            numbers: 0,
        })
    }

    async fn end(&mut self) -> Result<(), Error> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: self.pod.clone(),
        };
        self.cri.runtime.remove_pod_sandbox(request).await?;
        Ok(())
    }

    async fn round(&mut self, samples: &mut Samples) -> Result<(), Error> {
        let zeros = format!("dd if=/dev/zero bs=1M count={MIB}");
        let mut url = self.exec(&format!("{zeros} 2>/dev/null"), false).await?;
        samples[0].push(receive(&url, STDOUT, None).await?);

        url = self.exec(&format!("head -c {BYTES} | wc -c"), true).await?;
        samples[1].push(send(&url).await?);

        url = self.attach(&zeros).await?;
        samples[2].push(receive(&url, STDOUT, Some(b"go\n")).await?);

        url = self.forward(&zeros).await?;
        samples[3].push(receive(&url, 0, None).await?);
        Ok(())
    }

    async fn exec(&mut self, script: &str, stdin: bool) -> Result<String, Error> {
        let request = ExecRequest {
            container_id: self.container.clone(),
            cmd: ["sh", "-c", script].map(String::from).to_vec(),
            stdin,
            stdout: true,
            ..Default::default()
        };
        Ok(self.cri.runtime.exec(request).await?.into_inner().url)
    }

    /// To a container that writes once somebody is there to read.
    async fn attach(&mut self, script: &str) -> Result<String, Error> {
        let mut writer = container(&self.image, &format!("read word; {script} 2>/dev/null"));
        writer.stdin = true;
        let metadata = writer.metadata.get_or_insert_default();
        "writer".clone_into(&mut metadata.name);
        metadata.attempt = self.number().unsigned_abs();
        let id = create_as(&mut self.cri, &self.pod, &self.config, writer).await?;
        start(&mut self.cri, &id).await?;
        let request = AttachRequest {
            container_id: id,
            stdin: true,
            stdout: true,
            ..Default::default()
        };
        Ok(self.cri.runtime.attach(request).await?.into_inner().url)
    }

    /// To a port of the pod at which somebody writes to whoever connects.
    async fn forward(&mut self, script: &str) -> Result<String, Error> {
        let port = 10_000 + self.number();
        let serve = format!(
            "nc -l -p {port} -e sh -c '{script} 2>/dev/null' </dev/null >/dev/null 2>&1 & \
             until netstat -ltn | grep -q :{port}; do sleep 0.05; done"
        );
        let request = ExecSyncRequest {
            container_id: self.container.clone(),
            cmd: ["sh", "-c", &serve].map(String::from).to_vec(),
            timeout: 10,
        };
        self.cri.runtime.exec_sync(request).await?;
        let request = PortForwardRequest {
            pod_sandbox_id: self.pod.clone(),
            port: vec![port],
        };
        let answer = self.cri.runtime.port_forward(request).await?;
        Ok(answer.into_inner().url)
    }

    /// A number that nothing before had.
    fn number(&mut self) -> i32 {
        self.numbers += 1;
        self.numbers
    }
}

async fn start(cri: &mut Clients, container: &str) -> Result<(), Error> {
    let request = StartContainerRequest {
        container_id: container.to_owned(),
    };
    cri.runtime.start_container(request).await?;
    Ok(())
}

/// Sends a word, if there is one, and takes all bytes of a channel.
async fn receive(url: &str, channel: u8, word: Option<&[u8]>) -> Result<Duration, Error> {
    let begin = Instant::now();
    let mut socket = connect(url).await?;
    if let Some(word) = word {
        let message = [&[STDIN], word].concat();
        socket.send(Message::Binary(message.into())).await?;
    }
    // A port's channel says its number first.
    let wanted = if channel == STDOUT { BYTES } else { BYTES + 2 };
    let mut taken = 0;
    while taken < wanted {
        let Some(message) = socket.next().await else {
            return Err(format!("{url}: it ended after {taken} bytes").into());
        };
        if let Message::Binary(bytes) = message?
            && bytes.first() == Some(&channel)
        {
            taken += bytes.len() - 1;
        }
    }
    Ok(begin.elapsed())
}

/// Sends all bytes to a command, until it says how many there were.
async fn send(url: &str) -> Result<Duration, Error> {
    let begin = Instant::now();
    let (mut to, mut from) = connect(url).await?.split();
    let piece = bytes::Bytes::from([&[STDIN], &[0; PIECE][..]].concat());
    let sending = async {
        for _ in 0..BYTES / PIECE {
            to.send(Message::Binary(piece.clone())).await?;
        }
        Ok::<(), Error>(())
    };
    let counting = async {
        while let Some(message) = from.next().await {
            if let Message::Binary(bytes) = message?
                && bytes.first() == Some(&STDOUT)
                && bytes.len() > 1
            {
                let said = String::from_utf8_lossy(&bytes[1..]).trim().to_owned();
                return Ok(said);
            }
        }
        Err(Error::from("it ended without a count"))
    };
    let (sent, said) = tokio::join!(sending, counting);
    sent?;
    let said = said?;
    if said != BYTES.to_string() {
        return Err(format!("{said} bytes of {BYTES} were read").into());
    }
    Ok(begin.elapsed())
}

async fn connect(url: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let url = url.replace("http://", "ws://");
    let mut request = url.as_str().into_client_request()?;
    let version = HeaderValue::from_static("v4.channel.k8s.io");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", version);
    let address = url.split('/').nth(2).unwrap_or_default();
    let stream = TcpStream::connect(address).await?;
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}
