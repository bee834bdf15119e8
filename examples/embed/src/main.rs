//! The engine inside a program of your own, as k0s or k3s would have it: no daemon, no socket, no crate of
//! floe's but `engine`. It keeps everything in a directory of its own, pulls an image, runs a pod with one
//! container, prints its log, ends with its exit code, and leaves nothing.
//!
//! ```text
//! embed DIRECTORY IMAGE [COMMAND...]      as root; the program floe-runtime beside it or on PATH
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use engine::events::{Happening, Notice, PodViews, Subscription};
use engine::{Config, ContainerSpec, ContainerState, Engine, PodSpec, PullRequest};
use tokio::runtime::{Builder, Runtime};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, image, command @ ..] = arguments.as_slice() else {
        eprintln!("usage: embed DIRECTORY IMAGE [COMMAND...]");
        return ExitCode::from(2);
    };
    let home = match Home::make(Path::new(directory)) {
        Ok(home) => home,
        Err(error) => return failed(&*error),
    };
    match home
        .engine(image)
        .and_then(|engine| run(&engine, &home, image, command))
    {
        Ok(code) => code,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("embed: {error}");
    ExitCode::FAILURE
}

/// From an image's name to the exit code of a container of it.
fn run(engine: &Engine, home: &Home, image: &str, command: &[String]) -> Outcome<ExitCode> {
    // What lasts is async and wants a runtime of tokio's; everything else blocks.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let request = PullRequest {
        image: image.to_owned(),
        ..PullRequest::default()
    };
    let image_id = runtime.block_on(engine.pull_image(request))?;
    println!("pulled {image_id}");

    let pod = Pod::run(engine, home)?;
    println!("pod {}", pod.id);
    let container = ContainerSpec {
        name: "main".to_owned(),
        image: image_id,
        args: command.to_vec(),
        log_path: Some("main.log".into()),
        ..ContainerSpec::default()
    };
    let container = engine.create_container(&pod.id, container)?;
    let events = engine.subscribe()?;
    engine.start_container(&container)?;
    let code = ended(&runtime, events, &container)?;
    // Each line with its time and stream, as kubelet wants them.
    print!("{}", std::fs::read_to_string(home.logs().join("main.log"))?);
    println!("exit code {code}");
    pod.remove()?;
    Ok(ExitCode::from(u8::try_from(code)?))
}

/// Waits for the container's end: the first notice is how things are, and what comes after it is news.
fn ended(runtime: &Runtime, mut events: Subscription, container: &str) -> Outcome<i32> {
    loop {
        let known = match runtime.block_on(events.next())? {
            Notice::Present(pods) => pods.iter().find_map(|pod| exit_code(pod, container)),
            Notice::Event(event) if event.what == Happening::Stopped => {
                exit_code(&event.views, container)
            }
            Notice::Event(_) | Notice::Gap { .. } => None,
        };
        if let Some(code) = known {
            return Ok(code);
        }
    }
}

fn exit_code(pod: &PodViews, container: &str) -> Option<i32> {
    let container = pod.containers.iter().find(|one| one.id == container)?;
    match container.state {
        ContainerState::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    }
}

/// A pod, removed with all that is in it.
struct Pod<'a> {
    engine: &'a Engine,
    id: String,
}

impl<'a> Pod<'a> {
    fn run(engine: &'a Engine, home: &Home) -> Outcome<Self> {
        let id = engine.run_pod(PodSpec {
            name: "hello".to_owned(),
            namespace: "embedded".to_owned(),
            log_directory: Some(home.logs()),
            // With false it has an address on the bridge that the configuration names.
            network_none: true,
            ..PodSpec::default()
        })?;
        Ok(Self { engine, id })
    }

    fn remove(self) -> Outcome<()> {
        Ok(self.engine.remove_pod(&self.id)?)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        // A second removal finds nothing to do.
        if let Err(error) = self.engine.remove_pod(&self.id) {
            eprintln!("embed: pod {} stays: {error}", self.id);
        }
    }
}

/// Where this program's engine lives: a directory and a cgroup of its own, both gone when dropped. A real
/// node keeps them: pods outlive the program, and the next [`Engine::recover`] finds them.
struct Home {
    directory: PathBuf,
    cgroup: String,
}

impl Home {
    fn make(directory: &Path) -> Outcome<Self> {
        std::fs::create_dir(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Self {
            directory: directory.canonicalize()?,
            cgroup: format!("/embed-{}", std::process::id()),
        })
    }

    fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    fn engine(&self, image: &str) -> Outcome<Engine> {
        let engine = Engine::open(self.config(image)?)?;
        engine.prepare()?;
        engine.recover();
        Ok(engine)
    }

    /// Every key of docs/configuration.md is a field; [`Config::load`] reads files instead.
    fn config(&self, image: &str) -> Outcome<Config> {
        let file = |name: &str, text: &str| -> Outcome<PathBuf> {
            let path = self.directory.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let mut config = Config::default();
        config.root_table.root = self.directory.join("root");
        config.root_table.runroot = self.directory.join("run");
        config.root_table.log_dir = self.logs();
        config.runtime.cgroup_parent = self.cgroup.clone();
        let anything = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        config.image.signature_policy = file("policy.json", anything)?;
        config.image.registries_conf = file("registries.conf", &registries(image))?;
        Ok(config)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("embed: {}: {error}", self.directory.display());
        }
        // The parent of the pods' cgroups is whose configuration names it; only an empty one goes.
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
        for hierarchy in hierarchies.map(|entry| entry.path()).chain([root.into()]) {
            let _ = std::fs::remove_dir(hierarchy.join(self.cgroup.trim_start_matches('/')));
        }
    }
}

/// A registry on loopback has no certificate.
fn registries(image: &str) -> String {
    let host = image.split('/').next().unwrap_or_default();
    match host.starts_with("127.") || host.starts_with("localhost") {
        true => format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n"),
        false => String::new(),
    }
}
