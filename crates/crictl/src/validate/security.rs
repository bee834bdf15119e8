//! Security contexts: users, groups, capabilities, seccomp, paths and namespaces.

use std::path::Path;

use super::check::{Group, Verdict, checks, failed, holds, same, skipped};
use super::info::node_status;
use super::trial::{LASTS, Trial, Up, pod_security, security};
use cri::NamespaceMode as Mode;
use cri::security_profile::ProfileType;

pub(super) const GROUP: Group = Group {
    name: "security",
    checks: checks! {
        601 "user" Image user, "a container runs as the user that was asked for", "LinuxContainerSecurityContext.run_as_user";
        602 "group" Image group, "a container runs in the group that was asked for", "LinuxContainerSecurityContext.run_as_group";
        603 "user-name" Image user_name, "a user is found in the image by name", "LinuxContainerSecurityContext.run_as_username";
        604 "supplemental-groups" Image groups, "a container is in the further groups that were asked for", "LinuxContainerSecurityContext.supplemental_groups";
        605 "strict-groups" Image strict_groups, "the groups of the image do not count where that was asked for", "LinuxContainerSecurityContext.supplemental_groups_policy = Strict";
        606 "read-only-root" Image read_only_root, "nothing can be written to a root that is read-only", "LinuxContainerSecurityContext.readonly_rootfs";
        607 "no-capabilities" Image no_capabilities, "a container whose capabilities are all dropped has none", "Capability.drop_capabilities = ALL";
        608 "capabilities" Image capabilities, "a capability that was asked for is there, and one that was dropped is not", "Capability.add_capabilities, drop_capabilities";
        609 "privileged" Image privileged, "a privileged container has more capabilities than others, and no seccomp", "LinuxContainerSecurityContext.privileged";
        610 "no-new-privileges" Image no_new_privileges, "a container gains no privileges by execve where that was asked for", "LinuxContainerSecurityContext.no_new_privs";
        611 "seccomp-default" Image seccomp_default, "the runtime's seccomp profile filters calls where it was asked for", "SecurityProfile.RuntimeDefault";
        612 "seccomp-unconfined" Image seccomp_unconfined, "no call is filtered where that was asked for", "SecurityProfile.Unconfined";
        613 "seccomp-localhost" Image seccomp_localhost, "a seccomp profile of the node refuses what it says", "SecurityProfile.Localhost, localhost_ref";
        614 "masked-paths" Image masked_paths, "a masked path shows nothing", "LinuxContainerSecurityContext.masked_paths";
        615 "read-only-paths" Image read_only_paths, "nothing can be written to a path that is read-only", "LinuxContainerSecurityContext.readonly_paths";
        616 "pid-of-container" Image pid_of_container, "a container has processes of its own, the first of which is its command", "NamespaceOption.pid = CONTAINER";
        617 "pid-of-pod" Image pid_of_pod, "the containers of a pod see each other's processes", "NamespaceOption.pid = POD";
        618 "pid-of-target" Image pid_of_target, "a container sees the processes of the container that it is to debug", "NamespaceOption.pid = TARGET, target_id";
        619 "pid-of-node" Image pid_of_node, "a container sees the node's processes where that was asked for", "NamespaceOption.pid = NODE";
        620 "network-of-node" Image network_of_node, "a pod has the node's network where that was asked for", "NamespaceOption.network = NODE";
        621 "ipc-of-node" Image ipc_of_node, "a pod has the node's IPC where that was asked for", "NamespaceOption.ipc = NODE";
        622 "user-namespace" Image user_namespace, "root in a pod with a user namespace is another user of the node", "NamespaceOption.userns_options";
        623 "apparmor" Image apparmor, "the runtime's AppArmor profile confines a container where it was asked for", "LinuxContainerSecurityContext.apparmor";
        624 "unknown-user" Image unknown_user, "a user name that the image does not have is an error", "LinuxContainerSecurityContext.run_as_username";
    },
};

fn id(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

async fn user(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| security(config).run_as_user = id(1234))
        .await?;
    same(
        "id -u",
        "1234",
        &trial.output(&up.container, "id -u").await?,
    )
}

async fn group(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| {
            security(config).run_as_user = id(1234);
            security(config).run_as_group = id(4321);
        })
        .await?;
    same(
        "id -g",
        "4321",
        &trial.output(&up.container, "id -g").await?,
    )
}

