//! `floe volume`: directories with a name, which containers share and which outlive them.

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::rooted;
use clap::Subcommand;
use engine::Engine;
use engine::files::{self, Owner};
use engine::volume::{Volume, VolumeSpec};
use serde_json::{Value, json};

use super::run::env::pairs;
use super::{rm, stop};
use crate::failure::Failure;
use crate::filters::{Filters, fits_name, has_label};
use crate::{clock, output, template, terminal};

/// podman's exit code for what is not there.
const MISSING: u8 = 1;
/// And for what is in use.
const IN_USE: u8 = 2;

/// What can be done to volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a volume
    Create(CreateArgs),
    /// Is there a volume of that name? The exit code says it: 0 or 1
    Exists(Name),
    /// Write what is in a volume as an archive
    Export(ExportArgs),
    /// Unpack an archive into a volume
    Import(ImportArgs),
    /// Show what volumes are
    Inspect(InspectArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Print where the files of volumes are
    Mount(Names),
    /// Remove anonymous volumes that nothing uses
    Prune(PruneArgs),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Accepted for podman's sake: the files of volumes are where they are
    #[command(visible_alias = "umount")]
    Unmount(Names),
}

/// Options of `floe volume create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// KEY=VALUE
    #[arg(long, short, value_name = "LABEL")]
    label: Vec<String>,
    /// o=uid=UID, o=gid=GID, o=nocopy
    #[arg(long, short, value_name = "OPTION")]
    opt: Vec<String>,
    /// local
    #[arg(long, short, value_name = "DRIVER", default_value = "local", value_parser = ["local"])]
    driver: String,
    /// Be content with one that has the name
    #[arg(long)]
    ignore: bool,
    /// Name [default: one at random]
    name: Option<String>,
}

/// Options of `floe volume export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name
    volume: String,
}

/// Options of `floe volume import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// Name
    volume: String,
    /// A tar archive, or - for standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

/// Options of `floe volume inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// json, or a Go template such as '{{.Mountpoint}}'
    #[arg(
        long,
        short,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        default_value = "json"
    )]
    format: String,
    /// Names
    #[arg(required_unless_present = "all", value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Options of `floe volume ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// KEY=VALUE: name, label, label!, driver, dangling, anonymous, until, since; those that match all
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a Go template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Print no line above the columns
    #[arg(long, short)]
    noheading: bool,
    /// Print only names
    #[arg(long, short)]
    quiet: bool,
}

