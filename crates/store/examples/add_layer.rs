//! Measures how long a layer takes from its compressed file to a layer in a new store.
//!
//! `cargo run --release -p store --example add_layer -- LAYER.tar.gz ROOT [ROUNDS]`: each round adds
//! the layer to a new store below `ROOT`, which is removed afterwards.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use image::{Descriptor, Digest, Hasher, MediaType};
use store::Store;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layer, root, rounds @ ..] = arguments.as_slice() else {
        return Err("usage: add_layer LAYER.tar.gz ROOT [ROUNDS]".into());
    };
    let rounds = rounds
        .first()
        .map_or(Ok(3), |rounds| rounds.parse::<u32>())?;
    let (digest, size) = hash(File::open(layer)?)?;
    let (diff_id, unpacked) = hash(MultiGzDecoder::new(File::open(layer)?))?;
    println!(
        "{layer}: {} MB, unpacked {} MB",
        size / 1_000_000,
        unpacked / 1_000_000
    );
    let descriptor = Descriptor::new(MediaType::OciLayerGzip, digest, size);
    for round in 0..rounds {
        let root = Path::new(root).join(format!("round{round}"));
        let store = Store::open(&root)?;
        let lease = store.lease()?;
        let begin = Instant::now();
        store.add_layer(&lease, &descriptor, &diff_id, File::open(layer)?)?;
        println!("round {round}: {:.3} s", begin.elapsed().as_secs_f64());
        drop(lease);
        fs::remove_dir_all(&root)?;
    }
    Ok(())
}

fn hash(mut reader: impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher: Hasher = Digest::hasher();
    let size = io::copy(&mut reader, &mut hasher)?;
    Ok((hasher.finish(), size))
}