async fn user_name(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let look = "grep '^nobody:' /etc/passwd | cut -d: -f3";
    let (_, expected) = trial.outcome(&up.container, look).await?;
    if expected.is_empty() || !expected.bytes().all(|byte| byte.is_ascii_digit()) {
        return skipped("the image has no user nobody");
    }
    let mut config = trial.container_config("second", LASTS);
    security(&mut config).run_as_username = "nobody".to_owned();
    let second = trial.launch(&up.pod, &up.pod_config, config).await?;
    same("id -u", expected, trial.output(&second, "id -u").await?)
}

async fn unknown_user(trial: &Trial<'_>) -> Verdict {
    let (pod, pod_config) = trial.pod().await?;
    let mut config = trial.container_config("main", LASTS);
    security(&mut config).run_as_username = "floe-no-such-user".to_owned();
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod,
        config: Some(config),
        sandbox_config: Some(pod_config),
    };
    let made = trial
        .fixture
        .runtime
        .ask(Some(trial.fixture.limit), async |mut client| {
            client.create_container(request).await
        })
        .await;
    let Ok(made) = made else { return Ok(()) };
    let request = cri::StartContainerRequest {
        container_id: made.container_id,
    };
    trial
        .refused(
            "StartContainer of a user that is not there",
            async |mut client| client.start_container(request).await,
        )
        .await?;
    Ok(())
}

async fn groups(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| {
            security(config).run_as_user = id(1234);
            security(config).supplemental_groups = vec![1111, 2222];
        })
        .await?;
    let found = trial.output(&up.container, "id -G").await?;
    let all: Vec<&str> = found.split_whitespace().collect();
    let has_both = all.contains(&"1111") && all.contains(&"2222");
    holds("id -G has 1111 and 2222", has_both, &found)
}

async fn strict_groups(trial: &Trial<'_>) -> Verdict {
    let features = node_status(trial, false)
        .await?
        .features
        .unwrap_or_default();
    if !features.supplemental_groups_policy {
        return skipped("the runtime does not tell the feature supplemental_groups_policy");
    }
    let up = trial
        .up(|_, config| {
            let security = security(config);
            security.run_as_user = id(0);
            security.run_as_group = id(4321);
            security.supplemental_groups = vec![1111];
            security.set_supplemental_groups_policy(cri::SupplementalGroupsPolicy::Strict);
        })
        .await?;
    let found = trial.output(&up.container, "id -G").await?;
    let mut all: Vec<&str> = found.split_whitespace().collect();
    all.sort_unstable();
    same("id -G", vec!["1111", "4321"], all)?;
    let linux = trial
        .status(&up.container)
        .await?
        .user
        .and_then(|user| user.linux);
    let found = linux.map(|user| (user.uid, user.gid));
    same("ContainerStatus.user", Some((0, 4321)), found)
}

async fn read_only_root(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| security(config).readonly_rootfs = true)
        .await?;
    let (code, out) = trial.outcome(&up.container, "echo > /floe-file").await?;
    holds("a write to the root fails", code != 0, out)
}

/// A field of /proc/self/status of a container.
async fn field(trial: &Trial<'_>, container: &str, name: &str) -> Verdict<String> {
    let script = format!("grep '^{name}:' /proc/self/status | tr -d '\\t ' | cut -d: -f2");
    trial.output(container, &script).await
}

/// The effective capabilities of a container.
async fn effective(trial: &Trial<'_>, container: &str) -> Verdict<u64> {
    let found = field(trial, container, "CapEff").await?;
    let read = u64::from_str_radix(&found, 16);
    read.or_else(|_| failed("CapEff of /proc/self/status", found))
}

async fn no_capabilities(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| {
            security(config).capabilities = Some(cri::Capability {
                drop_capabilities: vec!["ALL".to_owned()],
                ..Default::default()
            });
        })
        .await?;
    same("CapEff", 0, effective(trial, &up.container).await?)
}

async fn capabilities(trial: &Trial<'_>) -> Verdict {
    const CHOWN: u64 = 1 << 0;
    const NET_ADMIN: u64 = 1 << 12;
    let up = trial
        .up(|_, config| {
            security(config).capabilities = Some(cri::Capability {
                add_capabilities: vec!["NET_ADMIN".to_owned()],
                drop_capabilities: vec!["CHOWN".to_owned()],
                ..Default::default()
            });
        })
        .await?;
    let found = effective(trial, &up.container).await?;
    same(
        "CapEff has NET_ADMIN, CHOWN",
        (true, false),
        (found & NET_ADMIN != 0, found & CHOWN != 0),
    )
}

