//! The built-in validator: an administrator's rules for what plugins may do.

use crate::api::security_profile::ProfileType;
use crate::api::{Field, PodSandbox, ValidateContainerAdjustmentRequest};
use crate::settings::Validator;

/// Names plugins that a pod, or a container of it, needs beside those of the configuration.
const REQUIRED: &str = "required-plugins.noderesource.dev";

impl Validator {
    /// May the container be made?
    ///
    /// # Errors
    /// Why not, in words.
    pub(crate) fn check(&self, asked: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
        self.hooks(asked)?;
        self.seccomp(asked)?;
        self.namespaces(asked)?;
        self.required_plugins(asked)?;
        self.sysctls(asked)
    }

    fn hooks(&self, asked: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
        match owner(asked, Field::OciHooks) {
            Some(owners) if self.reject_oci_hooks => Err(format!("{owners} adds OCI hooks")),
            _ => Ok(()),
        }
    }

    fn seccomp(&self, asked: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
        let Some(owner) = owner(asked, Field::SeccompPolicy) else {
            return Ok(());
        };
        let linux = asked.container.as_ref().and_then(|one| one.linux.as_ref());
        let profile = linux.and_then(|linux| linux.seccomp_profile.as_ref());
        let (rejects, which) = match profile.map(|profile| profile.profile_type()) {
            None | Some(ProfileType::Unconfined) => {
                (self.reject_unconfined_seccomp, "that it has none of")
            }
            Some(ProfileType::RuntimeDefault) => (
                self.reject_runtime_default_seccomp,
                "in place of the runtime's",
            ),
            Some(ProfileType::Localhost) => {
                (self.reject_custom_seccomp, "in place of a custom one")
            }
        };
        match rejects {
            true => Err(format!("{owner} sets a seccomp policy {which}")),
            false => Ok(()),
        }
    }

    fn namespaces(&self, asked: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
        let said = entries(asked, Field::Namespace);
        match self.reject_namespaces && !said.is_empty() {
            true => Err(format!("namespaces are changed: {}", said.join(", "))),
            false => Ok(()),
        }
    }

    fn sysctls(&self, asked: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
        let said = entries(asked, Field::Sysctl);
        match self.reject_sysctls && !said.is_empty() {
            true => Err(format!("sysctls are set: {}", said.join(", "))),
            false => Ok(()),
        }
    }

    fn required_plugins(&self, asked: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
        let pod = asked.pod.as_ref();
        let container = asked.container.as_ref().map_or("", |one| &one.name);
        let said = |key: &str| pod.and_then(|pod| annotation(pod, key, container));
        let tolerates = &self.tolerate_missing_annotation;
        if !tolerates.is_empty()
            && let Some(value) = said(tolerates)
            && boolean(value).ok_or_else(|| format!("annotation {tolerates}: {value:?}"))?
        {
            return Ok(());
        }
        let mut required = self.required_plugins.clone();
        if let Some(value) = said(REQUIRED) {
            let names: Vec<String> = serde_saphyr::from_str(value)
                .map_err(|_| format!("annotation {REQUIRED}: {value:?} is no list"))?;
            required.extend(names);
        }
        required.retain(|name| {
            let is = |index: &str, base: &str| {
                base == name || name.strip_prefix(index) == Some(&format!("-{base}"))
            };
            !asked.plugins.iter().any(|one| is(&one.index, &one.name))
        });
        match required.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "required plugins are not here: {}",
                required.join(", ")
            )),
        }
    }
}

/// Who has set a field of the container.
fn owner(asked: &ValidateContainerAdjustmentRequest, field: Field) -> Option<&str> {
    let id = &asked.container.as_ref()?.id;
    asked.owners.as_ref()?.owner(id, field)
}

/// Which entries of a field are set, and by whom.
fn entries(asked: &ValidateContainerAdjustmentRequest, field: Field) -> Vec<String> {
    let id = asked.container.as_ref().map_or("", |one| one.id.as_str());
    let owners = asked.owners.as_ref();
    let entries = owners.map(|owners| owners.owners_of_entries(id, field));
    let words = |(entry, owner)| format!("{entry} by {owner}");
    entries.into_iter().flatten().map(words).collect()
}

