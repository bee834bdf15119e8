//! `buildah config`: what containers of the image start with, and what else its configuration says.
//!
//! Of a list, `-` takes all away and a trailing `-` one, as with buildah; nothing is changed where one option fails.

mod apply;

use std::process::ExitCode;
use std::time::Duration;

use engine::Engine;

use crate::clock;
use crate::failure::Failure;
use crate::refused::{List, NotOffered, Refused, Takes};

/// Options of `buildah config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say in the image's history what was changed [default: $BUILDAH_HISTORY, or else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    add_history: Option<bool>,
    /// KEY=VALUE, an annotation of the manifest; KEY- takes it away, - all
    #[arg(long, short, value_name = "ANNOTATION", allow_hyphen_values = true)]
    annotation: Vec<String>,
    /// Architecture
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Who makes it
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// The default command: a JSON list, or words
    #[arg(long, value_name = "COMMAND")]
    cmd: Option<String>,
    /// What the history says that has made it
    #[arg(long, value_name = "TEXT")]
    created_by: Option<String>,
    /// The entry point: a JSON list, or a line for /bin/sh -c; it takes no command away
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// NAME=VALUE, with $OTHER for what others are; NAME for this process's variable; NAME- takes it away, - all
    #[arg(long, short, value_name = "VARIABLE", allow_hyphen_values = true)]
    env: Vec<String>,
    #[command(flatten)]
    health: Health,
    /// A remark for the history
    #[arg(long, value_name = "TEXT")]
    history_comment: Option<String>,
    /// KEY=VALUE, a label; KEY- takes it away, - all
    #[arg(long, short, value_name = "LABEL", allow_hyphen_values = true)]
    label: Vec<String>,
    /// An instruction for builds on top of the image (docker)
    #[arg(long, value_name = "INSTRUCTION")]
    onbuild: Vec<String>,
    /// Operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// A feature that the operating system must have; FEATURE- takes it away, - all
    #[arg(long, value_name = "FEATURE", allow_hyphen_values = true)]
    os_feature: Vec<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// A port, as 80 or 53/udp; PORT- takes it away, - all
    #[arg(
        long,
        short,
        value_name = "PORT",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    port: Vec<String>,
    /// The shell of command lines (docker)
    #[arg(long, value_name = "SHELL")]
    shell: Option<String>,
    /// The signal that asks for the end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// USER[:GROUP]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// Path of a volume; PATH- takes it away, - all
    #[arg(
        long,
        short,
        value_name = "PATH",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    volume: Vec<String>,
    /// Directory to start in
    #[arg(long, value_name = "DIR")]
    workingdir: Option<String>,
    /// A label that the image is not to have
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    unsetlabel: Vec<String>,
    /// An annotation that it is not to have
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    unsetannotation: Vec<String>,
    #[command(flatten)]
    _refused: NotOffered<NotInConfig>,
    /// Name or id
    #[arg(default_value = "", hide_default_value = true)]
    container: String,
}

/// The health check, of images of Docker's form.
#[derive(Debug, clap::Args)]
struct Health {
    /// CMD and words, CMD-SHELL and a line, or NONE (docker)
    #[arg(long, value_name = "CHECK")]
    healthcheck: Option<String>,
    /// Time between two checks
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    healthcheck_interval: Option<Duration>,
    /// Failures after which the container is unhealthy
    #[arg(long, value_name = "NUMBER")]
    healthcheck_retries: Option<u32>,
    /// Time in which a failure does not count
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    healthcheck_start_period: Option<Duration>,
    /// Time between two checks in that time
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    healthcheck_start_interval: Option<Duration>,
    /// Time that a check may take
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    healthcheck_timeout: Option<Duration>,
}

/// What buildah's config has besides.
#[derive(Debug)]
pub(crate) struct NotInConfig;

impl List for NotInConfig {
    const OPTIONS: &'static [Refused] = &[
        (
            "comment",
            Takes::Value,
            "floe's images have remarks in their history: use --history-comment",
        ),
        (
            "domainname",
            Takes::Value,
            "images say nothing of the names of containers",
        ),
        (
            "hostname",
            Takes::Value,
            "images say nothing of the names of containers",
        ),
    ];
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let mut working = super::open(engine, &args.container)?;
    let (said, warnings) = args.apply(&mut working.record)?;
    if super::history(args.add_history) {
        for words in said {
            working.remember(format!("/bin/sh -c #(nop) {words}"));
        }
    }
    working.save()?;
    for warning in warnings {
        super::warn(&warning);
    }
    Ok(ExitCode::SUCCESS)
}
