//! `floe manifest`: puts indexes together from images and pushes them (podman manifest).

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Subcommand;
use engine::Engine;
use image::{AnyManifest, Digest};
use store::Store;
use transfer::{Change, Instances, List, Location, Source};

use super::copy::flags::PlatformFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::names;
use crate::remote::{self, Flags, PolicyFlags, Remote};

mod push;

/// What can be done to a manifest list.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a list
    Create(CreateArgs),
    /// Add images to a list
    Add(AddArgs),
    /// Say something about an image of a list
    Annotate(AnnotateArgs),
    /// Take an image out of a list
    Remove(RemoveArgs),
    /// Print a list, or the manifest of an image in a registry
    Inspect(InspectArgs),
    /// Succeed if there is such a list
    Exists(ListArgs),
    /// Send a list with its images to a registry or another place
    Push(push::Args),
    /// Remove lists
    Rm(RmArgs),
}

/// Options of `floe manifest create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Add all images of what is a list itself
    #[arg(long)]
    all: bool,
    /// Go on with a list that is there
    #[arg(long, short)]
    amend: bool,
    #[command(flatten)]
    flags: Flags,
    /// Name of the list
    list: String,
    /// Images to begin with: names in floe's store or a registry, or TRANSPORT:PLACE
    images: Vec<String>,
}

/// Options of `floe manifest add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Add all images of what is a list itself
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    flags: Flags,
    /// Name of the list
    list: String,
    /// Names in floe's store or a registry, or TRANSPORT:PLACE
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Options of `floe manifest annotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct AnnotateArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Name of the list
    list: String,
    /// Digest of an image of the list, or its name in floe's store
    image: String,
}

/// What to say about an image.
#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// An annotation
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Architecture, instead of the image's own
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Operating system, instead of the image's own
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Features of the operating system
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

/// Options of `floe manifest remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Name of the list
    list: String,
    /// Digest of an image of the list, or its name in floe's store
    image: String,
}

/// Options of `floe manifest inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    flags: Flags,
    /// Name of the list or image
    image: String,
}

/// Options of commands that need a list only.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Name of the list
    list: String,
}

/// Options of `floe manifest rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Names of lists
    #[arg(required = true, value_name = "LIST")]
    lists: Vec<String>,
}

pub(crate) fn run(global: &Global, engine: &Engine, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(args) => create(global, engine, &args),
        Command::Add(args) => add(global, engine, &args),
        Command::Annotate(args) => annotate(engine, &args),
        Command::Remove(args) => remove(engine, &args),
        Command::Inspect(args) => inspect(global, engine, &args),
        Command::Exists(args) => {
            let name = names::local(&args.list)?.to_string();
            let there = engine.store().list(&name)?.is_some();
            Ok(ExitCode::from(u8::from(!there)))
        }
        Command::Push(args) => push::run(global, engine, &args),
        Command::Rm(args) => super::for_each(&args.lists, |list| {
            let (name, old, _) = open(engine.store(), list)?;
            swap(engine.store(), &name, Some(&old), None)?;
            println!("Untagged: {name}");
            Ok(())
        }),
    }
}

/// A list: its full name, as it is kept, and read.
fn open(store: &Store, list: &str) -> Result<(String, Vec<u8>, List), Failure> {
    let name = names::local(list)?.to_string();
    let bytes = store
        .list(&name)?
        .ok_or_else(|| Failure::new(format!("{list}: there is no manifest list {name}")))?;
    let parsed = List::parse(&bytes)?;
    Ok((name, bytes, parsed))
}

fn swap(store: &Store, name: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), Failure> {
    match store.swap_list(name, old, new)? {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{name}: the list was changed by somebody else meanwhile: try again"
        ))),
    }
}

fn create(global: &Global, engine: &Engine, args: &CreateArgs) -> Result<ExitCode, Failure> {
    let name = names::local(&args.list)?.to_string();
    let old = engine.store().list(&name)?;
    let mut list = match &old {
        Some(_) if !args.amend => {
            return Err(Failure::new(format!(
                "{name}: that name is already in use by a list: use --amend to go on with it"
            )));
        }
        Some(old) => List::parse(old)?,
        None => List::default(),
    };
    let adding = Adding::new(global, engine, &args.flags, args.all)?;
    for image in &args.images {
        adding.add(&mut list, image)?;
    }
    swap(
        engine.store(),
        &name,
        old.as_deref(),
        Some(&list.to_bytes()?),
    )?;
    println!("{name}");
    Ok(ExitCode::SUCCESS)
}

fn add(global: &Global, engine: &Engine, args: &AddArgs) -> Result<ExitCode, Failure> {
    let (name, old, mut list) = open(engine.store(), &args.list)?;
    let change = args.change.change()?;
    let adding = Adding::new(global, engine, &args.flags, args.all)?;
    for image in &args.images {
        for digest in adding.add(&mut list, image)? {
            list.annotate(&digest, &change);
        }
    }
    swap(engine.store(), &name, Some(&old), Some(&list.to_bytes()?))?;
    println!("{name}");
    Ok(ExitCode::SUCCESS)
}

