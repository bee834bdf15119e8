//! Commands in containers and the streams of their own processes: at once (ExecSync), or by the streams that a
//! URL of the runtime leads to.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use streaming::Streams;
use streaming::client::{self, Exit, Stdio, Target, Tls};

use super::{World, empty, id};
use crate::connection::Runtime;
use crate::failure::{Context, Failure, Outcome, all};
use crate::filter::{Containers, Newest};
use crate::say;
use crate::terminal::{self, Typed};

/// How streams travel.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Transport {
    Spdy,
    Websocket,
}

/// How to come to a stream.
#[derive(Debug, Clone, Args)]
pub(crate) struct Way {
    /// Protocol of the stream
    #[arg(
        long,
        short = 'r',
        value_enum,
        default_value = "spdy",
        value_name = "PROTOCOL"
    )]
    transport: Transport,
    /// Name that the certificate of the stream's server must have
    #[arg(
        long,
        visible_alias = "tls-server-name",
        value_name = "NAME",
        default_value = "localhost"
    )]
    tls_sni: String,
    /// Authority of the stream's certificate; without any of these files it is not checked
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Certificate for the stream
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key for the stream
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

impl Way {
    /// The stream behind a URL.
    pub(crate) fn to(&self, url: String) -> Outcome<Target> {
        let identity = match (&self.tls_ca, &self.tls_cert, &self.tls_key) {
            (_, Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None, None) => None,
            _ => {
                return Err(Failure::new(
                    "get TLS config from flags: all two flags --tls-cert and --tls-key are required for TLS \
                     streaming, only --tls-ca is optional",
                ));
            }
        };
        Ok(Target {
            url,
            transport: match self.transport {
                Transport::Spdy => client::Transport::Spdy,
                Transport::Websocket => client::Transport::WebSocket,
            },
            tls: Tls {
                server_name: self.tls_sni.clone(),
                authority: self.tls_ca.clone(),
                identity,
            },
        })
    }
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Wait for the end, and show the output then
    #[arg(long, short)]
    sync: bool,
    /// Seconds after which the command is ended, with --sync
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u32,
    /// Give the command a terminal
    #[arg(long, short)]
    tty: bool,
    /// Send standard input
    #[arg(long, short)]
    interactive: bool,
    #[command(flatten)]
    way: Way,
    /// In all containers whose name fits this regular expression
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// In all containers of this pod
    #[arg(long, short, value_name = "POD-ID")]
    pod: Option<String>,
    /// In all containers of this image
    #[arg(long)]
    image: Option<String>,
    /// In all containers that are created, running, exited or unknown
    #[arg(long)]
    state: Option<String>,
    /// In all containers with this label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// In the container that was made last
    #[arg(long, short)]
    latest: bool,
    /// In so many containers that were made last; 0: all
    #[arg(long, short = 'n', value_name = "COUNT")]
    last: Option<usize>,
    /// Do not print the ids of several containers
    #[arg(long, short)]
    quiet: bool,
    /// Whatever comes of the command is no failure
    #[arg(long, short = 'e')]
    ignore_errors: bool,
    /// In several containers at once
    #[arg(long, short = 'x')]
    parallel: bool,
    /// The container, unless an option means some, and the command
    #[arg(
        value_name = "[CONTAINER-ID] COMMAND [ARG...]",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// Options of `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The container has a terminal
    #[arg(long, short)]
    tty: bool,
    /// Send standard input
    #[arg(long, short = 'i')]
    stdin: bool,
    #[command(flatten)]
    way: Way,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    container: Vec<String>,
}

impl ExecArgs {
    fn is_filtered(&self) -> bool {
        let texts = [&self.name, &self.pod, &self.image, &self.state];
        texts.into_iter().any(Option::is_some)
            || !self.label.is_empty()
            || self.latest
            || self.last.is_some()
    }

    /// The containers, and the command.
    async fn meant(&self, world: &World, runtime: &Runtime) -> Outcome<(Vec<String>, &[String])> {
        if !self.is_filtered() {
            return match self.words.split_first() {
                Some((container, command)) if !command.is_empty() => {
                    Ok((vec![container.clone()], command))
                }
                _ => Err(Failure::Help),
            };
        }
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let images = world.images_beside(runtime).await?;
        let wanted = Containers {
            name: text(&self.name),
            pod: text(&self.pod),
            image: text(&self.image),
            state: text(&self.state),
            label: self.label.clone(),
            newest: Newest {
                latest: self.latest,
                last: self.last.unwrap_or(0),
            },
            ..Containers::default()
        };
        let found = wanted.list("", runtime, &images).await;
        let found = found.context("listing containers")?;
        if found.is_empty() {
            say::error("No containers found per filter flags");
            return Err(Failure::Help);
        }
        let ids = found.into_iter().map(|container| container.id).collect();
        Ok((ids, &self.words))
    }

