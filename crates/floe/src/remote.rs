//! What commands that move images share: the flags of each side (skopeo's), the client they make,
//! and the runtime they run on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use distribution::{AuthFiles, Client, ClientConfig, Credentials, TlsDetails};
use engine::Config;
use store::Store;
use transfer::{Access, Location};
use trust::Policy;

use crate::failure::{Failure, Nature};
use crate::global::Global;
use crate::{clock, output, progress};

/// Flags of the only side.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Flags {
    /// User and password for the registry
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<String>,
    /// User for the registry, with --password
    #[arg(
        long,
        value_name = "USER",
        requires = "password",
        conflicts_with = "creds"
    )]
    username: Option<String>,
    /// Password for the registry (others can see it in the list of processes)
    #[arg(long, value_name = "PASSWORD", requires = "username")]
    password: Option<String>,
    /// Access token for the registry, sent as it is
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["creds", "username"])]
    registry_token: Option<String>,
    /// Ask the registry as nobody, whatever is stored
    #[arg(long)]
    no_creds: bool,
    /// Require HTTPS and check certificates [default: true, unless registries.conf says insecure]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// Directory with CA and client certificates
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// File with stored logins
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    authfile: Option<PathBuf>,
    /// Directory with the blobs of an image layout (oci:), instead of its own
    #[arg(long, value_name = "DIR")]
    shared_blob_dir: Option<PathBuf>,
    /// Accepted for skopeo's sake: only docker-daemon: would use it, and floe does not talk to that
    #[arg(long, value_name = "HOST")]
    daemon_host: Option<String>,
}

/// Flags of the side that an image comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SourceFlags {
    /// User and password for the source
    #[arg(long, visible_alias = "screds", value_name = "USER[:PASSWORD]")]
    src_creds: Option<String>,
    /// User for the source, with --src-password
    #[arg(
        long,
        value_name = "USER",
        requires = "src_password",
        conflicts_with = "src_creds"
    )]
    src_username: Option<String>,
    /// Password for the source (others can see it in the list of processes)
    #[arg(long, value_name = "PASSWORD", requires = "src_username")]
    src_password: Option<String>,
    /// Access token for the source, sent as it is
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["src_creds", "src_username"])]
    src_registry_token: Option<String>,
    /// Ask the source as nobody
    #[arg(long)]
    src_no_creds: bool,
    /// Require HTTPS and check certificates at the source
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    src_tls_verify: Option<bool>,
    /// Directory with certificates for the source
    #[arg(long, value_name = "DIR")]
    src_cert_dir: Option<PathBuf>,
    /// File with stored logins for the source
    #[arg(long, value_name = "FILE")]
    src_authfile: Option<PathBuf>,
    /// Directory with the blobs of a source layout (oci:), instead of its own
    #[arg(long, value_name = "DIR")]
    src_shared_blob_dir: Option<PathBuf>,
    /// Accepted for skopeo's sake: only docker-daemon: would use it, and floe does not talk to that
    #[arg(long, value_name = "HOST")]
    src_daemon_host: Option<String>,
}

/// Flags of the side that an image goes to.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TargetFlags {
    /// User and password for the destination
    #[arg(long, visible_alias = "dcreds", value_name = "USER[:PASSWORD]")]
    dest_creds: Option<String>,
    /// User for the destination, with --dest-password
    #[arg(
        long,
        value_name = "USER",
        requires = "dest_password",
        conflicts_with = "dest_creds"
    )]
    dest_username: Option<String>,
    /// Password for the destination (others can see it in the list of processes)
    #[arg(long, value_name = "PASSWORD", requires = "dest_username")]
    dest_password: Option<String>,
    /// Access token for the destination, sent as it is
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["dest_creds", "dest_username"])]
    dest_registry_token: Option<String>,
    /// Ask the destination as nobody
    #[arg(long)]
    dest_no_creds: bool,
    /// Require HTTPS and check certificates at the destination
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dest_tls_verify: Option<bool>,
    /// Directory with certificates for the destination
    #[arg(long, value_name = "DIR")]
    dest_cert_dir: Option<PathBuf>,
    /// File with stored logins for the destination
    #[arg(long, value_name = "FILE")]
    dest_authfile: Option<PathBuf>,
    /// Directory with the blobs of a destination layout (oci:), instead of its own
    #[arg(long, value_name = "DIR")]
    dest_shared_blob_dir: Option<PathBuf>,
    /// Accepted for skopeo's sake: only docker-daemon: would use it, and floe does not talk to that
    #[arg(long, value_name = "HOST")]
    dest_daemon_host: Option<String>,
}

