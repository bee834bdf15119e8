//! Images: listed, removed, and the room that they take.

use std::collections::BTreeMap;

use clap::Args;
use futures_util::future::join_all;
use regex::Regex;

use super::{World, id};
use crate::connection::Images;
use crate::failure::{Context, Failure, Outcome, all};
use crate::output::Status;
use crate::table::{Table, size};
use crate::{filter, json, output, say};

/// Options of `images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Say more of each
    #[arg(long, short)]
    verbose: bool,
    /// Ids alone
    #[arg(long, short)]
    quiet: bool,
    /// dangling=true|false, reference=PATTERN, before=IMAGE or since=IMAGE
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, yaml or table
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<String>,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Ids as long as they are
    #[arg(long)]
    no_trunc: bool,
    /// Show which are never removed to make room
    #[arg(long)]
    pinned: bool,
    /// The image that is asked for
    #[arg(value_name = "REPOSITORY[:TAG]")]
    image: Vec<String>,
}

/// Options of `rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// All images
    #[arg(long, short)]
    all: bool,
    /// All that no container has, and are not pinned
    #[arg(long, short = 'q')]
    prune: bool,
    /// The images: with one of its names, an image goes with all of them
    #[arg(value_name = "IMAGE-ID")]
    images: Vec<String>,
}

/// Options of `imagefsinfo`.
#[derive(Debug, Args)]
pub(crate) struct ImageFsInfoArgs {
    /// json, yaml, go-template or table
    #[arg(long, short, value_name = "FORMAT", default_value = "json")]
    output: String,
    /// The template of go-template
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
}

/// The images that fit, in crictl's order.
pub(crate) async fn list(
    images: &Images,
    name: &str,
    filters: &[String],
) -> Outcome<Vec<cri::Image>> {
    let request = cri::ListImagesRequest {
        filter: Some(cri::ImageFilter {
            image: Some(filter::spec(name)),
        }),
    };
    let answer = images
        .call(async |mut client| client.list_images(request).await)
        .await?;
    let mut all = answer.images;
    all.sort_by(|a, b| {
        let (tags, digests) = (
            (a.repo_tags.first(), b.repo_tags.first()),
            (a.repo_digests.first(), b.repo_digests.first()),
        );
        match (tags, digests) {
            ((Some(a), Some(b)), _) | (_, (Some(a), Some(b))) => a.cmp(b),
            _ => a.id.cmp(&b.id),
        }
    });
    for one in filters.iter().flat_map(|filters| filters.split(',')) {
        all = filtered(all, one).context("filter images")?;
    }
    Ok(all)
}

fn filtered(mut all: Vec<cri::Image>, filter: &str) -> Outcome<Vec<cri::Image>> {
    let unknown = || Failure::new(format!("unknown filter flag: {filter}"));
    let (name, value) = filter.split_once('=').ok_or_else(unknown)?;
    match name {
        "before" => {
            all.reverse();
            all = until(all, value);
            all.reverse();
        }
        "since" => all = until(all, value),
        "dangling" => all.retain(|image| match value {
            "true" => image.repo_tags.is_empty(),
            "false" => !image.repo_tags.is_empty(),
            _ => false,
        }),
        "reference" => {
            let pattern = Regex::new(value).map_err(Failure::new)?;
            all.retain(|image| {
                let (name, _) = digest(image);
                pattern.is_match(name) || name == value
            });
        }
        _ => return Err(unknown()),
    }
    Ok(all)
}

/// Those before the one that is named.
fn until(all: Vec<cri::Image>, value: &str) -> Vec<cri::Image> {
    let is_it = |image: &cri::Image| match (value.contains(':'), value.contains('@')) {
        (true, false) => {
            let names = names(image);
            names
                .first()
                .is_some_and(|(name, tag)| format!("{name}:{tag}") == value)
        }
        (false, false) => image.id.starts_with(value),
        _ => {
            let first = image.repo_digests.first();
            first.is_some_and(|digest| digest.starts_with(value))
        }
    };
    all.into_iter().take_while(|image| !is_it(image)).collect()
}

/// The repository and the digest of an image's first digest.
fn digest(image: &cri::Image) -> (&str, &str) {
    match image.repo_digests.first() {
        None => ("<none>", "<none>"),
        Some(digest) => match digest.split_once('@') {
            Some((name, digest)) if !digest.contains('@') => (name, digest),
            _ => ("errorName", "errorRepoDigest"),
        },
    }
}

