//! The command line: the list of commands. Each command's own options stand
//! in its file under `cmd/`. Flag names are podman's.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::failure::Failure;
use crate::global::Global;

/// Pods, containers and images of this node: for kubelet, and for you.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    max_term_width = 100,
    args_override_self = true,
    subcommand_required = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) podman: Podman,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// podman's options of every command, before it.
#[derive(Debug, clap::Args)]
pub(crate) struct Podman {
    /// Another registries.conf
    #[arg(long, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
    /// Who makes cgroups: cgroupfs or systemd
    #[arg(long, value_name = "MANAGER", value_parser = ["cgroupfs", "systemd"])]
    cgroup_manager: Option<String>,
    /// The runtime handler of new containers
    #[arg(long, value_name = "HANDLER")]
    runtime: Option<String>,
    /// Directories with hooks of containers
    #[arg(long, value_name = "DIR")]
    hooks_dir: Vec<PathBuf>,
    /// Print nothing on standard output
    #[arg(long)]
    noout: bool,
    /// Accepted for podman's sake: floe's store has one form
    #[arg(long, value_name = "DRIVER")]
    storage_driver: Option<String>,
    /// The same
    #[arg(long, value_name = "OPTION")]
    storage_opt: Vec<String>,
    /// Accepted for podman's sake: floe keeps no log of its events
    #[arg(long, value_name = "BACKEND")]
    events_backend: Option<String>,
    /// Accepted for podman's sake: errors say all that is known
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Accepted for podman's sake: a handler's options are its entry's in the configuration
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    runtime_flag: Vec<String>,
    /// Accepted for podman's sake: what floe keeps while it runs is below --runroot
    #[arg(long, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
}

impl Podman {
    /// What of it changes the configuration, and where standard output goes.
    pub(crate) fn apply(self, global: &mut Global) -> Result<(), Failure> {
        if self.noout {
            let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdout(null).map_err(std::io::Error::from)?;
        }
        if self.registries_conf.is_some() {
            global.registries_conf = self.registries_conf;
        }
        global.cgroup_manager = self.cgroup_manager;
        global.runtime = self.runtime;
        global.hooks_dir = self.hooks_dir;
        Ok(())
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the Kubernetes CRI on a unix socket
    Serve(cmd::serve::Args),
    /// A registry of one's own, or of this node's images
    Registry(cmd::registry::Args),
    /// Print what makes a shell complete commands and options
    #[command(alias = "complete")]
    Completion(cmd::documents::CompletionArgs),
    /// Write manual pages into a directory
    Man(cmd::documents::ManArgs),
    /// Ask any CRI socket what crictl asks: floe's, containerd's, CRI-O's
    Cri(crictl::Cri),
    /// Build images by hand, in working containers, with buildah's words
    #[command(subcommand)]
    Buildah(Box<cmd::buildah::Command>),
    #[command(flatten)]
    About(AboutCommand),
    #[command(flatten)]
    Node(NodeCommand),
    #[command(flatten)]
    Move(MoveCommand),
}

/// What is said of the configuration, of a running engine and of this program, with crio's words.
#[derive(Debug, Subcommand)]
pub(crate) enum AboutCommand {
    /// Print the configuration, check one, or bring an old one up to date
    Config(cmd::config::Args),
    /// Ask a running engine how it is
    Status(cmd::status::Args),
    /// Show how the pulls of a running engine stand
    Pulls(cmd::pulls::Args),
    /// Print what this program is
    Version(cmd::version::Args),
}

/// What is done to the node's containers and images.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run a command in a new container
    Run(Box<cmd::run::Args>),
    /// Make a container without starting it
    Create(Box<cmd::create::Args>),
    /// Start containers that were made, or have ended
    Start(cmd::start::Args),
    /// Stop and start containers
    Restart(cmd::start::RestartArgs),
    /// List containers
    Ps(cmd::ps::Args),
    /// Show what a container has written
    Logs(cmd::logs::Args),
    /// Run a command in a running container
    Exec(cmd::exec::Args),
    /// Join a container that runs
    Attach(cmd::join::Args),
    /// Stop containers
    Stop(cmd::stop::Args),
    /// Send a signal to containers
    Kill(cmd::kill::Args),
    /// Let containers stand still
    Pause(cmd::kill::PauseArgs),
    /// Let containers that stand still go on
    Unpause(cmd::kill::PauseArgs),
    /// Wait until containers have ended
    Wait(cmd::wait::Args),
    /// Show which ports of the node lead to a container
    Port(cmd::port::Args),
    /// Show the processes of a container
    Top(cmd::top::Args),
    /// Show what containers use
    Stats(cmd::stats::Args),
    /// Give a container other limits
    Update(cmd::update::Args),
    /// Copy files between containers and this machine
    Cp(cmd::cp::Args),
    /// Write the files of a container as an archive
    Export(cmd::cp::ExportArgs),
    /// Mount the root file systems of containers, to look into them
    Mount(cmd::mount::ContainerArgs),
    /// Take such mounts back
    #[command(visible_alias = "umount")]
    Unmount(cmd::mount::UnmountArgs),
    /// Give a container another name
    Rename(cmd::rename::Args),
    /// Show what happens to containers and pods, from now on
    Events(cmd::events::Args),
    /// Whether containers are well
    #[command(subcommand)]
    Healthcheck(cmd::healthcheck::Command),
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
    /// Take names from an image, which stays
    Untag(cmd::untag::Args),
    /// Show how an image came to be
    History(cmd::history::Args),
    /// Build an image of a Containerfile
    Build(Box<cmd::build::Args>),
    /// Make an image of what a container has written
    Commit(cmd::commit::Args),
    /// Show what a container has changed of its image's files
    Diff(cmd::diff::Args),
    /// Make an image of a tar file
    Import(cmd::import::Args),
    /// Images: prune, and the commands above by their second names
    #[command(subcommand)]
    Image(cmd::image::Command),
    /// Check the image store, and repair it if that is asked for: floe system check
    Check(cmd::system::CheckArgs),
    /// Remove what a reboot left of containers, or all that there is
    Wipe(cmd::wipe::Args),
    /// Containers: exists, and the commands above by their second names
    #[command(subcommand)]
    Container(cmd::container::Command),
    /// Pods, whose containers share a network
    #[command(subcommand)]
    Pod(cmd::pod::Command),
    /// Networks of containers
    #[command(subcommand)]
    Network(cmd::network::Command),
    /// Directories with a name, which containers share and which outlive them
    #[command(subcommand)]
    Volume(cmd::volume::Command),
    /// Bytes with a name, which containers are given and nobody is shown
    #[command(subcommand)]
    Secret(cmd::secret::Command),
    /// Show what this node is, as containers find it
    Info(cmd::info::Args),
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
    /// Write layers of an image into a new directory here (skopeo's former command: copy does more)
    #[command(hide = true)]
    Layers(cmd::layers::Args),
    /// Show what a signature says, WITHOUT VERIFYING IT
    #[command(name = "untrusted-signature-dump-without-verification", hide = true)]
    UntrustedSignatureDump(cmd::sign::UntrustedSignatureDump),
    /// Refused
    #[command(hide = true)]
    ExperimentalImageProxy(cmd::layers::Any),
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
