//! `buildah inspect`: all that is known of a working container or an image, with buildah's names.
//!
//! JSON has the names of the documents (`.OCIv1.config.Env` is `"OCIv1": {"config": {"Env"`), templates those of Go's
//! types (`{{.OCIv1.Config.Env}}`).

use std::process::ExitCode;

use build::working::{self, Record};
use engine::Engine;
use engine::image::ImageRecord;
use image::ImageConfig;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::{clock, remote, template};

/// Larger documents are none of an image's.
const DOCUMENT: u64 = 16 << 20;
/// What commands may do, as buildah says it.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
/// Fields of a configuration whose names in Go are not the documents' with a capital.
const NAMES: [(&str, &str); 6] = [
    ("os", "OS"),
    ("os.version", "OSVersion"),
    ("os.features", "OSFeatures"),
    ("rootfs", "RootFS"),
    ("diff_ids", "DiffIDs"),
    ("created_by", "CreatedBy"),
];

/// Options of `buildah inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A Go template such as '{{.OCIv1.Config.Env}}'
    #[arg(long, short, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// container, or image; an image is also what is no container's name
    #[arg(long = "type", short = 't', value_name = "TYPE", default_value = "container", value_parser = ["container", "image"])]
    kind: String,
    /// Name or id
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    if args.name.is_empty() {
        return Err(Failure::new("container or image name must be specified"));
    }
    let found = match args.kind.as_str() {
        "image" => None,
        _ => working::find(engine, &args.name)?,
    };
    let (facts, config) = match found {
        Some(found) => {
            let why = |why| Failure::new(format!("reading build container {:?}: {why}", args.name));
            of_container(engine, &found.record.map_err(why)?)?
        }
        None => {
            let image = engine.find_image(&args.name)?;
            let missing = || {
                Failure::missing(format!(
                    "importing settings: {}: image not known",
                    args.name
                ))
            };
            of_image(engine, &image.ok_or_else(missing)?)?
        }
    };
    let (oci, docker) = (oci(&config)?, docker(&config)?);
    let whole = |oci, docker| whole(facts.clone(), oci, docker);
    match &args.format {
        Some(format) => {
            let value = whole(as_in_go(oci), as_in_go(docker));
            println!("{}", template::render(format, &value)?);
        }
        None => drop(remote::print_json(&whole(oci, docker))?),
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of a container, and its configuration.
fn of_container(engine: &Engine, record: &Record) -> Result<(Value, ImageConfig), Failure> {
    let image = match &record.image {
        Some(base) => engine
            .find_image(&base.id)?
            .filter(|found| found.id == base.id),
        None => None,
    };
    let (config, manifest) = match &image {
        Some(image) => documents(engine, image)?,
        None => Default::default(),
    };
    let mount = working::mounted_at(engine, &record.id)?;
    let mut annotations = record.annotations.clone();
    if let Some(base) = &record.image {
        let pairs = [("name", &base.name), ("digest", &base.digest)];
        annotations.extend(pairs.map(|(key, value)| {
            (
                format!("org.opencontainers.image.base.{key}"),
                value.clone(),
            )
        }));
    }
    let base = record.image.clone().unwrap_or_default();
    let facts = json!({
        "FromImage": base.name,
        "FromImageID": base.id,
        "FromImageDigest": base.digest,
        "Config": config,
        "Manifest": manifest,
        "Container": record.name,
        "ContainerID": record.id,
        "MountPoint": mount.unwrap_or_default(),
        "ImageAnnotations": annotations,
        "ImageCreatedBy": record.created_by.clone().unwrap_or_default(),
    });
    let created = record.created.div_euclid(1_000_000_000);
    let diff_ids = record.layers.iter().map(|layer| layer.diff_id.clone());
    let platform = record.platform.clone();
    let config = ImageConfig {
        created: clock::written(created),
        author: record.author.clone(),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        os_version: platform.os_version,
        os_features: platform.os_features,
        config: record.config.clone(),
        rootfs: image::config::RootFs {
            kind: "layers".into(),
            diff_ids: diff_ids.collect(),
        },
        history: [&record.history[..], &record.steps].concat(),
    };
    Ok((facts, config))
}

/// The same of an image.
fn of_image(engine: &Engine, image: &ImageRecord) -> Result<(Value, ImageConfig), Failure> {
    let (config, manifest) = documents(engine, image)?;
    let parsed: Value = serde_json::from_str(&manifest).unwrap_or_default();
    let facts = json!({
        "FromImage": image.names.first().unwrap_or(&image.id),
        "FromImageID": image.id,
        "FromImageDigest": image.manifest_digest.to_string(),
        "Config": config,
        "Manifest": manifest,
        "Container": "",
        "ContainerID": "",
        "MountPoint": "",
        "ImageAnnotations": parsed.get("annotations").cloned().unwrap_or_else(|| json!({})),
        "ImageCreatedBy": "",
    });
    Ok((facts, engine.image_config(image)?))
}

/// The configuration and the manifest of an image, as they are.
fn documents(engine: &Engine, image: &ImageRecord) -> Result<(String, String), Failure> {
    let store = engine.store();
    let read = |digest| -> Result<String, Failure> {
        let bytes = store
            .read_blob(digest, DOCUMENT)
            .map_err(engine::Error::from)?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    let manifest = read(&image.manifest_digest)?;
    let config = match image::AnyManifest::parse(None, manifest.as_bytes()) {
        Ok(image::AnyManifest::Manifest(manifest)) => read(&manifest.config.digest)?,
        _ => String::new(),
    };
    Ok((config, manifest))
}

fn value(of: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(of).map_err(|e| Failure::new(e.to_string()))
}

/// The configuration as images of OCI's form have it.
fn oci(config: &ImageConfig) -> Result<Value, Failure> {
    let mut config = config.clone();
    config.config.healthcheck = None;
    config.config.on_build.clear();
    config.config.shell.clear();
    value(&config)
}

/// As Docker's have it.
fn docker(config: &ImageConfig) -> Result<Value, Failure> {
    let mut all = value(config)?;
    all["container_config"] = all["config"].clone();
    Ok(all)
}

fn whole(facts: Value, oci: Value, docker: Value) -> Value {
    let namespace =
        |(name, is_host): (&str, bool)| json!({ "Name": name, "Host": is_host, "Path": "" });
    let namespaces = [
        ("cgroup", true),
        ("ipc", false),
        ("mount", false),
        ("network", false),
        ("pid", false),
        ("user", true),
        ("uts", false),
    ];
    let mut all = Map::new();
    all.insert("Type".to_owned(), "buildah 0.0.1".into());
    if let Value::Object(facts) = facts {
        all.extend(facts);
    }
    let history = oci.get("history").or_else(|| oci.get("History")).cloned();
    let rest = json!({
        "ProcessLabel": "",
        "MountLabel": "",
        "OCIv1": oci,
        "Docker": docker,
        "DefaultMountsFilePath": "",
        "Isolation": "oci",
        "NamespaceOptions": namespaces.map(namespace),
        "Capabilities": CAPABILITIES,
        "ConfigureNetwork": "NetworkDefault",
        "CNIPluginPath": "",
        "CNIConfigDir": "",
        "History": history,
        "Devices": [],
    });
    if let Value::Object(rest) = rest {
        all.extend(rest);
    }
    Value::Object(all)
}

/// A configuration with the names that Go's types have: what a document leaves out is there and empty.
fn as_in_go(value: Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let mut all = Map::new();
    for (key, value) in map {
        let known = NAMES.iter().find(|(name, _)| *name == key);
        let name = match known {
            Some((_, name)) => (*name).to_owned(),
            None => key.split('_').map(capital).collect(),
        };
        let value = match key.as_str() {
            "config" | "container_config" => of_config(value),
            "rootfs" => as_in_go(value),
            "history" => match value {
                Value::Array(lines) => lines.into_iter().map(as_in_go).collect(),
                other => other,
            },
            _ => value,
        };
        all.insert(name, value);
    }
    for (name, empty) in [
        ("Author", json!("")),
        ("Variant", json!("")),
        ("History", json!([])),
    ] {
        all.entry(name).or_insert(empty);
    }
    Value::Object(all)
}

fn of_config(value: Value) -> Value {
    let mut all = json!({
        "User": "", "ExposedPorts": {}, "Env": [], "Entrypoint": [], "Cmd": [], "Volumes": {}, "WorkingDir": "",
        "Labels": {}, "StopSignal": "", "ArgsEscaped": false, "Healthcheck": null, "OnBuild": [], "Shell": [],
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut all, value) {
        all.extend(own);
    }
    all
}

fn capital(part: &str) -> String {
    let mut chars = part.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