    async fn one(&self, runtime: &Runtime, container: &str, command: &[String]) -> Outcome {
        if self.is_filtered() && !self.quiet && !self.parallel {
            say::print(&format!("{}:\n", say::shown(container)));
        }
        match self.sync {
            true => self
                .at_once(runtime, container, command)
                .await
                .context(format!(
                    "execing command in container {container} synchronously"
                )),
            false => self
                .streamed(runtime, container, command)
                .await
                .context(format!("execing command in container {container}")),
        }
    }

    async fn at_once(&self, runtime: &Runtime, container: &str, command: &[String]) -> Outcome {
        let request = cri::ExecSyncRequest {
            container_id: id(container)?,
            cmd: command.to_owned(),
            timeout: self.timeout.into(),
        };
        let limit = match self.timeout {
            0 => None,
            seconds => Some(runtime.limit + Duration::from_secs(seconds.into())),
        };
        let answer = runtime
            .call_within(limit, async |mut client| client.exec_sync(request).await)
            .await?;
        if answer.exit_code != 0 {
            let (words, code) = (command.join(" "), answer.exit_code);
            let said = String::from_utf8_lossy(&answer.stderr);
            let why = format!("command '{words}' exited with {code}: {said}");
            return Err(Failure::new(why));
        }
        let mut out = answer.stdout;
        out.push(b'\n');
        out.extend(answer.stderr);
        out.push(b'\n');
        say::print_bytes(&out);
        Ok(())
    }

    async fn streamed(&self, runtime: &Runtime, container: &str, command: &[String]) -> Outcome {
        let streams = streams(self.interactive, self.tty);
        let request = cri::ExecRequest {
            container_id: id(container)?,
            cmd: command.to_owned(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let answer = runtime
            .call(async |mut client| client.exec(request).await)
            .await?;
        joined(&self.way.to(answer.url)?, streams).await
    }
}

fn streams(stdin: bool, tty: bool) -> Streams {
    Streams {
        stdin,
        stdout: true,
        stderr: !tty,
        tty,
    }
}

pub(crate) async fn exec(world: &World, args: &ExecArgs) -> Outcome {
    if args.words.is_empty() {
        return Err(Failure::Help);
    }
    let runtime = world.runtime().await?;
    if args.ignore_errors && !args.quiet {
        say::warning(
            "The `--ignore-errors` option has been set all errors returned by the command will be ignored.",
        );
    }
    let (ids, command) = args.meant(world, &runtime).await?;
    let outcomes = match args.parallel {
        true => join_all(ids.iter().map(|id| args.one(&runtime, id, command))).await,
        false => {
            let mut outcomes = Vec::new();
            for id in &ids {
                outcomes.push(args.one(&runtime, id, command).await);
            }
            outcomes
        }
    };
    match all(outcomes) {
        Err(Failure::Said(why)) if args.ignore_errors => {
            say::debug(format!("Ignoring errors: {why}"));
            Ok(())
        }
        outcome => outcome,
    }
}

pub(crate) async fn attach(world: &World, args: &AttachArgs) -> Outcome {
    let container = match args.container.as_slice() {
        [container] => container,
        [] => return Err(empty()),
        _ => return Err(Failure::Help),
    };
    let runtime = world.runtime().await?;
    let streams = streams(args.stdin, args.tty);
    let attached = async {
        let request = cri::AttachRequest {
            container_id: id(container)?,
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let answer = runtime
            .call(async |mut client| client.attach(request).await)
            .await?;
        joined(&args.way.to(answer.url)?, streams).await
    };
    attached.await.context("attaching running container failed")
}

/// Joins standard streams with those behind a URL until the command has ended, or its person has left it.
async fn joined(target: &Target, streams: Streams) -> Outcome {
    let Typed {
        stdin,
        sizes,
        left,
        raw,
    } = terminal::typed(streams)?;
    let stdio = Stdio {
        stdin,
        stdout: Box::pin(tokio::io::stdout()),
        stderr: Box::pin(tokio::io::stderr()),
        sizes,
    };
    let ended = tokio::select! {
        ended = client::run(target, streams, stdio) => ended,
        () = left => Ok(Exit(0)),
    };
    drop(raw);
    match ended.map_err(Failure::new)? {
        Exit(0) => Ok(()),
        Exit(code) => {
            let why = format!("command terminated with exit code {code}");
            Err(Failure::new(why))
        }
    }
}
