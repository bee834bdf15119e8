//! `--filter` of `floe ps`: podman's keys. Filters of one key are alternatives, and all keys must match; of
//! labels each must.

use engine::container::{Extras, Health, RestartPolicy};
use engine::{Container, Engine, Pod};
use regex::Regex;

use crate::cmd::run::options::restart_policy;
use crate::failure::Failure;
use crate::filters::is_named;
use crate::{clock, names};

/// What a container must be.
pub(crate) struct Filters(Vec<Filter>);

enum Filter {
    Id(Regex),
    Name(Regex),
    Label(String, Option<String>, bool),
    Status(String),
    /// Its word; `None`: it is not checked.
    Health(Option<&'static str>),
    Exited(i32),
    /// An image's name or id.
    Ancestor(String),
    Pod(String),
    RestartPolicy(RestartPolicy),
    StartsWithTheNode(bool),
    Volume(String),
    /// A network that it is on.
    Network(String),
    /// Nanoseconds since 1970.
    Before(i64),
    Since(i64),
}

impl Filters {
    pub(super) fn parse(engine: &Engine, given: &[String]) -> Result<Filters, Failure> {
        let all = given.iter().map(|text| Filter::parse(engine, text));
        Ok(Filters(all.collect::<Result<_, _>>()?))
    }

    /// Do they speak of states, so that those that do not run are meant as well?
    pub(super) fn are_of_state(&self) -> bool {
        let of_state = |filter: &Filter| matches!(filter, Filter::Status(_) | Filter::Exited(_));
        self.0.iter().any(of_state)
    }

    pub(crate) fn match_all(&self, container: &Container, pod: Option<&Pod>) -> bool {
        self.0.iter().all(|filter| match filter {
            Filter::Label(..) => filter.matches(container, pod),
            _ => {
                let same = |other: &&Filter| {
                    std::mem::discriminant(*other) == std::mem::discriminant(filter)
                };
                let mut same = self.0.iter().filter(same);
                same.any(|other| other.matches(container, pod))
            }
        })
    }
}

impl Filter {
    fn parse(engine: &Engine, text: &str) -> Result<Filter, Failure> {
        let wrong = |why: String| Failure::new(format!("--filter {text:?}: {why}"));
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| wrong("write KEY=VALUE".into()))?;
        let created = |name: &str| Ok::<_, Failure>(names::find(engine, name)?.created_at);
        let label = |is_wanted: bool| {
            let (name, value) = value
                .split_once('=')
                .map_or((value, None), |(name, value)| {
                    (name, Some(value.to_owned()))
                });
            Filter::Label(name.to_owned(), value, is_wanted)
        };
        Ok(match key {
            // podman's: a beginning, or an expression.
            "id" => {
                // Ids are small.
                let value = value.to_ascii_lowercase();
                let begins = value.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let pattern = match begins {
                    true => format!("^{value}"),
                    false => value,
                };
                Filter::Id(Regex::new(&pattern).map_err(|e| wrong(e.to_string()))?)
            }
            "name" => Filter::Name(Regex::new(value).map_err(|e| wrong(e.to_string()))?),
            "label" => label(true),
            "label!" => label(false),
            "status" => match value {
                "created" | "running" | "exited" | "unknown" | "paused" | "stopped"
                | "initialized" | "removing" | "configured" | "stopping" => {
                    Filter::Status(value.to_owned())
                }
                _ => return Err(wrong(format!("{value} is not a valid status"))),
            },
            "health" => match value {
                "none" => Filter::Health(None),
                "starting" => Filter::Health(Some("starting")),
                "healthy" => Filter::Health(Some("healthy")),
                "unhealthy" => Filter::Health(Some("unhealthy")),
                _ => return Err(wrong(format!("{value} is not a valid health status"))),
            },
            "exited" => Filter::Exited(value.parse().map_err(|_| wrong("not a number".into()))?),
            "ancestor" => Filter::Ancestor(value.to_owned()),
            "pod" => Filter::Pod(value.to_owned()),
            "restart-policy" => {
                let invalid = |_| Failure::new(format!("{value} invalid restart policy"));
                // podman's name of none.
                let named = if value == "none" { "no" } else { value };
                Filter::RestartPolicy(restart_policy(named).map_err(invalid)?)
            }
            "volume" => Filter::Volume(value.to_owned()),
            "network" => Filter::Network(value.to_owned()),
            "should-start-on-boot" => Filter::StartsWithTheNode(
                value
                    .parse()
                    .map_err(|_| wrong("write true or false".into()))?,
            ),
            "before" => Filter::Before(created(value)?),
            "since" => Filter::Since(created(value)?),
            "until" => Filter::Before(clock::until(value)?.saturating_mul(1_000_000_000)),
            other => {
                return Err(wrong(format!("{other} is an invalid filter here")));
            }
        })
    }

    fn matches(&self, container: &Container, pod: Option<&Pod>) -> bool {
        let spec = &container.spec;
        match self {
            Filter::Id(id) => id.is_match(&container.id),
            Filter::Name(name) => name.is_match(&spec.name),
            Filter::Label(name, value, is_wanted) => {
                let found = spec.labels.get(name);
                let has = found.is_some_and(|found| value.as_ref().is_none_or(|v| v == found));
                has == *is_wanted
            }
            Filter::Status(word) => {
                let state = super::state(container);
                // What has ended is all that is stopped here.
                state == *word || (word == "stopped" && state == "exited")
            }
            Filter::Health(word) => super::health(container).map(Health::word) == *word,
            Filter::Exited(code) => super::exit_code(container) == Some(*code),
            Filter::Ancestor(image) => {
                let id = image.trim_start_matches("sha256:");
                container.image_id.starts_with(id) || is_named(&spec.user_specified_image, image)
            }
            Filter::Pod(name) => {
                container.pod_id.starts_with(name) || pod.is_some_and(|pod| pod.spec.name == *name)
            }
            Filter::Volume(wanted) => spec.mounts.iter().any(|mount| {
                let volume = mount.volume.as_ref();
                volume.is_some_and(|volume| volume.name == *wanted)
                    || mount.container_path.as_os_str() == wanted.as_str()
                    || (mount.image.is_none() && mount.host_path.as_os_str() == wanted.as_str())
            }),
            Filter::Network(wanted) => {
                pod.is_some_and(|pod| engine::networks::networks_of(pod).contains(wanted))
            }
            Filter::RestartPolicy(policy) => {
                let found = spec
                    .extras
                    .as_deref()
                    .map_or(RestartPolicy::No, |extras| extras.restart);
                std::mem::discriminant(&found) == std::mem::discriminant(policy)
            }
            Filter::StartsWithTheNode(wanted) => {
                let extras = spec.extras.as_deref();
                extras.is_some_and(Extras::starts_with_the_node) == *wanted
            }
            Filter::Before(time) => container.created_at < *time,
            Filter::Since(time) => container.created_at > *time,
        }
    }
}
