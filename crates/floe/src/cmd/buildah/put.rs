//! `buildah copy` and `buildah add`: files into a working container.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use build::working::{Origin, Put};
use containerfile::Ignore;
use engine::Engine;

use crate::cmd::build::around::Node;
use crate::cmd::build::context;
use crate::cmd::pull::PullFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::refused::{List, NotOffered, Refused, Takes};

/// Options of `buildah copy`.
#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    common: AddArgs,
    /// Keep what is above the sources
    #[arg(long)]
    parents: bool,
}

/// Options of `buildah add`, which `buildah copy` has as well.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Say in the image's history what was copied [default: $BUILDAH_HISTORY, or else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    add_history: Option<bool>,
    /// USER[:GROUP] that gets the files, instead of root
    #[arg(long, value_name = "USER")]
    chown: Option<String>,
    /// The mode of the files: octal, or as chmod has it
    #[arg(long, value_name = "MODE")]
    chmod: Option<String>,
    /// The digest that a URL's file must have
    #[arg(long, value_name = "DIGEST")]
    checksum: Option<String>,
    /// Copy from a working container, or an image
    #[arg(long = "from", value_name = "CONTAINER")]
    origin: Option<String>,
    /// The directory that sources are in, which no link leads out of
    #[arg(long, value_name = "DIR")]
    contextdir: Option<String>,
    /// File with patterns of what is not copied [default: .containerignore or .dockerignore of --contextdir]
    #[arg(long, value_name = "FILE")]
    ignorefile: Option<PathBuf>,
    /// A pattern of what is not copied
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Do not print the digest of what was copied
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    from: PullFlags,
    #[command(flatten)]
    _refused: NotOffered<NotInCopy>,
    /// Name or id
    #[arg(default_value = "", hide_default_value = true)]
    container: String,
    /// Files, directories and URLs, and last, if there is more than one, where to
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
}

/// What buildah's copy has besides.
#[derive(Debug)]
pub(crate) struct NotInCopy;

impl List for NotInCopy {
    const OPTIONS: &'static [Refused] = &[
        (
            "link",
            Takes::Nothing,
            "what is written by hand is one layer: use COPY --link of a Containerfile",
        ),
        (
            "timestamp",
            Takes::Value,
            "files have their own times: give it to commit",
        ),
        (
            "no-follow-symlinks",
            Takes::Nothing,
            "a source that is a link means what it leads to; links in directories are copied as they are",
        ),
        (
            "allow-wildcard",
            Takes::Value,
            "wildcards of sources always mean files",
        ),
        (
            "allow-empty-wildcard",
            Takes::Value,
            "a wildcard that fits nothing is an error",
        ),
        ("blob-cache", Takes::Value, "images are in floe's store"),
        (
            "decryption-key",
            Takes::Value,
            "floe does not encrypt or decrypt layers",
        ),
    ];
}

pub(crate) fn copy(global: &Global, engine: &Engine, args: &CopyArgs) -> Result<ExitCode, Failure> {
    put(global, engine, &args.common, (false, args.parents))
}

pub(crate) fn add(global: &Global, engine: &Engine, args: &AddArgs) -> Result<ExitCode, Failure> {
    put(global, engine, args, (true, false))
}

fn put(
    global: &Global,
    engine: &Engine,
    args: &AddArgs,
    (is_add, parents): (bool, bool),
) -> Result<ExitCode, Failure> {
    if args.container.is_empty() {
        return Err(Failure::new("container ID must be specified"));
    }
    let (sources, target) = match &args.sources[..] {
        [] => return Err(Failure::new("src must be specified")),
        [source] => (std::slice::from_ref(source), None),
        [sources @ .., target] => (sources, Some(target.clone())),
    };
    if args.ignorefile.is_some() && args.contextdir.is_none() {
        return Err(Failure::new(
            "--ignorefile option requires that you specify a context dir using --contextdir",
        ));
    }
    let (origin, sources) = args.origin(sources)?;
    let ignore = match (&origin, &args.contextdir) {
        (Origin::Directory(directory), Some(_)) => ignore(args, directory)?,
        _ => Ignore::default(),
    };
    let mut working = super::open(engine, &args.container)?;
    let around = Node {
        global,
        engine,
        from: &args.from,
        policy: "missing",
        quiet: args.quiet,
    };
    let put = Put {
        is_add,
        origin,
        ignore,
        sources,
        target,
        chown: args.chown.clone(),
        chmod: args.chmod.clone(),
        parents,
        exclude: args.exclude.clone(),
        checksum: args.checksum.clone(),
        remember: super::history(args.add_history),
    };
    let digest = working.put(engine, &around, &put)?;
    if !args.quiet {
        println!("{digest}");
    }
    Ok(ExitCode::SUCCESS)
}

impl AddArgs {
    /// Where is copied from, and the sources as paths there.
    fn origin(&self, sources: &[String]) -> Result<(Origin, Vec<String>), Failure> {
        let is_url = |source: &str| source.starts_with("http://") || source.starts_with("https://");
        let below = |dir: &str| -> Vec<String> {
            let path = |source: &String| match is_url(source) {
                true => source.clone(),
                false => format!("{dir}/{source}"),
            };
            sources.iter().map(path).collect()
        };
        if let Some(name) = &self.origin {
            let dir = self.contextdir.as_deref().unwrap_or_default();
            return Ok((Origin::Named(name.clone()), below(dir)));
        }
        if let Some(dir) = &self.contextdir {
            // A path of this machine that leads there is one of its own.
            let there = std::path::absolute(dir)?;
            let path = |source: &String| {
                let below = Path::new(source).strip_prefix(&there);
                let below = below.ok().and_then(|below| below.to_str());
                below.map_or_else(|| source.clone(), |below| format!("/{below}"))
            };
            let sources = sources.iter().map(path).collect();
            return Ok((Origin::Directory(context::directory(dir)?), sources));
        }
        let here = std::env::current_dir()?;
        let here = here
            .to_str()
            .ok_or_else(|| Failure::new("the name of this directory is not UTF-8"))?;
        let path = |source: &String| match is_url(source) || source.starts_with('/') {
            true => source.clone(),
            false => format!("{here}/{source}"),
        };
        let root = context::directory("/")?;
        Ok((Origin::Directory(root), sources.iter().map(path).collect()))
    }
}

fn ignore(args: &AddArgs, directory: &OwnedFd) -> Result<Ignore, Failure> {
    if let Some(file) = &args.ignorefile {
        return context::ignore_file(file);
    }
    context::ignore_below(directory)
}
