//! `floe images`: what is in the store.

use std::process::ExitCode;

use engine::Engine;
use engine::image::ImageRecord;

use crate::failure::Failure;
use crate::output;

/// Options of `floe images`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only ids
    #[arg(long, short)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print digests as well
    #[arg(long)]
    digests: bool,
    /// `table` or `json`
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Only this image
    image: Option<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let images = engine.images(args.image.as_deref())?;
    if args.quiet {
        images
            .iter()
            .for_each(|image| println!("{}", id(image, args)));
    } else if args.format == "json" {
        let list: Vec<_> = images.iter().map(json).collect();
        println!(
            "{}",
            output::json(&serde_json::to_string_pretty(&list).unwrap_or_default())
        );
    } else {
        print!("{}", table(&images, args));
    }
    Ok(ExitCode::SUCCESS)
}

fn id(image: &ImageRecord, args: &Args) -> String {
    if args.no_trunc {
        format!("sha256:{}", image.id)
    } else {
        output::short(&image.id)
    }
}

fn json(image: &ImageRecord) -> serde_json::Value {
    serde_json::json!({
        "Id": image.id,
        "Names": image.names,
        "RepoDigests": image.repo_digests,
        "Digest": image.manifest_digest.to_string(),
        "Size": image.size,
        "Created": image.created,
        "ReadOnly": image.read_only,
    })
}

fn table(images: &[ImageRecord], args: &Args) -> String {
    let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        header.insert(2, "DIGEST");
    }
    let mut rows = Vec::new();
    for image in images {
        let unnamed = vec!["<none>:<none>".to_owned()];
        for name in if image.names.is_empty() {
            &unnamed
        } else {
            &image.names
        } {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            let mut row = vec![
                repository.to_owned(),
                tag.to_owned(),
                id(image, args),
                output::ago(image.created.unwrap_or(0).saturating_mul(1_000_000_000)),
                output::size(image.size),
            ];
            if args.digests {
                row.insert(2, image.manifest_digest.to_string());
            }
            rows.push(row);
        }
    }
    output::table(&header, &rows)
}
