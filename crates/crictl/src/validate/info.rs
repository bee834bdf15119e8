//! What a runtime says of itself.

use std::collections::BTreeSet;

use super::check::{Group, Verdict, checks, failed, holds, same, skipped};
use super::trial::Trial;

pub(super) const GROUP: Group = Group {
    name: "runtime",
    checks: checks! {
        101 "version" Runtime version, "Version names the runtime and CRI v1", "Version: VersionResponse.runtime_name, runtime_version, runtime_api_version";
        102 "ready" Runtime ready, "the runtime and its network are ready for pods", "Status: RuntimeStatus.conditions RuntimeReady and NetworkReady";
        103 "handlers" Runtime handlers, "each runtime handler is listed once, the default one by the empty name", "Status: StatusResponse.runtime_handlers";
        104 "cgroup-driver" Runtime cgroup_driver, "kubelet can learn the cgroup driver from the runtime", "RuntimeConfig: LinuxRuntimeConfiguration.cgroup_driver";
        105 "verbose-status" Runtime verbose_status, "a Status with details has the conditions too", "Status: StatusRequest.verbose";
    },
};

/// What Status says.
pub(super) async fn node_status(trial: &Trial<'_>, verbose: bool) -> Verdict<cri::StatusResponse> {
    let request = cri::StatusRequest { verbose };
    trial
        .ask("Status", async |mut client| client.status(request).await)
        .await
}

async fn version(trial: &Trial<'_>) -> Verdict {
    let request = cri::VersionRequest {
        version: "0.1.0".to_owned(),
    };
    let answer = trial
        .ask("Version", async |mut client| client.version(request).await)
        .await?;
    let api = answer.runtime_api_version.as_str();
    same("runtime_api_version", cri::API_VERSION, api)?;
    holds(
        "runtime_name is not empty",
        !answer.runtime_name.is_empty(),
        "",
    )?;
    let version = &answer.runtime_version;
    holds("runtime_version is not empty", !version.is_empty(), version)
}

fn are_true(answer: &cri::StatusResponse) -> Verdict {
    let conditions = answer
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    for name in ["RuntimeReady", "NetworkReady"] {
        let found = conditions.iter().find(|one| one.r#type == name);
        match found {
            Some(one) if one.status => {}
            Some(one) => {
                let found = format!("false: {}: {}", one.reason, one.message);
                return failed(format!("{name} is true"), found);
            }
            None => return failed(format!("a condition {name}"), "none"),
        }
    }
    Ok(())
}

async fn ready(trial: &Trial<'_>) -> Verdict {
    are_true(&node_status(trial, false).await?)
}

async fn verbose_status(trial: &Trial<'_>) -> Verdict {
    are_true(&node_status(trial, true).await?)
}

async fn handlers(trial: &Trial<'_>) -> Verdict {
    let answer = node_status(trial, false).await?;
    if answer.runtime_handlers.is_empty() {
        return skipped("the runtime lists no handlers, as before Kubernetes 1.30");
    }
    let names: Vec<&str> = answer
        .runtime_handlers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let once: BTreeSet<&str> = names.iter().copied().collect();
    holds(
        "each handler is listed once",
        once.len() == names.len(),
        &names,
    )?;
    holds(
        "the default handler is listed as \"\"",
        once.contains(""),
        &names,
    )
}

async fn cgroup_driver(trial: &Trial<'_>) -> Verdict {
    let request = cri::RuntimeConfigRequest::default();
    let answer = trial
        .offered("RuntimeConfig", async |mut client| {
            client.runtime_config(request).await
        })
        .await?;
    match answer.linux {
        Some(linux) => {
            let is_known = cri::CgroupDriver::try_from(linux.cgroup_driver).is_ok();
            holds(
                "a cgroup driver of the schema",
                is_known,
                linux.cgroup_driver,
            )
        }
        None => failed("a configuration for Linux", "none"),
    }
}
