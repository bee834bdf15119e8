//! `floe delete`: an image from a registry (skopeo delete).

use std::process::ExitCode;

use transfer::Location;

use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Flags, Remote, RetryFlags};

/// Options of `floe delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    flags: Flags,
    /// docker://NAME[:TAG|@DIGEST]: every tag of the same manifest goes with it
    image: String,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let location = Location::parse(&args.image)?;
    let Location::Registry(reference) = &location else {
        return Err(Failure::new(format!(
            "{}: only images of a registry (docker://) are deleted this way; floe rmi removes from \
             floe's own store",
            args.image
        )));
    };
    let remote = Remote::new(global)?;
    let access = args.flags.access(&remote, &location)?;
    args.retry.run(|| {
        remote::block_on(async {
            access.client.delete(reference, &access.credentials).await?;
            Ok(ExitCode::SUCCESS)
        })
    })
}
