//! Capabilities, seccomp, masked and read-only paths. What is asked for is given or the call
//! fails; a privileged container gets everything and nothing masked.

use std::path::Path;

use runtime::spec;

use super::Inputs;
use crate::container::{Profile, Security};
use crate::error::{Error, Result};

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
    capabilities: Option<&spec::Capabilities>,
) -> Result<Confinement> {
    let security = &inputs.container.spec.security;
    if security.privileged {
        return Ok(Confinement {
            seccomp: None,
            apparmor: None,
            selinux: None,
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
        });
    }
    Ok(Confinement {
        seccomp: seccomp(inputs, capabilities)?,
        apparmor: apparmor(
            &security.apparmor,
            &inputs.engine.config().runtime.apparmor_profile,
        )?,
        selinux: security.selinux.as_deref().map(selinux).transpose()?,
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
fn apparmor(profile: &Profile, default: &str) -> Result<Option<String>> {
    let usable = runtime::apparmor::is_usable();
    let name = match profile {
        Profile::Unconfined => return Ok(None),
        Profile::RuntimeDefault if !usable || default == "unconfined" => return Ok(None),
        Profile::RuntimeDefault => default,
        Profile::Localhost(name) => name,
    };
    let refused = |reason: String| Error::invalid("security_context.apparmor", reason);
    if !usable {
        return Err(refused(format!(
            "profile {name:?} cannot be used: this node has no AppArmor"
        )));
    }
    runtime::apparmor::ensure(name).map_err(|error| refused(error.to_string()))?;
    Ok(Some(name.to_owned()))
}

/// The label of CRI's four parts; what is not given is as containers usually have it.
fn selinux(asked: &str) -> Result<Labels> {
    let field = "security_context.selinux_options";
    if !runtime::has_selinux() {
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
    capabilities: Option<&spec::Capabilities>,
) -> Result<Option<spec::Seccomp>> {
    match &inputs.container.spec.security.seccomp {
        Profile::Unconfined => Ok(None),
        Profile::Localhost(path) => read_profile(path).map(Some),
        Profile::RuntimeDefault => {
            let own = inputs.entry().map(|entry| &entry.seccomp_profile);
            let configured = own
                .filter(|path| !path.is_empty())
                .unwrap_or(&inputs.engine.config().runtime.seccomp_profile);
            if !configured.is_empty() {
                return read_profile(configured).map(Some);
            }
            let bounding = capabilities
                .map(|caps| caps.bounding.clone())
                .unwrap_or_default();
            Ok(Some(runtime::seccomp::default_profile(&bounding)))
        }
    }
}

fn read_profile(path: &str) -> Result<spec::Seccomp> {
    let field = "security_context.seccomp";
    if !Path::new(path).is_absolute() {
        return Err(Error::invalid(
            field,
            format!("localhost profile {path:?} is not an absolute path"),
        ));
    }
    let text = std::fs::read(path)
        .map_err(|e| Error::invalid(field, format!("cannot read seccomp profile {path:?}: {e}")))?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::invalid(field, format!("seccomp profile {path:?} is not one: {e}")))
}

/// Everything the kernel knows and this engine has itself.
pub(crate) fn all_capabilities() -> spec::Capabilities {
    let names = everything();
    spec::Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..spec::Capabilities::default()
    }
}

pub(super) fn capabilities(inputs: &Inputs<'_>) -> Result<spec::Capabilities> {
    let security = &inputs.container.spec.security;
    if security.privileged {
        return Ok(all_capabilities());
    }
    let names = bounding(
        &inputs.engine.config().runtime.default_capabilities,
        security,
    )?;
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
    Ok(spec::Capabilities {
        bounding: names.clone(),
        effective: held,
        permitted: names,
        inheritable: ambient.clone(),
        ambient,
    })
}

/// The defaults with what the request adds and drops; a single name wins over `ALL`.
fn bounding(defaults: &[String], security: &Security) -> Result<Vec<String>> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut names = defaults
        .iter()
        .map(|name| canonical(name))
        .collect::<Result<Vec<_>>>()?;
    if security.add_capabilities.iter().any(is_all) {
        names = everything();
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

fn everything() -> Vec<String> {
    (0..=runtime::capability::last())
        .filter_map(runtime::capability::name)
        .map(|name| format!("CAP_{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(add: &[&str], drop: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let security = Security {
            add_capabilities: owned(add),
            drop_capabilities: owned(drop),
            ..Security::default()
        };
        bounding(&["CHOWN".to_owned(), "KILL".to_owned()], &security).unwrap()
    }

    #[test]
    fn adding_and_dropping_start_from_the_defaults() {
        assert_eq!(names(&[], &[]), ["CAP_CHOWN", "CAP_KILL"]);
        assert_eq!(
            names(&["net_admin"], &["CAP_KILL"]),
            ["CAP_CHOWN", "CAP_NET_ADMIN"]
        );
    }

    #[test]
    fn a_single_name_wins_over_all() {
        assert_eq!(names(&["NET_RAW"], &["ALL"]), ["CAP_NET_RAW"]);
        assert!(!names(&["ALL"], &["SYS_ADMIN"]).contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(names(&["ALL"], &[]).contains(&"CAP_SYS_ADMIN".to_owned()));
    }

    #[test]
    fn parts_of_a_label_that_are_not_given_are_as_usual() {
        assert_eq!(
            labels("::spc_t:"),
            Labels {
                process: "system_u:system_r:spc_t:s0".into(),
                mount: "system_u:object_r:container_file_t:s0".into(),
            }
        );
        let level = labels("u:r:t:s0:c1,c2");
        assert_eq!(level.process, "u:r:t:s0:c1,c2");
        assert!(level.mount.ends_with(":s0:c1,c2"));
    }

    #[test]
    fn a_profile_or_label_that_the_node_cannot_enforce_is_refused_by_name() {
        assert_eq!(
            apparmor(&Profile::Unconfined, "floe-default").unwrap(),
            None
        );
        assert_eq!(
            apparmor(&Profile::RuntimeDefault, "unconfined").unwrap(),
            None
        );
        let asked = Profile::Localhost("no-such".into());
        let told = apparmor(&asked, "floe-default").unwrap_err().to_string();
        assert!(told.contains("\"no-such\""), "{told}");
        if !runtime::apparmor::is_usable() {
            assert!(told.contains("this node has no AppArmor"), "{told}");
            assert_eq!(
                apparmor(&Profile::RuntimeDefault, "floe-default").unwrap(),
                None
            );
        }
        if !runtime::has_selinux() {
            let told = selinux("::spc_t:").unwrap_err().to_string();
            assert!(told.contains("this node has no SELinux"), "{told}");
        }
    }

    #[test]
    fn an_unknown_capability_is_refused_by_name() {
        let security = Security {
            add_capabilities: vec!["FLY".into()],
            ..Security::default()
        };
        assert!(
            bounding(&[], &security)
                .unwrap_err()
                .to_string()
                .contains("FLY")
        );
    }
}
