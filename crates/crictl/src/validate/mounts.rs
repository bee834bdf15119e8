//! Mounts of the node's files into containers, and devices.

use std::path::Path;

use super::check::{Group, Verdict, checks, failed, holds, same, skipped};
use super::info::node_status;
use super::trial::{Trial, Up, pod_security, security};
use crate::fixture::{Mounted, read};
use cri::MountPropagation as Propagation;

pub(super) const GROUP: Group = Group {
    name: "mounts",
    checks: checks! {
        801 "directory" Image directory, "a directory of the node is seen and written to in a container", "Mount.host_path, container_path";
        802 "read-only" Image read_only, "nothing can be written to a mount that is read-only", "Mount.readonly";
        803 "file" Image file, "a single file of the node can be mounted", "Mount.host_path";
        804 "link" Image link, "a path of the node that is a link leads to what it points to", "Mount.host_path: links of the node are followed";
        805 "status" Image status, "a container's status has its mounts", "ContainerStatus.mounts";
        806 "private" Image private, "what the node mounts later is not seen in a private mount", "Mount.propagation = PROPAGATION_PRIVATE";
        807 "host-to-container" Image host_to_container, "what the node mounts later is seen in the container", "Mount.propagation = PROPAGATION_HOST_TO_CONTAINER";
        808 "bidirectional" Image bidirectional, "what the container mounts is seen on the node", "Mount.propagation = PROPAGATION_BIDIRECTIONAL";
        809 "recursive-read-only" Image recursive_read_only, "nothing can be written to a mount in a mount that is read-only throughout", "Mount.recursive_read_only";
        810 "device" Image device, "a device of the node is in the container at its place", "ContainerConfig.devices";
    },
};

fn mount(host: &Path, container: &str) -> cri::Mount {
    cri::Mount {
        host_path: host.display().to_string(),
        container_path: container.to_owned(),
        selinux_relabel: Path::new("/sys/fs/selinux/enforce").exists(),
        ..Default::default()
    }
}

fn written(path: &Path, text: &str) -> Verdict {
    let written = std::fs::write(path, text);
    written.or_else(|error| failed("a file on this machine", error.to_string()))
}

/// What a file of this machine says.
fn said(path: &Path) -> Verdict<String> {
    match read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) => failed(format!("{} is there", path.display()), error.to_string()),
    }
}

async fn directory(trial: &Trial<'_>) -> Verdict {
    let dir = trial.directory("volume")?;
    written(&dir.join("from-node"), "node\n")?;
    let up = trial
        .up(|_, config| config.mounts.push(mount(&dir, "/volume")))
        .await?;
    let found = trial.output(&up.container, "cat /volume/from-node").await?;
    same("what the container reads", "node", &found)?;
    trial
        .output(&up.container, "echo container > /volume/from-container")
        .await?;
    same(
        "what the node reads",
        "container",
        &said(&dir.join("from-container"))?,
    )
}

async fn read_only(trial: &Trial<'_>) -> Verdict {
    let dir = trial.directory("volume")?;
    written(&dir.join("file"), "node\n")?;
    let up = trial
        .up(|_, config| {
            config.mounts.push(cri::Mount {
                readonly: true,
                ..mount(&dir, "/volume")
            });
        })
        .await?;
    same(
        "what the container reads",
        "node",
        &trial.output(&up.container, "cat /volume/file").await?,
    )?;
    let (code, out) = trial.outcome(&up.container, "echo > /volume/new").await?;
    holds("a write to the mount fails", code != 0, out)
}

async fn file(trial: &Trial<'_>) -> Verdict {
    let file = trial.directory("volume")?.join("file");
    written(&file, "one file\n")?;
    let up = trial
        .up(|_, config| config.mounts.push(mount(&file, "/etc/the-file")))
        .await?;
    same(
        "what the container reads",
        "one file",
        &trial.output(&up.container, "cat /etc/the-file").await?,
    )
}

async fn link(trial: &Trial<'_>) -> Verdict {
    let dir = trial.directory("volume")?;
    written(&dir.join("file"), "behind\n")?;
    let link = trial.directory("links")?.join("link");
    if let Err(error) = std::os::unix::fs::symlink(&dir, &link) {
        return failed("a link on this machine", error.to_string());
    }
    let up = trial
        .up(|_, config| config.mounts.push(mount(&link, "/volume")))
        .await?;
    same(
        "what the container reads",
        "behind",
        &trial.output(&up.container, "cat /volume/file").await?,
    )
}