impl SourceFlags {
    /// The same for one side; `both` are the flags for either.
    pub(crate) fn with(self, both: &Flags) -> Flags {
        Flags {
            creds: self.src_creds,
            username: self.src_username,
            password: self.src_password,
            registry_token: self.src_registry_token,
            no_creds: self.src_no_creds,
            tls_verify: self.src_tls_verify,
            cert_dir: self.src_cert_dir,
            authfile: self.src_authfile,
            shared_blob_dir: self.src_shared_blob_dir,
            daemon_host: self.src_daemon_host,
        }
        .or(both)
    }
}

impl TargetFlags {
    /// The same for one side; `both` are the flags for either.
    pub(crate) fn with(self, both: &Flags) -> Flags {
        Flags {
            creds: self.dest_creds,
            username: self.dest_username,
            password: self.dest_password,
            registry_token: self.dest_registry_token,
            no_creds: self.dest_no_creds,
            tls_verify: self.dest_tls_verify,
            cert_dir: self.dest_cert_dir,
            authfile: self.dest_authfile,
            shared_blob_dir: self.dest_shared_blob_dir,
            daemon_host: self.dest_daemon_host,
        }
        .or(both)
    }
}

impl Flags {
    /// Those that podman's pull has.
    pub(crate) fn for_pull(
        creds: Option<String>,
        authfile: Option<PathBuf>,
        cert_dir: Option<PathBuf>,
        tls_verify: Option<bool>,
    ) -> Flags {
        Flags {
            creds,
            authfile,
            cert_dir,
            tls_verify,
            ..Flags::default()
        }
    }

    /// Those that matter for a login.
    pub(crate) fn for_login(tls_verify: Option<bool>, cert_dir: Option<PathBuf>) -> Flags {
        Flags {
            tls_verify,
            cert_dir,
            ..Flags::default()
        }
    }

    /// The same with what is known better about one registry.
    pub(crate) fn but(
        &self,
        creds: Option<String>,
        tls_verify: Option<bool>,
        cert_dir: Option<PathBuf>,
    ) -> Flags {
        let better = Flags {
            creds,
            tls_verify,
            cert_dir,
            ..Flags::default()
        };
        match better.creds.is_some() {
            true => better.or(&self.without_creds()),
            false => better.or(self),
        }
    }

    /// The same for a place that the user and password are not for.
    pub(crate) fn without_creds(&self) -> Flags {
        Flags {
            creds: None,
            username: None,
            password: None,
            registry_token: None,
            no_creds: false,
            ..self.clone()
        }
    }

    /// Whether it is said who to be.
    fn is_somebody(&self) -> bool {
        self.creds.is_some()
            || self.username.is_some()
            || self.registry_token.is_some()
            || self.no_creds
    }

    /// What is said for this side, and for `both` where nothing is. Who to be is one thing.
    fn or(self, both: &Flags) -> Flags {
        let who = match self.is_somebody() {
            true => self.clone(),
            false => both.clone(),
        };
        Flags {
            creds: who.creds,
            username: who.username,
            password: who.password,
            registry_token: who.registry_token,
            no_creds: who.no_creds,
            tls_verify: self.tls_verify.or(both.tls_verify),
            cert_dir: self.cert_dir.or_else(|| both.cert_dir.clone()),
            authfile: self.authfile.or_else(|| both.authfile.clone()),
            shared_blob_dir: self
                .shared_blob_dir
                .or_else(|| both.shared_blob_dir.clone()),
            daemon_host: self.daemon_host.or_else(|| both.daemon_host.clone()),
        }
    }

