//! Which images `sync` is to copy: found before the first one moves.

use std::path::{Path, PathBuf};

use image::{Digest, Reference};
use regex::Regex;
use transfer::Location;

use super::list::{self, Registry};
use super::versions::Constraint;
use crate::failure::Failure;
use crate::progress::note;
use crate::remote::{self, Flags, Remote};

/// An image to be copied.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) from: Location,
    /// What it is called where it comes from.
    pub(super) name: String,
    pub(super) flags: Flags,
}

impl Job {
    fn of_registry(reference: Reference, flags: &Flags) -> Job {
        Job {
            name: reference.to_string(),
            from: Location::Registry(reference),
            flags: flags.clone(),
        }
    }
}

/// The image of a tag or digest, or those of all tags of a repository.
pub(super) fn repository(
    remote: &Remote,
    source: &str,
    flags: &Flags,
) -> Result<Vec<Job>, Failure> {
    let reference = Reference::parse(source.trim_start_matches("docker://"))?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Ok(vec![Job::of_registry(reference, flags)]);
    }
    tagged(remote, &reference, flags, |_| true)
}

fn tagged(
    remote: &Remote,
    repository: &Reference,
    flags: &Flags,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Job>, Failure> {
    let client = flags.client(remote, repository.domain());
    let credentials = flags.credentials()?;
    let tags = remote::block_on(async { Ok(client.tags(repository, &credentials).await?) })?;
    let mut jobs = Vec::new();
    for tag in tags.iter().filter(|tag| wanted(tag)) {
        match repository.with_tag(tag) {
            Ok(reference) => jobs.push(Job::of_registry(reference, flags)),
            // Registries of old have some that nobody can ask for.
            Err(_) => note(&format!(
                "Warning: {repository}: {tag:?} is no tag and is passed over"
            )),
        }
    }
    Ok(jobs)
}

/// Each directory below `dir`, and itself, that holds an image of the `dir` transport; and what could not be
/// looked at.
pub(super) fn directory(
    dir: &Path,
    flags: &Flags,
) -> Result<Vec<Result<Vec<Job>, Failure>>, Failure> {
    let mut jobs = Vec::new();
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(at) = left.pop() {
        match look_at(&at) {
            Ok((below, is_image)) => {
                left.extend(below);
                if is_image {
                    jobs.push(Job {
                        name: name_of(dir, &at)?,
                        from: Location::Dir(at),
                        flags: flags.clone(),
                    });
                }
            }
            Err(error) => found.push(Err(error)),
        }
    }
    if jobs.is_empty() && found.is_empty() {
        return Err(Failure::new(format!(
            "{}: there is no image in it",
            dir.display()
        )));
    }
    jobs.sort_by(|one, other| one.name.cmp(&other.name));
    found.push(Ok(jobs));
    Ok(found)
}

/// The directories in one, and whether it holds an image itself.
fn look_at(dir: &Path) -> Result<(Vec<PathBuf>, bool), Failure> {
    let failed = |e| Failure::new(format!("read {}: {e}", dir.display()));
    let (mut below, mut is_image) = (Vec::new(), false);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            below.push(entry.path());
        } else {
            is_image |= entry.file_name() == "manifest.json";
        }
    }
    Ok((below, is_image))
}

/// What is below the directory that was named, or that one's own name.
fn name_of(dir: &Path, image: &Path) -> Result<String, Failure> {
    let below = image.strip_prefix(dir).unwrap_or(image);
    let name = match below.as_os_str().is_empty() {
        true => std::path::absolute(dir)?
            .file_name()
            .map(Path::new)
            .map(Path::to_owned),
        false => Some(below.to_owned()),
    };
    let name = name.as_deref().and_then(Path::to_str);
    name.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{}: its name is no image's", image.display())))
}

/// The images of a list, one outcome for each registry and repository.
pub(super) fn yaml(
    remote: &Remote,
    file: &Path,
    flags: &Flags,
) -> Result<Vec<Result<Vec<Job>, Failure>>, Failure> {
    let mut found = Vec::new();
    for (host, registry) in list::read(file)? {
        let flags = flags.but(
            registry.creds(),
            registry.tls_verify,
            registry.cert_dir.clone(),
        );
        found.extend(of_registry(remote, &host, &registry, &flags));
    }
    Ok(found)
}

fn of_registry(
    remote: &Remote,
    host: &str,
    registry: &Registry,
    flags: &Flags,
) -> Vec<Result<Vec<Job>, Failure>> {
    let repository = |name: &str| -> Result<Reference, Failure> {
        Ok(Reference::parse(&format!("{host}/{name}"))?.repository())
    };
    let mut found = Vec::new();
    for (name, wanted) in &registry.images {
        match (repository(name), wanted.as_deref().unwrap_or_default()) {
            (Err(error), _) => found.push(Err(error)),
            (Ok(repository), []) => found.push(tagged(remote, &repository, flags, |_| true)),
            (Ok(repository), wanted) => {
                let listed = wanted.iter().map(|wanted| {
                    let reference = match Digest::parse(wanted) {
                        Ok(digest) => repository.with_digest(digest),
                        Err(_) => repository.with_tag(wanted)?,
                    };
                    Ok(vec![Job::of_registry(reference, flags)])
                });
                found.extend(listed);
            }
        }
    }
    let matched = registry.images_by_tag_regex.iter().map(|(name, pattern)| {
        let pattern = Regex::new(pattern)
            .map_err(|e| Failure::new(format!("{host}/{name}: {pattern:?}: {e}")))?;
        tagged(remote, &repository(name)?, flags, |tag| {
            pattern.is_match(tag)
        })
    });
    let versions = registry.images_by_semver.iter().map(|(name, wanted)| {
        let wanted = Constraint::parse(wanted)
            .map_err(|why| Failure::new(format!("{host}/{name}: {wanted:?}: {why}")))?;
        tagged(remote, &repository(name)?, flags, |tag| wanted.admits(tag))
    });
    found.extend(matched.chain(versions));
    found
}