async fn status(trial: &Trial<'_>) -> Verdict {
    let dir = trial.directory("volume")?;
    let wanted = cri::Mount {
        readonly: true,
        ..mount(&dir, "/volume")
    };
    let asked = wanted.clone();
    let up = trial.up(|_, config| config.mounts.push(asked)).await?;
    let mounts = trial.status(&up.container).await?.mounts;
    let found = mounts.iter().find(|one| one.container_path == "/volume");
    let found = found.map(|one| (one.host_path.as_str(), one.readonly));
    same(
        "host_path and readonly of /volume",
        Some((wanted.host_path.as_str(), true)),
        found,
    )
}

/// A directory whose mounts are shared, with another in it; a skip where this program may not mount.
fn shared(trial: &Trial<'_>) -> Verdict<(std::path::PathBuf, Mounted)> {
    let dir = trial.directory("shared")?;
    let mounted = match Mounted::shared(&dir) {
        Ok(mounted) => mounted,
        Err(error) => return skipped(format!("this program may not mount: {error}")),
    };
    trial.directory("shared/inner")?;
    Ok((dir, mounted))
}

/// A container with a mount of that, and what it sees once the node has mounted something in it.
async fn propagated(trial: &Trial<'_>, propagation: Propagation) -> Verdict<bool> {
    let (dir, _mounted) = shared(trial)?;
    let up = with_mount(trial, &dir, propagation).await?;
    let inner = dir.join("inner");
    let _inner = match Mounted::empty(&inner) {
        Ok(mounted) => mounted,
        Err(error) => return skipped(format!("this program may not mount: {error}")),
    };
    written(&inner.join("later"), "later\n")?;
    let (code, _) = trial
        .outcome(&up.container, "cat /volume/inner/later")
        .await?;
    // Before what is mounted goes.
    trial.remove_pod(&up.pod).await?;
    Ok(code == 0)
}

async fn with_mount(trial: &Trial<'_>, dir: &Path, propagation: Propagation) -> Verdict<Up> {
    trial
        .up(|pod, config| {
            config.mounts.push(cri::Mount {
                propagation: propagation.into(),
                ..mount(dir, "/volume")
            });
            if propagation == Propagation::PropagationBidirectional {
                pod_security(pod).privileged = true;
                security(config).privileged = true;
            }
        })
        .await
}

async fn private(trial: &Trial<'_>) -> Verdict {
    let found = propagated(trial, Propagation::PropagationPrivate).await?;
    same("a later mount is seen", false, found)
}

async fn host_to_container(trial: &Trial<'_>) -> Verdict {
    let found = propagated(trial, Propagation::PropagationHostToContainer).await?;
    same("a later mount is seen", true, found)
}

async fn bidirectional(trial: &Trial<'_>) -> Verdict {
    let (dir, _mounted) = shared(trial)?;
    let up = with_mount(trial, &dir, Propagation::PropagationBidirectional).await?;
    let script = "mount -t tmpfs tmpfs /volume/inner && echo inside > /volume/inner/file";
    trial.output(&up.container, script).await?;
    same(
        "what the node reads",
        "inside",
        &said(&dir.join("inner/file"))?,
    )?;
    trial.remove_pod(&up.pod).await
}

async fn recursive_read_only(trial: &Trial<'_>) -> Verdict {
    let wanted = &trial.fixture.place.runtime_handler;
    let handlers = node_status(trial, false).await?.runtime_handlers;
    let handler = handlers.into_iter().find(|one| one.name == *wanted);
    let features = handler.and_then(|one| one.features).unwrap_or_default();
    if !features.recursive_read_only_mounts {
        return skipped(
            "the runtime's handler does not tell the feature recursive_read_only_mounts",
        );
    }
    let (dir, _mounted) = shared(trial)?;
    let _inner = match Mounted::empty(&dir.join("inner")) {
        Ok(mounted) => mounted,
        Err(error) => return skipped(format!("this program may not mount: {error}")),
    };
    let up = trial
        .up(|_, config| {
            config.mounts.push(cri::Mount {
                readonly: true,
                recursive_read_only: true,
                ..mount(&dir, "/volume")
            });
        })
        .await?;
    let (code, out) = trial
        .outcome(&up.container, "echo > /volume/inner/new")
        .await?;
    holds("a write to the mount in the mount fails", code != 0, out)?;
    trial.remove_pod(&up.pod).await
}

async fn device(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| {
            config.devices.push(cri::Device {
                container_path: "/dev/floe-zero".to_owned(),
                host_path: "/dev/zero".to_owned(),
                permissions: "rw".to_owned(),
            });
        })
        .await?;
    let script = "test -c /dev/floe-zero && head -c 4 /dev/floe-zero | wc -c";
    same(
        "bytes read of the device",
        "4",
        &trial.output(&up.container, script).await?,
    )
}
