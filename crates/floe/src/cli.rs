//! The command line: global options and the list of commands. Each command's own options stand
//! in its file under `cmd/`. Flag names are podman's.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use engine::config::{Sources, UnusedKey};
use engine::{Config, Engine};

use crate::{Failure, cmd};

/// Pods, containers and images of this node: for kubelet, and for you.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Default, Args)]
pub(crate) struct Global {
    /// Configuration file (crio.conf's tables and keys) [default: /etc/floe/floe.toml, if it exists]
    #[arg(long, short = 'c', env = "FLOE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory whose files are read after the configuration file, in lexical order; '' for none
    /// [default: the one beside the file: FILE.d, if it exists]
    #[arg(long, short = 'd', env = "FLOE_CONFIG_DIR", value_name = "DIR", value_parser = path_or_empty())]
    pub(crate) config_dir: Option<PathBuf>,
    /// Directory of the image store, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Directory of the state of pods and containers, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) runroot: Option<PathBuf>,
    /// Root of another store, whose images are seen and never written (may be given more than once)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) additional_store: Vec<PathBuf>,
    /// registries.conf, instead of the configuration's; not on floe's own command line
    #[arg(skip)]
    pub(crate) registries_conf: Option<PathBuf>,
    /// Whether certificates are checked where a command does not say; not on floe's own command line
    #[arg(skip)]
    pub(crate) tls_verify: Option<bool>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the Kubernetes CRI on a unix socket
    Serve(cmd::serve::Args),
    /// A registry of one's own, or of this node's images
    Registry(cmd::registry::Args),
    #[command(flatten)]
    Node(NodeCommand),
    #[command(flatten)]
    Move(MoveCommand),
}

/// What is done to the node's containers and images.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run a command in a new container
    Run(Box<cmd::run::Args>),
    /// List containers
    Ps(cmd::ps::Args),
    /// Show what a container has written
    Logs(cmd::logs::Args),
    /// Run a command in a running container
    Exec(cmd::exec::Args),
    /// Stop containers
    Stop(cmd::stop::Args),
    /// Remove containers
    Rm(cmd::rm::Args),
    /// Fetch images from registries
    Pull(cmd::pull::Args),
    /// List images
    Images(cmd::images::Args),
    /// Give an image further names
    Tag(cmd::stored::TagArgs),
    /// Send an image to a registry
    Push(cmd::stored::PushArgs),
    /// Write an image to an archive
    Save(cmd::stored::SaveArgs),
    /// Read images from an archive
    Load(cmd::stored::LoadArgs),
    /// Remove images
    Rmi(cmd::rmi::Args),
    /// Show how an image came to be
    History(cmd::history::Args),
    /// Make an image of a tar file
    Import(cmd::import::Args),
    /// Images: prune, and the commands above by their second names
    #[command(subcommand)]
    Image(cmd::image::Command),
    /// Look after the whole of it
    #[command(subcommand)]
    System(cmd::system::Command),
    /// Put indexes for several platforms together
    #[command(subcommand)]
    Manifest(cmd::manifest::Command),
}

/// What is done to images wherever they are, with skopeo's words: needs no engine, and no root but
/// for floe's store.
#[derive(Debug, Subcommand)]
pub(crate) enum MoveCommand {
    /// Copy an image from one place to another
    Copy(Box<cmd::copy::Args>),
    /// Copy all images of repositories, a directory or a list
    Sync(Box<cmd::sync::Args>),
    /// Show what an image is, without copying it
    Inspect(cmd::inspect::Args),
    /// What belongs to images: signatures, lists of parts
    #[command(subcommand)]
    Artifact(cmd::artifact::Command),
    /// List the tags of a repository
    #[command(name = "list-tags")]
    ListTags(cmd::list_tags::Args),
    /// Delete an image from a registry
    Delete(cmd::delete::Args),
    /// Print the digest of a manifest in a file
    #[command(name = "manifest-digest")]
    ManifestDigest(cmd::manifest_digest::Args),
    /// Sign a manifest in a file
    #[command(name = "standalone-sign")]
    StandaloneSign(cmd::sign::StandaloneSign),
    /// Verify a signature of a manifest in a file
    #[command(name = "standalone-verify")]
    StandaloneVerify(cmd::sign::StandaloneVerify),
    /// Make a key pair that signs as cosign does
    #[command(name = "generate-sigstore-key")]
    GenerateSigstoreKey(cmd::sign::GenerateSigstoreKey),
    /// Store a login for a registry
    Login(cmd::login::LoginArgs),
    /// Forget a login for a registry
    Logout(cmd::login::LogoutArgs),
}

/// What is written on the command line counts from the working directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// A path that may be empty.
pub(crate) fn path_or_empty() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Global {
    /// The configuration with this command line's changes. Of keys without effect only `floe serve`
    /// speaks: a person's command is not about them.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Ok(self.configured()?.0)
    }

    /// The same, with the keys without effect.
    pub(crate) fn configured(&self) -> Result<(Config, Vec<UnusedKey>), Failure> {
        let (mut config, unused) = Config::load(&Sources {
            file: self.config.clone(),
            dir: self.config_dir.clone(),
        })?;
        if let Some(root) = &self.root {
            config.root_table.root = absolute(root)?;
        }
        if let Some(runroot) = &self.runroot {
            config.root_table.runroot = absolute(runroot)?;
        }
        if let Some(file) = &self.registries_conf {
            if !file.is_file() {
                let why = format!("registries.conf {}: no such file", file.display());
                return Err(Failure::new(why));
            }
            config.image.registries_conf = absolute(file)?;
        }
        for store in &self.additional_store {
            let store = absolute(store)?;
            config.root_table.additionalimagestores.push(store);
        }
        Ok((config, unused))
    }

    pub(crate) fn open(&self) -> Result<Engine, Failure> {
        Ok(Engine::open(self.config()?)?)
    }
}
