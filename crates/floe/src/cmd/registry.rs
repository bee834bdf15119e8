//! `floe registry`: a Distribution server over a directory of its own or over this node's store, and the
//! garbage collection of such a directory. Needs no engine, and no root but for the store.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use registry::{
    AuthOptions, Directory, Grace, Limits, Options, Server, TlsOptions, TlsRules, TokenOptions,
    What,
};
use store::Store;
use tracing::{info, warn};

use crate::cmd::serve::log;
use crate::failure::Failure;
use crate::global::Global;

/// What can be done with a registry.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve images to every tool that speaks the OCI Distribution specification
    Serve(Box<ServeArgs>),
    /// Remove content that no manifest reaches; servers may run meanwhile
    Gc(GcArgs),
}

/// Options of `floe registry serve`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["dir", "store"])))]
struct ServeArgs {
    /// Directory of the registry; made when it is not there
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Serve this node's image store to its peers, read-only
    #[arg(long)]
    store: bool,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "HOST:PORT")]
    listen: String,
    /// Address that answers /metrics to everyone, for Prometheus [default: none]
    #[arg(long, value_name = "HOST:PORT")]
    metrics_listen: Option<String>,
    /// Answer pulls only
    #[arg(long)]
    read_only: bool,
    /// Accept manifests and indexes whose blobs and manifests are not here, or not yet
    #[arg(long, conflicts_with_all = ["store", "read_only"])]
    sparse: bool,
    /// What is logged: error, warn, info, debug or trace
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: String,
    /// How it is logged
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
struct TlsArgs {
    /// Certificate, and those between it and the CA (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// CAs that must have signed the certificate of each client (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Who may use it [default: everyone who reaches the address]")]
struct AuthArgs {
    /// Users and their bcrypt hashes, as htpasswd -B writes them
    #[arg(long, value_name = "FILE", conflicts_with = "auth_token_realm")]
    auth_htpasswd: Option<PathBuf>,
    /// URL where clients get their token
    #[arg(long, value_name = "URL", requires_all = ["auth_token_service", "auth_token_issuer", "auth_token_key"])]
    auth_token_realm: Option<String>,
    /// This registry's name to the token server
    #[arg(long, value_name = "NAME", requires = "auth_token_realm")]
    auth_token_service: Option<String>,
    /// Name of the token server
    #[arg(long, value_name = "NAME", requires = "auth_token_realm")]
    auth_token_issuer: Option<String>,
    /// Keys that may sign tokens: certificates or public keys (PEM), or a JSON Web Key Set
    #[arg(long, value_name = "FILE", requires = "auth_token_realm")]
    auth_token_key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Largest manifest
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().manifest)]
    max_manifest_size: u64,
    /// Largest blob
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().blob)]
    max_blob_size: u64,
    /// Uploads open at once
    #[arg(long, value_name = "N", default_value_t = Limits::default().uploads)]
    max_uploads: usize,
    /// Uploads of one user open at once, or of one address where nobody logs in
    #[arg(long, value_name = "N", default_value_t = Limits::default().uploads_of_one)]
    max_uploads_per_client: usize,
    /// Connections at once; for one more the one that has been idle the longest is closed
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// How long a client may be silent in the middle of a request
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    idle_timeout: Duration,
    /// How long an upload that nobody goes on with is kept
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    upload_timeout: Duration,
}

/// Options of `floe registry gc`.
#[derive(Debug, clap::Args)]
struct GcArgs {
    /// Directory of the registry
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave alone what was pushed, mounted or asked for within this time
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    grace: Duration,
    /// Leave alone uploads that were written to within this time
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    upload_grace: Duration,
}

pub(crate) fn run(global: &Global, args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Serve(args) => serve(global, *args),
        Command::Gc(args) => gc(&args),
    }
}