/// Adds an image of the store to a list, which is made if need be.
pub(crate) fn put_image(
    global: &Global,
    engine: &Engine,
    list: &str,
    id: &str,
) -> Result<(), Failure> {
    let name = names::local(list)?.to_string();
    let old = engine.store().list(&name)?;
    let mut list = match &old {
        Some(old) => List::parse(old)?,
        None => List::default(),
    };
    let flags = Flags::default();
    Adding::new(global, engine, &flags, false)?.add(&mut list, id)?;
    swap(
        engine.store(),
        &name,
        old.as_deref(),
        Some(&list.to_bytes()?),
    )
}

/// What finding images to be added needs.
struct Adding<'a> {
    engine: &'a Engine,
    remote: Remote,
    flags: &'a Flags,
    which: Instances,
}

impl<'a> Adding<'a> {
    fn new(
        global: &Global,
        engine: &'a Engine,
        flags: &'a Flags,
        all: bool,
    ) -> Result<Adding<'a>, Failure> {
        let platform = PlatformFlags::default().platform();
        Ok(Adding {
            engine,
            remote: Remote::new(global)?,
            flags,
            which: match all {
                true => Instances::All,
                false => Instances::One(platform),
            },
        })
    }

    /// A place that is written as one; or else what the store has of this name, or a registry.
    fn find(&self, image: &str) -> Result<Location, Failure> {
        if image.contains("://") || Location::parse(image).is_ok() {
            return Ok(Location::parse(image)?);
        }
        match self.engine.find_image(image)? {
            Some(found) => Ok(Location::Store(found.id)),
            None => Ok(Location::parse(&format!("docker://{image}"))?),
        }
    }

    fn add(&self, list: &mut List, image: &str) -> Result<Vec<Digest>, Failure> {
        let location = self.find(image)?;
        let policy = self.remote.policy(&PolicyFlags::default())?;
        let access = self.flags.access(&self.remote, &location)?;
        remote::block_on(async {
            // Signatures are checked when the image moves, with the list.
            if let Some(policy) = &policy {
                Source::open(&location, &access).await?.check(policy)?;
            }
            Ok(list.add(&location, &access, &self.which).await?)
        })
    }
}

impl ChangeArgs {
    fn change(&self) -> Result<Change, Failure> {
        let mut annotations = BTreeMap::new();
        for text in &self.annotation {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Failure::new(format!("annotation {text:?}: write KEY=VALUE")))?;
            annotations.insert(key.to_owned(), value.to_owned());
        }
        Ok(Change {
            annotations,
            architecture: self.arch.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        })
    }
}

/// The digest of an image of a list, by itself or by a name in the store.
fn digest(engine: &Engine, image: &str) -> Result<Digest, Failure> {
    if let Ok(digest) = Digest::parse(image) {
        return Ok(digest);
    }
    Ok(engine.image(image)?.manifest_digest)
}

fn annotate(engine: &Engine, args: &AnnotateArgs) -> Result<ExitCode, Failure> {
    let (name, old, mut list) = open(engine.store(), &args.list)?;
    let digest = digest(engine, &args.image)?;
    if !list.annotate(&digest, &args.change.change()?) {
        return Err(Failure::new(format!("{name}: {digest} is not in the list")));
    }
    swap(engine.store(), &name, Some(&old), Some(&list.to_bytes()?))?;
    println!("{name}");
    Ok(ExitCode::SUCCESS)
}

fn remove(engine: &Engine, args: &RemoveArgs) -> Result<ExitCode, Failure> {
    let (name, old, mut list) = open(engine.store(), &args.list)?;
    let digest = digest(engine, &args.image)?;
    if !list.remove(&digest) {
        return Err(Failure::new(format!("{name}: {digest} is not in the list")));
    }
    swap(engine.store(), &name, Some(&old), Some(&list.to_bytes()?))?;
    println!("{name}");
    Ok(ExitCode::SUCCESS)
}

fn inspect(global: &Global, engine: &Engine, args: &InspectArgs) -> Result<ExitCode, Failure> {
    let name = names::local(&args.image)?.to_string();
    if let Some(bytes) = engine.store().list(&name)? {
        return remote::print_json(List::parse(&bytes)?.index());
    }
    let location = match Location::parse(&args.image) {
        Ok(location) => location,
        Err(_) => Location::parse(&format!("docker://{}", args.image))?,
    };
    let remote = Remote::new(global)?;
    let access = args.flags.access(&remote, &location)?;
    let document = remote::block_on(async {
        let source = Source::open(&location, &access).await?;
        Ok(source.manifest(None).await?)
    })?;
    match document.parse()? {
        AnyManifest::Index(index) => remote::print_json(&index),
        AnyManifest::Manifest(manifest) => remote::print_json(&manifest),
    }
}