    /// Who to be at a registry.
    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return match self.no_creds {
                true => Err(Failure::new("username and no-creds exclude each other")),
                false => Ok(Credentials::basic(user, password)),
            };
        }
        if let Some(token) = &self.registry_token {
            return match self.no_creds {
                true => Err(Failure::new(
                    "registry-token and no-creds exclude each other",
                )),
                false => Ok(Credentials::RegistryToken(token.clone())),
            };
        }
        match (&self.creds, self.no_creds) {
            (Some(_), true) => Err(Failure::new("creds and no-creds exclude each other")),
            (None, true) => Ok(Credentials::Anonymous),
            (None, false) => Ok(Credentials::Stored),
            (Some(text), false) => match text.split_once(':') {
                Some((user, password)) => Ok(Credentials::basic(user, password)),
                None => Err(Failure::new(format!(
                    "creds {text:?} have no password: write USER:PASSWORD"
                ))),
            },
        }
    }

    /// A client for the registry `host`.
    pub(crate) fn client(&self, remote: &Remote, host: &str) -> Client {
        let mut settings = remote.settings.clone();
        if self.tls_verify.or(remote.tls_verify) == Some(false) {
            settings.registries.allow_insecure(host);
        }
        if let Some(file) = &self.authfile {
            settings.auth = AuthFiles::only(file);
        }
        settings.cert_dir.clone_from(&self.cert_dir);
        Client::new(settings)
    }

    /// What is needed to open `location`.
    pub(crate) fn access(&self, remote: &Remote, location: &Location) -> Result<Access, Failure> {
        let host = match location {
            Location::Registry(reference) => reference.domain(),
            _ => "",
        };
        let store = match location {
            Location::Store(_) => Some(remote.store()?),
            _ => None,
        };
        Ok(Access {
            client: self.client(remote, host),
            credentials: self.credentials()?,
            store,
            peers: None,
            shared_blobs: self.shared_blob_dir.clone(),
        })
    }
}

/// What the node's configuration says about registries and trust.
pub(crate) struct Remote {
    /// Where a command does not say.
    tls_verify: Option<bool>,
    config: Config,
    settings: ClientConfig,
}

impl Remote {
    pub(crate) fn new(global: &Global) -> Result<Remote, Failure> {
        Remote::with(global, &PolicyFlags::default())
    }

    /// The same, with the command line's own registries.d.
    pub(crate) fn with(global: &Global, flags: &PolicyFlags) -> Result<Remote, Failure> {
        let mut config = global.config()?;
        if let Some(dir) = &flags.registries_d {
            config.image.registries_d_dir.clone_from(dir);
        }
        let mut settings = engine::image::client_config(&config)?;
        if let Some(file) = &global.tls_details {
            settings.tls = TlsDetails::open(file)?;
        }
        if let Some(prefix) = &global.user_agent_prefix {
            settings.user_agent = format!("{prefix} {}", settings.user_agent);
        }
        Ok(Remote {
            tls_verify: global.tls_verify,
            config,
            settings,
        })
    }

    /// How registries are talked to.
    pub(crate) fn settings(&self) -> &ClientConfig {
        &self.settings
    }

