//! `buildah containers`: the working containers.

use std::process::ExitCode;

use build::working::{self, Listed, SCRATCH};
use engine::Engine;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{output, remote, template};

/// Options of `buildah containers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also the containers that floe ps lists
    #[arg(long, short)]
    all: bool,
    /// id=ID, name=PART, ancestor=IMAGE; several with a comma between
    #[arg(long, short, value_name = "FILTER")]
    filter: Option<String>,
    /// A Go template such as '{{.ContainerID}} {{.ContainerName}}'
    #[arg(
        long,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        conflicts_with = "quiet"
    )]
    format: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print no line above the columns
    #[arg(long, short)]
    noheading: bool,
    /// Print whole ids and names
    #[arg(long)]
    notruncate: bool,
    /// Print only ids
    #[arg(long, short)]
    quiet: bool,
}

/// One of the list.
struct Line {
    id: String,
    is_working: bool,
    image_id: String,
    image: String,
    name: String,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let filters = args
        .filter
        .as_deref()
        .map(parse)
        .transpose()?
        .unwrap_or_default();
    let mut lines = Vec::new();
    for one in working::list(engine)? {
        lines.push(line(engine, one)?);
    }
    if args.all {
        for container in engine.containers(&engine::ContainerFilter::default())? {
            lines.push(Line {
                id: container.id.clone(),
                is_working: false,
                image: image_name(engine, &container.image_id)?,
                image_id: container.image_id.clone(),
                name: container.spec.name.clone(),
            });
        }
    }
    lines.retain(|line| filters.iter().all(|(key, value)| line.fits(key, value)));
    if args.json {
        let list: Vec<Value> = lines.iter().map(Line::json).collect();
        remote::print_json(&list)?;
    } else if let Some(format) = &args.format {
        let values: Vec<Value> = lines.iter().map(Line::fields).collect();
        for value in &values {
            println!("{}", template::render(format, value)?);
        }
    } else {
        print(args, &lines);
    }
    Ok(ExitCode::SUCCESS)
}

fn line(engine: &Engine, one: Listed) -> Result<Line, Failure> {
    let name = one.name().to_owned();
    let (image_id, image) = match &one.record {
        Ok(record) => match &record.image {
            Some(image) => (image.id.clone(), image_name(engine, &image.id)?),
            None => (String::new(), SCRATCH.to_owned()),
        },
        Err(why) => {
            super::warn(&format!("container {}: {why}; remove it with rm", one.id));
            (String::new(), String::new())
        }
    };
    Ok(Line {
        id: one.id,
        is_working: true,
        image_id,
        image,
        name,
    })
}

/// What an image is called now; nothing when it is gone.
fn image_name(engine: &Engine, id: &str) -> Result<String, Failure> {
    let found = engine.find_image(id)?.filter(|found| found.id == id);
    Ok(found
        .and_then(|found| found.names.first().cloned())
        .unwrap_or_default())
}

fn parse(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            Failure::new(format!(
                "parsing filter: incorrect filter value {part:?}, should be of form filter=value"
            ))
        })?;
        match key.trim() {
            key @ ("id" | "name" | "ancestor") => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Failure::new(format!(
                "parsing filter: invalid filter {key:?}"
            ))),
        }
    };
    text.split(',').map(pair).collect()
}

impl Line {
    fn fits(&self, key: &str, value: &str) -> bool {
        match key {
            "id" => self.id.starts_with(value),
            "name" => self.name.contains(value),
            _ => {
                let (repository, tag) = self.image.rsplit_once(':').unwrap_or((&self.image, ""));
                let last = repository.rsplit('/').next().unwrap_or_default();
                !self.image_id.is_empty() && self.image_id.starts_with(value)
                    || [self.image.as_str(), repository, last].contains(&value)
                    || format!("{last}:{tag}") == value
            }
        }
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "builder": self.is_working,
            "imageid": self.image_id,
            "imagename": self.image,
            "containername": self.name,
        })
    }

    fn fields(&self) -> Value {
        json!({
            "ContainerID": self.id,
            "Builder": self.builder(),
            "ImageID": self.image_id,
            "ImageName": self.image,
            "ContainerName": self.name,
        })
    }

    fn builder(&self) -> &str {
        match self.is_working {
            true => "   *",
            false => "",
        }
    }
}

fn print(args: &Args, lines: &[Line]) {
    let heading = [
        "CONTAINER ID",
        "BUILDER",
        "IMAGE ID",
        "IMAGE NAME",
        "CONTAINER NAME",
    ];
    if !args.noheading && !args.quiet {
        println!("{}", row(args, heading));
    }
    for line in lines {
        if args.quiet {
            println!("{}", line.id);
            continue;
        }
        let image = output::shown(&line.image);
        let name = output::shown(&line.name);
        let cells = [&line.id, line.builder(), &line.image_id, &image, &name];
        println!("{}", row(args, cells));
    }
}

/// A line of the table: its columns have the widths that scripts cut by.
fn row(args: &Args, [id, builder, image_id, image, name]: [&str; 5]) -> String {
    if args.notruncate {
        return format!("{id:<64} {builder:<8} {image_id:<64} {image:<32} {name}");
    }
    let image = match image.chars().count() > 32 {
        true => format!("{}...", image.chars().take(29).collect::<String>()),
        false => image.to_owned(),
    };
    format!("{id:<12.12}  {builder:<8} {image_id:<12.12} {image:<32} {name}")
}
