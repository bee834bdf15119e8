//! Counts that are the same on a busy machine: instructions of what the runtime computes (callgrind),
//! and system calls of a whole `run` (strace). A regression shows in them before it shows in time.

use std::path::Path;
use std::process::Command;

use testkit::{Error, program};

use crate::runtimes;
use crate::table::{Figure, Section};

pub(crate) fn compare() -> Result<Section, Error> {
    let (dir, config) = runtimes::bundle()?;
    let bundle = dir.path();
    let mut with_profile = config.clone();
    runtimes::seccomp(&mut with_profile)?;
    runtimes::write_config(bundle, &with_profile)?;
    let path = bundle.join("config.json");
    let nothing = instructions("nothing", &path)?;
    let parsed = instructions("parse", &path)?;
    let compiled = instructions("compile", &path)?;
    let thousands = |count: u64| Some(Figure::from(count as f64 / 1000.0));
    let mut rows = vec![
        (
            "parse config.json with podman's profile, thousand instructions".to_owned(),
            vec![thousands(parsed.saturating_sub(nothing)), None, None],
        ),
        (
            "compile that profile, thousand instructions".to_owned(),
            vec![thousands(compiled.saturating_sub(parsed)), None, None],
        ),
    ];
    runtimes::write_config(bundle, &config)?;
    let calls = runtimes::programs()?
        .iter()
        .map(|program| system_calls(program, bundle).map(|calls| Some(calls.into())))
        .collect::<Result<_, _>>()?;
    rows.push((
        "run of `true`, system calls of all its processes".to_owned(),
        calls,
    ));
    Ok(Section {
        title: "Counts".into(),
        about: "Independent of how busy the machine is: callgrind's instructions, and what strace sees.".into(),
        who: runtimes::WHO.map(String::from).to_vec(),
        unit: "",
        rows,
    })
}

/// Instructions of an example of the crate `runtime`, as callgrind counts them.
fn instructions(what: &str, config: &Path) -> Result<u64, Error> {
    let example = program("instructions")?;
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(example)
        .arg(what)
        .arg(config)
        .output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    let count = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind counts nothing: {said}").into())
}

/// System calls of one `run` and all that it starts.
fn system_calls(program: &Path, bundle: &Path) -> Result<f64, Error> {
    let state = tempfile::Builder::new().prefix("floe-bench-").tempdir()?;
    let summary = state.path().join("calls");
    let id = format!("floe-bench-{}", std::process::id());
    let status = Command::new("strace")
        .args(["-f", "-c", "-U", "calls,name", "-o"])
        .arg(&summary)
        .arg(program)
        .arg("--root")
        .arg(state.path().join("state"))
        .args(["run", &id])
        .current_dir(bundle)
        .stdin(std::process::Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("strace {}: {status}", program.display()).into());
    }
    let text = std::fs::read_to_string(&summary)?;
    let total = text.lines().find_map(|line| line.strip_suffix("total"));
    Ok(total.ok_or("strace counts nothing")?.trim().parse()?)
}
