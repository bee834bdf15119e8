//! Pulling an image for a person: what happens goes to standard error, the id to the caller.

use engine::{Engine, PullRequest};

use crate::Failure;

/// Fetches an image and returns its id.
pub(crate) fn pull(engine: &Engine, image: &str, quiet: bool) -> Result<String, Failure> {
    if !quiet {
        eprintln!("Trying to pull {image}...");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("start the async runtime: {e}")))?;
    let request = PullRequest {
        image: image.to_owned(),
        ..PullRequest::default()
    };
    Ok(runtime.block_on(engine.pull_image(request))?)
}
