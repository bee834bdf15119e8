//! `floe-runtime` beside crun and runc, on one bundle in several configurations: what each chapter of
//! the configuration costs, and what a whole life cycle and an exec do.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Error, images, program};

use crate::calm::Calm;
use crate::table::{Figure, Section, figure};

const ROUNDS: usize = 30;
pub(crate) const WHO: [&str; 3] = ["floe-runtime", "crun", "runc"];
/// podman's profile, of which the rules that hold for every container are taken.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// A change of the default configuration, and its name in the table.
type Variant = (&'static str, fn(&mut Value) -> Result<(), Error>);

const VARIANTS: [Variant; 5] = [
    ("run", |_| Ok(())),
    ("run, with podman's seccomp profile", seccomp),
    ("run, with limits of memory, CPU and processes", limits),
    ("run, in a user namespace", users),
    ("run, in the host's network", host_network),
];

pub(crate) fn compare(calm: &mut Calm) -> Result<Section, Error> {
    let (dir, config) = bundle()?;
    let bundle = dir.path();
    let mut rows = Vec::new();
    for (name, change) in VARIANTS {
        let mut changed = config.clone();
        change(&mut changed)?;
        write_config(bundle, &changed)?;
        let samples = rounds(calm, |program, state, id| {
            call(program, state, bundle, &["run", id])
        })?;
        rows.push((name.to_owned(), samples));
    }
    write_config(bundle, &config)?;
    let steps = rounds(calm, |program, state, id| {
        call(program, state, bundle, &["create", id])?;
        call(program, state, bundle, &["start", id])?;
        call(program, state, bundle, &["delete", "--force", id])
    })?;
    rows.push(("create + start + delete".to_owned(), steps));
    rows.push(("exec".to_owned(), execs(calm, bundle, &config)?));
    rows.push((
        "peak memory of a foreground run, MiB".to_owned(),
        peaks(bundle, &config)?,
    ));
    Ok(Section {
        title: "OCI runtime".into(),
        about: format!("`true` of a static busybox, the bundle of `runc spec`, {ROUNDS} rounds."),
        who: WHO.map(String::from).to_vec(),
        unit: "ms",
        rows,
    })
}

/// A bundle of busybox, and the configuration that all variants start from.
pub(crate) fn bundle() -> Result<(TempDir, Value), Error> {
    let dir = tempfile::Builder::new().prefix("floe-bench-").tempdir()?;
    let bundle = dir.path();
    tar::Archive::new(images::busybox()?.as_slice()).unpack(bundle.join("rootfs"))?;
    // A user namespace looks in from above.
    std::fs::set_permissions(bundle, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let config = default_config(bundle)?;
    Ok((dir, config))
}

pub(crate) fn programs() -> Result<[std::path::PathBuf; 3], Error> {
    Ok([
        program("floe-runtime")?,
        "/usr/bin/crun".into(),
        "/usr/sbin/runc".into(),
    ])
}

/// Figures of something done with each of the programs, one after the other.
fn rounds(
    calm: &mut Calm,
    act: impl Fn(&Path, &Path, &str) -> Result<(), Error>,
) -> Result<Vec<Option<Figure>>, Error> {
    let state = tempfile::Builder::new().prefix("floe-bench-").tempdir()?;
    let samples: [Vec<Duration>; 3] = calm.rounds(ROUNDS, |round| {
        let mut samples = <[Vec<Duration>; 3]>::default();
        for (who, program) in programs()?.iter().enumerate() {
            let id = format!("floe-bench-{}-{round}", std::process::id());
            let state = state.path().join(WHO[who]);
            samples[who].push(timed(|| act(program, &state, &id))?);
        }
        Ok(samples)
    })?;
    Ok(samples.into_iter().map(figure).collect())
}

/// A container that sleeps until it is killed.
fn write_sleeper(bundle: &Path, config: &Value) -> Result<(), Error> {
    let mut sleeping = config.clone();
    sleeping["process"]["args"] = json!(["/bin/sleep", "1000"]);
    write_config(bundle, &sleeping)
}

/// exec of `true` in a container that sleeps.
fn execs(calm: &mut Calm, bundle: &Path, config: &Value) -> Result<Vec<Option<Figure>>, Error> {
    write_sleeper(bundle, config)?;
    let state = tempfile::Builder::new().prefix("floe-bench-").tempdir()?;
    let id = format!("floe-bench-{}", std::process::id());
    let mut all = Vec::new();
    for (who, program) in WHO.iter().zip(programs()?) {
        let state = state.path().join(who);
        call(&program, &state, bundle, &["run", "-d", &id])?;
        let samples = calm.rounds(ROUNDS, |_| {
            let exec = || call(&program, &state, bundle, &["exec", &id, "/bin/true"]);
            Ok(vec![timed(exec)?])
        })?;
        call(&program, &state, bundle, &["delete", "--force", &id])?;
        all.push(figure(samples));
    }
    Ok(all)
}

/// The most memory that a `run` in the foreground has held once its container runs (VmHWM).
fn peaks(bundle: &Path, config: &Value) -> Result<Vec<Option<Figure>>, Error> {
    write_sleeper(bundle, config)?;
    let state = tempfile::Builder::new().prefix("floe-bench-").tempdir()?;
    let id = format!("floe-bench-{}", std::process::id());
    let mut all = Vec::new();
    for (who, program) in WHO.iter().zip(programs()?) {
        let state = state.path().join(who);
        let mut run = command(&program, &state, bundle, &["run", &id]).spawn()?;
        let peak = wait_until_running(&program, &state, bundle, &id).and_then(|()| peak_of(&run));
        // A run in the foreground removes it by itself.
        call(&program, &state, bundle, &["kill", &id, "KILL"])?;
        run.wait()?;
        all.push(Some(peak?.into()));
    }
    Ok(all)
}

fn wait_until_running(program: &Path, state: &Path, bundle: &Path, id: &str) -> Result<(), Error> {
    for _ in 0..400 {
        let mut command = command(program, state, bundle, &["state", id]);
        let told = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .output()?;
        if String::from_utf8_lossy(&told.stdout).contains("\"running\"") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("{}: {id} does not run", program.display()).into())
}

pub(crate) fn peak_of(run: &Child) -> Result<f64, Error> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.ok_or("no VmHWM")?;
    let kib: f64 = words.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Those of podman's rules that hold whatever the container has, for this machine's kind.
pub(crate) fn seccomp(config: &mut Value) -> Result<(), Error> {
    let profile: Value = serde_json::from_slice(&std::fs::read(PROFILE)?)?;
    let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    let always = |rule: &Value| {
        let here = rule["includes"]["arches"].as_array();
        let here = here.is_some_and(|all| all.contains(&json!("amd64")));
        (empty(&rule["includes"]) || here) && empty(&rule["excludes"])
    };
    let rules = profile["syscalls"].as_array().ok_or("no syscalls")?;
    let rules: Vec<Value> = rules
        .iter()
        .filter(|rule| always(rule))
        .map(|rule| json!({ "names": rule["names"], "action": rule["action"], "errnoRet": rule["errnoRet"], "args": rule["args"] }))
        .collect();
    config["linux"]["seccomp"] = json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    });
    Ok(())
}

