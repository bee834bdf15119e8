//! Images on the move: pulled into a store beside containerd and podman, copied, pushed and inspected
//! beside skopeo. One image has one large layer, the other many small ones.

use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::images::{self, Entry, Layer};
use testkit::{Clients, Containerd, Error, Node, NodeOptions, Registry};

use crate::calm::Calm;
use crate::people::{ok, podman};
use crate::runtimes::timed;
use crate::table::{Section, figure};

const ROUNDS: usize = 5;
const WHO: [&str; 4] = ["floe", "containerd", "podman", "skopeo"];
const MEGABYTE: usize = 1_000_000;

/// The samples of one row, in the order of [`WHO`]; empty for who cannot do it.
type Samples = [Vec<Duration>; 4];

/// ext4 steps over each inode that was freed less than a minute ago, one by one, when it looks for a
/// free one: whoever unpacks after others have removed would pay for them.
const REMOVED_LONG_AGO: Duration = Duration::from_secs(65);

struct Lab {
    node: Node,
    dir: tempfile::TempDir,
}

/// The stores that were pulled into: removed when all has been measured.
#[derive(Default)]
struct Pulled {
    nodes: Vec<Node>,
    containerds: Vec<Containerd>,
    dirs: Vec<tempfile::TempDir>,
}

pub(crate) async fn compare(
    calm: &mut Calm,
    registry: &Registry,
    pause: &str,
) -> Result<Section, Error> {
    let (one, many) = push(registry).await?;
    let lab = Lab {
        node: prepare(registry)?,
        dir: directory()?,
    };
    let mut pulled = Pulled::default();
    tokio::time::sleep(REMOVED_LONG_AGO).await;
    let mut rows = Vec::new();
    let mut row = |what: &str, samples: Samples| {
        rows.push((what.to_owned(), samples.map(figure).to_vec()));
    };
    for (image, what) in [(&one, "one layer of 255 MB"), (&many, "20 layers of 5 MB")] {
        let samples = pulled.requests(calm, registry, pause, image).await?;
        row(&format!("PullImage, {what}"), samples);
        let samples = pulled.pulls(calm, registry, image)?;
        row(&format!("pull, {what}"), samples);
    }
    row("copy to a directory, one layer", copies(calm, &lab, &one)?);
    row(
        "push to another name, 20 layers",
        pushes(calm, &lab, &many)?,
    );
    row("inspect", inspects(calm, &lab, &many)?);
    let peak = peak_of_pull(&lab, &one)?;
    rows.push((
        "peak memory of that pull, MiB".to_owned(),
        vec![Some(peak.into()), None, None, None],
    ));
    for dir in &pulled.dirs {
        ok(podman(dir.path(), &["system", "reset", "--force"]))?;
    }
    Ok(Section {
        title: "Images".into(),
        about: format!(
            "A registry on loopback, gzip layers, {ROUNDS} rounds; a pull goes into an empty store and ends with the layers in their place, that of floe's command \
             line also with all of it on disk."
        ),
        who: WHO.map(String::from).to_vec(),
        unit: "ms",
        rows,
    })
}

/// Pushes both images.
async fn push(registry: &Registry) -> Result<(String, String), Error> {
    let client = images::client(&[&registry.host()])?;
    let config = serde_json::json!({ "Cmd": ["sh"] });
    let one = format!("{}/bench/one:1", registry.host());
    images::push(&client, &one, &[files(1, 255)?], config.clone()).await?;
    let many = format!("{}/bench/many:1", registry.host());
    let layers: Vec<Layer> = (2..22)
        .map(|seed| files(seed, 5))
        .collect::<Result<_, _>>()?;
    images::push(&client, &many, &layers, config).await?;
    Ok((one, many))
}

/// Files of mixed sizes that gzip makes about a third of, as it does of programs and libraries.
fn files(seed: u64, megabytes: usize) -> Result<Layer, Error> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut contents = Vec::new();
    let mut left = megabytes * MEGABYTE;
    while left > 0 {
        let size = (4096 + random() as usize % 400_000).min(left);
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            content.extend_from_slice(&random().to_le_bytes()[..3]);
            content.extend_from_slice(b"\0\0\0\0\x48\x8b");
        }
        content.truncate(size);
        left -= size;
        contents.push((format!("usr/lib/{seed}/{}", contents.len()), content));
    }
    let entries: Vec<Entry<'_>> = contents
        .iter()
        .map(|(name, content)| Entry::File(name, 0o644, content))
        .collect();
    images::layer(&entries)
}

fn prepare(registry: &Registry) -> Result<Node, Error> {
    Node::prepare(&NodeOptions {
        insecure: vec![registry.host()],
        ..NodeOptions::default()
    })
}

