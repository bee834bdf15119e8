//! `floe image tree`: the layers of an image, and which images stand on each of them (podman image tree).

use std::process::ExitCode;

use engine::Engine;
use engine::image::ImageRecord;

use crate::failure::Failure;
use crate::output;

/// What is shown of a layer's digest.
const SHOWN: usize = 12;

/// Options of `floe image tree`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show the images that are made of this one
    #[arg(long)]
    whatrequires: bool,
    /// Name or id
    image: String,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let image = engine.image(&args.image)?;
    println!("Image ID: {}", output::short(&image.id));
    let tags: Vec<_> = image.names.iter().map(|name| output::shown(name)).collect();
    println!("Tags:     [{}]", tags.join(" "));
    println!("Size:     {}", output::size(image.size));
    match args.whatrequires {
        true => requiring(engine, &image),
        false => layers(engine, &image),
    }
}

/// Its layers, lowest first, with the images whose topmost layer each is.
fn layers(engine: &Engine, image: &ImageRecord) -> Result<ExitCode, Failure> {
    println!("Image Layers");
    let mut tops = Vec::new();
    for other in engine.images(None)? {
        tops.push((chain(engine, &other)?, other));
    }
    let own = chain(engine, image)?;
    let sizes = engine.layer_sizes(image)?;
    for (place, size) in sizes.iter().take(own.len()).enumerate() {
        let here = &own[..=place];
        let named = tops.iter().filter(|(chain, _)| chain == here);
        let named: Vec<String> = named.flat_map(|(_, image)| image.names.clone()).collect();
        let top = match named.is_empty() {
            true => String::new(),
            false => format!(" Top Layer of: [{}]", output::shown(&named.join(" "))),
        };
        println!(
            "{} ID: {} Size: {}{top}",
            branch(place + 1 == own.len()),
            short(&own[place]),
            output::size(*size)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The images that begin with all of its layers.
fn requiring(engine: &Engine, image: &ImageRecord) -> Result<ExitCode, Failure> {
    println!("Image ID: {}", output::short(&image.id));
    let own = chain(engine, image)?;
    let mut found = Vec::new();
    for other in engine.images(None)? {
        let chain = chain(engine, &other)?;
        if other.id != image.id && chain.len() > own.len() && chain.starts_with(&own) {
            found.push((other, chain));
        }
    }
    let last = found.len();
    for (place, (other, chain)) in found.iter().enumerate() {
        let top = chain.last().map(|id| short(id)).unwrap_or_default();
        println!(
            "{} ID: {top} Top Layer of: [{}]",
            branch(place + 1 == last),
            output::shown(&other.names.join(" "))
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The digests of an image's layers, lowest first.
fn chain(engine: &Engine, image: &ImageRecord) -> Result<Vec<String>, Failure> {
    let config = engine.image_config(image)?;
    Ok(config
        .rootfs
        .diff_ids
        .iter()
        .map(ToString::to_string)
        .collect())
}

fn short(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.chars().take(SHOWN).collect()
}

fn branch(is_last: bool) -> &'static str {
    match is_last {
        true => "└──",
        false => "├──",
    }
}
