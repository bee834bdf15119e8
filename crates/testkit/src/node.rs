//! A private engine: `floe serve` with its own roots, socket, cgroup parent and registries.conf,
//! and clients of its CRI socket.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::registry::die_with_parent;
use crate::{Error, leftovers, program};

/// The end of the names of systemd's slices.
const SLICE: &str = ".slice";

/// How a node differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Hosts reached over plain HTTP.
    pub insecure: Vec<String>,
    /// (registry name, host on loopback that mirrors it)
    pub mirrors: Vec<(String, String)>,
    /// Lines of TOML appended to the configuration.
    pub config: String,
    /// Lines of the table `[crio.image]`, beside its paths, which are the node's own.
    pub image: String,
    /// Lines of the table `[crio.nri]`, beside its paths, which are the node's own.
    pub nri: String,
    /// As nodes are rather than as tests want it, for what is measured: the run directory is on a tmpfs
    /// (`/dev/shm`), and the log says what it says by default.
    pub as_on_a_node: bool,
    /// systemd makes the cgroups, in a slice of the node's own; it must be the host's init.
    pub systemd: bool,
}

/// A private engine; everything of it goes when dropped.
#[derive(Debug)]
pub struct Node {
    dir: TempDir,
    /// The run directory, if it is not in `dir`.
    run: Option<TempDir>,
    /// `None`: the configuration's.
    log_level: Option<&'static str>,
    cgroup: String,
    process: Option<Child>,
}

/// What the engine's log says once it has cleared away what the last one left.
const RECOVERED: &str = "state of the last run";

/// Clients of one CRI socket.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
    /// The connection, for who speaks by himself.
    pub channel: Channel,
}

impl Node {
    /// Makes the private directory and configuration, and starts `floe serve`.
    ///
    /// # Errors
    /// The programs are not built, or the engine does not come up within 10 s.
    pub fn start(options: &NodeOptions) -> Result<Self, Error> {
        let mut node = Self::prepare(options)?;
        node.serve()?;
        Ok(node)
    }