/// Options of `floe volume prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Those with names, too
    #[arg(long, short)]
    all: bool,
    /// Only those that match, as floe volume ls --filter has it
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Options of `floe volume rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// All of them
    #[arg(long, short)]
    all: bool,
    /// Remove the containers that use them as well, and be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// Seconds to wait before such a container is killed, -1 for ever
    #[arg(long, short, value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Names
    #[arg(required_unless_present = "all", value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// A name to be looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name
    name: String,
}

/// Names.
#[derive(Debug, clap::Args)]
pub(crate) struct Names {
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

pub(crate) fn run(engine: &Engine, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(args) => create(engine, args),
        Command::Exists(args) => Ok(match engine.volume(&args.name)? {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::from(MISSING),
        }),
        Command::Export(args) => export(engine, args),
        Command::Import(args) => import(engine, args),
        Command::Inspect(args) => inspect(engine, args),
        Command::Ls(args) => list(engine, args),
        Command::Mount(args) => super::for_each(&args.volumes, |name| {
            println!("{}", find(engine, name)?.mountpoint.display());
            Ok(())
        }),
        Command::Prune(args) => prune(engine, args),
        Command::Rm(args) => remove(engine, args),
        Command::Unmount(args) => super::for_each(&args.volumes, |name| {
            println!("{}", find(engine, name)?.name);
            Ok(())
        }),
    }
}

fn find(engine: &Engine, name: &str) -> Result<Volume, Failure> {
    engine.volume(name)?.ok_or_else(|| {
        let words = format!("no volume with name {name:?} found: no such volume");
        Failure::missing(words)
    })
}

fn create(engine: &Engine, args: &CreateArgs) -> Result<ExitCode, Failure> {
    let spec = VolumeSpec {
        name: args.name.clone().unwrap_or_default(),
        labels: pairs("--label", &args.label, true)?.into_iter().collect(),
        options: pairs("--opt", &args.opt, false)?.into_iter().collect(),
    };
    let made = match engine.create_volume(&spec) {
        Err(engine::Error::NameTaken { name, .. }) if args.ignore => name,
        Err(engine::Error::NameTaken { name, .. }) => {
            let words = format!("volume with name {name} already exists: volume already exists");
            return Err(Failure::new(words));
        }
        made => made?.name,
    };
    println!("{made}");
    Ok(ExitCode::SUCCESS)
}

fn export(engine: &Engine, args: &ExportArgs) -> Result<ExitCode, Failure> {
    let volume = find(engine, &args.volume)?;
    let to: OwnedFd = match &args.output {
        Some(path) => File::create(path)?.into(),
        None if std::io::stdout().is_terminal() => {
            let words = "refusing to write an archive to the terminal: redirect it, or name a file";
            return Err(Failure::new(words));
        }
        None => std::io::stdout().as_fd().try_clone_to_owned()?,
    };
    let root = File::open(&volume.mountpoint)?;
    rooted::within(root.as_fd(), || {
        let to = BufWriter::with_capacity(1 << 20, File::from(to));
        files::pack(to, Path::new("/"), Path::new("."))
    })??;
    Ok(ExitCode::SUCCESS)
}

fn import(engine: &Engine, args: &ImportArgs) -> Result<ExitCode, Failure> {
    let volume = find(engine, &args.volume)?;
    let from: OwnedFd = match args.from.as_os_str() == "-" {
        true => std::io::stdin().as_fd().try_clone_to_owned()?,
        false => File::open(&args.from)
            .map_err(|error| Failure::new(format!("{}: {error}", args.from.display())))?
            .into(),
    };
    let root = File::open(&volume.mountpoint)?;
    rooted::within(root.as_fd(), || {
        let from = BufReader::with_capacity(1 << 20, File::from(from));
        files::unpack(from, Path::new("/"), Owner::Kept, true)
    })??;
    Ok(ExitCode::SUCCESS)
}

fn inspect(engine: &Engine, args: &InspectArgs) -> Result<ExitCode, Failure> {
    let all: Vec<Volume> = match args.all {
        true => engine.volumes()?,
        false => args
            .volumes
            .iter()
            .map(|name| find(engine, name))
            .collect::<Result<_, _>>()?,
    };
    let all: Vec<Value> = all.iter().map(described).collect();
    template::print_each(&args.format, &all)?;
    Ok(ExitCode::SUCCESS)
}

/// By podman's names.
fn described(volume: &Volume) -> Value {
    let (user, group) = volume.owner.unwrap_or((0, 0));
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": volume.mountpoint,
        "CreatedAt": clock::written(volume.created_at / 1_000_000_000),
        "Labels": volume.labels,
        "Scope": "local",
        "Options": volume.options,
        "Anonymous": volume.anonymous,
        "UID": user,
        "GID": group,
        "NeedsCopyUp": !volume.begun,
        "NeedsChown": !volume.begun && volume.owner.is_none(),
        "MountCount": 0,
    })
}

fn list(engine: &Engine, args: &LsArgs) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    let mut all = Vec::new();
    for volume in engine.volumes()? {
        if fits(engine, &volume, &filters)? {
            all.push(volume);
        }
    }
    if args.quiet {
        all.iter().for_each(|volume| println!("{}", volume.name));
        return Ok(ExitCode::SUCCESS);
    }
    let values: Vec<Value> = all.iter().map(described).collect();
    match args.format.as_deref() {
        Some("json") => {
            output::print_list(&values);
        }
        Some(format) => {
            let titles = json!({ "Name": "VOLUME NAME", "Driver": "DRIVER", "Mountpoint": "MOUNTPOINT", "Scope": "SCOPE" });
            print!("{}", template::lines(format, &titles, &values)?);
        }
        None => {
            let rows: Vec<Vec<String>> = all
                .iter()
                .map(|volume| vec!["local".to_owned(), volume.name.clone()])
                .collect();
            let table = output::table(&["DRIVER", "VOLUME NAME"], &rows);
            let kept = usize::from(args.noheading || rows.is_empty());
            table.lines().skip(kept).for_each(|line| println!("{line}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(engine: &Engine, args: &PruneArgs) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    let which = match args.all {
        true => "all volumes",
        false => "anonymous volumes",
    };
    let warning = format!("WARNING! This will remove {which} not used by at least one container.");
    let due = |volume: &Volume| -> Result<bool, Failure> {
        Ok((args.all || volume.anonymous) && fits(engine, volume, &filters)?)
    };
    if !args.force {
        let mut any = false;
        for volume in engine.volumes()? {
            any = any || due(&volume)? && engine.users_of_volume(&volume.name)?.is_empty();
        }
        if !any {
            let kind = if args.all { "" } else { " anonymous" };
            println!("{warning}\nNo dangling{kind} volumes found");
            return Ok(ExitCode::SUCCESS);
        }
        if !terminal::agreed(&warning)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    for name in sweep(engine, due)? {
        println!("{name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the volumes that nothing uses and that fit: their names.
pub(crate) fn sweep(
    engine: &Engine,
    fits: impl Fn(&Volume) -> Result<bool, Failure>,
) -> Result<Vec<String>, Failure> {
    let mut removed = Vec::new();
    for volume in engine.volumes()? {
        if !fits(&volume)? {
            continue;
        }
        match engine.remove_volume(&volume.name) {
            Err(engine::Error::VolumeInUse { .. }) => {}
            outcome => {
                outcome?;
                removed.push(volume.name);
            }
        }
    }
    Ok(removed)
}

fn remove(engine: &Engine, args: &RmArgs) -> Result<ExitCode, Failure> {
    let mut names = args.volumes.clone();
    if args.all {
        names.extend(engine.volumes()?.into_iter().map(|volume| volume.name));
    }
    super::for_each(&names, |name| {
        let volume = match find(engine, name) {
            Err(failure) if failure.is_missing() && args.force => return Ok(()),
            found => found.map_err(|failure| failure.with_code(MISSING))?,
        };
        if args.force {
            for id in engine.users_of_volume(&volume.name)? {
                let container = engine.container(&id)?;
                let patience = stop::patience(&container, args.time);
                engine.stop_container(&id, patience)?;
                rm::remove(engine, &container)?;
            }
        }
        match engine.remove_volume(&volume.name) {
            Err(error @ engine::Error::VolumeInUse { .. }) => {
                return Err(Failure::from(error).with_code(IN_USE));
            }
            removed => removed?,
        };
        println!("{}", volume.name);
        Ok(())
    })
}

/// `--filter` of lists of volumes.
pub(crate) fn filters(given: &[String]) -> Result<Filters, Failure> {
    Filters::parse(given, |key, value| {
        let text = format!("{key}={value}");
        let wrong = |why: &str| Failure::new(format!("--filter {text:?}: {why}"));
        match key {
            "name" | "label" | "label!" | "driver" => Ok(()),
            "dangling" | "anonymous" => match value.parse::<bool>() {
                Ok(_) => Ok(()),
                Err(_) => Err(wrong("write true or false")),
            },
            "until" | "since" => clock::until(value).map(drop),
            _ => Err(wrong("it is an invalid filter here")),
        }
    })
}

/// Is a volume one of them?
pub(crate) fn fits(engine: &Engine, volume: &Volume, filters: &Filters) -> Result<bool, Failure> {
    filters.match_all(|key, value| matches(engine, volume, key, value))
}

fn matches(engine: &Engine, volume: &Volume, key: &str, value: &str) -> Result<bool, Failure> {
    let is = |fact: bool| value.parse() == Ok(fact);
    let before = |text: &str| -> Result<bool, Failure> {
        Ok(volume.created_at < clock::until(text)?.saturating_mul(1_000_000_000))
    };
    Ok(match key {
        "name" => fits_name(value, &volume.name)?,
        "label" => has_label(&volume.labels, value),
        "label!" => !has_label(&volume.labels, value),
        "driver" => value == "local",
        "anonymous" => is(volume.anonymous),
        "dangling" => is(engine.users_of_volume(&volume.name)?.is_empty()),
        "until" => before(value)?,
        _ => !before(value)?,
    })
}
