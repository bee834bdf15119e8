//! Capabilities, seccomp, masked and read-only paths. What is asked for is given or the call
//! fails; a privileged container gets everything and nothing masked.

use std::path::Path;

use base::file::read_linked;
use runtime::spec;

use super::Inputs;
use super::host::Host;
use crate::annotations;
use crate::config::BUILT_IN;
use crate::container::{Profile, Security};
use crate::error::{Error, Result};
use crate::pod::NamespaceMode;

/// What confines the process besides its identity.
pub(super) struct Confinement {
    pub(super) seccomp: Option<spec::Seccomp>,
    pub(super) apparmor: Option<String>,
    pub(super) selinux: Option<Labels>,
    pub(super) masked_paths: Vec<String>,
    pub(super) readonly_paths: Vec<String>,
}

pub(super) fn build(
    inputs: &Inputs<'_>,
    host: &Host,
    capabilities: Option<&spec::Capabilities>,
) -> Result<Confinement> {
    let security = &inputs.container.spec.security;
    if security.privileged {
        return Ok(Confinement {
            seccomp: notifying(inputs, host, host.seccomp.clone()),
            apparmor: None,
            selinux: None,
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
        });
    }
    Ok(Confinement {
        seccomp: notifying(inputs, host, seccomp(inputs, host, capabilities)),
        apparmor: apparmor(
            &security.apparmor,
            &inputs.runtime.apparmor_profile,
            host.apparmor,
        )?,
        selinux: match &security.selinux {
            Some(asked) if labels_wanted(inputs) => Some(selinux(asked, host.selinux)?),
            _ => None,
        },
        masked_paths: security.masked_paths.clone(),
        readonly_paths: security.readonly_paths.clone(),
    })
}

/// The labels of a process and of its files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) process: String,
    pub(super) mount: String,
}

/// A profile that is asked for on a node that cannot give it is an error; the runtime's default
/// on such a node is none, as kubelet expects.
fn apparmor(profile: &Profile, default: &str, usable: bool) -> Result<Option<String>> {
    let name = match profile {
        Profile::Unconfined => return Ok(None),
        Profile::RuntimeDefault if !usable || default == "unconfined" => return Ok(None),
        Profile::RuntimeDefault => default,
        Profile::Localhost(name) => name,
    };
    if !usable {
        let reason = format!("profile {name:?} cannot be used: this node has no AppArmor");
        return Err(Error::invalid("security_context.apparmor", reason));
    }
    Ok(Some(name.to_owned()))
}

/// Makes sure that the kernel has a profile of that name.
pub(super) fn load_apparmor(name: &str) -> Result<()> {
    runtime::apparmor::ensure(name)
        .map_err(|error| Error::invalid("security_context.apparmor", error.to_string()))
}

/// A container on the node's network has none unless the configuration wants it.
fn labels_wanted(inputs: &Inputs<'_>) -> bool {
    let on_nodes = inputs.pod.spec.namespaces.network == NamespaceMode::Node;
    !(on_nodes && inputs.runtime.hostnetwork_disable_selinux)
}

/// The label of CRI's four parts; what is not given is as containers usually have it.
fn selinux(asked: &str, usable: bool) -> Result<Labels> {
    let field = "security_context.selinux_options";
    if !usable {
        return Err(Error::invalid(
            field,
            format!("label {asked:?} cannot be used: this node has no SELinux"),
        ));
    }
    Ok(labels(asked))
}

fn labels(asked: &str) -> Labels {
    let mut parts = asked.splitn(4, ':');
    let mut part = |usual: &'static str| match parts.next() {
        Some(given) if !given.is_empty() => given.to_owned(),
        _ => usual.to_owned(),
    };
    let [user, role, kind, level] = [
        part("system_u"),
        part("system_r"),
        part("container_t"),
        part("s0"),
    ];
    Labels {
        process: format!("{user}:{role}:{kind}:{level}"),
        mount: format!("system_u:object_r:container_file_t:{level}"),
    }
}

fn seccomp(
    inputs: &Inputs<'_>,
    host: &Host,
    capabilities: Option<&spec::Capabilities>,
) -> Option<spec::Seccomp> {
    match (&inputs.container.spec.security.seccomp, &host.seccomp) {
        (Profile::Unconfined, _) => None,
        (_, Some(read)) => Some(read.clone()),
        (_, None) => {
            let bounding = capabilities.map_or(&[][..], |caps| &caps.bounding);
            let handler = inputs.pod.handler.as_str();
            Some(match handler.is_empty() || handler == BUILT_IN {
                true => runtime::seccomp::default_profile(bounding),
                false => runtime::seccomp::default_profile_for_libseccomp(bounding),
            })
        }
    }
}

/// The profile with what it refuses by name handed to the supervisor instead, if the pod's annotation asks for
/// that: as CRI-O's notifier, which cannot hand over what no rule names either. One that has an agent keeps it.
fn notifying(
    inputs: &Inputs<'_>,
    host: &Host,
    profile: Option<spec::Seccomp>,
) -> Option<spec::Seccomp> {
    let mut profile = profile?;
    let asked = inputs.annotations().get(annotations::SECCOMP_NOTIFIER);
    let in_shim = inputs.entry.is_some_and(|entry| entry.runtime_type == "vm");
    let Some((_, action)) = asked.filter(|_| profile.listener_path.is_empty() && !in_shim) else {
        return Some(profile);
    };
    let refusing = [
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
    ];
    for rule in &mut profile.syscalls {
        // The kernel's own rule for agents: their answer would come by it.
        let writes = rule.names.iter().any(|name| name == "write");
        if refusing.contains(&rule.action.as_str()) && !writes {
            rule.action = "SCMP_ACT_NOTIFY".to_owned();
            rule.errno_ret = None;
        }
    }
    profile.listener_path = host.seccomp_socket.display().to_string();
    profile.listener_metadata = format!("{}{action}", supervisor::AGENT);
    Some(profile)
}

