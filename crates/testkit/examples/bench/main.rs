//! `make bench`: floe beside Debian's containerd, crun, runc and podman, in one run on one
//! machine. Prints and writes a Markdown page of medians and ratios; asserts nothing.
//! Everything runs in a private network and private directories.
//!
//! Usage: bench [PAGE.md]

mod counts;
mod cri_verbs;
mod images;
mod memory;
mod people;
mod runtimes;
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
    let mut page = table::Page::new()?;
    page.section(runtimes::compare()?);
    page.section(counts::compare()?);
    page.section(tokio.block_on(cri_verbs::compare(&registry, &image, &pause))?);
    page.section(tokio.block_on(memory::compare(&registry, &image, &pause))?);
    page.section(tokio.block_on(images::compare(&registry, &pause))?);
    page.section(people::compare(&registry, &image)?);
    print!("{}", page.text());
    match std::env::args().nth(1) {
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
