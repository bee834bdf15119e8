//! Logs, which kubelet reads as files. The runtime must be on this machine.

use std::path::{Path, PathBuf};

use super::check::{Group, Verdict, checks, failed, holds, same};
use super::trial::{Trial, Up};
use crate::fixture::read;
use crate::log::line::{self, Stream};

pub(super) const GROUP: Group = Group {
    name: "logs",
    checks: checks! {
        901 "format" Image format, "each line of a log has a time, a stream, a tag and the text", "ContainerConfig.log_path: CRI's logging format";
        902 "path" Image path, "the log is where the pod and the container say", "PodSandboxConfig.log_directory, ContainerConfig.log_path, ContainerStatus.log_path";
        903 "long-line" Image long_line, "a line that is longer than the runtime's pieces comes whole", "CRI's logging format: tag P for a line that goes on";
        904 "last-line" Image last_line, "what a container wrote without a line end before it ended is there", "CRI's logging format";
        905 "rotation" Image rotation, "a log that was moved away goes on in a new file", "ReopenContainerLog";
        906 "rotation-of-ended" Image rotation_of_ended, "the log of a container that has ended is not opened again", "ReopenContainerLog: an error unless it runs";
        907 "order" Image order, "the times of a log never go back, and no line is lost", "CRI's logging format";
    },
};

/// The log of a container.
fn place(up: &Up) -> PathBuf {
    Path::new(&up.pod_config.log_directory).join("main.log")
}

/// The lines of a log, each read by the format of CRI alone.
fn lines(path: &Path) -> Verdict<Vec<line::Line>> {
    let all = match read(path) {
        Ok(all) => all,
        Err(error) => {
            return failed(format!("a log at {}", path.display()), error.to_string());
        }
    };
    let mut found = Vec::new();
    for one in all.split_inclusive(|&byte| byte == b'\n') {
        match line::parse(one).filter(|_| one.first() != Some(&b'{')) {
            Some(line) => found.push(line),
            None => {
                let text = String::from_utf8_lossy(one);
                return failed("a line of TIME STREAM TAG TEXT", format!("{text:?}"));
            }
        }
    }
    Ok(found)
}

/// A container that has run a script to its end.
async fn over(trial: &Trial<'_>, script: &str) -> Verdict<Up> {
    let up = trial.up_with(script, |_, _| {}).await?;
    trial.ended(&up.container).await?;
    Ok(up)
}

fn text(lines: &[line::Line], stream: Stream) -> String {
    let ours = lines.iter().filter(|line| line.stream == stream);
    let bytes: Vec<u8> = ours.flat_map(|line| line.text.iter().copied()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn format(trial: &Trial<'_>) -> Verdict {
    let up = over(trial, "echo to-out; echo to-err >&2; echo again").await?;
    let lines = lines(&place(&up))?;
    same(
        "stdout",
        "to-out\nagain\n",
        text(&lines, Stream::Stdout).as_str(),
    )?;
    same("stderr", "to-err\n", text(&lines, Stream::Stderr).as_str())
}

async fn path(trial: &Trial<'_>) -> Verdict {
    let up = over(trial, "echo here").await?;
    let status = trial.status(&up.container).await?;
    same(
        "log_path",
        place(&up).display().to_string(),
        status.log_path,
    )
}

async fn long_line(trial: &Trial<'_>) -> Verdict {
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo after";
    let up = over(trial, script).await?;
    let found = text(&lines(&place(&up))?, Stream::Stdout);
    let found: Vec<(usize, bool)> = found
        .lines()
        .map(|line| (line.len(), line.bytes().all(|byte| byte == b'x')))
        .collect();
    same(
        "lengths of the lines, and whether they are all x",
        vec![(100_000, true), (5, false)],
        found,
    )
}

async fn last_line(trial: &Trial<'_>) -> Verdict {
    let up = over(trial, "printf 'whole\\nrest'").await?;
    let found = text(&lines(&place(&up))?, Stream::Stdout);
    same("the log", "whole\nrest", found.trim_end())
}

/// Waits until a file has a line of standard output.
async fn has_line(trial: &Trial<'_>, path: &Path) -> Verdict {
    trial
        .until("a line comes to the log", async || {
            Ok(match lines(path) {
                Ok(lines) if !lines.is_empty() => Ok(()),
                Ok(_) => Err(format!("{} is empty", path.display())),
                Err(_) => Err(format!("{} cannot be read", path.display())),
            })
        })
        .await
}

fn reopen(up: &Up) -> cri::ReopenContainerLogRequest {
    cri::ReopenContainerLogRequest {
        container_id: up.container.clone(),
    }
}

async fn rotation(trial: &Trial<'_>) -> Verdict {
    let script = "trap 'exit 0' TERM; while :; do echo tick; sleep 0.1; done";
    let up = trial.up_with(script, |_, _| {}).await?;
    let path = place(&up);
    has_line(trial, &path).await?;
    let moved = path.with_extension("log.1");
    if let Err(error) = std::fs::rename(&path, &moved) {
        return failed("the log can be moved", error.to_string());
    }
    let request = reopen(&up);
    trial
        .ask("ReopenContainerLog", async |mut client| {
            client.reopen_container_log(request).await
        })
        .await?;
    has_line(trial, &path).await?;
    let before = lines(&moved)?.len();
    trial.stop(&up.container, 10).await?;
    same(
        "lines of the log that was moved away",
        before,
        lines(&moved)?.len(),
    )
}

async fn rotation_of_ended(trial: &Trial<'_>) -> Verdict {
    let up = over(trial, "echo over").await?;
    let request = reopen(&up);
    trial
        .refused(
            "ReopenContainerLog of a container that has ended",
            async |mut client| client.reopen_container_log(request).await,
        )
        .await?;
    Ok(())
}

async fn order(trial: &Trial<'_>) -> Verdict {
    let up = over(
        trial,
        "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); done",
    )
    .await?;
    let lines = lines(&place(&up))?;
    let expected: Vec<String> = (0..500).map(|number: i32| number.to_string()).collect();
    let found = text(&lines, Stream::Stdout);
    let found: Vec<&str> = found.lines().collect();
    same(
        "lines of the log",
        expected.iter().map(String::as_str).collect(),
        found,
    )?;
    let is_ordered = lines.is_sorted_by_key(|line| line.at);
    holds(
        "the times do not go back",
        is_ordered,
        "one is before its former",
    )
}
