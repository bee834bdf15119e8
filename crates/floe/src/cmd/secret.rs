//! `floe secret`: bytes with a name, which containers are given as files or as variables (podman secret).
//!
//! Must never print one, but where `--showsecret` asks for it.

use std::io::Read;
use std::process::ExitCode;

use clap::Subcommand;
use engine::Engine;
use engine::secret::{MAX_DATA, Secret, SecretSpec};
use serde_json::{Value, json};

use super::run::env::pairs;
use crate::failure::Failure;
use crate::{clock, output, template};

/// What can be done to secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a secret of a file
    Create(CreateArgs),
    /// Is there a secret of that name or id? The exit code says it: 0 or 1
    Exists(Name),
    /// Show what secrets are
    Inspect(InspectArgs),
    /// List secrets
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Remove secrets: containers keep what they were given
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

/// Options of `floe secret create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// file
    #[arg(long, short, value_name = "DRIVER", default_value = "file", value_parser = ["file"])]
    driver: String,
    /// KEY=VALUE: kept, and without effect
    #[arg(long, value_name = "OPTION")]
    driver_opts: Vec<String>,
    /// Read it from the variable of that name instead of a file
    #[arg(long)]
    env: bool,
    /// KEY=VALUE
    #[arg(long, short, value_name = "LABEL")]
    label: Vec<String>,
    /// Take the place of one that has the name
    #[arg(long)]
    replace: bool,
    /// Be content with one that has the name
    #[arg(long, conflicts_with = "replace")]
    ignore: bool,
    /// Name
    name: String,
    /// A file, or - for standard input
    #[arg(value_name = "FILE|-")]
    from: String,
}

/// A name to be looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name or id
    name: String,
}

/// Options of `floe secret inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// json, or a Go template such as '{{.Spec.Name}}'
    #[arg(
        long,
        short,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        default_value = "json"
    )]
    format: String,
    /// Lines for people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    /// Show the secret itself
    #[arg(long)]
    showsecret: bool,
    /// Names or ids
    #[arg(required = true, value_name = "SECRET")]
    secrets: Vec<String>,
}

/// Options of `floe secret ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// name=NAME or id=ID; those that match one
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a Go template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Print no line above the columns
    #[arg(long, short)]
    noheading: bool,
    /// Print only ids
    #[arg(long, short)]
    quiet: bool,
}

/// Options of `floe secret rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Be content with missing ones
    #[arg(long, short)]
    ignore: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "SECRET")]
    secrets: Vec<String>,
}

pub(crate) fn run(engine: &Engine, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(args) => create(engine, args),
        Command::Exists(args) => Ok(match engine.secret(&args.name)? {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::from(1),
        }),
        Command::Inspect(args) => inspect(engine, args),
        Command::Ls(args) => list(engine, args),
        Command::Rm(args) => remove(engine, args),
    }
}

/// A secret by its name or id.
pub(crate) fn find(engine: &Engine, name: &str) -> Result<Secret, Failure> {
    engine.secret(name)?.ok_or_else(|| {
        let words = format!("no secret with name or id {name:?}: no such secret");
        Failure::missing(words)
    })
}

fn create(engine: &Engine, args: &CreateArgs) -> Result<ExitCode, Failure> {
    let spec = SecretSpec {
        name: args.name.clone(),
        labels: pairs("--label", &args.label, true)?.into_iter().collect(),
        options: pairs("--driver-opts", &args.driver_opts, false)?
            .into_iter()
            .collect(),
    };
    let data = data(args)?;
    let made = match engine.create_secret(&spec, &data, args.replace) {
        Err(engine::Error::NameTaken { holder, .. }) if args.ignore => holder,
        Err(engine::Error::NameTaken { name, .. }) => {
            return Err(Failure::new(format!("{name}: secret name in use")));
        }
        made => made?.id,
    };
    println!("{made}");
    Ok(ExitCode::SUCCESS)
}

/// What is to be kept: one byte more than it may be is enough to be refused.
fn data(args: &CreateArgs) -> Result<Vec<u8>, Failure> {
    if args.env {
        let value = std::env::var_os(&args.from);
        let missing = || Failure::new(format!("cannot create secret: no variable {}", args.from));
        return Ok(value.ok_or_else(missing)?.into_encoded_bytes());
    }
    let mut data = Vec::new();
    let most = MAX_DATA as u64 + 1;
    let read = match args.from.as_str() {
        "-" => std::io::stdin().take(most).read_to_end(&mut data),
        path => std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut data)),
    };
    read.map_err(|error| Failure::new(format!("{}: {error}", args.from)))?;
    Ok(data)
}

