//! Finding a container by what a person types, and names for those that were given none.

use std::path::PathBuf;
use std::sync::Arc;

use engine::pod::Origin;
use engine::{Container, ContainerFilter, Engine, Pod, PodFilter};
use image::Reference;

use crate::failure::Failure;

/// A container by name, id, or the unambiguous beginning of its id; one of kubelet's also by
/// `NAMESPACE/POD/CONTAINER`.
pub(crate) fn find(engine: &Engine, text: &str) -> Result<Container, Failure> {
    let named = match text.contains('/') {
        true => of_kubelet(engine, text)?,
        false => {
            let mut all = engine.containers(&ContainerFilter::default())?;
            all.retain(|container| container.spec.name == text);
            all
        }
    };
    match named.len() {
        0 => engine.container(text).map_err(|error| match error.kind() {
            engine::Kind::NotFound => Failure::missing(format!(
                "no container with name or ID {text:?} found: no such container"
            )),
            _ => error.into(),
        }),
        1 => Ok(named
            .into_iter()
            .next()
            .map(Arc::unwrap_or_clone)
            .ok_or_else(|| Failure::new("no such container"))?),
        count => Err(Failure::new(format!(
            "{count} containers are named {text:?}: use an id"
        ))),
    }
}

/// The newest of the containers that kubelet has made under one name: it keeps those that have ended.
fn of_kubelet(engine: &Engine, text: &str) -> Result<Vec<Arc<Container>>, Failure> {
    let [namespace, pod, name] = text.split('/').collect::<Vec<_>>()[..] else {
        return Ok(Vec::new());
    };
    let pods = engine.pods(&PodFilter {
        origin: Some(Origin::Cri),
        ..PodFilter::default()
    })?;
    let mut found = Vec::new();
    for pod in pods
        .iter()
        .filter(|one| one.spec.namespace == namespace && one.spec.name == pod)
    {
        let mut inside = engine.containers(&ContainerFilter {
            pod_id: Some(pod.id.clone()),
            ..ContainerFilter::default()
        })?;
        inside.retain(|container| container.spec.name == name);
        found.append(&mut inside);
    }
    let newest = found
        .into_iter()
        .max_by_key(|container| container.created_at);
    Ok(newest.into_iter().collect())
}

/// A pod that a person made for itself, by name, id, or the unambiguous beginning of its id.
pub(crate) fn find_pod(engine: &Engine, text: &str) -> Result<Arc<Pod>, Failure> {
    let all = pods(engine)?;
    let is_named = |pod: &&Arc<Pod>| pod.spec.name == text;
    if let Some(found) = all.iter().find(is_named) {
        return Ok(Arc::clone(found));
    }
    let mut begun = all.iter().filter(|pod| pod.id.starts_with(text));
    match (begun.next().filter(|_| !text.is_empty()), begun.next()) {
        (Some(found), None) => Ok(Arc::clone(found)),
        (Some(_), Some(_)) => Err(Failure::new(format!(
            "more than one pod has an ID that begins with {text}"
        ))),
        (None, _) => Err(Failure::missing(format!(
            "no pod with name or ID {text} found: no such pod"
        ))),
    }
}

/// The pods that people made for themselves, newest first.
pub(crate) fn pods(engine: &Engine) -> Result<Vec<Arc<Pod>>, Failure> {
    let mut all = engine.pods(&PodFilter {
        origin: Some(Origin::Cli),
        ..PodFilter::default()
    })?;
    all.retain(|pod| pod.spec.by_itself);
    Ok(all)
}

/// Is the pod the container's own, made with it?
pub(crate) fn is_alone(pod: &Pod, container: &Container) -> bool {
    pod.spec.origin == Origin::Cli && !pod.spec.by_itself && pod.id == container.pod_id
}

/// The ids in files; one that is missing is none if `ignore`.
pub(crate) fn of_files(files: &[PathBuf], ignore: bool) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for file in files {
        match std::fs::read_to_string(file) {
            Ok(text) => all.push(text.lines().next().unwrap_or_default().trim().to_owned()),
            Err(e) if ignore && e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                let why = match e.kind() {
                    std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                    _ => e.to_string(),
                };
                return Err(Failure::new(format!(
                    "reading CIDFile: open {}: {why}",
                    file.display()
                )));
            }
        }
    }
    Ok(all)
}

/// The ids of all containers that people made.
pub(crate) fn of_people(engine: &Engine) -> Result<Vec<String>, Failure> {
    let filter = ContainerFilter {
        origin: Some(Origin::Cli),
        ..ContainerFilter::default()
    };
    let containers = engine.containers(&filter)?.into_iter();
    Ok(containers.map(|container| container.id.clone()).collect())
}

/// Checks a name that a person chose: podman's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(crate) fn check(name: &str) -> Result<(), Failure> {
    let further = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let valid = name
        .as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(further);
    if valid {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the name {name:?} is invalid: names consist of letters, digits, \"_\", \".\" and \"-\" and begin with a letter or digit"
    )))
}

/// A name for an image that is made here, with a tag: one without a registry is nobody's but ours.
pub(crate) fn local(name: &str) -> Result<Reference, Failure> {
    let first = name.split('/').next().unwrap_or_default();
    let registry = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let reference = match registry {
        true => Reference::parse(name)?,
        false => Reference::parse(&format!("localhost/{name}"))?,
    };
    if reference.digest().is_some() {
        return Err(Failure::new(format!(
            "the name {name:?} has a digest, which is not to be chosen"
        )));
    }
    Ok(reference.or_latest())
}

/// Two words, chosen by the random bytes of an id so that a clash is rare.
pub(crate) fn invent() -> Result<String, Failure> {
    let mut bytes = [0_u8; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Failure::new(format!("getrandom: {e}")))?;
    let pick = |words: &[&'static str], at: usize| {
        words[usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])) % words.len()]
    };
    Ok(format!("{}_{}", pick(QUALITIES, 0), pick(THINGS, 2)))
}

const QUALITIES: &[&str] = &[
    "arctic", "bold", "bright", "brisk", "calm", "clear", "cold", "crisp", "deep", "distant",
    "drifting", "early", "fair", "fast", "fine", "firm", "fresh", "frosty", "gentle", "glassy",
    "grand", "keen", "late", "light", "lone", "long", "lucid", "mild", "neat", "new", "north",
    "pale", "plain", "polar", "proud", "pure", "quick", "quiet", "rapid", "rare", "sharp",
    "silent", "silver", "slow", "smooth", "snowy", "solid", "steady", "still", "swift", "tidy",
    "vast", "warm", "white", "wide", "wild", "windy", "wise",
];

const THINGS: &[&str] = &[
    "bay", "beacon", "berg", "brook", "cape", "cliff", "cloud", "coast", "comet", "cove", "creek",
    "crest", "current", "delta", "drift", "dune", "fjord", "floe", "fog", "ford", "forest", "gale",
    "glacier", "glade", "grove", "gull", "gulf", "harbour", "haven", "heron", "hill", "inlet",
    "island", "isle", "lagoon", "lake", "ledge", "lichen", "meadow", "mist", "moon", "moor",
    "moss", "otter", "peak", "pine", "plain", "puffin", "rain", "reef", "ridge", "river", "seal",
    "shoal", "shore", "sound", "spring", "star", "stone", "storm", "strait", "tern", "tide",
    "tundra", "valley", "wave", "whale", "wind",
];