    /// The node's image store.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        let table = &self.config.root_table;
        let unfit = |reason| engine::Error::Config {
            origin: "configuration".into(),
            reason,
        };
        let keep = self.config.image.keep_blobs().map_err(unfit)?;
        let form = self.config.image.layer_form().map_err(unfit)?;
        let store = Store::open_beside(&table.root, &table.additionalimagestores)?;
        store.set_keep_blobs(keep);
        store.set_layer_form(form);
        Ok(store)
    }

    /// What images must meet: the policy of the command line or of the node.
    pub(crate) fn policy(&self, flags: &PolicyFlags) -> Result<Option<Policy>, Failure> {
        if flags.insecure_policy && flags.require_signed {
            return Err(Failure::new(
                "--insecure-policy and --require-signed are mutually exclusive",
            ));
        }
        let policy = match &flags.policy {
            _ if flags.insecure_policy => return Ok(None),
            Some(file) => Policy::open(file)?,
            None => engine::image::policy(&self.config)?,
        };
        Ok(Some(match flags.require_signed {
            true => policy.only_signed(),
            false => policy,
        }))
    }
}

/// Whether to trust.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PolicyFlags {
    /// Do not check policy.json
    #[arg(long, global = true)]
    insecure_policy: bool,
    /// Another policy.json
    #[arg(long, global = true, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Refuse images that the policy would accept without a signature
    #[arg(long, global = true)]
    require_signed: bool,
    /// Directory that says where signatures are, instead of the node's registries.d
    #[arg(long = "registries.d", global = true, value_name = "DIR")]
    registries_d: Option<PathBuf>,
}

/// How often to try again what a registry failed at.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RetryFlags {
    /// How many times to begin again after a registry that was away or failed
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    retry_times: u32,
    /// How long to wait before that, instead of 1 s, 2 s, 4 s and so on
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    retry_delay: Option<Duration>,
}

/// The longest pause before another try, if none was asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl RetryFlags {
    /// So many times more, with such a pause.
    pub(crate) fn of(retry_times: u32, retry_delay: Option<Duration>) -> RetryFlags {
        RetryFlags {
            retry_times,
            retry_delay,
        }
    }

    /// Does `work`, and again after a failure that another try may help.
    pub(crate) fn run<T>(
        &self,
        mut work: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tried = 0;
        loop {
            match work() {
                Err(failure) if failure.nature() == Nature::Passing && tried < self.retry_times => {
                    let doubled = Duration::from_secs(1 << tried.min(16)).min(LONGEST_PAUSE);
                    let asked = self.retry_delay.filter(|delay| !delay.is_zero());
                    let pause = asked.unwrap_or(doubled);
                    tried += 1;
                    let left = self.retry_times - tried;
                    progress::note(&format!(
                        "Warning: {failure}: trying again in {pause:?} ({left} more times)"
                    ));
                    block_on(async {
                        tokio::time::sleep(pause).await;
                        Ok(())
                    })?;
                }
                done => return done,
            }
        }
    }
}

/// When this process gives up on registries.
static LIMIT: OnceLock<(Instant, Duration)> = OnceLock::new();

/// Gives up on registries after this time from now. Only the first call counts.
pub(crate) fn limit(limit: Duration) {
    let now = Instant::now();
    let end = now.checked_add(limit).unwrap_or(now);
    LIMIT.get_or_init(|| (end, limit));
}

/// Runs what talks to registries.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("start the async runtime: {e}")))?;
    let Some((end, limit)) = LIMIT.get() else {
        return runtime.block_on(work);
    };
    let done = runtime.block_on(async { tokio::time::timeout_at((*end).into(), work).await });
    // A thread that still compresses does not keep anybody waiting.
    runtime.shutdown_timeout(Duration::from_secs(2));
    done.unwrap_or_else(|_| {
        Err(Failure::new(format!(
            "the command was not done within {limit:?} (--command-timeout)"
        )))
    })
}

/// A document for a person: indented as skopeo prints it.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut out, indent);
    value
        .serialize(&mut writer)
        .map_err(|e| Failure::new(format!("write JSON: {e}")))?;
    println!("{}", output::json(&String::from_utf8_lossy(&out)));
    Ok(ExitCode::SUCCESS)
}