async fn privileged(trial: &Trial<'_>) -> Verdict {
    const SYS_ADMIN: u64 = 1 << 21;
    let plain = trial.up(|_, _| {}).await?;
    let before = effective(trial, &plain.container).await?;
    trial.remove_pod(&plain.pod).await?;
    let up = trial
        .up(|pod, config| {
            pod_security(pod).privileged = true;
            security(config).privileged = true;
        })
        .await?;
    let found = effective(trial, &up.container).await?;
    let has_more = found & SYS_ADMIN != 0 && found & before == before && found != before;
    holds(
        "CapEff has SYS_ADMIN and all of a plain container's",
        has_more,
        (before, found),
    )?;
    same(
        "Seccomp",
        "0",
        &field(trial, &up.container, "Seccomp").await?,
    )
}

async fn no_new_privileges(trial: &Trial<'_>) -> Verdict {
    for (asked, expected) in [(true, "1"), (false, "0")] {
        let up = trial
            .up(|_, config| security(config).no_new_privs = asked)
            .await?;
        let found = field(trial, &up.container, "NoNewPrivs").await?;
        same("NoNewPrivs", expected, &found)?;
        trial.remove_pod(&up.pod).await?;
    }
    Ok(())
}

async fn seccomp(trial: &Trial<'_>, kind: ProfileType, place: &str) -> Verdict<Up> {
    trial
        .up(|_, config| {
            security(config).seccomp = Some(cri::SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: place.to_owned(),
            });
        })
        .await
}

async fn seccomp_default(trial: &Trial<'_>) -> Verdict {
    let up = seccomp(trial, ProfileType::RuntimeDefault, "").await?;
    same(
        "Seccomp, 2 for a filter",
        "2",
        &field(trial, &up.container, "Seccomp").await?,
    )
}

async fn seccomp_unconfined(trial: &Trial<'_>) -> Verdict {
    let up = seccomp(trial, ProfileType::Unconfined, "").await?;
    same(
        "Seccomp",
        "0",
        &field(trial, &up.container, "Seccomp").await?,
    )
}

async fn seccomp_localhost(trial: &Trial<'_>) -> Verdict {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    let file = trial.directory("profiles")?.join("no-mkdir.json");
    if let Err(error) = std::fs::write(&file, profile) {
        return failed("a profile on this machine", error.to_string());
    }
    let place = file.display().to_string();
    let up = seccomp(trial, ProfileType::Localhost, &place).await?;
    let (code, out) = trial.outcome(&up.container, "mkdir /dev/shm/new").await?;
    holds("mkdir, which the profile refuses, fails", code != 0, out)?;
    trial.output(&up.container, "touch /dev/shm/file").await?;
    Ok(())
}

async fn masked_paths(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| security(config).masked_paths = vec!["/proc/uptime".to_owned()])
        .await?;
    let (_, out) = trial.outcome(&up.container, "cat /proc/uptime").await?;
    same("what /proc/uptime says", "", &out)
}

async fn read_only_paths(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|_, config| security(config).readonly_paths = vec!["/etc".to_owned()])
        .await?;
    let (code, out) = trial
        .outcome(&up.container, "echo > /etc/floe-file")
        .await?;
    holds("a write to /etc fails", code != 0, out)
}

/// A pod with this mode, and its two containers.
async fn pids(trial: &Trial<'_>, mode: Mode) -> Verdict<(Up, String)> {
    let option = cri::NamespaceOption {
        pid: mode.into(),
        ..Default::default()
    };
    let up = trial
        .up(|pod, config| {
            pod_security(pod).namespace_options = Some(option.clone());
            security(config).namespace_options = Some(option.clone());
        })
        .await?;
    let mut config = trial.container_config("second", LASTS);
    security(&mut config).namespace_options = Some(option);
    let second = trial.launch(&up.pod, &up.pod_config, config).await?;
    Ok((up, second))
}

/// The namespace of a container, by its kernel's name for it.
async fn namespace(trial: &Trial<'_>, container: &str, kind: &str) -> Verdict<String> {
    let script = format!("readlink /proc/self/ns/{kind}");
    trial.output(container, &script).await
}

async fn pid_of_container(trial: &Trial<'_>) -> Verdict {
    let (up, second) = pids(trial, Mode::Container).await?;
    let found = (
        namespace(trial, &up.container, "pid").await?,
        namespace(trial, &second, "pid").await?,
    );
    holds(
        "two containers have two PID namespaces",
        found.0 != found.1,
        &found,
    )?;
    let first = trial
        .output(&up.container, "tr '\\0' ' ' < /proc/1/cmdline")
        .await?;
    holds(
        "process 1 is the container's command",
        first.contains("sleep 100000"),
        first,
    )
}

