//! `floe-runtime run` of `true` beside crun and runc, on one bundle.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{Error, images, program};

use crate::table::{Section, median};

const ROUNDS: usize = 40;

pub(crate) fn compare() -> Result<Section, Error> {
    let dir = tempfile::Builder::new().prefix("floe-bench-").tempdir()?;
    let bundle = dir.path();
    tar::Archive::new(images::busybox()?.as_slice()).unpack(bundle.join("rootfs"))?;
    write_config(bundle)?;
    let programs = [
        program("floe-runtime")?,
        "/usr/bin/crun".into(),
        "/usr/sbin/runc".into(),
    ];
    let mut run = [Vec::new(), Vec::new(), Vec::new()];
    let mut steps = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (who, program) in programs.iter().enumerate() {
            let state = bundle.join(format!("state-{who}"));
            let id = format!("floe-bench-{}-{round}", std::process::id());
            run[who].push(timed(|| call(program, &state, bundle, &["run", &id]))?);
            steps[who].push(timed(|| {
                call(program, &state, bundle, &["create", &id])?;
                call(program, &state, bundle, &["start", &id])?;
                call(program, &state, bundle, &["delete", "--force", &id])
            })?);
        }
    }
    let row = |what: &str, samples: [Vec<Duration>; 3]| {
        (what.to_owned(), samples.into_iter().map(median).collect())
    };
    Ok(Section {
        title: "OCI runtime".into(),
        about: format!("`true` of a static busybox, the bundle of `runc spec`, {ROUNDS} rounds."),
        who: ["floe-runtime", "crun", "runc"].map(String::from).to_vec(),
        unit: "ms",
        rows: vec![row("run", run), row("create + start + delete", steps)],
    })
}

/// runc's own default configuration, with another command and without a terminal.
fn write_config(bundle: &Path) -> Result<(), Error> {
    let made = Command::new("/usr/sbin/runc")
        .arg("spec")
        .current_dir(bundle)
        .status()?;
    if !made.success() {
        return Err("runc spec failed".into());
    }
    let path = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config["process"]["args"] = serde_json::json!(["/bin/true"]);
    config["process"]["terminal"] = false.into();
    Ok(std::fs::write(path, serde_json::to_vec(&config)?)?)
}

fn call(program: &Path, state: &Path, bundle: &Path, arguments: &[&str]) -> Result<(), Error> {
    let status = Command::new(program)
        .arg("--root")
        .arg(state)
        .args(arguments)
        .current_dir(bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} {arguments:?}: {status}", program.display()).into())
    }
}

pub(crate) fn timed(act: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
    let begin = Instant::now();
    act()?;
    Ok(begin.elapsed())
}
