//! `floe inspect`: what an image is, without copying it (skopeo inspect).

mod health;
pub(crate) mod stored;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use image::{Algorithm, Digest, ImageConfig, Manifest, Reference};
use serde::Serialize;
use serde_json::{Value, json};
use transfer::{Access, Location, Source};

use super::copy::flags::PlatformFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Flags, Remote, RetryFlags};
use crate::{clock, progress, template};

/// Options of `floe inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the manifest, or with --config the config, byte for byte
    #[arg(long)]
    raw: bool,
    /// Print the image's config
    #[arg(long)]
    config: bool,
    /// Go template, such as '{{.Digest}}', or json
    #[arg(long, short, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Do not ask the registry for the repository's tags
    #[arg(long, short = 'n')]
    no_tags: bool,
    #[command(flatten)]
    platform: PlatformFlags,
    /// Algorithm of the digest that is told: sha256 or sha512 [default: that of the name, or sha256]
    #[arg(long, value_name = "ALGORITHM", value_parser = ["sha256", "sha512"])]
    manifest_digest: Option<String>,
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    flags: Flags,
    /// What a name without a transport may be: all, container or image
    #[arg(long = "type", short = 't', value_name = "TYPE", default_value = "all")]
    kind: Kind,
    /// The newest container of people
    #[arg(long, short)]
    latest: bool,
    /// docker://NAME, oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR, containers-storage:IMAGE,
    /// floe:IMAGE; or names of containers and images of this node
    #[arg(required_unless_present = "latest", value_name = "IMAGE")]
    images: Vec<String>,
}

impl Args {
    /// The same, of images alone.
    pub(crate) fn of_images(self) -> Self {
        Self {
            kind: Kind::Image,
            ..self
        }
    }

    /// The same, of containers alone.
    pub(crate) fn of_containers(self) -> Self {
        Self {
            kind: Kind::Container,
            ..self
        }
    }
}

/// What a name may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    All,
    Container,
    Image,
}

/// skopeo's description of an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    digest: String,
    repo_tags: Vec<String>,
    created: Option<String>,
    docker_version: String,
    labels: Option<BTreeMap<String, String>>,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    layers: Vec<String>,
    layers_data: Vec<Layer>,
    env: Option<Vec<String>>,
}

impl Description {
    /// What templates know of it: lists and maps that are not there are empty, and a time is Go's text.
    fn fields(&self) -> Result<Value, Failure> {
        let mut fields = serde_json::to_value(self)
            .map_err(|e| Failure::new(format!("describe the image: {e}")))?;
        let created = self.created.as_deref();
        let created = created.map_or(Some("<nil>".to_owned()), clock::as_go_prints);
        if let Some(created) = created {
            fields["Created"] = created.into();
        }
        fields["Labels"] = json!(self.labels.clone().unwrap_or_default());
        fields["Env"] = json!(self.env.clone().unwrap_or_default());
        Ok(fields)
    }
}

#[derive(Debug, Serialize)]
struct Layer {
    #[serde(rename = "MIMEType")]
    mime_type: String,
    #[serde(rename = "Digest")]
    digest: String,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Annotations")]
    annotations: Option<BTreeMap<String, String>>,
}

impl Args {
    /// Whether nothing that is asked for says where it is: then it is of this node.
    pub(crate) fn is_of_this_node(&self) -> bool {
        let mut names = self.images.iter();
        names.all(|name| !Location::names_transport(name))
    }
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if args.raw && args.format.is_some() {
        return Err(Failure::new("raw output does not support format option"));
    }
    let [image] = args.images.as_slice() else {
        return Err(Failure::new("exactly one image is inspected at a place"));
    };
    let remote = Remote::new(global)?;
    let location = Location::parse(image)?;
    let access = args.flags.access(&remote, &location)?;
    args.retry.run(|| inspect(args, &location, &access))
}

fn inspect(args: &Args, location: &Location, access: &Access) -> Result<ExitCode, Failure> {
    remote::block_on(async {
        let source = Source::open(location, access).await?;
        let top = source.manifest(None).await?;
        if args.raw && !args.config {
            return bytes(&top.bytes);
        }
        let manifest = source.image(&top, &args.platform.platform()).await?;
        let config = source.config(&manifest.config).await?;
        if args.raw {
            return bytes(&config);
        }
        if args.config {
            let config = ImageConfig::parse(&config)?;
            return show(args, &config, || Ok(go_names(&config)));
        }
        let tags = match location {
            Location::Registry(reference) if !args.no_tags => tags(access, reference).await?,
            _ => Vec::new(),
        };
        // The digest of what the name means, as skopeo has it: that of an index, if it is one.
        let digest = match args.manifest_digest.as_deref() {
            Some("sha512") => Digest::of_with(Algorithm::Sha512, &top.bytes),
            Some(_) => Digest::of(&top.bytes),
            None => top.digest.clone(),
        };
        let digest = digest.to_string();
        let about = describe(source.name(), digest, &manifest, &config, tags)?;
        show(args, &about, || about.fields())
    })
}