fn limits(config: &mut Value) -> Result<(), Error> {
    let resources = &mut config["linux"]["resources"];
    resources["memory"] = json!({ "limit": 256 << 20 });
    resources["cpu"] = json!({ "shares": 512, "quota": 50_000, "period": 100_000 });
    resources["pids"] = json!({ "limit": 1000 });
    Ok(())
}

fn users(config: &mut Value) -> Result<(), Error> {
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 65536 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    namespaces
        .ok_or("no namespaces")?
        .push(json!({ "type": "user" }));
    Ok(())
}

fn host_network(config: &mut Value) -> Result<(), Error> {
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    let namespaces = namespaces.ok_or("no namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "network");
    Ok(())
}

/// runc's own default configuration, with another command and without a terminal.
fn default_config(bundle: &Path) -> Result<Value, Error> {
    let made = Command::new("/usr/sbin/runc")
        .arg("spec")
        .current_dir(bundle)
        .status()?;
    if !made.success() {
        return Err("runc spec failed".into());
    }
    let text = std::fs::read(bundle.join("config.json"))?;
    let mut config: Value = serde_json::from_slice(&text)?;
    config["process"]["args"] = json!(["/bin/true"]);
    config["process"]["terminal"] = false.into();
    Ok(config)
}

pub(crate) fn write_config(bundle: &Path, config: &Value) -> Result<(), Error> {
    let text = serde_json::to_vec(config)?;
    Ok(std::fs::write(bundle.join("config.json"), text)?)
}

fn command(program: &Path, state: &Path, bundle: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--root")
        .arg(state)
        .args(arguments)
        .current_dir(bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Warnings of what this machine does not allow.
        .stderr(Stdio::null());
    command
}

fn call(program: &Path, state: &Path, bundle: &Path, arguments: &[&str]) -> Result<(), Error> {
    let status = command(program, state, bundle, arguments).status()?;
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
