//! `floe history`: how an image's layers came to be, newest first (podman history).

use std::process::ExitCode;

use engine::Engine;
use engine::image::{ImageConfig, ImageRecord};
use image::config::History;
use serde_json::json;

use crate::failure::Failure;
use crate::{clock, output, template};

/// What is shown of a command at most, unless all is asked for.
const COMMAND: usize = 45;
/// The id of a layer that is no image.
const MISSING: &str = "<missing>";

/// Options of `floe history`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json`, a Go template such as '{{.CreatedBy}}', or one as columns: 'table {{.ID}} {{.Size}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Print sizes and times for people
    #[arg(long, short = 'H', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(long, short)]
    quiet: bool,
    /// Name or id
    image: String,
}

/// A step in the making of an image.
struct Step {
    id: String,
    history: History,
    size: u64,
    tags: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let image = engine.image(&args.image)?;
    let steps = steps(
        &image,
        &engine.image_config(&image)?,
        engine.layer_sizes(&image)?,
    );
    if args.quiet {
        steps.iter().for_each(|step| println!("{}", step.id(args)));
        return Ok(ExitCode::SUCCESS);
    }
    match args.format.as_deref() {
        Some("json") => {
            let list: Vec<_> = steps.iter().map(Step::json).collect();
            println!(
                "{}",
                output::json(&serde_json::Value::from(list).to_string())
            );
        }
        Some(format) if format != "table" => {
            let steps: Vec<_> = steps.iter().map(|step| step.fields(args)).collect();
            print!("{}", template::lines(format, &header(), &steps)?);
        }
        _ => {
            let header = ["ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
            let rows: Vec<_> = steps.iter().map(|step| step.row(args)).collect();
            print!("{}", output::table(&header, &rows));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What stands above the fields in a table.
fn header() -> serde_json::Value {
    json!({
        "ID": "ID",
        "Created": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedSince": "CREATED",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
        "Tags": "TAGS",
    })
}

/// Newest first. Steps that changed no file have no layer; layers without a step are steps of which
/// nothing is known.
fn steps(image: &ImageRecord, config: &ImageConfig, mut sizes: Vec<u64>) -> Vec<Step> {
    let mut steps = Vec::new();
    for history in config.history.iter().rev() {
        let size = match history.empty_layer {
            true => 0,
            false => sizes.pop().unwrap_or(0),
        };
        steps.push(Step::new(history.clone(), size));
    }
    let unknown = sizes.into_iter().rev();
    steps.extend(unknown.map(|size| Step::new(History::default(), size)));
    if let Some(top) = steps.first_mut() {
        top.id.clone_from(&image.id);
        top.tags.clone_from(&image.names);
    }
    steps
}

impl Step {
    fn new(history: History, size: u64) -> Step {
        Step {
            id: MISSING.to_owned(),
            history,
            size,
            tags: Vec::new(),
        }
    }

    fn id(&self, args: &Args) -> String {
        match self.id == MISSING || args.no_trunc {
            true => self.id.clone(),
            false => output::short(&self.id),
        }
    }

    fn created(&self) -> String {
        self.history.created.clone().unwrap_or_default()
    }

    fn since(&self) -> String {
        match clock::seconds(&self.created()) {
            Some(seconds) => output::ago(seconds.saturating_mul(1_000_000_000)),
            None => String::new(),
        }
    }

    fn command(&self, args: &Args) -> String {
        let command = self.history.created_by.clone().unwrap_or_default();
        if args.no_trunc || command.chars().count() <= COMMAND {
            return command;
        }
        let begin: String = command.chars().take(COMMAND - 3).collect();
        format!("{begin}...")
    }

    fn size(&self, args: &Args) -> String {
        match args.human {
            true => output::size(self.size),
            false => self.size.to_string(),
        }
    }

    fn row(&self, args: &Args) -> Vec<String> {
        vec![
            self.id(args),
            if args.human {
                self.since()
            } else {
                self.created()
            },
            self.command(args),
            self.size(args),
            self.history.comment.clone().unwrap_or_default(),
        ]
    }

    fn fields(&self, args: &Args) -> serde_json::Value {
        json!({
            "ID": self.id(args),
            "Created": if args.human { self.since() } else { self.created() },
            "CreatedAt": self.created(),
            "CreatedSince": self.since(),
            "CreatedBy": self.command(args),
            "Size": self.size(args),
            "Comment": self.history.comment.clone().unwrap_or_default(),
            "Tags": self.tags,
        })
    }

    /// podman's keys, in its two spellings.
    fn json(&self) -> serde_json::Value {
        let mut step = json!({
            "id": self.id,
            "created": self.created(),
            "CreatedBy": self.history.created_by.clone().unwrap_or_default(),
            "size": self.size,
            "comment": self.history.comment.clone().unwrap_or_default(),
        });
        if !self.tags.is_empty() {
            step["tags"] = json!(self.tags);
        }
        step
    }
}