/// The repository's tags; none, with a warning, where the registry keeps its list to itself.
async fn tags(access: &Access, reference: &Reference) -> Result<Vec<String>, Failure> {
    match access.client.tags(reference, &access.credentials).await {
        Err(
            error @ (distribution::Error::Unauthorized { status: 403, .. }
            | distribution::Error::NotFound { .. }),
        ) => {
            progress::note(&format!(
                "Warning: Registry disallows tag list retrieval; skipping: {error}"
            ));
            Ok(Vec::new())
        }
        tags => Ok(tags?),
    }
}

/// Prints a document, or what the template makes of the `fields` that it has for templates.
fn show(
    args: &Args,
    document: &impl Serialize,
    fields: impl FnOnce() -> Result<Value, Failure>,
) -> Result<ExitCode, Failure> {
    match args.format.as_deref() {
        None | Some("json" | "{{json .}}") => remote::print_json(document),
        Some(text) => {
            let fields = fields()?;
            match text.starts_with("table ") {
                true => print!(
                    "{}",
                    template::lines(text, &headings(&fields), std::slice::from_ref(&fields))?
                ),
                false => println!("{}", template::render(text, &fields)?),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A column's name is that of the field.
fn headings(fields: &Value) -> Value {
    let Value::Object(fields) = fields else {
        return Value::Null;
    };
    let names = fields
        .keys()
        .map(|name| (name.clone(), Value::from(name.to_uppercase())));
    Value::Object(names.collect())
}

/// What an image says of its process, with the names of Go's type, which podman and skopeo show.
fn process_config(image: &ImageConfig) -> Value {
    let inner = &image.config;
    json!({
        "User": inner.user,
        "ExposedPorts": inner.exposed_ports,
        "Env": inner.env,
        "Entrypoint": inner.entrypoint,
        "Cmd": inner.cmd,
        "Volumes": inner.volumes,
        "WorkingDir": inner.working_dir,
        "Labels": inner.labels,
        "StopSignal": inner.stop_signal.clone().unwrap_or_default(),
    })
}

/// The configuration with the names that templates know it by: those of the fields of skopeo's type.
fn go_names(config: &ImageConfig) -> Value {
    let history = config.history.iter().map(|step| {
        json!({
            "Created": step.created,
            "CreatedBy": step.created_by.clone().unwrap_or_default(),
            "Author": step.author.clone().unwrap_or_default(),
            "Comment": step.comment.clone().unwrap_or_default(),
            "EmptyLayer": step.empty_layer,
        })
    });
    json!({
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "OS": config.os,
        "OSVersion": config.os_version.clone().unwrap_or_default(),
        "OSFeatures": config.os_features,
        "Config": process_config(config),
        "RootFS": { "Type": config.rootfs.kind, "DiffIDs": config.rootfs.diff_ids },
        "History": history.collect::<Vec<_>>(),
    })
}

fn bytes(bytes: &[u8]) -> Result<ExitCode, Failure> {
    std::io::stdout().write_all(bytes)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(
    name: Option<String>,
    digest: String,
    manifest: &Manifest,
    config: &[u8],
    tags: Vec<String>,
) -> Result<Description, Failure> {
    let parsed = ImageConfig::parse(config)?;
    let docker_version = serde_json::from_slice::<serde_json::Value>(config)
        .ok()
        .and_then(|value| Some(value.get("docker_version")?.as_str()?.to_owned()));
    let layers = manifest.layers.iter();
    let platform = parsed.platform();
    Ok(Description {
        name: name.unwrap_or_default(),
        digest,
        repo_tags: tags,
        created: parsed.created.clone(),
        docker_version: docker_version.unwrap_or_default(),
        labels: Some(parsed.config.labels.clone()).filter(|labels| !labels.is_empty()),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        layers: layers
            .clone()
            .map(|layer| layer.digest.to_string())
            .collect(),
        layers_data: layers
            .map(|layer| Layer {
                mime_type: layer.media_type.to_string(),
                digest: layer.digest.to_string(),
                size: layer.size,
                annotations: Some(layer.annotations.clone()).filter(|map| !map.is_empty()),
            })
            .collect(),
        env: Some(parsed.config.env.clone()).filter(|env| !env.is_empty()),
    })
}
