//! Fills a store with images, to measure what a store of many costs.
//!
//! `fill ROOT IMAGES LAYERS`: images `localhost/fill/0:1` and so on, each with that many small layers of its
//! own, put into the store at ROOT.

use std::error::Error;
use std::path::Path;

use image::{Descriptor, Manifest, MediaType};
use store::{Document, Lease, NewImage, Result, Store};

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, images, layers] = arguments.as_slice() else {
        return Err("usage: fill ROOT IMAGES LAYERS".into());
    };
    let (images, layers): (usize, usize) = (images.parse()?, layers.parse()?);
    let store = Store::open(Path::new(root))?;
    for number in 0..images {
        let lease = store.lease()?;
        let layers = (0..layers)
            .map(|layer| add(&store, &lease, &format!("{number}.{layer}")))
            .collect::<Result<Vec<_>>>()?;
        put(&store, &lease, layers, number)?;
    }
    Ok(())
}

/// Adds a layer without files: an archive's end, and `mark` to make it another one than all others.
fn add(store: &Store, lease: &Lease, mark: &str) -> Result<Descriptor> {
    let mut archive = vec![0u8; 1024];
    archive.extend_from_slice(mark.as_bytes());
    let layer = Descriptor::of(MediaType::OciLayer, &archive);
    store.add_layer(lease, &layer, &layer.digest, archive.as_slice())?;
    Ok(layer)
}

fn put(store: &Store, lease: &Lease, layers: Vec<Descriptor>, number: usize) -> Result<()> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| layer.digest.to_string())
        .collect();
    // As much as a usual config has.
    let config = serde_json::json!({
        "created": "2026-01-02T03:04:05Z", "architecture": "amd64", "os": "linux",
        "config": {
            "Cmd": ["/usr/bin/server", "--port", "8080"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
            "Labels": { "org.opencontainers.image.title": format!("fill {number}") },
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": diff_ids.iter().map(|_| serde_json::json!({
            "created": "2026-01-02T03:04:05Z", "created_by": "COPY some of the files of this image # buildkit",
        })).collect::<Vec<_>>(),
    });
    let config = Document::new(MediaType::OciConfig, config.to_string().into_bytes());
    let manifest = Manifest::new(MediaType::OciManifest, config.descriptor.clone(), layers);
    let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
    let new = NewImage {
        manifest: Document::new(MediaType::OciManifest, manifest),
        config,
        index: None,
        inner: Vec::new(),
        names: vec![format!("localhost/fill/{number}:1")],
        signatures: Vec::new(),
    };
    store.put_image(lease, new).map(drop)
}
