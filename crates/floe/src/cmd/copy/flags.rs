//! The flags that `copy` and `sync` have in common, and what they make of an image on its way.

use clap::builder::{StringValueParser, TypedValueParser};
use image::Platform;
use transfer::{Access, Document, Format, Instances, Location, Options, Source, Target, Watch};

use crate::cmd::sign::SignFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Flags, PolicyFlags, Remote, RetryFlags, SourceFlags, TargetFlags};

/// What of an image is copied, and as what.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Shape {
    /// Copy all images of an index, and the index
    #[arg(long, short)]
    all: bool,
    /// Type of the manifests to write: oci or v2s2 [default: as they are]
    #[arg(long, short, value_parser = format())]
    format: Option<Format>,
    /// Fail rather than change a digest
    #[arg(long)]
    preserve_digests: bool,
}

/// The two sides, and what is asked of them.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Sides {
    #[command(flatten)]
    sign: SignFlags,
    #[command(flatten)]
    platform: PlatformFlags,
    #[command(flatten)]
    both: Flags,
    #[command(flatten)]
    from: SourceFlags,
    #[command(flatten)]
    to: TargetFlags,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    retry: RetryFlags,
}

/// Which image of an index.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PlatformFlags {
    /// Choose images for this architecture instead of the machine's
    #[arg(long, global = true, value_name = "ARCH")]
    override_arch: Option<String>,
    /// Choose images for this operating system
    #[arg(long, global = true, value_name = "OS")]
    override_os: Option<String>,
    /// Choose images for this variant of the architecture
    #[arg(long, global = true, value_name = "VARIANT")]
    override_variant: Option<String>,
}

/// Reads a family of manifest types by skopeo's words.
pub(crate) fn format() -> impl TypedValueParser<Value = Format> {
    StringValueParser::new().try_map(|name| match name.as_str() {
        "oci" => Ok(Format::Oci),
        "v2s2" => Ok(Format::Docker),
        "v2s1" => {
            Err("not offered: registries no longer take Docker's schema 1; write oci or v2s2")
        }
        _ => Err("write oci or v2s2"),
    })
}

impl PlatformFlags {
    pub(crate) fn platform(&self) -> Platform {
        let mut platform = Platform::host();
        if let Some(architecture) = &self.override_arch {
            platform = Platform::new(&platform.os, architecture);
        }
        if let Some(os) = &self.override_os {
            platform.os.clone_from(os);
        }
        if self.override_variant.is_some() {
            platform.variant.clone_from(&self.override_variant);
        }
        platform
    }
}

impl Sides {
    pub(crate) fn remote(&self, global: &Global) -> Result<Remote, Failure> {
        Remote::with(global, &self.policy)
    }

    /// How to copy; asks for passphrases.
    pub(crate) fn options(&self, shape: &Shape, remote: &Remote) -> Result<Options, Failure> {
        Ok(Options {
            instances: match shape.all {
                true => Instances::All,
                false => Instances::One(self.platform.platform()),
            },
            format: shape.format,
            preserve_digests: shape.preserve_digests,
            policy: remote.policy(&self.policy)?,
            signing: self.sign.signing()?,
            ..Options::default()
        })
    }

    /// How often to try again.
    pub(crate) fn retry(&self) -> &RetryFlags {
        &self.retry
    }

    /// The flags of the source.
    pub(crate) fn source(&self) -> Flags {
        self.from.clone().with(&self.both)
    }

    /// The flags of the destination.
    pub(crate) fn target(&self) -> Flags {
        self.to.clone().with(&self.both)
    }
}

/// Copies one image.
pub(crate) fn copy(
    (from, source): (&Location, &Access),
    (to, target): (&Location, &Access),
    options: &Options,
    watch: &Watch,
) -> Result<Document, Failure> {
    remote::block_on(async {
        let source = Source::open(from, source).await?;
        // A target is made ready for what comes, so that what can never come is refused before.
        if let Some(policy) = &options.policy {
            source.check(policy)?;
        }
        source.manifest(None).await?;
        let target = Target::open(to, target).await?;
        Ok(transfer::copy(&source, target, options, watch).await?)
    })
}
