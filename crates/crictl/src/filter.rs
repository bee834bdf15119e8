//! Which pods and containers a verb is about: labels, states, patterns of names, and the newest of them.

use std::collections::BTreeMap;

use clap::Args;
use regex::Regex;

use crate::connection::{Images, Runtime};
use crate::failure::{Context, Failure, Outcome};

/// What kubelet writes of a container's pod.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// The newest ones.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Newest {
    /// The one that was made last
    #[arg(long, short)]
    pub(crate) latest: bool,
    /// So many of those that were made last; 0: all
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 0)]
    pub(crate) last: usize,
}

impl Newest {
    fn of<T>(&self, mut all: Vec<T>, made: impl Fn(&T) -> i64) -> Vec<T> {
        all.sort_by_key(|one| std::cmp::Reverse(made(one)));
        let most = match (self.last, self.latest) {
            (0, true) => 1,
            (0, false) => usize::MAX,
            (last, _) => last,
        };
        all.truncate(most);
        all
    }
}

/// Which containers: the options of verbs that are about those that fit.
#[derive(Debug, Default, Args)]
pub(crate) struct Containers {
    /// Those whose name fits this regular expression
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) name: String,
    /// Those whose pod's namespace fits this regular expression
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) namespace: String,
    /// Those of this pod
    #[arg(
        long,
        short,
        value_name = "POD-ID",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) pod: String,
    /// Those of this image
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) image: String,
    /// created, running, exited or unknown
    #[arg(long, short, default_value = "", hide_default_value = true)]
    pub(crate) state: String,
    /// Those with this label
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Those that do not run too
    #[arg(long, short)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) newest: Newest,
}

/// Which pods.
#[derive(Debug, Default, Args)]
pub(crate) struct Pods {
    /// Those whose name fits this regular expression
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "",
        hide_default_value = true
    )]
    name: String,
    /// Those whose namespace fits this regular expression
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "",
        hide_default_value = true
    )]
    namespace: String,
    /// ready or notready
    #[arg(long, short, default_value = "", hide_default_value = true)]
    state: String,
    /// Those with this label
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    #[command(flatten)]
    newest: Newest,
}

/// Labels of `KEY=VALUE`.
pub(crate) fn labels(words: &[String]) -> Outcome<BTreeMap<String, String>> {
    let pair = |word: &String| {
        let wrong = || Failure::new(format!("incorrectly specified label: {word}"));
        let (key, value) = word.split_once('=').ok_or_else(wrong)?;
        match value.contains('=') {
            true => Err(wrong()),
            false => Ok((key.to_owned(), value.to_owned())),
        }
    };
    // Several may stand in one word, as with crictl.
    let words = words.iter().flat_map(|word| word.split(','));
    words.map(|word| pair(&word.to_owned())).collect()
}

/// A pattern; none is one that fits all.
fn pattern(text: &str) -> Outcome<Option<Regex>> {
    if text.is_empty() {
        return Ok(None);
    }
    Regex::new(text)
        .map(Some)
        .map_err(|error| Failure::new(format!("invalid regular expression {text:?}: {error}")))
}

fn fits(pattern: &Option<Regex>, text: &str) -> bool {
    pattern
        .as_ref()
        .is_none_or(|pattern| pattern.is_match(text))
}

/// What kubelet has written of a container's pod.
pub(crate) fn label<'a>(labels: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    labels.get(key).map_or("unknown", String::as_str)
}

impl Containers {
    fn filter(&self, id: &str) -> Outcome<cri::ContainerFilter> {
        use cri::ContainerState as State;
        let state = match self.state.to_lowercase().as_str() {
            "" => (!self.all).then_some(State::ContainerRunning),
            "created" => Some(State::ContainerCreated),
            "running" => Some(State::ContainerRunning),
            "exited" => Some(State::ContainerExited),
            "unknown" => Some(State::ContainerUnknown),
            _ => {
                let why = "--state should be one of created, running, exited or unknown";
                return Err(Failure::new(why));
            }
        };
        let is_newest = self.newest.latest || self.newest.last > 0;
        let state = state.filter(|_| !is_newest);
        Ok(cri::ContainerFilter {
            id: id.to_owned(),
            state: state.map(|state| cri::ContainerStateValue {
                state: state.into(),
            }),
            pod_sandbox_id: self.pod.clone(),
            label_selector: labels(&self.label)?,
        })
    }

