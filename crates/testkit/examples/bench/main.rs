//! `make bench`: floe beside Debian's containerd, crun, runc and podman, in one run on one
//! machine. Prints and writes a Markdown page of medians and ratios; asserts nothing.
//! Everything runs in a private network and private directories.
//!
//! Usage: bench [PAGE.md] [SECTION…], where a section is runtimes, counts, verbs, pods, memory, images,
//! people or scale; all of them without one.

mod counts;
mod cri_verbs;
mod images;
mod memory;
mod people;
mod pods;
mod runtimes;
mod scale;
mod table;

use testkit::{Error, Registry, net};

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
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| *word == name);
    let mut page = table::Page::new()?;
    if wanted("runtimes") {
        page.section(runtimes::compare()?);
    }
    if wanted("counts") {
        page.section(counts::compare()?);
    }
    if wanted("verbs") {
        page.section(tokio.block_on(cri_verbs::compare(&registry, &image, &pause))?);
    }
    if wanted("pods") {
        page.section(tokio.block_on(pods::compare(&registry, &image))?);
    }
    if wanted("memory") {
        page.section(tokio.block_on(memory::compare(&registry, &image, &pause))?);
    }
    if wanted("images") {
        page.section(tokio.block_on(images::compare(&registry, &pause))?);
    }
    if wanted("people") {
        page.section(people::compare(&registry, &image)?);
    }
    if wanted("scale") {
        page.section(tokio.block_on(scale::compare(&registry, &image))?);
    }
    print!("{}", page.text());
    match pages.first() {
        Some(path) => Ok(std::fs::write(path, page.text())?),
        None => Ok(()),
    }
}

async fn push(registry: &Registry, image: &str, pause: &str) -> Result<(), Error> {
    let client = testkit::images::client(&[&registry.host()])?;
    let layer = [testkit::images::busybox()?];
    let config = |words: &[&str]| serde_json::json!({ "Cmd": words, "Env": ["PATH=/bin"] });
    testkit::images::push(&client, image, &layer, config(&["sh"])).await?;
    testkit::images::push(&client, pause, &layer, config(&["sleep", "2147483647"])).await?;
    Ok(())
}
