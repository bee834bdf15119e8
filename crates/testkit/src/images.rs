//! Small images made here, from Debian's busybox-static, and pushed with plain Distribution calls.

use std::io::Write;
use std::process::Command;

use distribution::{Client, ClientConfig, Credentials, Registries};
use image::{Descriptor, Digest, Manifest, MediaType, Platform, Reference};
use serde_json::json;

use crate::Error;

/// A layer as an uncompressed tar.
pub type Layer = Vec<u8>;

/// An entry of a layer.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// Path, mode.
    Dir(&'a str, u32),
    /// Path, mode, content.
    File(&'a str, u32, &'a [u8]),
    /// Path, target.
    Symlink(&'a str, &'a str),
    /// Path, target.
    Hardlink(&'a str, &'a str),
}

/// A tar of these entries.
///
/// # Errors
/// A path that tar cannot hold.
pub fn layer(entries: &[Entry<'_>]) -> Result<Layer, Error> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        let (path, link, data) = match *entry {
            Entry::Dir(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(mode);
                (path, None, &[][..])
            }
            Entry::File(path, mode, data) => {
                header.set_mode(mode);
                header.set_size(data.len() as u64);
                (path, None, data)
            }
            Entry::Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                (path, Some(target), &[][..])
            }
            Entry::Hardlink(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_mode(0o755);
                (path, Some(target), &[][..])
            }
        };
        match link {
            Some(target) => tar.append_link(&mut header, path, target)?,
            None => tar.append_data(&mut header, path, data)?,
        }
    }
    Ok(tar.into_inner()?)
}

/// A root file system of busybox with its applets, passwd and group.
///
/// # Errors
/// Debian's busybox-static is not installed.
pub fn busybox() -> Result<Layer, Error> {
    let program = std::fs::read("/bin/busybox")
        .map_err(|e| format!("/bin/busybox (Debian's busybox-static): {e}"))?;
    let listed = Command::new("/bin/busybox").arg("--list").output()?;
    let applets = String::from_utf8(listed.stdout)?;
    let links: Vec<String> = applets
        .lines()
        .filter(|name| *name != "busybox")
        .map(|name| format!("bin/{name}"))
        .collect();
    let mut entries = vec![
        Entry::Dir("tmp", 0o1777),
        Entry::File("bin/busybox", 0o755, &program),
    ];
    entries.extend(
        [
            "bin", "etc", "root", "home", "var", "proc", "sys", "dev", "www",
        ]
        .map(|dir| Entry::Dir(dir, 0o755)),
    );
    entries.push(Entry::File(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/www:/bin/false\nnobody:x:65534:65534::/home:/bin/false\n",
    ));
    entries.push(Entry::File(
        "etc/group",
        0o644,
        b"root:x:0:\nwww-data:x:33:\nextra:x:4242:www-data\nnogroup:x:65534:\n",
    ));
    entries.push(Entry::File("www/index.html", 0o644, b"hello from a pod\n"));
    entries.extend(
        links
            .iter()
            .map(|link| Entry::Hardlink(link, "bin/busybox")),
    );
    layer(&entries)
}

/// Pushes an image of these layers, gzip-compressed, and returns its manifest's digest.
///
/// # Errors
/// The registry refuses.
pub async fn push(
    client: &Client,
    name: &str,
    layers: &[Layer],
    config: serde_json::Value,
) -> Result<Digest, Error> {
    let reference = Reference::parse(name)?;
    let mut diff_ids = Vec::new();
    let mut descriptors = Vec::new();
    for tar in layers {
        diff_ids.push(Digest::of(tar).to_string());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(tar)?;
        descriptors
            .push(push_blob(client, &reference, MediaType::OciLayerGzip, gzip.finish()?).await?);
    }
    let config = serde_json::to_vec(&json!({
        "architecture": Platform::host().architecture,
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": diff_ids.iter().map(|_| json!({ "created_by": "testkit" })).collect::<Vec<_>>(),
    }))?;
    let config = push_blob(client, &reference, MediaType::OciConfig, config).await?;
    let manifest = serde_json::to_vec(&Manifest::new(MediaType::OciManifest, config, descriptors))?;
    Ok(client
        .push_manifest(
            &reference,
            &MediaType::OciManifest,
            manifest.into(),
            &Credentials::Anonymous,
        )
        .await?)
}

/// A file of an artifact.
#[derive(Debug, Clone, Copy)]
pub struct ArtifactFile<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// The annotation that names it, and the name.
    pub named: Option<(&'a str, &'a str)>,
    /// What is in it.
    pub content: &'a [u8],
}

/// Pushes an artifact of that type, with the OCI's empty config, and returns its manifest's digest.
///
/// # Errors
/// The registry refuses.
pub async fn push_artifact(
    client: &Client,
    name: &str,
    kind: &str,
    files: &[ArtifactFile<'_>],
) -> Result<Digest, Error> {
    let reference = Reference::parse(name)?;
    let mut layers = Vec::new();
    for file in files {
        let media_type = MediaType::from(file.media_type);
        let mut layer = push_blob(client, &reference, media_type, file.content.to_vec()).await?;
        let named = file
            .named
            .map(|(key, name)| (key.to_owned(), name.to_owned()));
        layer.annotations.extend(named);
        layers.push(layer);
    }
    let config = push_blob(client, &reference, MediaType::OciEmpty, b"{}".to_vec()).await?;
    let mut manifest = Manifest::new(MediaType::OciManifest, config, layers);
    manifest.artifact_type = Some(kind.to_owned());
    let bytes = serde_json::to_vec(&manifest)?;
    let kind = MediaType::OciManifest;
    let anonymous = Credentials::Anonymous;
    Ok(client
        .push_manifest(&reference, &kind, bytes.into(), &anonymous)
        .await?)
}

async fn push_blob(
    client: &Client,
    reference: &Reference,
    media_type: MediaType,
    blob: Vec<u8>,
) -> Result<Descriptor, Error> {
    let descriptor = Descriptor::of(media_type, &blob);
    client
        .push_blob(
            reference,
            &descriptor,
            bytes::Bytes::from(blob).into(),
            &Credentials::Anonymous,
        )
        .await?;
    Ok(descriptor)
}

/// A Distribution client that speaks plain HTTP to these hosts.
///
/// # Errors
/// A host that is none.
pub fn client(insecure: &[&str]) -> Result<Client, Error> {
    let text: String = insecure
        .iter()
        .map(|host| format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n"))
        .collect();
    Ok(Client::new(ClientConfig {
        registries: Registries::parse(&text)?,
        ..ClientConfig::default()
    }))
}
