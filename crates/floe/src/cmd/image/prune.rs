//! `floe image prune`: removes images that no container uses (podman image prune).
//!
//! Must never remove a pinned image, nor ask nobody: without --force somebody has to say yes.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use engine::Engine;
use engine::image::ImageRecord;

use crate::clock;
use crate::failure::Failure;

/// Options of `floe image prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All images that no container uses, not only those without a tag
    #[arg(long, short)]
    all: bool,
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Only those that fit: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=BOOL
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// What an image must be like.
enum Filter {
    Until(i64),
    Label {
        key: String,
        value: Option<String>,
        wanted: bool,
    },
    Dangling(bool),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, Failure> {
        let flawed = || {
            Failure::new(format!(
                "filter {text:?}: write until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE] or dangling=BOOL"
            ))
        };
        let (name, value) = text.split_once('=').ok_or_else(flawed)?;
        match name {
            "until" => Ok(Filter::Until(clock::until(value)?)),
            "dangling" => Ok(Filter::Dangling(value.parse().map_err(|_| flawed())?)),
            "label" | "label!" => {
                let (key, value) = match value.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (value, None),
                };
                Ok(Filter::Label {
                    key: key.to_owned(),
                    value,
                    wanted: name == "label",
                })
            }
            _ => Err(flawed()),
        }
    }

    fn fits(&self, engine: &Engine, image: &ImageRecord) -> engine::Result<bool> {
        Ok(match self {
            // Of an image that does not say when it was made, nobody can say that it is old.
            Filter::Until(time) => image.created.is_some_and(|created| created < *time),
            Filter::Dangling(dangling) => image.names.is_empty() == *dangling,
            Filter::Label { key, value, wanted } => {
                let config = engine.image_config(image)?;
                let label = config.config.labels.get(key);
                let has = label.is_some_and(|found| value.as_ref().is_none_or(|v| v == found));
                has == *wanted
            }
        })
    }
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let filters: Vec<Filter> = args
        .filter
        .iter()
        .map(|text| Filter::parse(text))
        .collect::<Result<_, _>>()?;
    if !args.force && !agreed(args)? {
        return Ok(ExitCode::SUCCESS);
    }
    let removed = engine.prune_images(|image| {
        let mut fits = args.all || image.names.is_empty();
        for filter in &filters {
            fits = fits && filter.fits(engine, image)?;
        }
        Ok(fits)
    })?;
    for image in removed {
        println!("{}", image.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn agreed(args: &Args) -> Result<bool, Failure> {
    println!(
        "WARNING! This command removes all {}.",
        match args.all {
            true => "images that no container uses",
            false => "images that have no tag and that no container uses",
        }
    );
    print!("Are you sure you want to continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(Failure::new("nobody answers: use --force"));
    }
    Ok(answer.trim_start().starts_with(['y', 'Y']))
}
