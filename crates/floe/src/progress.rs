//! What a person sees of blobs on their way: a bar for each on a terminal, and plain lines elsewhere, in
//! the words of podman and skopeo.
//!
//! Must never draw where no person looks (`-q`, pipes, `TERM=dumb`), and always leaves a line that says how
//! each blob ended.

use std::collections::HashMap;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use engine::image::{BlobStep, BlobWatch};
use engine::{Engine, PullRequest};
use image::{Descriptor, Digest, MediaType};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;
use transfer::{Event, Watch};

use crate::failure::Failure;
use crate::output;

/// Fetches an image and returns its id; what happens goes to standard error.
pub(crate) fn pull(engine: &Engine, image: &str, quiet: bool) -> Result<String, Failure> {
    let mut request = PullRequest {
        image: image.to_owned(),
        ..PullRequest::default()
    };
    if !quiet {
        let progress = Progress::new(Stream::Err);
        progress.line(&format!("Trying to pull {image}..."));
        request.watch = BlobWatch::to(move |blob, step| progress.blob(blob, step));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("start the async runtime: {e}")))?;
    Ok(runtime.block_on(engine.pull_image(request))?)
}

/// Shows what a copy does on standard output, unless it is to be `quiet`.
pub(crate) fn watch(quiet: bool) -> Watch {
    if quiet {
        return Arc::new(|_| {});
    }
    watched(Stream::Out)
}

/// The same on standard error: standard output is for what was asked for.
pub(crate) fn watch_beside() -> Watch {
    watched(Stream::Err)
}

fn watched(stream: Stream) -> Watch {
    let progress = Progress::new(stream);
    Arc::new(move |event| match event {
        Event::Blob(blob, step) => progress.blob(blob, step),
        Event::Instance(digest, number, count) => {
            progress.line(&format!("Copying image {digest} ({number}/{count})"));
        }
        Event::Image(_) => {}
        Event::Manifest => progress.line("Writing manifest to image destination"),
    })
}

/// The bars of this process, for those who have to say something meanwhile.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Prints a line on standard error, beside bars if there are any.
pub(crate) fn note(line: &str) {
    let line = output::shown(line);
    match BARS.get() {
        Some(bars) => bars.suspend(|| eprintln!("{line}")),
        None => eprintln!("{line}"),
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

struct Progress {
    stream: Stream,
    /// On a terminal only.
    bars: Option<MultiProgress>,
    running: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Progress {
    fn new(stream: Stream) -> Progress {
        let looked_at = match stream {
            Stream::Out => stdout().is_terminal(),
            Stream::Err => stderr().is_terminal(),
        };
        let capable = std::env::var("TERM").is_ok_and(|name| !name.is_empty() && name != "dumb");
        let bars = (looked_at && capable).then(|| {
            let target = match stream {
                Stream::Out => ProgressDrawTarget::stdout(),
                Stream::Err => ProgressDrawTarget::stderr(),
            };
            let bars = MultiProgress::with_draw_target(target);
            BARS.get_or_init(|| bars.clone());
            bars
        });
        Progress {
            stream,
            bars,
            running: Mutex::default(),
        }
    }

    /// A line that stays.
    fn line(&self, line: &str) {
        let line = output::shown(line);
        match (&self.bars, self.stream) {
            // Nobody can be told of a terminal that has gone away.
            (Some(bars), _) => drop(bars.println(&line)),
            (None, Stream::Out) => println!("{line}"),
            (None, Stream::Err) => eprintln!("{line}"),
        }
    }

    /// As much of a bar as the terminal has room for.
    fn style(&self) -> ProgressStyle {
        let size = match self.stream {
            Stream::Out => tcgetwinsize(stdout()),
            Stream::Err => tcgetwinsize(stderr()),
        };
        let template = match size.map_or(0, |size| size.ws_col) {
            80.. => "Copying {msg} [{bar:20}] {binary_bytes:>10} / {binary_total_bytes}",
            _ => "{percent:>3}% {wide_msg}",
        };
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        style.progress_chars("=> ")
    }

    fn blob(&self, blob: &Descriptor, step: BlobStep) {
        let config = matches!(
            blob.media_type,
            MediaType::OciConfig | MediaType::DockerConfig
        );
        let kind = if config { "config" } else { "blob" };
        let Some(bars) = &self.bars else {
            let digest = &blob.digest;
            return match step {
                BlobStep::There if !config => {
                    self.line(&format!("Copying {kind} {digest} skipped: already exists"));
                }
                BlobStep::Begun | BlobStep::There => {
                    self.line(&format!("Copying {kind} {digest}"));
                }
                BlobStep::At(_) | BlobStep::Done => {}
            };
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{kind} {}", output::short(blob.digest.hex()));
        match step {
            BlobStep::Begun if !config => {
                let bar = ProgressBar::new(blob.size)
                    .with_style(self.style())
                    .with_message(name);
                running.insert(blob.digest.clone(), bars.add(bar));
            }
            BlobStep::Begun => {}
            BlobStep::At(bytes) => {
                if let Some(bar) = running.get(&blob.digest) {
                    bar.set_position(bytes);
                }
            }
            BlobStep::There if !config => {
                self.line(&format!("Copying {name} skipped: already exists"));
            }
            BlobStep::There | BlobStep::Done => {
                if let Some(bar) = running.remove(&blob.digest) {
                    bar.finish_and_clear();
                }
                self.line(&format!("Copying {name} done"));
            }
        }
    }
}

impl Drop for Progress {
    /// What has failed leaves no bar behind: the error follows.
    fn drop(&mut self) {
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for bar in running.values() {
            bar.finish_and_clear();
        }
    }
}
