//! `floe run --rm` beside `podman run --rm`.

use std::process::{Command, Stdio};

use testkit::{Error, Node, Registry};

use crate::calm::Calm;
use crate::runtimes::timed;
use crate::table::{Section, figure};

const ROUNDS: usize = 12;
/// podman's own defaults cannot be set without CAP_SYS_RESOURCE.
const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1000:1000",
];

pub(crate) fn compare(calm: &mut Calm, registry: &Registry, image: &str) -> Result<Section, Error> {
    let node = Node::prepare(&crate::options(registry))?;
    let dir = tempfile::Builder::new()
        .prefix("floe-bench-podman-")
        .tempdir()?;
    ok(node.floe(&["pull", image])?)?;
    ok(podman(dir.path(), &["pull", "--tls-verify=false", image]))?;
    let mut rows = Vec::new();
    for network in ["none", "bridge"] {
        let samples: [Vec<_>; 2] = calm.rounds(ROUNDS, |_| {
            let floe =
                timed(|| ok(node.floe(&["run", "--rm", "--network", network, image, "true"])?))?;
            let peer = timed(|| {
                let run = ["run", "--rm", "--network", network];
                let words = [&run[..], &LIMITS, &[image, "true"]].concat();
                ok(podman(dir.path(), &words))
            })?;
            Ok([vec![floe], vec![peer]])
        })?;
        rows.push((
            format!("run --rm --network {network} busybox true"),
            samples.into_iter().map(figure).collect(),
        ));
    }
    ok(podman(dir.path(), &["system", "reset", "--force"]))?;
    Ok(Section {
        title: "For people".into(),
        about: format!("{ROUNDS} rounds, the image already there, no daemon on either side."),
        who: ["floe", "podman"].map(String::from).to_vec(),
        unit: "ms",
        rows,
    })
}

pub(crate) fn podman(dir: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command
        .arg("--root")
        .arg(dir.join("root"))
        .arg("--runroot")
        .arg(dir.join("run"))
        .arg("--tmpdir")
        .arg(dir.join("tmp"))
        .arg("--network-config-dir")
        .arg(dir.join("net"))
        .args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
        .args(arguments);
    command
}

pub(crate) fn ok(mut command: Command) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}