/// The profile that is in a file: the request's, or the configuration's in place of the default.
pub(super) fn read_seccomp(inputs: &Inputs<'_>) -> Result<Option<spec::Seccomp>> {
    let security = &inputs.container.spec.security;
    let own = inputs.entry.map(|entry| entry.seccomp_profile.as_str());
    let own = own.filter(|path| !path.is_empty());
    let configured = own.unwrap_or(&inputs.runtime.seccomp_profile);
    match &security.seccomp {
        _ if security.privileged => {
            let path = inputs.runtime.privileged_profile();
            path.map(read_profile).transpose()
        }
        Profile::Localhost(path) => read_profile(path).map(Some),
        Profile::RuntimeDefault if !configured.is_empty() => read_profile(configured).map(Some),
        Profile::RuntimeDefault | Profile::Unconfined => Ok(None),
    }
}

/// The most that the file of a profile may be, in bytes.
const MAX_PROFILE: u64 = 4 << 20;

/// Whether every seccomp profile that a configuration names can be read and is one.
///
/// # Errors
/// Key and file of the first that is not.
pub(crate) fn check_profiles(runtime: &crate::config::Runtime) -> Result<()> {
    let own = runtime.runtimes.iter().map(|(name, entry)| {
        let key = format!("crio.runtime.runtimes.{name}.seccomp_profile");
        (key, entry.seccomp_profile.as_str())
    });
    let privileged = runtime.privileged_profile().unwrap_or_default();
    let all = [
        ("seccomp_profile", runtime.seccomp_profile.as_str()),
        ("privileged_seccomp_profile", privileged),
    ];
    let all = all.map(|(key, path)| (format!("crio.runtime.{key}"), path));
    for (key, path) in all.into_iter().chain(own) {
        if !path.is_empty() {
            read_profile(path).map_err(|error| Error::Config {
                origin: key,
                reason: error.to_string(),
            })?;
        }
    }
    Ok(())
}

fn read_profile(path: &str) -> Result<spec::Seccomp> {
    let refused = |reason: String| Error::invalid("security_context.seccomp", reason);
    if !Path::new(path).is_absolute() {
        let reason = format!("localhost profile {path:?} is not an absolute path");
        return Err(refused(reason));
    }
    let unread = |why: String| refused(format!("cannot read seccomp profile {path:?}: {why}"));
    let text = read_linked(Path::new(path), MAX_PROFILE)
        .map_err(|error| unread(error.to_string()))?
        .ok_or_else(|| unread("No such file or directory (os error 2)".to_owned()))?;
    serde_json::from_slice(&text)
        .map_err(|error| refused(format!("seccomp profile {path:?} is not one: {error}")))
}

/// Everything the kernel knows and this engine has itself.
pub(crate) fn all_capabilities() -> spec::Capabilities {
    all_up_to(runtime::capability::last())
}

fn all_up_to(last: u8) -> spec::Capabilities {
    let names = everything(last);
    spec::Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..spec::Capabilities::default()
    }
}

pub(super) fn capabilities(inputs: &Inputs<'_>, host: &Host) -> Result<spec::Capabilities> {
    let security = &inputs.container.spec.security;
    if security.privileged {
        return Ok(all_up_to(host.last_capability));
    }
    let defaults = &inputs.runtime.default_capabilities;
    let names = bounding(defaults, security, host.last_capability)?;
    let ambient = security
        .add_ambient_capabilities
        .iter()
        .map(|name| canonical(name))
        .collect::<Result<Vec<_>>>()?;
    // The kernel gives a user other than root its effective set from the ambient one alone.
    let held = if inputs.container.user.uid == 0 {
        names.clone()
    } else {
        ambient.clone()
    };
    let inheritable = match inputs.runtime.add_inheritable_capabilities {
        true => names.clone(),
        false => ambient.clone(),
    };
    Ok(spec::Capabilities {
        bounding: names.clone(),
        effective: held,
        permitted: names,
        inheritable,
        ambient,
    })
}

/// The defaults with what the request adds and drops; a single name wins over `ALL`.
fn bounding(defaults: &[String], security: &Security, last: u8) -> Result<Vec<String>> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut names = defaults
        .iter()
        .map(|name| canonical(name))
        .collect::<Result<Vec<_>>>()?;
    if security.add_capabilities.iter().any(is_all) {
        names = everything(last);
    }
    if security.drop_capabilities.iter().any(is_all) {
        names.clear();
    }
    for name in security
        .add_capabilities
        .iter()
        .chain(&security.add_ambient_capabilities)
        .filter(|n| !is_all(n))
    {
        let name = canonical(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in security
        .drop_capabilities
        .iter()
        .filter(|name| !is_all(name))
    {
        let name = canonical(name)?;
        names.retain(|have| *have != name);
    }
    Ok(names)
}

fn canonical(name: &str) -> Result<String> {
    runtime::capability::number(name)
        .and_then(runtime::capability::name)
        .map(|name| format!("CAP_{name}"))
        .ok_or_else(|| {
            Error::invalid(
                "security_context.capabilities",
                format!("unknown capability {name:?}"),
            )
        })
}

fn everything(last: u8) -> Vec<String> {
    (0..=last)
        .filter_map(runtime::capability::name)
        .map(|name| format!("CAP_{name}"))
        .collect()
}
