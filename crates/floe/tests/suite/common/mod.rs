//! What the CRI tests share: a world of their own (private network, registry and engine), and
//! short words for the calls that most tests make. It never asserts on behalf of a test, except
//! in [`refused`]; an engine's log is shown when a test fails.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test file uses a part of this"
)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cri::*;
use testkit::{Clients, Node, NodeOptions, Registry, images, net};
use tonic::{Code, Status};

mod calls;
mod log;

pub(crate) use log::{log_lines, log_text};
pub(crate) use testkit::Error;

/// What a test is given.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) registry: Registry,
    pub(crate) cri: Clients,
    image: Option<String>,
}

/// A pod that was made, with what it was made from.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) config: PodSandboxConfig,
}

/// Runs a test in a world of its own and checks that nothing of it remains.
pub(crate) fn run(test: impl AsyncFnOnce(&mut World) -> Result<(), Error>) {
    run_with(|_| NodeOptions::default(), test);
}

/// As [`run`], on a node that differs from the usual one.
pub(crate) fn run_with(
    options: impl FnOnce(&Registry) -> NodeOptions,
    test: impl AsyncFnOnce(&mut World) -> Result<(), Error>,
) {
    let (runtime, mut world) = make(options).expect("make a world for the test");
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&mut world))));
    let cleared = runtime
        .block_on(world.clear())
        .and_then(|()| world.node.clean());
    let failed = !matches!(outcome, Ok(Ok(())));
    if failed {
        eprintln!("--- the engine's log ---\n{}", world.node.log());
    }
    match outcome {
        Ok(Ok(())) => cleared.expect("the test passed and left something behind"),
        Ok(Err(error)) => panic!("{error}"),
        Err(panic) => resume_unwind(panic),
    }
}

fn make(
    options: impl FnOnce(&Registry) -> NodeOptions,
) -> Result<(tokio::runtime::Runtime, World), Error> {
    // Before any other thread exists, so that all of them share the private network.
    net::isolate()?;
    let registry = Registry::start()?;
    let mut options = options(&registry);
    options.insecure.push(registry.host());
    let node = Node::start(&options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cri = runtime.block_on(node.clients())?;
    Ok((
        runtime,
        World {
            node,
            registry,
            cri,
            image: None,
        },
    ))
}

impl World {
    /// Starts the engine again, after it was ended or killed.
    pub(crate) async fn serve_again(&mut self) -> Result<(), Error> {
        self.node.serve()?;
        self.cri = self.node.clients().await?;
        Ok(())
    }

    /// Removes every pod.
    async fn clear(&mut self) -> Result<(), Error> {
        if self.node.engine_pid().is_none() {
            self.serve_again().await?;
        }
        for id in self.pod_ids(PodSandboxFilter::default()).await? {
            self.remove_pod(&id).await?;
        }
        Ok(())
    }
}

/// The security context of a container's configuration.
pub(crate) fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// The security context of a pod's configuration.
pub(crate) fn pod_security(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// Checks that a call was refused with this code and that the message has these words.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, words: &[&str]) {
    let status = outcome.expect_err("this call must be refused");
    assert_eq!(status.code(), code, "{}", status.message());
    for word in words {
        assert!(
            status.message().contains(word),
            "no {word:?} in {:?}",
            status.message()
        );
    }
}

/// Labels from pairs.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// In order.
pub(crate) fn sorted(ids: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<String> = ids.into_iter().collect();
    ids.sort();
    ids
}

/// Names an image.
pub(crate) fn image_spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.into(),
        ..Default::default()
    }
}

/// A command line.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs a script in a container made from the usual configuration, changed; returns what it says.
pub(crate) async fn inside(
    world: &mut World,
    pod: &Pod,
    name: &str,
    script: &str,
    change: impl FnOnce(&mut ContainerConfig),
) -> Result<String, Error> {
    let mut config = world.container(name, &["sh", "-c", script]).await?;
    change(&mut config);
    let (code, text) = world.output(pod, &config).await?;
    if code == 0 {
        Ok(text)
    } else {
        Err(format!("{script}: exit code {code}: {text}").into())
    }
}

/// The images that fit a name; all if it is empty.
pub(crate) async fn listed(world: &mut World, name: &str) -> Result<Vec<Image>, Status> {
    let filter = Some(ImageFilter {
        image: Some(image_spec(name)),
    });
    Ok(world
        .cri
        .images
        .list_images(ListImagesRequest { filter })
        .await?
        .into_inner()
        .images)
}

/// A small layer with one file.
pub(crate) fn layer(content: &str) -> Result<images::Layer, Error> {
    images::layer(&[images::Entry::File("file", 0o644, content.as_bytes())])
}
