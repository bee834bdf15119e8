//! Which images `sync` is to copy: found before the first one moves.

use std::path::Path;

use image::{Digest, Reference};
use regex::Regex;
use transfer::Location;

use super::list::{self, Registry};
use super::versions::Constraint;
use crate::Failure;
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
    let tags = tags.iter().filter(|tag| wanted(tag));
    tags.map(|tag| Ok(Job::of_registry(repository.with_tag(tag)?, flags)))
        .collect()
}

/// Each directory below `dir`, and itself, that holds an image of the `dir` transport.
pub(super) fn directory(dir: &Path, flags: &Flags) -> Result<Vec<Job>, Failure> {
    let mut jobs = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(at) = left.pop() {
        let failed = |e| Failure::new(format!("read {}: {e}", at.display()));
        for entry in std::fs::read_dir(&at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                left.push(entry.path());
            } else if entry.file_name() == "manifest.json" {
                jobs.push(Job {
                    name: name_of(dir, &at)?,
                    from: Location::Dir(at.clone()),
                    flags: flags.clone(),
                });
            }
        }
    }
    if jobs.is_empty() {
        return Err(Failure::new(format!(
            "{}: there is no image in it",
            dir.display()
        )));
    }
    jobs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(jobs)
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
        let login = registry.credentials.as_ref();
        let creds = login.map(|login| format!("{}:{}", login.username, login.password));
        let flags = flags.but(creds, registry.tls_verify, registry.cert_dir.clone());
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
    let listed = registry.images.iter().map(|(name, wanted)| {
        let repository = repository(name)?;
        match wanted.as_deref().unwrap_or_default() {
            [] => tagged(remote, &repository, flags, |_| true),
            wanted => wanted
                .iter()
                .map(|wanted| {
                    let reference = match Digest::parse(wanted) {
                        Ok(digest) => repository.with_digest(digest),
                        Err(_) => repository.with_tag(wanted)?,
                    };
                    Ok(Job::of_registry(reference, flags))
                })
                .collect(),
        }
    });
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
    listed.chain(matched).chain(versions).collect()
}
