//! Measures what every container start and every kubelet sync asks of a store with many images.
//!
//! `cargo run --release -p store --example hot_path -- ROOT [IMAGES]`: the store is made below `ROOT`
//! and removed afterwards. Prints the median and the slowest of 200 rounds of each call.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use image::{Descriptor, Digest, Manifest, MediaType};
use store::{Document, Lease, NewImage, Result, Store};

const ROUNDS: usize = 200;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = arguments.first().ok_or("usage: hot_path ROOT [IMAGES]")?;
    let images = arguments
        .get(1)
        .map_or(Ok(100), |images| images.parse::<usize>())?;
    let root = Path::new(root).join("hot_path");
    let store = Store::open(&root)?;
    let lease = store.lease()?;
    // An archive without entries is a layer as good as any here.
    let archive = [0u8; 1024];
    let layer = Descriptor::of(MediaType::OciLayer, &archive);
    store.add_layer(&lease, &layer, &Digest::of(&archive), archive.as_slice())?;
    for number in 0..images {
        put(&store, &lease, &layer, number)?;
    }
    let name = |number: usize| format!("example.com/image/{number}:latest");
    let record = store.find(&name(0))?.ok_or("the image is gone")?;
    store.settle()?;
    measure("images", |_| store.images().map(drop))?;
    measure("find by name", |round| {
        store.find(&name(round % images)).map(drop)
    })?;
    measure("find by ID", |_| store.find(&record.id).map(drop))?;
    measure("open", |_| Store::open(&root).map(drop))?;
    measure("create_rw", |round| {
        store.create_rw(&format!("c{round}"), &record).map(drop)
    })?;
    measure("rw_usage", |round| {
        store.rw_usage(&format!("c{round}")).map(drop)
    })?;
    measure("remove_rw", |round| store.remove_rw(&format!("c{round}")))?;
    measure("put_image", |round| {
        put(&store, &lease, &layer, images + round)
    })?;
    drop(lease);
    drop(store);
    fs::remove_dir_all(&root)?;
    Ok(())
}

fn put(store: &Store, lease: &Lease, layer: &Descriptor, number: usize) -> Result<()> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"n":"{number}"}}}},
        "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        layer.digest
    );
    let config = Document::new(MediaType::OciConfig, config.into_bytes());
    let manifest = Manifest::new(
        MediaType::OciManifest,
        config.descriptor.clone(),
        vec![layer.clone()],
    );
    let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
    let new = NewImage {
        manifest: Document::new(MediaType::OciManifest, manifest),
        config,
        index: None,
        names: vec![format!("example.com/image/{number}:latest")],
    };
    store.put_image(lease, new).map(drop)
}

fn measure(what: &str, mut call: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let begin = Instant::now();
        call(round)?;
        times.push(begin.elapsed());
    }
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{what:12} {:7.3} ms, slowest {:7.3} ms",
        millis(times[ROUNDS / 2]),
        millis(times[ROUNDS - 1])
    );
    Ok(())
}
