//! `make bench`: floe beside Debian's containerd, crun, runc and podman, in one run on one
//! machine. Prints and writes a Markdown page of medians, spreads and ratios, and of what else the machine did
//! meanwhile (`calm.rs`); asserts nothing.
//! Everything runs in a private network and private directories.
//!
//! Usage: bench [PAGE.md] [SECTION…], where a section is runtimes, counts, verbs, streams, pods, memory,
//! images, layers, people or scale; all of them without one.

mod calm;
mod counts;
mod cri_verbs;
mod images;
mod layers;
mod memory;
mod people;
mod pods;
mod runtimes;
mod scale;
mod streams;
mod table;

use calm::Calm;
use testkit::{Clients, Error, NodeOptions, Registry, net};

/// The sections, and how many rounds of each may be repeated where others disturbed them.
const SECTIONS: [(&str, usize); 10] = [
    ("runtimes", 60),
    ("counts", 0),
    ("verbs", 20),
    ("streams", 10),
    ("pods", 40),
    ("memory", 0),
    ("images", 5),
    ("layers", 5),
    ("people", 24),
    ("scale", 10),
];

fn main() {
    let done = net::isolate()
        .and_then(|()| net::without_hybrid_cgroups())
        .and_then(|()| run());
    if let Err(error) = done {
        eprintln!("bench failed: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Error> {
    let registry = Registry::start()?;
    let image = format!("{}/bench/busybox:1", registry.host());
    let pause = format!("{}/bench/pause:1", registry.host());
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio.block_on(push(&registry, &image, &pause))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (pages, only): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|word| word.ends_with(".md"));
    if let Some(unknown) = only
        .iter()
        .find(|word| SECTIONS.iter().all(|one| one.0 != **word))
    {
        return Err(format!("{unknown}: no such section").into());
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| *word == name);
    let mut page = table::Page::new()?;
    for (name, repeats) in SECTIONS {
        if !wanted(name) {
            continue;
        }
        let calm = &mut Calm::begin(repeats)?;
        let section = match name {
            "runtimes" => runtimes::compare(calm)?,
            "counts" => counts::compare()?,
            "verbs" => tokio.block_on(cri_verbs::compare(calm, &registry, &image, &pause))?,
            "streams" => tokio.block_on(streams::compare(calm, &registry, &image, &pause))?,
            "pods" => tokio.block_on(pods::compare(calm, &registry, &image))?,
            "memory" => tokio.block_on(memory::compare(&registry, &image, &pause))?,
            "images" => tokio.block_on(images::compare(calm, &registry, &pause))?,
            "layers" => tokio.block_on(layers::compare(calm, &registry, &pause))?,
            "people" => people::compare(calm, &registry, &image)?,
            _ => tokio.block_on(scale::compare(calm, &registry, &image))?,
        };
        page.section(section, &calm.words()?);
    }
    print!("{}", page.text());
    match pages.first() {
        Some(path) => Ok(std::fs::write(path, page.text())?),
        None => Ok(()),
    }
}

/// A node as operators have it, with images from this registry.
fn options(registry: &Registry) -> NodeOptions {
    NodeOptions {
        insecure: vec![registry.host()],
        as_on_a_node: true,
        ..NodeOptions::default()
    }
}

async fn pull(cri: &mut Clients, image: &str) -> Result<(), Error> {
    let request = cri::PullImageRequest {
        image: Some(cri_verbs::spec(image)),
        ..Default::default()
    };
    cri.images.pull_image(request).await?;
    Ok(())
}

async fn push(registry: &Registry, image: &str, pause: &str) -> Result<(), Error> {
    let client = testkit::images::client(&[&registry.host()])?;
    let layer = [testkit::images::busybox()?];
    let config = |words: &[&str]| serde_json::json!({ "Cmd": words, "Env": ["PATH=/bin"] });
    testkit::images::push(&client, image, &layer, config(&["sh"])).await?;
    testkit::images::push(&client, pause, &layer, config(&["sleep", "2147483647"])).await?;
    Ok(())
}