async fn pid_of_pod(trial: &Trial<'_>) -> Verdict {
    let (up, second) = pids(trial, Mode::Pod).await?;
    let first = namespace(trial, &up.container, "pid").await?;
    same(
        "PID namespace of the second container",
        first,
        namespace(trial, &second, "pid").await?,
    )
}

async fn pid_of_target(trial: &Trial<'_>) -> Verdict {
    let (up, _) = pids(trial, Mode::Container).await?;
    let mut config = trial.container_config("third", LASTS);
    security(&mut config).namespace_options = Some(cri::NamespaceOption {
        pid: Mode::Target.into(),
        target_id: up.container.clone(),
        ..Default::default()
    });
    let third = trial.launch(&up.pod, &up.pod_config, config).await?;
    let first = namespace(trial, &up.container, "pid").await?;
    same(
        "PID namespace of who targets it",
        first,
        namespace(trial, &third, "pid").await?,
    )
}

/// Two pods with an option of the node, and one without: the namespaces of their containers.
async fn of_node(trial: &Trial<'_>, kind: &str, option: cri::NamespaceOption) -> Verdict {
    let mut found = Vec::new();
    for option in [Some(option.clone()), Some(option), None] {
        let up = trial
            .up(|pod, config| {
                pod_security(pod).namespace_options = option.clone();
                security(config).namespace_options = option;
            })
            .await?;
        found.push(namespace(trial, &up.container, kind).await?);
        trial.remove_pod(&up.pod).await?;
    }
    let is_so = found[0] == found[1] && found[0] != found[2];
    holds(
        "two pods with the node's namespace share it, and a third does not",
        is_so,
        found,
    )
}

async fn pid_of_node(trial: &Trial<'_>) -> Verdict {
    let option = cri::NamespaceOption {
        pid: Mode::Node.into(),
        ..Default::default()
    };
    of_node(trial, "pid", option).await
}

async fn network_of_node(trial: &Trial<'_>) -> Verdict {
    let option = cri::NamespaceOption {
        network: Mode::Node.into(),
        ..Default::default()
    };
    of_node(trial, "net", option).await
}

async fn ipc_of_node(trial: &Trial<'_>) -> Verdict {
    let option = cri::NamespaceOption {
        ipc: Mode::Node.into(),
        ..Default::default()
    };
    of_node(trial, "ipc", option).await
}

async fn user_namespace(trial: &Trial<'_>) -> Verdict {
    let wanted = &trial.fixture.place.runtime_handler;
    let handlers = node_status(trial, false).await?.runtime_handlers;
    let handler = handlers.into_iter().find(|one| one.name == *wanted);
    let features = handler.and_then(|one| one.features).unwrap_or_default();
    if !features.user_namespaces {
        return skipped("the runtime's handler does not tell the feature user_namespaces");
    }
    const FIRST: u32 = 1_000_000_000;
    let mapping = vec![cri::IdMapping {
        host_id: FIRST,
        container_id: 0,
        length: 65_536,
    }];
    let option = cri::NamespaceOption {
        userns_options: Some(cri::UserNamespace {
            mode: Mode::Pod.into(),
            uids: mapping.clone(),
            gids: mapping,
        }),
        ..Default::default()
    };
    let up = trial
        .up(|pod, config| {
            pod_security(pod).namespace_options = Some(option.clone());
            security(config).namespace_options = Some(option);
        })
        .await?;
    let found = trial
        .output(&up.container, "cat /proc/self/uid_map")
        .await?;
    let found: Vec<&str> = found.split_whitespace().collect();
    same(
        "uid_map in the container",
        vec!["0", "1000000000", "65536"],
        found,
    )?;
    same("id -u", "0", &trial.output(&up.container, "id -u").await?)
}

async fn apparmor(trial: &Trial<'_>) -> Verdict {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with(b"Y"))
        || !Path::new("/sys/kernel/security/apparmor").exists()
    {
        return skipped("the kernel of this machine has no AppArmor");
    }
    let up = trial
        .up(|_, config| {
            security(config).apparmor = Some(cri::SecurityProfile {
                profile_type: ProfileType::RuntimeDefault.into(),
                localhost_ref: String::new(),
            });
        })
        .await?;
    let read = "cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current";
    let found = trial.output(&up.container, read).await?;
    let is_confined = !found.is_empty() && found != "unconfined";
    holds("a profile confines the container", is_confined, found)
}
