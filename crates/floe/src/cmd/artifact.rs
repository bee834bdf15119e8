//! `floe artifact referrers`: what a registry has about an image, such as signatures and lists of its
//! parts (distribution-spec, "Listing Referrers").

use std::process::ExitCode;

use clap::Subcommand;
use image::Index;
use transfer::{Location, Source};

use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Flags, Remote};
use crate::template;

/// What can be asked about artifacts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what refers to an image of a registry, as an image index
    Referrers(ReferrersArgs),
}

/// Options of `floe artifact referrers`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReferrersArgs {
    /// Only artifacts of this type
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// Go template for the index, such as '{{range .manifests}}{{.digest}} {{end}}'
    #[arg(long, short, value_name = "TEMPLATE")]
    format: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// docker://NAME[:TAG|@DIGEST]
    image: String,
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<ExitCode, Failure> {
    let Command::Referrers(args) = command;
    let location = Location::parse(&args.image)?;
    let Location::Registry(reference) = &location else {
        return Err(Failure::new(format!(
            "{}: only images of a registry (docker://) have referrers",
            args.image
        )));
    };
    let remote = Remote::new(global)?;
    let access = args.flags.access(&remote, &location)?;
    let manifests = remote::block_on(async {
        let digest = match reference.digest() {
            Some(digest) => digest.clone(),
            None => {
                Source::open(&location, &access)
                    .await?
                    .manifest(None)
                    .await?
                    .digest
            }
        };
        let wanted = args.artifact_type.as_deref();
        let found = access
            .client
            .referrers(reference, &digest, wanted, &access.credentials);
        Ok(found.await?)
    })?;
    let index = Index {
        schema_version: 2,
        media_type: Some(image::MediaType::OciIndex),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: Default::default(),
    };
    let Some(format) = &args.format else {
        return remote::print_json(&index);
    };
    let value =
        serde_json::to_value(&index).map_err(|e| Failure::new(format!("write the index: {e}")))?;
    println!("{}", template::render(format, &value)?);
    Ok(ExitCode::SUCCESS)
}
