//! What the runtime computes before its first clone: config.json is parsed and the seccomp filter
//! compiled. `make bench` counts this program's instructions with callgrind: a count that does not
//! depend on how busy the machine is. It makes nothing, and asks nothing of the kernel.
//!
//! Usage: instructions nothing|parse|compile CONFIG.JSON

use std::hint::black_box;

use runtime::seccomp::Filter;
use runtime::spec::Spec;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, path] = arguments.as_slice() else {
        eprintln!("usage: instructions nothing|parse|compile CONFIG.JSON");
        std::process::exit(2);
    };
    if let Err(error) = run(what, path) {
        eprintln!("instructions: {error}");
        std::process::exit(1);
    }
}

fn run(what: &str, path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read(path)?;
    if what == "nothing" {
        return Ok(());
    }
    let spec: Spec = serde_json::from_slice(&text)?;
    if what == "compile" {
        let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        black_box(Filter::compile(profile.ok_or("no profile")?)?);
    }
    black_box(spec);
    Ok(())
}
