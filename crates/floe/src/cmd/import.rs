//! `floe import`: an image from a tar file of a root file system (podman import).

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use distribution::Client;
use engine::Engine;
use futures_util::StreamExt;
use image::Platform;
use image::config::ContainerConfig;
use transfer::PrivateDir;

use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Remote};
use crate::{clock, names};

pub(crate) mod change;

/// Options of `floe import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An instruction of a Containerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME or WORKDIR
    #[arg(long, short = 'c', value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A remark for the image's history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Architecture that the image is for, instead of the machine's
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Operating system that the image is for
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// Print only the id
    #[arg(long, short)]
    quiet: bool,
    /// Tar file, plain or compressed with gzip or zstd; http:// or https:// URL; - for standard input
    source: String,
    /// Name to give the image
    name: Option<String>,
}

impl Args {
    fn platform(&self) -> Platform {
        let host = Platform::host();
        Platform {
            os: self.os.clone().unwrap_or_else(|| host.os.clone()),
            variant: match self.arch {
                Some(_) => self.variant.clone(),
                None => self.variant.clone().or_else(|| host.variant.clone()),
            },
            architecture: self
                .arch
                .clone()
                .unwrap_or_else(|| host.architecture.clone()),
            ..host
        }
    }
}

pub(crate) fn run(global: &Global, engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut config = ContainerConfig::default();
    for instruction in &args.change {
        change::apply(&mut config, instruction)?;
    }
    let name = args.name.as_deref().map(names::local).transpose()?;
    let (file, _spool) = fetch(global, &args.source, args.quiet)?;
    let import = transfer::Import {
        config,
        platform: args.platform(),
        message: args.message.clone(),
        created: clock::now()?,
        names: name.iter().map(ToString::to_string).collect(),
    };
    let image = transfer::import(engine.store(), &file, import)?;
    println!("sha256:{}", image.id);
    Ok(ExitCode::SUCCESS)
}

/// The file, and what keeps it if it is a temporary one.
fn fetch(
    global: &Global,
    source: &str,
    quiet: bool,
) -> Result<(PathBuf, Option<PrivateDir>), Failure> {
    if source == "-" {
        let spool = PrivateDir::new()?;
        let path = spool.path().join("stdin");
        io::copy(&mut io::stdin(), &mut File::create_new(&path)?)?;
        return Ok((path, Some(spool)));
    }
    if !source.starts_with("http://") && !source.starts_with("https://") {
        return Ok((source.into(), None));
    }
    if !quiet {
        eprintln!("Downloading from {source:?}");
    }
    let client = Client::new(Remote::new(global)?.settings().clone());
    let spool = PrivateDir::new()?;
    let path = spool.path().join("download");
    let mut file = File::create_new(&path)?;
    remote::block_on(async {
        let mut chunks = Box::pin(client.file(source).await?);
        while let Some(chunk) = chunks.next().await {
            file.write_all(&chunk?)?;
        }
        Ok(file.flush()?)
    })?;
    Ok((path, Some(spool)))
}