    /// As [`Node::start`], without starting the engine: for the command line alone.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn prepare(options: &NodeOptions) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("floe-node-").tempdir()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = std::process::id();
        let cgroup = match options.systemd {
            // Its name tells where a slice is: without a dash, at the top.
            true => format!("/floetest{own}x{number}{SLICE}"),
            false => format!("/floe-test-{own}-{number}"),
        };
        let on_tmpfs = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("floe-run-").tempdir_in("/dev/shm")
        };
        let node = Self {
            dir,
            run: options.as_on_a_node.then(on_tmpfs).transpose()?,
            log_level: (!options.as_on_a_node).then_some("debug"),
            cgroup,
            process: None,
        };
        for made in [
            "logs",
            "cni",
            "registries.conf.d",
            "registries.d",
            "policies",
        ] {
            std::fs::create_dir(node.path(made))?;
        }
        std::fs::write(node.path("registries.conf"), registries(options))?;
        std::fs::write(
            node.path("policy.json"),
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )?;
        std::fs::write(node.config(), node.config_text(options)?)?;
        Ok(node)
    }

    fn config_text(&self, options: &NodeOptions) -> Result<String, Error> {
        let dir = self.dir.path().display();
        let run = self.run.as_ref().map(|run| run.path().to_owned());
        let run = run.unwrap_or_else(|| self.path("run"));
        let run = run.display();
        Ok(format!(
            "[crio]\nroot = \"{dir}/root\"\nrunroot = \"{run}\"\n\
             [crio.api]\nlisten = \"{dir}/floe.sock\"\n\
             [crio.runtime]\ncgroup_manager = \"{}\"\ncgroup_parent = \"{}\"\nlog_dir = \"{dir}/logs\"\nruntime_path = \"{}\"\n\
             [crio.image]\nsignature_policy = \"{dir}/policy.json\"\nsignature_policy_dir = \"{dir}/policies\"\nregistries_conf = \"{dir}/registries.conf\"\nregistries_conf_dir = \"{dir}/registries.conf.d\"\nregistries_d_dir = \"{dir}/registries.d\"\n{}\
             [crio.nri]\nnri_listen = \"{dir}/nri.sock\"\nnri_plugin_dir = \"{dir}/nri/plugins\"\nnri_plugin_config_dir = \"{dir}/nri/conf.d\"\n{}\n\
             [crio.network]\nnetwork_dir = \"{dir}/cni\"\nhost_local_dir = \"\"\n{}\n",
            if options.systemd {
                "systemd"
            } else {
                "cgroupfs"
            },
            self.cgroup,
            program("floe-runtime")?.display(),
            options.image,
            options.nri,
            options.config,
        ))
    }

    /// Starts `floe serve`, after [`Node::prepare`] or [`Node::kill`], and waits until it has cleared away
    /// what the last one left.
    ///
    /// # Errors
    /// As [`Node::listen`], and a clear-up that takes longer than a minute.
    pub fn serve(&mut self) -> Result<(), Error> {
        let recoveries = || self.log().matches(RECOVERED).count();
        let before = recoveries();
        self.listen()?;
        for _ in 0..6000 {
            if self.log().matches(RECOVERED).count() > before {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("floe serve has not cleared up within 60 s:\n{}", self.log()).into())
    }

    /// As [`Node::serve`], without waiting for what is done beside requests.
    ///
    /// # Errors
    /// It ends at once or does not listen within 10 s; its log is in the message.
    pub fn listen(&mut self) -> Result<(), Error> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("serve.log"))?;
        let mut command = Command::new(program("floe")?);
        command.arg("--config").arg(self.config()).arg("serve");
        if let Some(level) = self.log_level {
            command.args(["--log-level", level]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut process = die_with_parent(&mut command).spawn()?;
        for _ in 0..1000 {
            if UnixStream::connect(self.socket()).is_ok() {
                self.process = Some(process);
                return Ok(());
            }
            if let Some(status) = process.try_wait()? {
                return Err(format!("floe serve ended with {status}:\n{}", self.log()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
        Err(format!("floe serve did not listen within 10 s:\n{}", self.log()).into())
    }

    /// Kills the engine with SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<(), Error> {
        let mut process = self.process.take().ok_or("the engine does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Ends the engine with SIGTERM and waits.
    ///
    /// # Errors
    /// It does not run or does not end well.
    pub fn terminate(&mut self) -> Result<(), Error> {
        let mut process = self.process.take().ok_or("the engine does not run")?;
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = process.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("floe serve ended with {status}").into())
        }
    }

    /// Sends the engine a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<(), Error> {
        let process = self.process.as_ref().ok_or("the engine does not run")?;
        let pid = rustix::process::Pid::from_child(process);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Process id of the engine.
    #[must_use]
    pub fn engine_pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Connects to the CRI socket, once it is answered. A child of an engine that was killed may listen
    /// for a moment more, until it executes its own program.
    ///
    /// # Errors
    /// Nobody answers within 10 s.
    pub async fn clients(&self) -> Result<Clients, Error> {
        connect_serving(&self.socket()).await
    }

    /// A command line of `floe` on this node's roots.
    ///
    /// # Errors
    /// floe is not built.
    pub fn floe(&self, arguments: &[&str]) -> Result<Command, Error> {
        let mut command = Command::new(program("floe")?);
        command.arg("--config").arg(self.config()).args(arguments);
        // Whatever this machine's says of containers.
        command.env("CONTAINERS_CONF", "/dev/null");
        Ok(command)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("floe.toml")
    }

    /// The CRI socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("floe.sock")
    }

    /// A place in the private directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The private directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The cgroup parent.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// What the engine has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("serve.log")).unwrap_or_default()
    }

    /// Removes every pod and ends the engine.
    ///
    /// # Errors
    /// What could not be removed, and what remains.
    pub fn clean(&mut self) -> Result<(), Error> {
        let removed = self
            .floe(&["rm", "--force", "--time", "0", "--all", "--pods"])?
            .output()?;
        if self.process.is_some() {
            self.terminate()?;
        }
        remove_cgroups(&self.cgroup);
        let mut remains = leftovers::find(self.dir.path(), &self.cgroup);
        if let Some(run) = &self.run {
            remains.extend(leftovers::find(run.path(), &self.cgroup));
        }
        if !removed.status.success() || !remains.is_empty() {
            let said = String::from_utf8_lossy(&removed.stderr).into_owned();
            return Err(format!(
                "left behind: {said}\n{}\n{}",
                remains.join("\n"),
                self.log()
            )
            .into());
        }
        Ok(())
    }
}

/// Connects to a CRI socket whose server answers within 10 s.
pub(crate) async fn connect_serving(socket: &Path) -> Result<Clients, Error> {
    let mut tries = 200;
    loop {
        let answered = match clients(socket.to_owned()).await {
            Ok(mut clients) => {
                let version = cri::VersionRequest::default();
                let answer = clients.runtime.version(version).await;
                answer.map(|_| clients).map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        tries -= 1;
        if answered.is_ok() || tries == 0 {
            return answered;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn clients(socket: PathBuf) -> Result<Clients, Error> {
    let channel = connect(socket).await?;
    let limit = 80 * 1024 * 1024;
    Ok(Clients {
        runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(limit),
        images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(limit),
        channel,
    })
}

/// A connection to a CRI socket.
///
/// # Errors
/// Nobody listens there.
pub async fn connect(socket: PathBuf) -> Result<Channel, Error> {
    let dial = move |_: Uri| {
        let socket = socket.clone();
        async move {
            tokio::net::UnixStream::connect(socket)
                .await
                .map(TokioIo::new)
        }
    };
    let channel = Endpoint::from_static("http://cri")
        .connect_with_connector(tower::service_fn(dial))
        .await?;
    Ok(channel)
}

impl Drop for Node {
    fn drop(&mut self) {
        if program("floe").is_err() {
            // Nothing was ever started.
            return;
        }
        if let Err(error) = self.clean() {
            // What was found is told, and stays on no machine: a second try must find it as the first did.
            leftovers::unmount_below(self.dir.path());
            if std::thread::panicking() {
                eprintln!("{error}");
            } else {
                panic!("{error}");
            }
        }
    }
}

/// The parent is the configuration's, not a pod's: nobody else removes it. Only an empty one goes.
fn remove_cgroups(cgroup: &str) {
    if cgroup.ends_with(SLICE) {
        let slice = cgroup.trim_start_matches('/');
        let _ = Command::new("systemctl").args(["stop", slice]).status();
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        let _ = std::fs::remove_dir(hierarchy.path().join(cgroup.trim_start_matches('/')));
    }
    let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/')));
}

fn registries(options: &NodeOptions) -> String {
    let mut text = String::from("unqualified-search-registries = [\"docker.io\"]\n");
    for host in &options.insecure {
        text += &format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    }
    for (name, mirror) in &options.mirrors {
        text += &format!(
            "[[registry]]\nprefix = \"{name}\"\nlocation = \"{name}\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
        );
    }
    text
}
