//! `floe pull`: from registries, archives and layouts to the store; and the flags that `floe run` shares with it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use engine::Engine;
use image::{Platform, Reference};
use transfer::{Access, ArchiveEntry, Instances, Location, Options, Signing, Source, Target};

use crate::failure::Failure;
use crate::global::Global;
use crate::refused::{self, List, NotOffered, Takes};
use crate::remote::{self, Flags, PolicyFlags, Remote, RetryFlags};
use crate::{clock, progress};

/// Options of `floe pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only the ids
    #[arg(long, short)]
    quiet: bool,
    /// Fetch all tags of the repositories
    #[arg(long, short)]
    all_tags: bool,
    /// When to fetch: always, missing, newer, never
    #[arg(long, default_value = "always", value_parser = WHEN)]
    policy: String,
    #[command(flatten)]
    from: PullFlags,
    #[command(flatten)]
    _refused: NotOffered<Refused>,
    /// Images, such as registry.example/app:1.2, or TRANSPORT:PLACE
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// When an image may be fetched.
pub(crate) const WHEN: [&str; 4] = ["always", "missing", "newer", "never"];

/// What podman's pull has besides.
#[derive(Debug)]
pub(crate) struct Refused;

impl List for Refused {
    const OPTIONS: &'static [refused::Refused] = &[(
        "decryption-key",
        Takes::Value,
        "floe does not encrypt or decrypt layers",
    )];
}

/// How registries are asked, and for which image of an index.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PullFlags {
    /// User and password for the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// File with stored logins
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    authfile: Option<PathBuf>,
    /// Directory with CA and client certificates
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Require HTTPS and check certificates [default: true, unless registries.conf says insecure]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// How many times to begin again after a registry that was away or failed
    #[arg(long, value_name = "NUMBER")]
    retry: Option<u32>,
    /// How long to wait before that
    #[arg(long, value_name = "DURATION", value_parser = clock::duration)]
    retry_delay: Option<Duration>,
    /// The image for this architecture
    #[arg(long, value_name = "ARCH", conflicts_with = "platform")]
    arch: Option<String>,
    /// The image for this operating system
    #[arg(long, value_name = "OS", conflicts_with = "platform")]
    os: Option<String>,
    /// The image for this variant of the architecture
    #[arg(long, value_name = "VARIANT", conflicts_with = "platform")]
    variant: Option<String>,
    /// The image for OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Accepted for docker's sake: policy.json decides whom to trust
    #[arg(long)]
    disable_content_trust: bool,
}

impl PullFlags {
    /// Whether the node's own way to fetch does what is asked for.
    fn is_usual(&self) -> bool {
        self.creds.is_none()
            && self.authfile.is_none()
            && self.cert_dir.is_none()
            && self.tls_verify.is_none()
            && self.retry.is_none()
            && self.retry_delay.is_none()
            && !self.is_of_a_platform()
    }

    fn is_of_a_platform(&self) -> bool {
        let asked = [&self.arch, &self.os, &self.variant, &self.platform];
        asked.iter().any(|asked| asked.is_some())
    }

    /// The platform that is asked for.
    pub(crate) fn platform(&self) -> Result<Platform, Failure> {
        let mut platform = Platform::host();
        if let Some(text) = &self.platform {
            let parts: Vec<&str> = text.split('/').collect();
            platform = match parts[..] {
                [os, arch] => Platform::new(os, arch),
                [os, arch, variant] => Platform {
                    variant: Some(variant.to_owned()),
                    ..Platform::new(os, arch)
                },
                _ => {
                    return Err(Failure::new(format!(
                        "--platform {text:?} is not OS/ARCH[/VARIANT]"
                    )));
                }
            };
        }
        if let Some(arch) = &self.arch {
            platform = Platform::new(&platform.os, arch);
        }
        if let Some(os) = &self.os {
            platform.os.clone_from(os);
        }
        if self.variant.is_some() {
            platform.variant.clone_from(&self.variant);
        }
        Ok(platform)
    }

    /// The same for another platform.
    pub(crate) fn of_platform(&self, platform: &Platform) -> PullFlags {
        match *platform == Platform::host() && !self.is_of_a_platform() {
            true => self.clone(),
            false => PullFlags {
                arch: None,
                os: None,
                variant: None,
                platform: Some(platform.to_string()),
                ..self.clone()
            },
        }
    }

