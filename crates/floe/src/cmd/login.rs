//! `floe login` and `logout`: who to be at a registry (podman's and skopeo's words and file).

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use distribution::{AuthFiles, Credentials, auth};
use image::Reference;

use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Flags, Remote};
use crate::terminal;

/// What does without a terminal.
const INSTEAD: &str = "--username and --password-stdin";

/// Options of `floe login`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// User
    #[arg(long, short)]
    username: Option<String>,
    /// Password (others can see it in the list of processes: --password-stdin is better)
    #[arg(long, short, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Print the user that is logged in
    #[arg(long)]
    get_login: bool,
    #[command(flatten)]
    flags: LoginFlags,
    /// host[:port], or a namespace of it
    registry: String,
}

/// Where the login is kept, and how the registry is asked.
#[derive(Debug, clap::Args)]
struct LoginFlags {
    #[command(flatten)]
    place: Place,
    /// Require HTTPS and check certificates [default: true, unless registries.conf says insecure]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// Directory with CA and client certificates
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Say which file the login went to
    #[arg(long, short)]
    verbose: bool,
}

/// The file that logins are in.
#[derive(Debug, clap::Args)]
struct Place {
    /// File with stored logins
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    authfile: Option<PathBuf>,
    /// File of Docker's (config.json) with stored logins, in the form that Docker reads
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    compat_auth_file: Option<PathBuf>,
}

/// What Docker calls its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

impl Place {
    /// The file that logins are written to: the one named, or the first that is read and may be written.
    fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = self.compat_auth_file.as_ref().or(self.authfile.as_ref()) {
            return Ok(file.clone());
        }
        let files = AuthFiles::from_env(|name| std::env::var_os(name));
        let first = files.for_writing().map(Path::to_path_buf);
        first.ok_or_else(|| Failure::new("there is no place for logins: give --authfile"))
    }

    /// What the login for `key` is called in the file. Docker knows whole registries only.
    fn key<'a>(&self, key: &'a str) -> Result<&'a str, Failure> {
        match self.compat_auth_file.is_some() {
            true if key.contains('/') => Err(Failure::new(format!(
                "{key} names more than a registry, and Docker's files have logins of registries only"
            ))),
            true if key == "docker.io" => Ok(DOCKER_HUB),
            _ => Ok(key),
        }
    }
}

/// The registry or namespace of what was written: of a URL its host and port.
fn registry(text: &str) -> &str {
    let stripped = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match stripped {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => text.trim_end_matches('/'),
    }
}

/// Options of `floe logout`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    place: Place,
    /// Accepted for skopeo's sake: no registry is asked
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// Forget every login
    #[arg(long, short)]
    all: bool,
    /// host[:port], or a namespace of it
    #[arg(required_unless_present = "all")]
    registry: Option<String>,
}

pub(crate) fn login(global: &Global, args: &LoginArgs) -> Result<ExitCode, Failure> {
    let file = args.flags.place.file()?;
    let key = registry(&args.registry);
    let stored_as = args.flags.place.key(key)?;
    let host = key.split('/').next().unwrap_or(key);
    let remote = Remote::new(global)?;
    let keepers = remote.settings().registries.credential_helpers();
    if args.get_login {
        return print_login(keepers, &file, key);
    }
    let username = match &args.username {
        Some(username) => username.clone(),
        None if args.password_stdin => {
            return Err(Failure::new("--password-stdin needs --username"));
        }
        None => terminal::ask("Username: ", true, INSTEAD)?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => terminal::ask("Password: ", false, INSTEAD)?,
    };
    let flags = Flags::for_login(args.flags.tls_verify, args.flags.cert_dir.clone());
    let client = flags.client(&remote, host);
    let credentials = Credentials::basic(&username, &password);
    remote::block_on(async { Ok(client.log_in(host, &credentials).await?) })?;
    auth::store(keepers, &file, stored_as, &username, &password)?;
    if args.flags.verbose {
        println!("Used:  {}", file.display());
    }
    println!("Login Succeeded!");
    Ok(ExitCode::SUCCESS)
}

fn print_login(keepers: &[String], file: &Path, key: &str) -> Result<ExitCode, Failure> {
    let reference = match key.contains('/') {
        true => Reference::parse(key)?,
        false => Reference::parse(&format!("{key}/x"))?,
    };
    let files = match file.exists() {
        true => AuthFiles::only(file),
        false => AuthFiles::default(),
    };
    match files.in_order(keepers).lookup(&reference)? {
        Credentials::Basic { username, .. } => {
            println!("{username}");
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure::new(format!("not logged into {key}"))),
    }
}

pub(crate) fn logout(global: &Global, args: &LogoutArgs) -> Result<ExitCode, Failure> {
    let file = args.place.file()?;
    let remote = Remote::new(global)?;
    let keepers = remote.settings().registries.credential_helpers();
    let Some(named) = args.registry.as_ref().filter(|_| !args.all) else {
        auth::forget_all(keepers, &file)?;
        println!("Removed login credentials for all registries");
        return Ok(ExitCode::SUCCESS);
    };
    let registry = registry(named);
    if !auth::forget(keepers, &file, args.place.key(registry)?)? {
        return Err(Failure::new(format!("not logged into {registry}")));
    }
    println!("Removed login credentials for {registry}");
    Ok(ExitCode::SUCCESS)
}