/// The names and tags of an image.
fn names(image: &cri::Image) -> Vec<(&str, &str)> {
    let (by_digest, _) = digest(image);
    if image.repo_tags.is_empty() {
        return vec![(by_digest, "<none>")];
    }
    let tags = image.repo_tags.iter();
    tags.map(|tag| match tag.rsplit_once(':') {
        Some(("<none>", tag)) => (by_digest, tag),
        Some(pair) => pair,
        None => ("errorRepoTag", "errorRepoTag"),
    })
    .collect()
}

pub(crate) async fn images(world: &World, args: &ImagesArgs) -> Outcome {
    if args.image.len() > 1 {
        return Err(Failure::Help);
    }
    let images = world.images().await?;
    let name = args.image.first().map_or("", String::as_str);
    let found = list(&images, name, &args.filter)
        .await
        .context("listing images")?;
    match args.output.as_deref() {
        Some("json") => return output::as_json(&cri::ListImagesResponse { images: found }),
        Some("yaml") => return output::as_yaml(&cri::ListImagesResponse { images: found }),
        None | Some("table" | "") => {}
        Some(other) => return Err(Failure::new(format!("unsupported output format {other:?}"))),
    }
    let text = match (args.quiet, args.verbose) {
        (true, _) => found
            .iter()
            .map(|image| format!("{}\n", say::shown(&image.id)))
            .collect(),
        (false, true) => found.iter().map(described).collect(),
        (false, false) => table(&found, args),
    };
    say::print(&text);
    Ok(())
}

fn table(images: &[cri::Image], args: &ImagesArgs) -> String {
    let mut table = Table::default();
    let digests = args.digests.then_some("DIGEST");
    let pinned = args.pinned.then_some("PINNED");
    let header = ["IMAGE", "TAG"].into_iter().chain(digests);
    table.row(header.chain(["IMAGE ID", "SIZE"]).chain(pinned));
    let cut = |id: &str| match args.no_trunc {
        true => id.to_owned(),
        false => filter::short(id.strip_prefix("sha256:").unwrap_or(id)).to_owned(),
    };
    for image in images {
        for (name, tag) in names(image) {
            let mut row = vec![name.to_owned(), tag.to_owned()];
            row.extend(args.digests.then(|| cut(digest(image).1)));
            row.extend([cut(&image.id), size(image.size, 3)]);
            row.extend(args.pinned.then(|| image.pinned.to_string()));
            table.row(row);
        }
    }
    table.text()
}

fn described(image: &cri::Image) -> String {
    let mut out = format!("ID: {}\n", say::shown(&image.id));
    for tag in &image.repo_tags {
        out += &format!("RepoTags: {}\n", say::shown(tag));
    }
    for digest in &image.repo_digests {
        out += &format!("RepoDigests: {}\n", say::shown(digest));
    }
    if image.size != 0 {
        out += &format!("Size: {}\n", image.size);
    }
    if let Some(uid) = image.uid {
        // As Go prints the message.
        out += &match uid.value {
            0 => "Uid: \n".to_owned(),
            value => format!("Uid: value:{value}\n"),
        };
    }
    if !image.username.is_empty() {
        out += &format!("Username: {}\n", say::shown(&image.username));
    }
    if image.pinned {
        out += "Pinned: true\n";
    }
    out + "\n"
}

pub(crate) async fn rmi(world: &World, args: &RmiArgs) -> Outcome {
    let images = world.images().await?;
    let mut ids: BTreeMap<String, bool> = args.images.iter().map(|id| (id.clone(), true)).collect();
    if args.all || args.prune {
        let request = cri::ListImagesRequest::default();
        let listed = images
            .call(async |mut client| client.list_images(request).await)
            .await?;
        let unpinned = |image: &cri::Image| !(args.prune && image.pinned);
        let listed = listed.images.into_iter().filter(unpinned);
        ids.extend(listed.map(|image| (image.id, true)));
    }
    if args.prune {
        for id in used(world, &images).await? {
            ids.insert(id, false);
        }
    }
    if ids.is_empty() {
        if args.all || args.prune {
            say::info("No images to remove");
            return Ok(());
        }
        return Err(Failure::Help);
    }
    let wanted = ids.iter().filter(|(_, removed)| **removed);
    let removals = wanted.map(|(id, _)| remove(&images, id, args.prune));
    all(join_all(removals).await)
}

