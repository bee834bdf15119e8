//! A layer of many files in each form that layers have, beside containerd: what it takes to get it, to read it, and
//! to be rid of it.

use std::time::{Duration, Instant};

use cri::*;
use testkit::images::{self, Entry};
use testkit::{Clients, Containerd, Error, Node, NodeOptions, Registry};

use crate::calm::Calm;
use crate::cri_verbs::{create, pod_config, spec};
use crate::table::{Section, figure};

const ROUNDS: usize = 5;
const FILES: usize = 18_000;
const WHO: [&str; 3] = ["floe", "floe, unpacked", "containerd"];
const STEPS: [&str; 6] = [
    "PullImage",
    "CreateContainer and StartContainer",
    "find in it, the first time",
    "find in it, again",
    "stat and read of each",
    "RemoveImage",
];

/// Of each step.
type Samples = [Vec<Duration>; STEPS.len()];

pub(crate) async fn compare(
    calm: &mut Calm,
    registry: &Registry,
    pause: &str,
) -> Result<Section, Error> {
    let image = push(registry).await?;
    let mut nodes = Vec::new();
    for form in ["erofs", "unpacked"] {
        nodes.push(Node::start(&NodeOptions {
            image: format!("layer_form = \"{form}\"\n"),
            ..crate::options(registry)
        })?);
    }
    let containerd = Containerd::start(pause)?;
    let mut sides = Vec::new();
    for node in &nodes {
        sides.push(node.clients().await?);
    }
    sides.push(containerd.clients().await?);
    // The first round only warms up.
    for side in &mut sides {
        life(side, &mut Samples::default(), &image, 0).await?;
    }
    let figures: [Samples; WHO.len()] = calm
        .requests(ROUNDS, async |round| {
            let mut samples = <[Samples; WHO.len()]>::default();
            for (side, samples) in sides.iter_mut().zip(&mut samples) {
                life(side, samples, &image, 1 + u32::try_from(round)?).await?;
            }
            Ok(samples)
        })
        .await?;
    let mut of_steps = figures.map(|samples| samples.map(figure).into_iter());
    let rows = STEPS.map(|step| {
        let figures = of_steps.iter_mut();
        (
            step.to_owned(),
            figures.map(|figures| figures.next().flatten()).collect(),
        )
    });
    Ok(Section {
        title: "Layers of many files".into(),
        about: format!(
            "One gzip layer of {FILES} files from a registry on loopback, {ROUNDS} rounds. What is read, is read in a container."
        ),
        who: WHO.map(String::from).to_vec(),
        unit: "ms",
        rows: rows.into(),
    })
}

/// Busybox, and a layer of small files in directories of a hundred.
async fn push(registry: &Registry) -> Result<String, Error> {
    let names: Vec<String> = (0..FILES)
        .map(|number| format!("many/{}/file-{number}", number / 100))
        .collect();
    let files = names.iter().enumerate().map(|(number, name)| {
        let content = name.as_bytes();
        // Most are about as large as a script.
        (name, content.repeat(1 + number % 200))
    });
    let files: Vec<_> = files.collect();
    let entries: Vec<Entry<'_>> = files
        .iter()
        .map(|(name, content)| Entry::File(name, 0o644, content))
        .collect();
    let layers = [images::busybox()?, images::layer(&entries)?];
    let image = format!("{}/bench/files:1", registry.host());
    let client = images::client(&[&registry.host()])?;
    let config = serde_json::json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    images::push(&client, &image, &layers, config).await?;
    Ok(image)
}

/// Of one image, from its pull to its end.
async fn life(
    cri: &mut Clients,
    samples: &mut Samples,
    image: &str,
    round: u32,
) -> Result<(), Error> {
    let mut note = |step: usize, begin: Instant| samples[step].push(begin.elapsed());
    let begin = Instant::now();
    crate::pull(cri, image).await?;
    note(0, begin);
    let pod = pod_config("layers", round);
    let run = RunPodSandboxRequest {
        config: Some(pod.clone()),
        ..Default::default()
    };
    let run = cri.runtime.run_pod_sandbox(run).await?;
    let pod_id = run.into_inner().pod_sandbox_id;
    let begin = Instant::now();
    let id = create(cri, &pod_id, &pod, image).await?;
    let start = StartContainerRequest {
        container_id: id.clone(),
    };
    cri.runtime.start_container(start).await?;
    note(1, begin);
    let scripts = [
        "find /many | wc -l",
        "find /many | wc -l",
        "find /many -type f | xargs cat | wc -c",
    ];
    for (step, script) in scripts.into_iter().enumerate() {
        let begin = Instant::now();
        exec(cri, &id, script).await?;
        note(2 + step, begin);
    }
    remove(cri, pod_id).await?;
    let begin = Instant::now();
    let image = Some(spec(image));
    cri.images
        .remove_image(RemoveImageRequest { image })
        .await?;
    note(5, begin);
    Ok(())
}

async fn exec(cri: &mut Clients, id: &str, script: &str) -> Result<(), Error> {
    let exec = ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: ["sh", "-c", script].map(String::from).to_vec(),
        timeout: 60,
    };
    let answer = cri.runtime.exec_sync(exec).await?.into_inner();
    match answer.exit_code {
        0 => Ok(()),
        code => Err(format!("{script}: exit code {code}").into()),
    }
}

/// Removes a pod and what is in it.
async fn remove(cri: &mut Clients, pod_sandbox_id: String) -> Result<(), Error> {
    let stop = StopPodSandboxRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
    };
    cri.runtime.stop_pod_sandbox(stop).await?;
    let remove = RemovePodSandboxRequest { pod_sandbox_id };
    cri.runtime.remove_pod_sandbox(remove).await?;
    Ok(())
}
