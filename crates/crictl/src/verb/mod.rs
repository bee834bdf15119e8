//! The verbs, a file for each of the CRI's nouns; what they share stands here.

pub(crate) mod checkpoints;
pub(crate) mod config;
pub(crate) mod containers;
pub(crate) mod create;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod pods;
pub(crate) mod ports;
pub(crate) mod pull;
pub(crate) mod stats;
pub(crate) mod update;

use std::time::Duration;

use clap::Subcommand;

use crate::connection::{Images, Runtime};
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;
use crate::{Render, schema};

/// What every verb is given.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) render: Render,
}

impl World {
    pub(crate) async fn runtime(&self) -> Outcome<Runtime> {
        Runtime::connect(&self.settings).await
    }

    pub(crate) async fn runtime_with(&self, limit: Option<Duration>) -> Outcome<Runtime> {
        Runtime::with_limit(&self.settings, limit).await
    }

    pub(crate) async fn images(&self) -> Outcome<Images> {
        Images::connect(&self.settings).await
    }

    pub(crate) async fn images_beside(&self, runtime: &Runtime) -> Outcome<Images> {
        Images::beside(runtime, &self.settings).await
    }
}

/// An id, which must not be empty.
pub(crate) fn id(id: &str) -> Outcome<String> {
    match id.is_empty() {
        true => Err(empty()),
        false => Ok(id.to_owned()),
    }
}

/// crictl's word for an id that is missing.
pub(crate) fn empty() -> Failure {
    Failure::new("ID cannot be empty")
}

/// `jsonschema` of verbs that take a pod's configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Print the JSON Schema of a pod's configuration
    #[command(name = "jsonschema", visible_alias = "js")]
    JsonSchema,
}

/// The same of those that take both.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemasCommand {
    /// Print the JSON Schema of a pod's or a container's configuration
    #[command(name = "jsonschema", visible_alias = "js")]
    JsonSchema {
        /// A pod's
        #[arg(long, short)]
        pod: bool,
        /// A container's
        #[arg(long, short)]
        container: bool,
    },
}

/// Configurations with a schema.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Schema {
    Pod,
    Container,
}

impl Schema {
    pub(crate) fn print(self) -> Outcome {
        schema::print(match self {
            Self::Pod => "PodSandboxConfig",
            Self::Container => "ContainerConfig",
        })
    }
}

impl SchemasCommand {
    pub(crate) fn print(&self) -> Outcome {
        let Self::JsonSchema { pod, container } = self;
        if !pod && !container {
            return Err(Failure::Help);
        }
        if *pod {
            Schema::Pod.print()?;
        }
        if *container {
            Schema::Container.print()?;
        }
        Ok(())
    }
}
