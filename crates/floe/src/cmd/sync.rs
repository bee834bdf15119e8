//! `floe sync`: all images of repositories, of a directory or of a list in YAML, to a registry or a
//! directory (skopeo sync).
//!
//! Must never overwrite an image that is in the destination directory already.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use transfer::{Document, Location, Options};

use super::copy::flags::{self, Shape, Sides};
use crate::failure::Failure;
use crate::global::Global;
use crate::progress::{self, watch};
use crate::remote::Remote;

mod list;
mod plan;
mod versions;

use plan::Job;

/// Options of `floe sync`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What SOURCE is
    #[arg(long, short, value_name = "TRANSPORT")]
    src: From,
    /// What DESTINATION is
    #[arg(long, short, value_name = "TRANSPORT")]
    dest: To,
    /// Keep the whole name of each image below DESTINATION, not only its last part
    #[arg(long)]
    scoped: bool,
    /// Append to the tag of each image
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    append_suffix: String,
    /// Say what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on past images that cannot be copied, and fail at the end
    #[arg(long)]
    keep_going: bool,
    /// Write the digest and the place of each copied image to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    sides: Sides,
    /// A repository with or without tag, a directory, or a YAML file
    source: String,
    /// A registry with or without a namespace, or a directory
    destination: String,
}

/// What images are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// A repository
    Docker,
    /// A directory
    Dir,
    /// A list of registries and their images
    Yaml,
}

/// What images go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// A registry
    Docker,
    /// A directory
    Dir,
}

impl Args {
    /// Where an image goes. `name` is what it is called at its source.
    fn target(&self, name: &str) -> Result<Location, Failure> {
        let name = match self.scoped {
            true => name,
            false => name.rsplit('/').next().unwrap_or(name),
        };
        let name = format!("{name}{}", self.append_suffix);
        match self.dest {
            To::Dir => Ok(Location::Dir(Path::new(&self.destination).join(name))),
            To::Docker => {
                let destination = self.destination.trim_end_matches('/');
                Ok(Location::parse(&format!("docker://{destination}/{name}"))?)
            }
        }
    }
}

/// What sync has to say about all images at once.
#[derive(Default)]
struct Tally {
    copied: usize,
    failed: usize,
}

impl Tally {
    /// Goes on after a failure, or not.
    fn failed(&mut self, error: Failure, keep_going: bool) -> Result<(), Failure> {
        if !keep_going {
            return Err(error);
        }
        eprintln!("Error: {error}");
        self.failed += 1;
        Ok(())
    }
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if (args.src, args.dest) == (From::Dir, To::Dir) {
        return Err(Failure::new(
            "from a directory to a directory there is nothing to do for sync: copy the files",
        ));
    }
    let remote = args.sides.remote(global)?;
    let options = args.sides.options(&args.shape, &remote)?;
    let mut tally = Tally::default();
    if args.dry_run {
        progress::note("Running in dry-run mode");
    }
    let (jobs, sources) = jobs(args, &remote, &mut tally)?;
    copy_all(args, &remote, &options, &jobs, &mut tally)?;
    let (done, count) = match args.dry_run {
        true => ("Would have synced", jobs.len()),
        false => ("Synced", tally.copied),
    };
    progress::note(&format!("{done} {count} images from {sources} sources"));
    match tally.failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::new(format!(
            "{failed} of the sources or images failed; see above"
        ))),
    }
}

/// What is to be copied, and from how many sources; what cannot be found out counts as failed.
fn jobs(args: &Args, remote: &Remote, tally: &mut Tally) -> Result<(Vec<Job>, usize), Failure> {
    let flags = args.sides.source();
    let source = Path::new(&args.source);
    let planned = match args.src {
        From::Docker => plan::repository(remote, &args.source, &flags).map(|jobs| vec![Ok(jobs)]),
        From::Dir => plan::directory(source, &flags),
        From::Yaml => plan::yaml(remote, source, &flags),
    }?;
    let (mut jobs, mut sources) = (Vec::new(), 0);
    for found in planned {
        match found {
            Ok(found) => {
                jobs.extend(found);
                sources += 1;
            }
            Err(error) => tally.failed(error, args.keep_going)?,
        }
    }
    Ok((jobs, sources))
}

fn copy_all(
    args: &Args,
    remote: &Remote,
    options: &Options,
    jobs: &[Job],
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut digests = match args.digestfile.as_ref().filter(|_| !args.dry_run) {
        Some(file) => Some(
            File::create(file)
                .map_err(|e| Failure::new(format!("create {}: {e}", file.display())))?,
        ),
        None => None,
    };
    for (number, job) in jobs.iter().enumerate() {
        let target = match args.target(&job.name) {
            Ok(target) => target,
            Err(error) => {
                tally.failed(error, args.keep_going)?;
                continue;
            }
        };
        let doing = match args.dry_run {
            true => "Would have copied",
            false => "Copying",
        };
        let (number, count, from) = (number + 1, jobs.len(), &job.from);
        progress::note(&format!(
            "{doing} image ref {number}/{count} from=\"{from}\" to=\"{target}\""
        ));
        if args.dry_run {
            continue;
        }
        match copy(remote, args, options, job, &target) {
            Ok(copied) => {
                tally.copied += 1;
                if let Some(file) = &mut digests {
                    writeln!(file, "{} {target}", copied.digest)?;
                }
            }
            Err(error) => tally.failed(error, args.keep_going)?,
        }
    }
    Ok(())
}

fn copy(
    remote: &Remote,
    args: &Args,
    options: &Options,
    job: &Job,
    to: &Location,
) -> Result<Document, Failure> {
    if let Location::Dir(dir) = to
        && dir.exists()
    {
        return Err(Failure::new(format!(
            "{to}: it is there already, and is not overwritten"
        )));
    }
    let source = job.flags.access(remote, &job.from)?;
    let target = args.sides.target().access(remote, to)?;
    let watch = watch(false);
    args.sides.retry().run(|| {
        let copied = flags::copy((&job.from, &source), (to, &target), options, &watch);
        if let (Err(_), Location::Dir(dir)) = (&copied, to) {
            // Half an image would be in the way of the next try or sync.
            let _ = std::fs::remove_dir_all(dir);
        }
        copied
    })
}
