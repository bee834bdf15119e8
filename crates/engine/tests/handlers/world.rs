//! An engine of one's own in this process, with a busybox image and a private network: dropped and
//! opened again it is another engine, as it keeps nothing of pods. Checked for leftovers at the end.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use engine::config::Sources;
use engine::container::ExecOutput;
use engine::handler::Ability;
use engine::pod::{NamespaceMode, NamespaceModes};
use engine::{
    Config, Container, ContainerSpec, ContainerState, Engine, PodSpec, PullRequest, Result,
};
use testkit::{Node, NodeOptions, Registry, images, net};

use crate::subjects::Subject;

/// What is waited for comes within that.
const SOON: Duration = Duration::from_secs(60);

/// What a test works with.
pub(crate) struct World<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) engine: Engine,
    pub(crate) node: Node,
    /// The id of a busybox image.
    pub(crate) image: String,
    runtime: tokio::runtime::Runtime,
}

/// Runs a test of a handler, or says why not.
pub(crate) fn run(subject: &Subject, test: fn(&mut World<'_>)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: pods need root");
        return;
    }
    if let Some(missing) = &subject.missing {
        eprintln!("SKIP: {missing}");
        return;
    }
    // Before any other thread exists, so that all of them are in the private network.
    net::isolate().unwrap();
    let registry = Registry::start().unwrap();
    let mut world = World::new(subject, &registry);
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&mut world)));
    let removed = world.clear();
    let cleaned = world.node.clean();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    removed.unwrap();
    cleaned.unwrap();
}

impl<'a> World<'a> {
    fn new(subject: &'a Subject, registry: &Registry) -> Self {
        let options = NodeOptions {
            insecure: vec![registry.host()],
            config: subject.config.clone(),
            ..NodeOptions::default()
        };
        let node = Node::prepare(&options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let engine = open(&node);
        let image = runtime.block_on(async {
            let name = format!("{}/test/busybox:1", registry.host());
            let client = images::client(&[&registry.host()]).unwrap();
            let layers = [images::busybox().unwrap()];
            let config = serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
            images::push(&client, &name, &layers, config).await.unwrap();
            let request = PullRequest {
                image: name,
                ..PullRequest::default()
            };
            engine.pull_image(request).await.unwrap()
        });
        Self {
            subject,
            engine,
            node,
            image,
            runtime,
        }
    }

    /// Another engine on the same roots; the one before is gone.
    pub(crate) fn reopen(&mut self) -> engine::Recovered {
        self.engine = open(&self.node);
        self.engine.recover()
    }

    fn clear(&mut self) -> Result<()> {
        for pod in self.engine.pods(&engine::PodFilter::default())? {
            self.engine.remove_pod(&pod.id)?;
        }
        Ok(())
    }

    /// Can the handler do that? It says so itself, and a test of it is for those that can.
    pub(crate) fn can(&self, ability: Ability) -> bool {
        let handlers = self.engine.runtime_handlers();
        let own = handlers.iter().find(|one| one.name == self.subject.name);
        let can = own.unwrap().abilities.has(ability);
        assert_eq!(can, !self.subject.lacks.contains(&ability), "{ability:?}");
        can
    }

    pub(crate) fn pod_spec(&self, name: &str) -> PodSpec {
        let logs = self.node.path("logs").join(name);
        PodSpec {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: "default".to_owned(),
            log_directory: Some(logs),
            namespaces: NamespaceModes {
                pid: NamespaceMode::Container,
                ..NamespaceModes::default()
            },
            runtime_handler: self.subject.name.to_owned(),
            network_none: true,
            size: Default::default(),
            ..PodSpec::default()
        }
    }

    pub(crate) fn pod(&self, name: &str) -> String {
        self.engine.run_pod(self.pod_spec(name)).unwrap()
    }

    /// A container that runs a script.
    pub(crate) fn spec(&self, name: &str, script: &str) -> ContainerSpec {
        let mut spec = ContainerSpec {
            name: name.to_owned(),
            image: self.image.clone(),
            command: ["sh", "-c", script].map(String::from).into(),
            log_path: Some(format!("{name}.log").into()),
            ..ContainerSpec::default()
        };
        spec.security.namespaces.pid = NamespaceMode::Container;
        spec
    }

    pub(crate) fn create(&self, pod: &str, name: &str, script: &str) -> String {
        let spec = self.spec(name, script);
        self.engine.create_container(pod, spec).unwrap()
    }

    /// A container that runs.
    pub(crate) fn run(&self, pod: &str, name: &str, script: &str) -> String {
        let id = self.create(pod, name, script);
        self.engine.start_container(&id).unwrap();
        id
    }

    pub(crate) fn container(&self, id: &str) -> Container {
        self.engine.container(id).unwrap()
    }

    /// The container's end: code and reason.
    pub(crate) fn ended(&self, id: &str) -> (i32, &'static str) {
        self.until(|| match self.container(id).state {
            ContainerState::Exited {
                exit_code, reason, ..
            } => Some((exit_code, reason)),
            _ => None,
        })
    }

    /// Waits for news.
    pub(crate) fn until<T>(&self, mut news: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(news) = news() {
                return news;
            }
            assert!(begun.elapsed() < SOON, "it did not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a command to its end.
    pub(crate) fn exec(
        &self,
        id: &str,
        command: &[&str],
        limit: Option<Duration>,
    ) -> Result<ExecOutput> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let exec = self.engine.exec_sync(id, &command, limit)?;
        self.wait(exec.finish())
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// What a container has written to its log, without times.
    pub(crate) fn log(&self, id: &str) -> String {
        let path = self.container(id).log_path.unwrap();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let words = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        words.map(|words| format!("{words}\n")).collect()
    }
}

fn open(node: &Node) -> Engine {
    let sources = Sources {
        file: Some(node.config()),
        dir: None,
    };
    let (config, unused) = Config::load(&sources).unwrap();
    assert!(unused.iter().all(|key| !key.matters()), "{unused:?}");
    Engine::open(config).unwrap()
}