/// By podman's names.
fn described(secret: &Secret) -> Value {
    json!({
        "ID": secret.id,
        "CreatedAt": clock::written(secret.created_at / 1_000_000_000),
        "UpdatedAt": clock::written(secret.created_at / 1_000_000_000),
        "Spec": {
            "Name": secret.name,
            "Driver": { "Name": "file", "Options": secret.options },
            "Labels": secret.labels,
        },
    })
}

fn inspect(engine: &Engine, args: &InspectArgs) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    let done = super::for_each(&args.secrets, |name| {
        let secret = find(engine, name).map_err(|failure| failure.with_code(125))?;
        let mut value = described(&secret);
        if args.showsecret {
            let data = engine.secret_data(&secret.id)?;
            value["SecretData"] = json!(String::from_utf8_lossy(&data));
        }
        found.push((secret, value));
        Ok(())
    });
    if args.pretty {
        for (secret, value) in &found {
            print!("{}", pretty(secret, value));
        }
        return done;
    }
    let values: Vec<Value> = found.into_iter().map(|(_, value)| value).collect();
    template::print_each(&args.format, &values)?;
    done
}

fn pretty(secret: &Secret, value: &Value) -> String {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        ("ID:".to_owned(), secret.id.clone()),
        ("Name:".to_owned(), secret.name.clone()),
    ];
    for (key, label) in &secret.labels {
        lines.push((format!(" - {key}:"), label.clone()));
    }
    lines.push(("Driver:".to_owned(), "file".to_owned()));
    lines.push(("Created at:".to_owned(), text("CreatedAt")));
    lines.push(("Updated at:".to_owned(), text("UpdatedAt")));
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    let shown = lines
        .iter()
        .map(|(key, text)| format!("{key:width$}{}\n", output::shown(text)));
    shown.collect()
}

fn list(engine: &Engine, args: &LsArgs) -> Result<ExitCode, Failure> {
    let filters = args.filter.iter().map(|text| match text.split_once('=') {
        Some((key @ ("name" | "id"), value)) => Ok((key, value)),
        _ => Err(Failure::new(format!(
            "--filter {text:?}: write name=NAME or id=ID"
        ))),
    });
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    let mut secrets = engine.secrets()?;
    secrets.retain(|secret| {
        let fits = |(key, value): &(&str, &str)| match *key {
            "name" => secret.name == *value,
            _ => secret.id.starts_with(value),
        };
        filters.is_empty() || filters.iter().any(fits)
    });
    if args.quiet {
        secrets.iter().for_each(|secret| println!("{}", secret.id));
        return Ok(ExitCode::SUCCESS);
    }
    match args.format.as_deref() {
        Some("json") => output::print_list(&secrets.iter().map(described).collect::<Vec<_>>()),
        Some(format) => {
            let values: Vec<Value> = secrets.iter().map(fields).collect();
            print!("{}", template::lines(format, &headings(), &values)?);
        }
        None => {
            let row = |secret: &Secret| {
                let since = output::ago(secret.created_at);
                let (id, name) = (secret.id.clone(), secret.name.clone());
                vec![id, name, "file".to_owned(), since.clone(), since]
            };
            let rows: Vec<_> = secrets.iter().map(row).collect();
            let table = output::table(&["ID", "NAME", "DRIVER", "CREATED", "UPDATED"], &rows);
            let kept = usize::from(args.noheading);
            table.lines().skip(kept).for_each(|line| println!("{line}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What templates know of a secret in a list.
fn fields(secret: &Secret) -> Value {
    let mut fields = described(secret);
    fields["Name"] = json!(secret.name);
    fields["Driver"] = json!("file");
    fields["CreatedAt"] = json!(output::ago(secret.created_at));
    fields["UpdatedAt"] = json!(output::ago(secret.created_at));
    fields
}

/// What stands above a column of a template.
fn headings() -> Value {
    json!({
        "ID": "ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "CreatedAt": "CREATED",
        "UpdatedAt": "UPDATED",
    })
}

fn remove(engine: &Engine, args: &RmArgs) -> Result<ExitCode, Failure> {
    let mut names = args.secrets.clone();
    if args.all {
        names.extend(engine.secrets()?.into_iter().map(|secret| secret.id));
    }
    super::for_each(&names, |name| {
        let secret = match find(engine, name) {
            Err(failure) if failure.is_missing() && args.ignore => return Ok(()),
            found => found?,
        };
        engine.remove_secret(&secret.id)?;
        println!("{}", secret.id);
        Ok(())
    })
}