    /// Errors when the containers of this machine are of another platform than what is asked for.
    pub(crate) fn must_run_here(&self) -> Result<(), Failure> {
        let (asked, here) = (self.platform()?, Platform::host());
        match asked.os == here.os && asked.architecture == here.architecture {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "{}/{} is not offered: what runs here is {}/{}",
                asked.os, asked.architecture, here.os, here.architecture
            ))),
        }
    }

    /// Fetches an image as these flags say; its id.
    pub(crate) fn pull(
        &self,
        global: &Global,
        engine: &Engine,
        image: &str,
        quiet: bool,
    ) -> Result<String, Failure> {
        let place = image
            .split_once(':')
            .and_then(|_| Location::parse(image).ok());
        match place {
            Some(Location::Registry(reference)) => self.fetch(global, engine, &[reference], quiet),
            Some(location) => self.take(global, engine, &location, quiet),
            None if self.is_usual() => progress::pull(engine, image, quiet),
            None => {
                let remote = Remote::new(global)?;
                let candidates = remote.settings().registries.candidates(image)?;
                let candidates = candidates.into_iter().map(Reference::or_latest);
                self.fetch(global, engine, &candidates.collect::<Vec<_>>(), quiet)
            }
        }
    }

    fn flags(&self) -> Flags {
        Flags::for_pull(
            self.creds.clone(),
            self.authfile.clone(),
            self.cert_dir.clone(),
            self.tls_verify,
        )
    }

    fn options(&self, remote: &Remote) -> Result<Options, Failure> {
        Ok(Options {
            instances: Instances::One(self.platform()?),
            policy: remote.policy(&PolicyFlags::default())?,
            signing: Signing {
                only_wanted: true,
                ..Signing::default()
            },
            ..Options::default()
        })
    }

    /// The first of several names that a registry has.
    fn fetch(
        &self,
        global: &Global,
        engine: &Engine,
        candidates: &[Reference],
        quiet: bool,
    ) -> Result<String, Failure> {
        let remote = Remote::new(global)?;
        let options = Options {
            preserve_digests: true,
            ..self.options(&remote)?
        };
        let watch = match quiet {
            true => progress::watch(true),
            false => progress::watch_beside(),
        };
        let retry = RetryFlags::of(self.retry.unwrap_or(0), self.retry_delay);
        let mut failed =
            Failure::new("it names no registry, and none is configured for short names");
        for reference in candidates {
            if !quiet {
                progress::note(&format!("Trying to pull {reference}..."));
            }
            let location = Location::Registry(reference.clone());
            let access = self.flags().access(&remote, &location)?;
            let fetched = retry.run(|| {
                remote::block_on(async {
                    let source = Source::open(&location, &access).await?;
                    let target = Target::of_pull(engine.store(), reference).await?;
                    Ok(transfer::copy(&source, target, &options, &watch).await?)
                })
            });
            match fetched {
                Ok(_) => return Ok(engine.image(&reference.to_string())?.id),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// What is at a place other than a registry.
    fn take(
        &self,
        global: &Global,
        engine: &Engine,
        from: &Location,
        quiet: bool,
    ) -> Result<String, Failure> {
        let remote = Remote::new(global)?;
        let name = match from {
            Location::Layout(_, name) | Location::LayoutArchive(_, name) => name.clone(),
            Location::DockerArchive(_, ArchiveEntry::Named(name)) => Some(name.to_string()),
            Location::DockerArchive(file, ArchiveEntry::Only) => {
                let mut names = transfer::docker_archive_names(file)?.into_iter();
                names.next().and_then(|names| names.into_iter().next())
            }
            _ => None,
        };
        let to = Location::Store(name.unwrap_or_default());
        let access = Access {
            store: Some(engine.store().clone()),
            ..self.flags().access(&remote, from)?
        };
        let options = self.options(&remote)?;
        let watch = match quiet {
            true => progress::watch(true),
            false => progress::watch_beside(),
        };
        let copied = remote::block_on(async {
            let source = Source::open(from, &access).await?;
            let target = Target::open(&to, &access).await?;
            Ok(transfer::copy(&source, target, &options, &watch).await?)
        })?;
        match copied.parse()? {
            image::AnyManifest::Manifest(manifest) => Ok(manifest.id(&copied.digest).to_owned()),
            image::AnyManifest::Index(_) => Err(Failure::new("what was taken is not one image")),
        }
    }
}

pub(crate) fn run(global: &Global, engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    super::for_each(&args.images, |image| {
        if args.all_tags {
            return all_tags(global, engine, args, image);
        }
        println!("{}", one(global, engine, args, image)?);
        Ok(())
    })
}

/// The id of an image that is there when this is done.
fn one(global: &Global, engine: &Engine, args: &Args, image: &str) -> Result<String, Failure> {
    let stored = match args.policy.as_str() {
        "always" => None,
        _ => engine.find_image(image)?,
    };
    match (args.policy.as_str(), stored) {
        ("missing" | "never", Some(stored)) => Ok(stored.id),
        ("never", None) => Err(Failure::new(format!("{image}: image not known"))),
        ("newer", Some(stored)) => Ok(args
            .from
            .pull(global, engine, image, args.quiet)
            .unwrap_or(stored.id)),
        _ => args.from.pull(global, engine, image, args.quiet),
    }
}

fn all_tags(global: &Global, engine: &Engine, args: &Args, image: &str) -> Result<(), Failure> {
    let reference = Reference::parse(image.trim_start_matches("docker://"))?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Err(Failure::new(format!(
            "{image}: tag can't be used with --all-tags"
        )));
    }
    let remote = Remote::new(global)?;
    let flags = args.from.flags();
    let client = flags.client(&remote, reference.domain());
    let credentials = flags.credentials()?;
    let tags = remote::block_on(async { Ok(client.tags(&reference, &credentials).await?) })?;
    for tag in &tags {
        let tagged = reference.with_tag(tag)?.to_string();
        println!("{}", one(global, engine, args, &tagged)?);
    }
    Ok(())
}