fn serve(global: &Global, args: ServeArgs) -> Result<ExitCode, Failure> {
    let _level_stays = log::start(&args.log_level, &args.log_format)?;
    let options = options(global, args)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("start the async runtime: {e}")))?;
    let is_open = options.auth == AuthOptions::default() && !options.listen.ip().is_loopback();
    let writable = matches!(options.what, What::Directory(_)) && !options.read_only;
    let served = runtime.block_on(async {
        let shutdown = shutdown()?;
        let server = Server::bind(options).await?;
        let address = server.address()?;
        info!(%address, "serving a registry");
        if let Some(address) = server.metrics_address() {
            info!(%address, "serving /metrics");
        }
        if is_open && writable {
            warn!(%address, "everyone who reaches this address may push and delete");
        }
        server.run(shutdown).await;
        Ok(ExitCode::SUCCESS)
    });
    // What still waits for the disk leaves the old or the new there.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// As many files as this process may open at all: each connection is one, and an answer another.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files stays as it is");
    }
}

fn options(global: &Global, args: ServeArgs) -> Result<Options, Failure> {
    let what = match args.dir {
        Some(dir) => What::Directory(dir),
        None => What::Store(Store::open(&global.config()?.root_table.root)?),
    };
    let metrics = args.metrics_listen.as_deref().map(address).transpose()?;
    Ok(Options {
        what,
        listen: address(&args.listen)?,
        metrics,
        tls: match (args.tls.tls_cert, args.tls.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsOptions {
                certificate,
                key,
                client_ca: args.tls.tls_client_ca,
                rules: TlsRules::default(),
            }),
            _ => None,
        },
        auth: args.auth.options(),
        read_only: args.read_only,
        sparse: args.sparse,
        limits: Limits {
            manifest: args.limits.max_manifest_size,
            blob: args.limits.max_blob_size,
            uploads: args.limits.max_uploads,
            uploads_of_one: args.limits.max_uploads_per_client,
            upload_idle: args.limits.upload_timeout,
            idle: args.limits.idle_timeout,
            connections: args.limits.max_connections,
            ..Limits::default()
        },
    })
}

impl AuthArgs {
    fn options(self) -> AuthOptions {
        let token = self.auth_token_realm.zip(self.auth_token_key);
        AuthOptions {
            htpasswd: self.auth_htpasswd,
            token: token.map(|(realm, keys)| TokenOptions {
                realm,
                // The command line has all four or none.
                service: self.auth_token_service.unwrap_or_default(),
                issuer: self.auth_token_issuer.unwrap_or_default(),
                keys,
            }),
        }
    }
}

/// Completes at SIGTERM or SIGINT.
fn shutdown() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let caught = |e: std::io::Error| Failure::new(format!("catch signals: {e}"));
    let mut term = signal(SignalKind::terminate()).map_err(caught)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(caught)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => info!("SIGTERM: ending"),
            _ = interrupt.recv() => info!("SIGINT: ending"),
        }
    })
}

fn gc(args: &GcArgs) -> Result<ExitCode, Failure> {
    let grace = Grace {
        content: args.grace,
        uploads: args.upload_grace,
    };
    let collected = Directory::open(&args.dir)?.collect(grace, args.dry_run)?;
    let verb = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    println!(
        "{verb} {} blobs ({} bytes), {} uploads, {} repositories",
        collected.blobs, collected.bytes, collected.uploads, collected.repositories
    );
    Ok(ExitCode::SUCCESS)
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    let mut found = text
        .to_socket_addrs()
        .map_err(|e| Failure::new(format!("address {text:?}: {e}")))?;
    let first = found.next();
    first.ok_or_else(|| Failure::new(format!("address {text:?}: the name has no address")))
}

/// `90s`, `15m`, `24h`; seconds without a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number and s, m or h is wanted".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a number and s, m or h is wanted")?;
    let seconds = number
        .checked_mul(factor)
        .filter(|seconds| *seconds <= 10 * 365 * 86400);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "that is too long".to_owned())
}
