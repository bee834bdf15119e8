//! Debian's containerd with its CRI plugin on private directories: the benchmark's peer.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::node::{Clients, connect_serving};
use crate::registry::die_with_parent;
use crate::{Error, leftovers};

/// A running containerd; ended and removed when dropped.
#[derive(Debug)]
pub struct Containerd {
    process: Child,
    dir: TempDir,
}

impl Containerd {
    /// Starts one whose pods use `pause` as their sandbox image.
    ///
    /// # Errors
    /// containerd is not installed or does not come up within 20 s.
    pub fn start(pause: &str) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("floe-containerd-")
            .tempdir()?;
        let path = dir.path();
        std::fs::create_dir(path.join("cni"))?;
        std::fs::write(path.join("cni/10-bench.conflist"), conflist(path))?;
        std::fs::write(path.join("config.toml"), config(path, pause))?;
        let log = std::fs::File::create(path.join("log"))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(path.join("config.toml"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = die_with_parent(&mut command)
            .spawn()
            .map_err(|e| format!("containerd: {e}"))?;
        let started = Self { process, dir };
        for _ in 0..400 {
            if UnixStream::connect(started.dir.path().join("containerd.sock")).is_ok() {
                return Ok(started);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("containerd did not come up within 20 s".into())
    }

    /// Connects to the CRI socket, once its CRI plugin serves.
    ///
    /// # Errors
    /// It does not within 10 s.
    pub async fn clients(&self) -> Result<Clients, Error> {
        let socket = self.dir.path().join("containerd.sock");
        match connect_serving(&socket).await {
            Ok(clients) => Ok(clients),
            Err(error) => {
                let log = std::fs::read_to_string(self.dir.path().join("log"))?;
                Err(format!("containerd's CRI plugin does not serve: {error}\n{log}").into())
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its private directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Shims outlive it; they are known by the socket's path on their command line.
        for (pid, _) in leftovers::processes(&self.dir.path().display().to_string()) {
            if let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        leftovers::unmount_below(self.dir.path());
    }
}

fn conflist(dir: &Path) -> String {
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "bench", "plugins": [
  {{"type": "bridge", "bridge": "benchd0", "isGateway": true, "ipMasq": true,
    "ipam": {{"type": "host-local", "dataDir": "{}/ipam", "ranges": [[{{"subnet": "10.244.0.0/16"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#,
        dir.display()
    )
}

fn config(dir: &Path, pause: &str) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
  address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
"#
    )
}