/// What a pod says of one of its containers, or of all.
fn annotation<'a>(pod: &'a PodSandbox, key: &str, container: &str) -> Option<&'a str> {
    let keys = [
        format!("{key}/container.{container}"),
        format!("{key}/pod"),
        key.to_owned(),
    ];
    let said = keys.iter().find_map(|key| pod.annotations.get(key));
    said.map(String::as_str)
}

/// As Go's programs write truth.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Container, LinuxContainer, OwningPlugins, PluginInstance, SecurityProfile};

    fn asked(annotations: &[(&str, &str)]) -> ValidateContainerAdjustmentRequest {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        ValidateContainerAdjustmentRequest {
            pod: Some(PodSandbox {
                annotations: annotations.iter().map(pair).collect(),
                ..PodSandbox::default()
            }),
            container: Some(Container {
                id: "c".into(),
                name: "main".into(),
                linux: Some(LinuxContainer {
                    seccomp_profile: Some(SecurityProfile::default()),
                    ..LinuxContainer::default()
                }),
                ..Container::default()
            }),
            owners: Some(OwningPlugins::default()),
            plugins: vec![PluginInstance {
                name: "logger".into(),
                index: "10".into(),
            }],
            ..ValidateContainerAdjustmentRequest::default()
        }
    }

    #[test]
    fn each_rule_holds_what_it_names_and_no_other() {
        let mut said = asked(&[]);
        let owners = said.owners.as_mut().unwrap();
        owners.add("c", Field::OciHooks, "00-a");
        owners.claim("c", Field::SeccompPolicy, "00-a").unwrap();
        owners
            .claim_entry("c", Field::Namespace, "network", "00-a")
            .unwrap();
        owners
            .claim_entry("c", Field::Sysctl, "net.a", "00-a")
            .unwrap();
        type Rule = fn(&mut Validator) -> &mut bool;
        let rules: [(&str, Rule); 4] = [
            ("hooks", |it| &mut it.reject_oci_hooks),
            ("seccomp", |it| &mut it.reject_runtime_default_seccomp),
            ("network by 00-a", |it| &mut it.reject_namespaces),
            ("net.a by 00-a", |it| &mut it.reject_sysctls),
        ];
        for (words, rule) in rules {
            let mut validator = Validator::default();
            assert_eq!(validator.check(&said), Ok(()));
            *rule(&mut validator) = true;
            let refused = validator.check(&said).unwrap_err();
            assert!(refused.contains(words), "{refused}");
            assert_eq!(validator.check(&asked(&[])), Ok(()), "{words}");
        }
        let others = Validator {
            reject_unconfined_seccomp: true,
            reject_custom_seccomp: true,
            ..Validator::default()
        };
        assert_eq!(others.check(&said), Ok(()));
    }

    #[test]
    fn plugins_can_be_required_and_done_without() {
        let validator = Validator {
            required_plugins: vec!["20-topology".into()],
            tolerate_missing_annotation: "tolerate".into(),
            ..Validator::default()
        };
        assert!(validator.check(&asked(&[])).is_err());
        for key in ["tolerate", "tolerate/pod", "tolerate/container.main"] {
            assert_eq!(validator.check(&asked(&[(key, "true")])), Ok(()), "{key}");
        }
        let other = [("tolerate/container.other", "true")];
        assert!(validator.check(&asked(&other)).is_err());
        assert!(validator.check(&asked(&[("tolerate", "yes")])).is_err());
        let none = Validator::default();
        for (names, fine) in [
            ("[logger]", true),
            ("[\"10-logger\"]", true),
            ("- logger\n- 11-logger", false),
            ("[gone]", false),
            ("{", false),
        ] {
            let said = asked(&[(REQUIRED, names)]);
            assert_eq!(none.check(&said).is_ok(), fine, "{names}");
        }
    }
}
