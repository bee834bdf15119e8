//! Which containers a verb is for, as podman's verbs are told it: names, a filter, the newest, files with ids.

use std::path::PathBuf;

use engine::pod::Origin;
use engine::{Container, ContainerFilter, Engine};

use super::ps;
use crate::failure::Failure;
use crate::names;

/// Which containers.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Those that match, as floe ps --filter has it
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// The newest one
    #[arg(long, short)]
    latest: bool,
    /// The container whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Which {
    /// Were containers given by their names?
    pub(crate) fn is_named(&self) -> bool {
        !self.containers.is_empty()
    }

    /// What they were called: names as they were typed, else ids. Of `all`, those that `fit`.
    pub(crate) fn names(
        &self,
        engine: &Engine,
        all: bool,
        fit: impl Fn(&Container) -> bool,
    ) -> Result<Vec<String>, Failure> {
        let named = !self.containers.is_empty() || !self.cidfile.is_empty();
        if !all && !named && self.filter.is_empty() && !self.latest {
            return Err(Failure::new("you must provide at least one name or id"));
        }
        if all && named {
            return Err(Failure::new(
                "either all containers or the container(s) provided in the arguments",
            ));
        }
        let mut names = self.containers.clone();
        names.extend(names::of_files(&self.cidfile, false)?);
        let selected = ps::selected(engine, &self.filter, self.latest)?;
        match named && !self.filter.is_empty() {
            // Of those that are named, the ones that match.
            true => {
                let mut matching = Vec::new();
                for name in names {
                    if selected.contains(&names::find(engine, &name)?.id) {
                        matching.push(name);
                    }
                }
                names = matching;
            }
            false => names.extend(selected),
        }
        // With a filter, all are those that match it.
        if all && self.filter.is_empty() {
            let filter = ContainerFilter {
                origin: Some(Origin::Cli),
                ..ContainerFilter::default()
            };
            let containers = engine.containers(&filter)?;
            let fitting = containers.iter().filter(|container| fit(container));
            names.extend(fitting.map(|container| container.id.clone()));
        }
        Ok(names)
    }
}
