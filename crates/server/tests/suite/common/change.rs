//! Parts of requests, what is changed in them, and what is looked for in answers.

use std::collections::BTreeMap;

use cri::{
    ContainerConfig, ImageSpec, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    PodSandboxConfig,
};
use testkit::images::{self, Layer};
use tonic::{Code, Status};

use super::World;

/// An image by its name.
pub(crate) fn image_spec(name: &str) -> ImageSpec {
    ImageSpec {
        image: name.to_owned(),
        ..Default::default()
    }
}

/// A command line.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Labels from pairs.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
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

/// The identity and confinement of a container.
pub(crate) fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// A container's configuration with another identity or confinement.
pub(crate) fn secured(
    mut config: ContainerConfig,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> ContainerConfig {
    change(security(&mut config));
    config
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
        let message = status.message();
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
}

/// Runs a script in a container made from the usual configuration, changed; what it says. It must
/// succeed.
pub(crate) async fn inside(
    world: &World,
    pod: &str,
    name: &str,
    script: &str,
    change: impl FnOnce(&mut ContainerConfig),
) -> String {
    let mut config = world.container(name, &["sh", "-c", script]);
    change(&mut config);
    let (code, text) = world.ran(pod, config).await;
    assert_eq!(code, 0, "{script}: {text}");
    text
}

/// A small layer with one file.
pub(crate) fn layer(content: &str) -> Layer {
    images::layer(&[images::Entry::File("file", 0o644, content.as_bytes())]).unwrap()
}
