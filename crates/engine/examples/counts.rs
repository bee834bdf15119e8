//! What is computed for a container's creation, its start and a list, for `scripts/counts.sh`, which counts this
//! program's instructions by callgrind. It runs nothing, and the sample is the same on every machine.
//!
//! Usage: counts VERB DIRECTORY [again]; with `again` the verb's work is done twice, so that the difference is
//! the verb's alone.

use std::hint::black_box;
use std::path::Path;

use engine::counted::Sample;
use engine::crates::image::{Descriptor, Manifest, MediaType};
use engine::crates::store::{Document, Form, NewImage, Store};
use engine::{Config, ContainerFilter, Engine, PodFilter};
use runtime::seccomp::Filter;
use runtime::spec::Spec;

/// So many pods of one container are listed.
const PODS: u32 = 100;
/// What containers are made of: an image of so many layers.
const IMAGE: &str = "localhost/counts:1";
const LAYERS: usize = 5;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let times = if arguments.len() == 3 { 2 } else { 1 };
    let done = match arguments.as_slice() {
        [verb, directory] | [verb, directory, _] => run(verb, Path::new(directory), times),
        _ => Err("usage: counts VERB DIRECTORY [again]".into()),
    };
    if let Err(error) = done {
        eprintln!("counts: {error}");
        std::process::exit(1);
    }
}

fn run(verb: &str, directory: &Path, times: u32) -> Outcome {
    let sample = Sample::new(0);
    let mut config = Config::default();
    match verb {
        "samples" => {
            put_image(&Store::open(&directory.join("store"))?)?;
            (0..PODS).map(Sample::new).try_for_each(|sample| {
                sample.write(directory)?;
                Ok(sample.end(directory)?)
            })
        }
        "parse" => {
            let json = sample.config_json(&config.runtime)?;
            repeated(times, || Ok(serde_json::from_slice::<Spec>(&json)?))
        }
        "seccomp" => {
            let spec: Spec = serde_json::from_slice(&sample.config_json(&config.runtime)?)?;
            let profile = spec
                .linux
                .and_then(|linux| linux.seccomp)
                .ok_or("no profile")?;
            repeated(times, || Ok(Filter::compile(&profile)?))
        }
        "spec" => repeated(times, || Ok(sample.config_json(&config.runtime)?)),
        "create" => {
            let store = Store::open(&directory.join("store"))?;
            let image = store.find(IMAGE)?.ok_or("no samples")?;
            let mut made = 0;
            repeated(times, || {
                made += 1;
                black_box(store.create_writable_layer(&format!("{made}"), &image)?);
                let config = sample.config_json(&config.runtime)?;
                sample.write(directory)?;
                Ok(std::fs::write(directory.join("config.json"), config)?)
            })
        }
        "list" => {
            config.root_table.root = directory.join("root");
            config.root_table.runroot = directory.to_owned();
            let engine = Engine::open(config)?;
            repeated(times, || {
                let pods = engine.pods(&PodFilter::default())?.len();
                let containers = engine.containers(&ContainerFilter::default())?.len();
                match (pods, containers) == (PODS as usize, PODS as usize) {
                    true => Ok(()),
                    false => Err(format!("{pods} pods and {containers} containers").into()),
                }
            })
        }
        _ => Err("VERB is samples, parse, seccomp, spec, create or list".into()),
    }
}

/// Does the work so often; what it makes is made.
fn repeated<T>(times: u32, mut work: impl FnMut() -> Outcome<T>) -> Outcome {
    (0..times).try_for_each(|_| work().map(|made| drop(black_box(made))))
}

/// An image of layers without files: archives' ends, each with a mark after it.
fn put_image(store: &Store) -> Outcome {
    // Others are mounted, which valgrind has no words for, and nobody unmounts them here.
    store.set_layer_form(Form::Directory);
    let lease = store.lease()?;
    let mut layers = Vec::new();
    for number in 0..LAYERS {
        let mut archive = vec![0; 1024];
        archive.extend_from_slice(number.to_string().as_bytes());
        let layer = Descriptor::of(MediaType::OciLayer, &archive);
        store.add_layer(&lease, &layer, &layer.digest, archive.as_slice())?;
        layers.push(layer);
    }
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest.clone()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/bin/web"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = Document::new(MediaType::OciConfig, config.to_string().into_bytes());
    let manifest = Manifest::new(MediaType::OciManifest, config.descriptor.clone(), layers);
    let new = NewImage {
        manifest: Document::new(MediaType::OciManifest, serde_json::to_vec(&manifest)?),
        config,
        index: None,
        inner: Vec::new(),
        names: vec![IMAGE.into()],
        signatures: Vec::new(),
    };
    store.put_image(&lease, new)?;
    Ok(())
}