    /// Those of the runtime whose id begins with `id`, the newest first.
    pub(crate) async fn list(
        &self,
        id: &str,
        runtime: &Runtime,
        images: &Images,
    ) -> Outcome<Vec<cri::Container>> {
        let (name, namespace) = (pattern(&self.name)?, pattern(&self.namespace)?);
        let request = cri::ListContainersRequest {
            filter: Some(self.filter(id)?),
        };
        let answer = runtime
            .call(async |mut client| client.list_containers(request).await)
            .await
            .context("call list containers RPC")?;
        let wanted = match self.image.as_str() {
            "" => None,
            image => Some(image_id(images, image).await.context("check image match")?),
        };
        let mut found = Vec::new();
        for container in answer.containers {
            if let Some(wanted) = &wanted {
                let image = container.image.as_ref();
                let image = image.map_or("", |image| image.image.as_str());
                let id = image_id(images, image).await.context("check image match")?;
                // Images that are not there are the same as none.
                if wanted.is_none() || id != *wanted {
                    continue;
                }
            }
            let metadata = container.metadata.as_ref();
            let fits = metadata.is_some_and(|metadata| {
                let pod = label(&container.labels, POD_NAMESPACE);
                fits(&name, &metadata.name) && fits(&namespace, pod)
            });
            if fits {
                found.push(container);
            }
        }
        Ok(self.newest.of(found, |container| container.created_at))
    }
}

async fn image_id(images: &Images, image: &str) -> Outcome<Option<String>> {
    let status = image_status(images, image, false).await?;
    Ok(status.image.map(|image| image.id))
}

/// What is known of an image.
pub(crate) async fn image_status(
    images: &Images,
    image: &str,
    verbose: bool,
) -> Outcome<cri::ImageStatusResponse> {
    let request = cri::ImageStatusRequest {
        image: Some(spec(image)),
        verbose,
    };
    images
        .call(async |mut client| client.image_status(request).await)
        .await
}

/// An image by its name.
pub(crate) fn spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

impl Pods {
    fn filter(&self, id: &str) -> Outcome<cri::PodSandboxFilter> {
        use cri::PodSandboxState as State;
        let state = match self.state.to_lowercase().as_str() {
            "" => None,
            "ready" => Some(State::SandboxReady),
            "notready" => Some(State::SandboxNotready),
            _ => return Err(Failure::new("--state should be ready or notready")),
        };
        Ok(cri::PodSandboxFilter {
            id: id.to_owned(),
            state: state.map(|state| cri::PodSandboxStateValue {
                state: state.into(),
            }),
            label_selector: labels(&self.label)?,
        })
    }

    /// Those of the runtime whose id begins with `id`, the newest first.
    pub(crate) async fn list(&self, id: &str, runtime: &Runtime) -> Outcome<Vec<cri::PodSandbox>> {
        let (name, namespace) = (pattern(&self.name)?, pattern(&self.namespace)?);
        let request = cri::ListPodSandboxRequest {
            filter: Some(self.filter(id)?),
        };
        let answer = runtime
            .call(async |mut client| client.list_pod_sandbox(request).await)
            .await
            .context("call list sandboxes RPC")?;
        let mut found = answer.items;
        found.retain(|pod| {
            let metadata = pod.metadata.as_ref();
            metadata.is_some_and(|metadata| {
                fits(&name, &metadata.name) && fits(&namespace, &metadata.namespace)
            })
        });
        Ok(self.newest.of(found, |pod| pod.created_at))
    }
}

/// The first 13 characters of an id, as crictl's tables have them.
pub(crate) fn short(id: &str) -> &str {
    id.char_indices().nth(13).map_or(id, |(end, _)| &id[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let words = ["a=b".to_owned(), "c=d,e=".to_owned()];
        let read = labels(&words).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read["e"], "");
        for wrong in ["a", "a=b=c"] {
            assert!(labels(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_newest_are_the_first() {
        let newest = |latest, last| Newest { latest, last }.of(vec![1, 3, 2], |one| *one);
        assert_eq!(newest(false, 0), [3, 2, 1]);
        assert_eq!(newest(true, 0), [3]);
        assert_eq!(newest(false, 2), [3, 2]);
        assert_eq!(newest(true, 9), [3, 2, 1]);
    }

    #[test]
    fn ids_are_cut_as_crictl_does() {
        assert_eq!(short("0123456789abcdef"), "0123456789abc");
        assert_eq!(short("ab"), "ab");
    }
}
