//! Pulling images, with the credentials that a person gives for it.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Schema, SchemaCommand, World};
use crate::connection::Images;
use crate::failure::{Context, Failure, Outcome};
use crate::{clock, config, filter, say};

/// Who pulls, and how long it may take.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PullFlags {
    /// Name and password of the registry
    #[arg(
        long,
        env = "CRICTL_CREDS",
        hide_env_values = true,
        value_name = "USERNAME[:PASSWORD]"
    )]
    creds: Option<String>,
    /// The same in base64
    #[arg(
        long,
        env = "CRICTL_AUTH",
        hide_env_values = true,
        value_name = "AUTH_STRING"
    )]
    auth: Option<String>,
    /// Name at the registry; the password is asked for
    #[arg(long, short)]
    username: Option<String>,
    /// How long the pull may take [default: as long as it does]
    #[arg(long, env = "CRICTL_PULL_TIMEOUT", value_name = "DURATION", value_parser = clock::duration)]
    pull_timeout: Option<Duration>,
}

/// Options of `pull`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PullArgs {
    #[command(subcommand)]
    schema: Option<SchemaCommand>,
    /// The configuration of the pod that the image is for
    #[arg(long, value_name = "POD-CONFIG.[json|yaml]")]
    pod_config: Option<PathBuf>,
    /// An annotation of the image
    #[arg(long, short, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    flags: PullFlags,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: Vec<String>,
}

impl PullFlags {
    fn auth(&self) -> Outcome<Option<cri::AuthConfig>> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(username) = given(&self.username) {
            return Ok(Some(cri::AuthConfig {
                username,
                password: password()?,
                ..Default::default()
            }));
        }
        match (given(&self.creds), given(&self.auth)) {
            (Some(_), Some(_)) => Err(Failure::new("both `--creds` and `--auth` are specified")),
            (Some(creds), None) => {
                let (username, password) = creds.split_once(':').unwrap_or((&creds, ""));
                if username.is_empty() {
                    return Err(Failure::new("username can't be empty"));
                }
                Ok(Some(cri::AuthConfig {
                    username: username.to_owned(),
                    password: password.to_owned(),
                    ..Default::default()
                }))
            }
            (None, auth) => Ok(auth.map(|auth| cri::AuthConfig {
                auth,
                ..Default::default()
            })),
        }
    }

    /// Pulls images; gives what the runtime calls the first.
    pub(crate) async fn pull(
        &self,
        images: &Images,
        names: &[String],
        pod: Option<&cri::PodSandboxConfig>,
        annotations: &std::collections::BTreeMap<String, String>,
    ) -> Outcome<String> {
        let auth = self.auth()?;
        let limit = self.pull_timeout.filter(|limit| !limit.is_zero());
        let mut first = None;
        for name in names {
            let request = cri::PullImageRequest {
                image: Some(cri::ImageSpec {
                    annotations: annotations.clone(),
                    ..filter::spec(name)
                }),
                auth: auth.clone(),
                sandbox_config: pod.cloned(),
            };
            let answer = images
                .call_within(limit, async |mut client| client.pull_image(request).await)
                .await
                .map_err(plain)?;
            first.get_or_insert(answer.image_ref);
        }
        Ok(first.unwrap_or_default())
    }
}

/// A failure of no known kind is told by its words alone, as Kubernetes' client has it for pulls.
fn plain(failure: Failure) -> Failure {
    match failure {
        Failure::Said(words) => {
            let plain = words.strip_prefix("rpc error: code = Unknown desc = ");
            Failure::Said(plain.unwrap_or(&words).to_owned())
        }
        other => other,
    }
}

/// A password from the terminal, which does not show it.
fn password() -> Outcome<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(
            "standard input is no terminal to ask for a password on: give --creds",
        ));
    }
    let before = tcgetattr(&stdin).map_err(std::io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // Before the question is there: whoever answers at once must not be shown either.
    tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(std::io::Error::from)?;
    say::print("Enter Password:");
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    say::print("\n");
    tcsetattr(&stdin, OptionalActions::Now, &before).map_err(std::io::Error::from)?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub(crate) async fn pull(world: &World, args: &PullArgs) -> Outcome {
    if args.schema.is_some() {
        return Schema::Pod.print();
    }
    match args.image.as_slice() {
        [image] if !image.is_empty() => {}
        [_, _, ..] => return Err(Failure::Help),
        _ => return Err(Failure::new("image name cannot be empty")),
    }
    let images = world.images().await?;
    let pod = match &args.pod_config {
        Some(path) => Some(config::pod(path).context("load podSandboxConfig")?),
        None => None,
    };
    let annotations = filter::labels(&args.annotation)?;
    let pulled = args
        .flags
        .pull(&images, &args.image, pod.as_ref(), &annotations)
        .await
        .context("pulling image")?;
    say::print(&format!(
        "Image is up to date for {}\n",
        say::shown(&pulled)
    ));
    Ok(())
}
