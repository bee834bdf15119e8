//! systemd's watchdog (`WatchdogSec=`): the service manager hears that we live only if a client of the CRI
//! socket gets an answer. It asks from a thread of its own, over the socket, as kubelet does: an engine whose
//! threads or locks are stuck does not pass for one that works, and is started anew while its pods run on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::runtime_service_client::RuntimeServiceClient;
use cri::{ListPodSandboxRequest, PodSandboxFilter, VersionRequest};
use tonic::transport::{Channel, Endpoint};

use crate::notify;

/// How many times within the manager's limit it asks.
const TIMES: u32 = 3;

/// Begins to ask if the service manager wants to hear; ends with the process.
pub(crate) fn start(socket: &Path) {
    let own = std::process::id().to_string();
    let variable = |name| std::env::var(name).ok();
    let Some(limit) = limit(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), &own) else {
        return;
    };
    let socket = socket.to_owned();
    let watch = move || watch(&socket, limit / TIMES);
    let thread = std::thread::Builder::new().name("watchdog".to_owned());
    if let Err(error) = thread.spawn(watch) {
        tracing::warn!(%error, "the service manager will miss its watchdog");
    }
}

/// How long the manager waits for a word, if it waits for one from this process (sd_watchdog_enabled(3)).
fn limit(micros: Option<String>, pid: Option<String>, own: &str) -> Option<Duration> {
    if pid.is_some_and(|pid| pid != own) {
        return None;
    }
    let micros: u64 = micros?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

fn watch(socket: &Path, interval: Duration) {
    let made = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match made {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::warn!(%error, "the service manager will miss its watchdog");
            return;
        }
    };
    loop {
        let asked = async { tokio::time::timeout(interval, ask(socket.to_owned())).await };
        match runtime.block_on(asked) {
            Ok(Ok(())) => notify::send("WATCHDOG=1"),
            Ok(Err(error)) => tracing::warn!(%error, "the watchdog has no answer"),
            Err(_) => tracing::warn!(after = ?interval, "the watchdog has no answer"),
        }
        std::thread::sleep(interval);
    }
}

/// What passes through threads, engine and records.
async fn ask(socket: PathBuf) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let channel: Channel = Endpoint::from_shared(format!("unix://{}", socket.display()))?
        .connect()
        .await?;
    let mut client = RuntimeServiceClient::new(channel);
    client.version(VersionRequest::default()).await?;
    let nobody = PodSandboxFilter {
        id: "watchdog".to_owned(),
        ..PodSandboxFilter::default()
    };
    let request = ListPodSandboxRequest {
        filter: Some(nobody),
    };
    client.list_pod_sandbox(request).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told_only_where_it_asks_this_process() {
        let some = |text: &str| Some(text.to_owned());
        let of = |micros: Option<String>, pid: Option<String>| limit(micros, pid, "7");
        assert_eq!(of(some("3000000"), None), Some(Duration::from_secs(3)));
        assert_eq!(of(some("3000000"), some("7")), Some(Duration::from_secs(3)));
        assert_eq!(of(some("3000000"), some("8")), None);
        assert_eq!(of(None, some("7")), None);
        assert_eq!(of(some("0"), None), None);
        assert_eq!(of(some("soon"), None), None);
    }
}