/// The images of containers.
async fn used(world: &World, images: &Images) -> Outcome<Vec<String>> {
    let runtime = world.runtime().await?;
    let request = cri::ListContainersRequest::default();
    let listed = runtime
        .call(async |mut client| client.list_containers(request).await)
        .await?;
    let mut used = Vec::new();
    for container in listed.containers {
        let name = container.image.unwrap_or_default().image;
        match filter::image_status(images, &name, false).await {
            Ok(status) => used.extend(status.image.map(|image| image.id)),
            Err(Failure::Said(why)) => {
                say::error(&format!("image status request for {name:?} failed: {why}"))
            }
            Err(other) => return Err(other),
        }
    }
    Ok(used)
}

async fn remove(images: &Images, image: &str, is_prune: bool) -> Outcome {
    let status = filter::image_status(images, image, false)
        .await
        .context(format!("image status request for {image:?} failed"))?;
    let Some(found) = status.image else {
        return Err(Failure::new(format!("no such image {image}")));
    };
    let is_name = !image.starts_with("sha256:") && image.contains([':', '/']);
    if found.repo_tags.len() > 1 && is_name {
        say::warning(&format!(
            "Image {image:?} has multiple tags. Removing this image will delete all of the following tags:"
        ));
        found
            .repo_tags
            .iter()
            .for_each(|tag| say::warning(&format!("  {tag}")));
    }
    let request = cri::RemoveImageRequest {
        image: Some(filter::spec(&id(image)?)),
    };
    let removed = images
        .call(async |mut client| client.remove_image(request).await)
        .await
        .context(format!("error of removing image {image:?}"));
    match removed {
        // A container may have come to use it meanwhile.
        Err(_) if is_prune => return Ok(()),
        removed => removed?,
    };
    let names = match found.repo_tags.is_empty() {
        true => found.repo_digests,
        false => found.repo_tags,
    };
    for name in names {
        say::print(&format!("Deleted: {}\n", say::shown(&name)));
    }
    Ok(())
}

pub(crate) async fn imagefsinfo(world: &World, args: &ImageFsInfoArgs) -> Outcome {
    let images = world.images().await?;
    let request = cri::ImageFsInfoRequest::default();
    let answer = images
        .call(async |mut client| client.image_fs_info(request).await)
        .await
        .context("image filesystem info request")?;
    if args.output == "table" {
        let mut out = String::new();
        filesystems(&mut out, "Container", &answer.container_filesystems);
        filesystems(&mut out, "Image", &answer.image_filesystems);
        say::print(&out);
        return Ok(());
    }
    let status = Status {
        status: json::value(&answer)?,
        ..Status::default()
    };
    output::statuses(vec![status], &args.output, &args.template, world.render)
}

fn filesystems(out: &mut String, name: &str, all: &[cri::FilesystemUsage]) {
    *out += &format!("{name} Filesystem \n");
    for (number, one) in all.iter().enumerate() {
        let used = one.used_bytes.map_or(0, |used| used.value);
        let inodes = one.inodes_used.map_or(0, |used| used.value);
        let place = one.fs_id.as_ref().map_or("", |id| id.mountpoint.as_str());
        *out += &format!("TimeStamp[{number}]: {}\n", one.timestamp);
        *out += &format!("Disk[{number}]: {}\n", size(used, 4));
        *out += &format!("Inodes[{number}]: {inodes}\n");
        *out += &format!("Mountpoint[{number}]: {}\n", say::shown(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tag: &str) -> cri::Image {
        cri::Image {
            id: id.into(),
            repo_tags: (!tag.is_empty())
                .then(|| tag.to_owned())
                .into_iter()
                .collect(),
            repo_digests: vec![format!("example.com/{id}@sha256:{id}")],
            ..Default::default()
        }
    }

    fn ids(filter: &str) -> Vec<String> {
        let all = vec![
            image("1", "example.com/a:1"),
            image("2", ""),
            image("3", "b:5000/c:x"),
        ];
        let filtered = filtered(all, filter).unwrap();
        filtered.into_iter().map(|image| image.id).collect()
    }

    #[test]
    fn images_are_filtered_as_crictl_does() {
        assert_eq!(ids("dangling=true"), ["2"]);
        assert_eq!(ids("dangling=false"), ["1", "3"]);
        assert_eq!(ids("reference=.*/1"), ["1"]);
        assert_eq!(ids("since=b:5000/c:x"), ["1", "2"]);
        assert_eq!(ids("before=1"), ["2", "3"]);
        assert_eq!(ids("since=example.com/2@sha256:2"), ["1"]);
        assert!(filtered(Vec::new(), "x=1").is_err());
    }
}
