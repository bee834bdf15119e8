//! `floe images`: what is in the store.

pub(crate) mod filter;

use std::process::ExitCode;

use clap::ValueEnum;
use engine::Engine;
use engine::image::ImageRecord;
use serde_json::{Value, json};

use self::filter::Filter;
use crate::failure::Failure;
use crate::{clock, output, template};

/// Options of `floe images`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Accepted for podman's sake: there are no images between others
    #[arg(long, short)]
    all: bool,
    /// Print only ids
    #[arg(long, short)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print digests as well
    #[arg(long)]
    digests: bool,
    /// table, json, or a Go template such as '{{.Repository}}:{{.Tag}} {{.ID}}'
    #[arg(
        long,
        default_value = "table",
        value_name = "FORMAT",
        allow_hyphen_values = true
    )]
    format: String,
    /// Print no line above the columns
    #[arg(long, short = 'n')]
    noheading: bool,
    /// KEY=VALUE: reference, dangling, label, before, since, until, id, readonly
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// What to sort by
    #[arg(long, value_name = "KEY", default_value = "created")]
    sort: Sort,
    /// Accepted for podman's sake: former names are not kept
    #[arg(long)]
    history: bool,
    /// Only this image
    image: Option<String>,
}

/// What images are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Created,
    Id,
    Repository,
    Size,
    Tag,
}

/// A name of an image, or an image without one.
struct Line<'a> {
    image: &'a ImageRecord,
    repository: &'a str,
    tag: &'a str,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let filters = args.filter.iter().map(|text| Filter::parse(engine, text));
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    let mut images = Vec::new();
    for image in engine.images(args.image.as_deref())? {
        let mut fits = true;
        for filter in &filters {
            fits = fits && filter.fits(engine, &image)?;
        }
        if fits {
            images.push(image);
        }
    }
    sort(&mut images, args.sort);
    if args.quiet {
        images
            .iter()
            .for_each(|image| println!("{}", id(image, args)));
        return Ok(ExitCode::SUCCESS);
    }
    match args.format.as_str() {
        "json" => {
            let list = images.iter().map(|image| json(engine, image));
            output::print_list(&list.collect::<Result<Vec<_>, _>>()?);
        }
        "table" => {
            let text = table(&images, args);
            let kept = if args.noheading { 1 } else { 0 };
            text.lines().skip(kept).for_each(|line| println!("{line}"));
        }
        format => {
            let mut values = Vec::new();
            for image in &images {
                let labels = labels(engine, image)?;
                let of_image = lines(std::slice::from_ref(image));
                values.extend(of_image.map(|line| fields(&line, &labels, args)));
            }
            print!("{}", template::lines(format, &headings(), &values)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// By what is asked for; the newest and the largest first.
fn sort(images: &mut [ImageRecord], by: Sort) {
    let name = |image: &ImageRecord| image.names.first().cloned().unwrap_or_default();
    match by {
        Sort::Created => images.sort_by_key(|image| std::cmp::Reverse(image.created)),
        Sort::Size => images.sort_by_key(|image| std::cmp::Reverse(image.size)),
        Sort::Id => images.sort_by_key(|image| image.id.clone()),
        Sort::Repository => images.sort_by_key(name),
        Sort::Tag => images.sort_by_key(|image| {
            let name = name(image);
            name.rsplit_once(':')
                .map_or(String::new(), |(_, tag)| tag.to_owned())
        }),
    }
}

fn id(image: &ImageRecord, args: &Args) -> String {
    if args.no_trunc {
        format!("sha256:{}", image.id)
    } else {
        output::short(&image.id)
    }
}

fn json(engine: &Engine, image: &ImageRecord) -> Result<Value, Failure> {
    Ok(json!({
        "Id": image.id,
        "ParentId": "",
        "Names": image.names,
        "RepoTags": image.names,
        "RepoDigests": image.repo_digests,
        "Digest": image.manifest_digest.to_string(),
        "Size": image.size,
        "SharedSize": 0,
        "VirtualSize": image.size,
        "Created": image.created,
        "CreatedAt": image.created.and_then(clock::written),
        "Labels": labels(engine, image)?,
        "Dangling": image.names.is_empty(),
        "ReadOnly": image.read_only,
    }))
}

fn labels(engine: &Engine, image: &ImageRecord) -> Result<Value, Failure> {
    // An artifact has no configuration of an image.
    match image.is_artifact() {
        true => Ok(json!({})),
        false => Ok(json!(engine.image_config(image)?.config.labels)),
    }
}

/// A line for each name.
fn lines(images: &[ImageRecord]) -> impl Iterator<Item = Line<'_>> {
    images.iter().flat_map(|image| {
        let names = image.names.iter().map(String::as_str);
        let unnamed = image.names.is_empty().then_some("<none>:<none>");
        names.chain(unnamed).map(move |name| {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            Line {
                image,
                repository,
                tag,
            }
        })
    })
}

fn table(images: &[ImageRecord], args: &Args) -> String {
    let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        header.insert(2, "DIGEST");
    }
    let row = |line: Line<'_>| {
        let mut row = vec![
            line.repository.to_owned(),
            line.tag.to_owned(),
            id(line.image, args),
            since(line.image),
            output::size(line.image.size),
        ];
        if args.digests {
            row.insert(2, line.image.manifest_digest.to_string());
        }
        row
    };
    output::table(&header, &lines(images).map(row).collect::<Vec<_>>())
}

fn since(image: &ImageRecord) -> String {
    output::ago(image.created.unwrap_or(0).saturating_mul(1_000_000_000))
}

/// What templates know of an image, by podman's names.
fn fields(line: &Line<'_>, labels: &Value, args: &Args) -> Value {
    let image = line.image;
    let created = image.created.and_then(clock::written);
    let created = created.and_then(|time| clock::as_go_prints(&time));
    json!({
        "ID": id(image, args),
        "Id": image.id,
        "Repository": line.repository,
        // buildah calls it so.
        "Name": line.repository,
        "Tag": line.tag,
        "Digest": image.manifest_digest.to_string(),
        "Names": image.names,
        "RepoTags": image.names,
        "RepoDigests": image.repo_digests,
        "Created": since(image),
        "CreatedSince": since(image),
        "CreatedAt": created,
        "CreatedTime": created,
        "Size": output::size(image.size),
        "VirtualSize": image.size,
        "ReadOnly": image.read_only,
        "Dangling": image.names.is_empty(),
        "Labels": labels,
        "History": image.names.join(", "),
    })
}

/// What stands above a column of a template.
fn headings() -> Value {
    json!({
        "ID": "IMAGE ID",
        "Id": "IMAGE ID",
        "Repository": "REPOSITORY",
        "Name": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "Names": "NAMES",
        "RepoTags": "REPO TAGS",
        "RepoDigests": "REPO DIGESTS",
        "Created": "CREATED",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedTime": "CREATED AT",
        "Size": "SIZE",
        "VirtualSize": "SIZE",
        "ReadOnly": "READONLY",
        "Dangling": "DANGLING",
        "Labels": "LABELS",
        "History": "HISTORY",
    })
}
