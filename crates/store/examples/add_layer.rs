//! Measures how long a layer takes from its compressed file to a layer in a new store, to the disk, and away again,
//! in each form in turn.
//!
//! `cargo run --release -p store --example add_layer -- LAYER.tar.gz ROOT [ROUNDS]`: each round adds
//! the layer to a new store below `ROOT`, which is removed afterwards. Told are the least and the median.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use image::{Descriptor, Digest, Hasher, MediaType};
use store::{Form, Store};

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
    let layer = (Path::new(layer), &descriptor, &diff_id);
    let forms = [Form::Directory, Form::Erofs];
    let mut figures = forms.map(|form| (form, [Vec::new(), Vec::new(), Vec::new()]));
    for round in 0..rounds {
        for (form, all) in &mut figures {
            let root = Path::new(root).join(format!("round{round}"));
            let times = measure(&root, *form, layer)?;
            fs::remove_dir_all(&root)?;
            for (all, time) in all.iter_mut().zip(times) {
                all.push(time);
            }
        }
    }
    for (form, all) in figures {
        for (what, mut times) in ["add", "add and sync", "remove"].into_iter().zip(all) {
            times.sort_by(f64::total_cmp);
            if let (Some(least), Some(median)) = (times.first(), times.get(times.len() / 2)) {
                println!("{form} {what}: least {least:.3} s, median {median:.3} s");
            }
        }
    }
    Ok(())
}

/// Seconds until the layer is there, until it is on disk, and what its removal takes.
fn measure(
    root: &Path,
    form: Form,
    (file, descriptor, diff_id): (&Path, &Descriptor, &Digest),
) -> Result<[f64; 3], Box<dyn Error>> {
    let store = Store::open(root)?;
    store.set_layer_form(form);
    if store.form_of_new_layers() != form {
        return Err(format!("layers cannot have the form {form} here").into());
    }
    let lease = store.lease()?;
    let begin = Instant::now();
    store.add_layer(&lease, descriptor, diff_id, File::open(file)?)?;
    let added = begin.elapsed();
    store.settle()?;
    let settled = begin.elapsed();
    drop(lease);
    let begin = Instant::now();
    store.gc()?;
    Ok([added, settled, begin.elapsed()].map(|time| time.as_secs_f64()))
}

fn hash(mut reader: impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher: Hasher = Digest::hasher();
    let size = io::copy(&mut reader, &mut hasher)?;
    Ok((hasher.finish(), size))
}
