//! `floe list-tags`: the tags of a repository, or the names in an archive (skopeo list-tags).

use std::process::ExitCode;

use image::Reference;
use serde::Serialize;
use transfer::Location;

use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Flags, Remote, RetryFlags};

/// Options of `floe list-tags`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    flags: Flags,
    /// docker://REPOSITORY or docker-archive:FILE
    repository: String,
}

/// skopeo's answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tags {
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    tags: Vec<String>,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let location = Location::parse(&args.repository)?;
    let tags = match &location {
        Location::Registry(_) => {
            // The location has a tag, as it is an image's; what was written may not.
            let written = args.repository.trim_start_matches("docker://");
            let reference = Reference::parse(written)?;
            if reference.tag().is_some() || reference.digest().is_some() {
                return Err(Failure::new(format!(
                    "{}: write a repository without tag and digest",
                    args.repository
                )));
            }
            let remote = Remote::new(global)?;
            let access = args.flags.access(&remote, &location)?;
            let tags = args.retry.run(|| {
                remote::block_on(async {
                    Ok(access.client.tags(&reference, &access.credentials).await?)
                })
            })?;
            Tags {
                repository: Some(reference.name()),
                tags,
            }
        }
        Location::DockerArchive(file, _) => Tags {
            repository: None,
            tags: transfer::docker_archive_names(file)?
                .into_iter()
                .enumerate()
                .flat_map(|(place, names)| match names.is_empty() {
                    true => vec![format!("@{place}")],
                    false => names,
                })
                .collect(),
        },
        other => {
            return Err(Failure::new(format!(
                "the transport {} has no tags to list: docker or docker-archive has",
                other.transport()
            )));
        }
    };
    remote::print_json(&tags)
}