fn directory() -> Result<tempfile::TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    Ok(builder.prefix("floe-bench-images-").tempdir()?)
}

impl Pulled {
    /// By the CRI, each round into an empty store of an engine that was just started.
    async fn requests(
        &mut self,
        calm: &mut Calm,
        registry: &Registry,
        pause: &str,
        image: &str,
    ) -> Result<Samples, Error> {
        let round = async |_: usize| {
            let mut samples = Samples::default();
            let mut node = prepare(registry)?;
            node.serve()?;
            samples[0].push(pull_image(node.clients().await?, image).await?);
            node.terminate()?;
            self.nodes.push(node);
            let containerd = Containerd::start(pause)?;
            samples[1].push(pull_image(containerd.clients().await?, image).await?);
            self.containerds.push(containerd);
            Ok(samples)
        };
        calm.requests(ROUNDS, round).await
    }

    /// By the command line, each round into an empty store.
    fn pulls(
        &mut self,
        calm: &mut Calm,
        registry: &Registry,
        image: &str,
    ) -> Result<Samples, Error> {
        calm.rounds(ROUNDS, |_| {
            let mut samples = Samples::default();
            let node = prepare(registry)?;
            samples[0].push(timed(|| ok(node.floe(&["pull", "-q", image])?))?);
            self.nodes.push(node);
            let dir = directory()?;
            let pull = ["pull", "-q", "--tls-verify=false", image];
            samples[2].push(timed(|| ok(podman(dir.path(), &pull)))?);
            self.dirs.push(dir);
            Ok(samples)
        })
    }
}

async fn pull_image(mut clients: Clients, image: &str) -> Result<Duration, Error> {
    let begin = std::time::Instant::now();
    crate::pull(&mut clients, image).await?;
    Ok(begin.elapsed())
}

fn skopeo(arguments: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments);
    command
}

fn copies(calm: &mut Calm, lab: &Lab, image: &str) -> Result<Samples, Error> {
    let source = format!("docker://{image}");
    calm.rounds(ROUNDS, |round| {
        let mut samples = Samples::default();
        let target = |who: &str| format!("dir:{}/{who}-{round}", lab.dir.path().display());
        let floe = target("floe");
        samples[0].push(timed(|| ok(lab.node.floe(&["copy", &source, &floe])?))?);
        let peer = target("skopeo");
        let copy = ["copy", "-q", "--src-tls-verify=false", &source, &peer];
        samples[3].push(timed(|| ok(skopeo(&copy)))?);
        for target in [floe, peer] {
            std::fs::remove_dir_all(target.trim_start_matches("dir:"))?;
        }
        Ok(samples)
    })
}

fn pushes(calm: &mut Calm, lab: &Lab, image: &str) -> Result<Samples, Error> {
    let local = format!("dir:{}/local", lab.dir.path().display());
    let source = format!("docker://{image}");
    ok(skopeo(&[
        "copy",
        "-q",
        "--src-tls-verify=false",
        &source,
        &local,
    ]))?;
    let registry = image.split('/').next().unwrap_or_default();
    let mut tries = 0;
    calm.rounds(ROUNDS, |_| {
        let mut samples = Samples::default();
        // Repositories of their own; from the second on both know where the registry has the blobs.
        tries += 1;
        let target = |who: &str| format!("docker://{registry}/{who}/{tries}:1");
        let floe = target("floe");
        samples[0].push(timed(|| ok(lab.node.floe(&["copy", &local, &floe])?))?);
        let peer = target("skopeo");
        let copy = ["copy", "-q", "--dest-tls-verify=false", &local, &peer];
        samples[3].push(timed(|| ok(skopeo(&copy)))?);
        Ok(samples)
    })
}

fn inspects(calm: &mut Calm, lab: &Lab, image: &str) -> Result<Samples, Error> {
    let source = format!("docker://{image}");
    calm.rounds(ROUNDS * 4, |_| {
        let mut samples = Samples::default();
        samples[0].push(timed(|| ok(lab.node.floe(&["inspect", &source])?))?);
        let inspect = ["inspect", "--tls-verify=false", &source];
        samples[3].push(timed(|| ok(skopeo(&inspect)))?);
        Ok(samples)
    })
}

/// The most memory that a pull holds (VmHWM), looked at until it ends.
fn peak_of_pull(lab: &Lab, image: &str) -> Result<f64, Error> {
    let mut pull = lab.node.floe(&["pull", "-q", image])?;
    let mut pull = pull.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut peak = 0.0_f64;
    while pull.try_wait()?.is_none() {
        // Between its end and our look it has no memory any more.
        if let Ok(now) = crate::runtimes::peak_of(&pull) {
            peak = peak.max(now);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(peak)
}
