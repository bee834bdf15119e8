//! What a handler can do, and what a pod or container needs of it: asked before anything is made.

use std::collections::BTreeSet;

use crate::container::{ContainerSpec, Propagation};
use crate::node::Node;
use crate::pod::{NamespaceMode, PodSpec};

/// Something that not every handler can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ability {
    /// Pods on the node's network.
    HostNetwork,
    /// Pods with the node's System V IPC.
    HostIpc,
    /// Containers that see the node's processes.
    HostPid,
    /// Containers that see the processes of one other container.
    TargetPid,
    /// Device nodes of the node.
    Devices,
    /// Privileged containers.
    Privileged,
    /// Mounts that come and go with the node's, or the other way.
    Propagation,
    /// Mounts that are read-only with all below them.
    RecursiveReadOnly,
    /// Flags of a mount (noexec, nodev, nosuid).
    MountOptions,
    /// A user namespace of a pod's own.
    UserNamespaces,
    /// Mounts whose files belong to others outside than inside.
    MappedMounts,
    /// Freezing a container.
    Pause,
    /// Checking a container's health again and again.
    HealthChecks,
    /// Writing a running container down.
    Checkpoint,
    /// Making containers from what was written down.
    Restore,
    /// Flows to ports inside a pod.
    Ports,
    /// It fetches layers by itself: the engine fetches manifest and configuration alone.
    PullsImages,
}

impl Ability {
    /// It, as a refusal names it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::HostNetwork => "a pod on the node's network (namespace_options.network NODE)",
            Self::HostIpc => "a pod with the node's IPC (namespace_options.ipc NODE)",
            Self::HostPid => {
                "a container that sees the node's processes (namespace_options.pid NODE)"
            }
            Self::TargetPid => {
                "a container that sees another's processes (namespace_options.pid TARGET)"
            }
            Self::Devices => "devices of the node (devices)",
            Self::Privileged => "privileged containers (security_context.privileged)",
            Self::Propagation => "mount propagation (mounts.propagation)",
            Self::RecursiveReadOnly => "recursively read-only mounts (mounts.recursive_read_only)",
            Self::MountOptions => "options of mounts (mounts.mount_options)",
            Self::UserNamespaces => "a user namespace for a pod (userns_options.mode POD)",
            Self::MappedMounts => "mounts with other ids (mounts.uidMappings)",
            Self::Pause => "pause and resume",
            Self::HealthChecks => "health checks (--health-cmd)",
            Self::Checkpoint => "checkpoints",
            Self::Restore => "restores from checkpoints",
            Self::Ports => "access to a pod's ports",
            Self::PullsImages => "fetching images by itself",
        }
    }

    /// What a pod needs beyond the plain.
    #[must_use]
    pub fn of_pod(spec: &PodSpec) -> Vec<Self> {
        let node = NamespaceMode::Node;
        let needs = [
            (spec.namespaces.network == node, Self::HostNetwork),
            (spec.namespaces.ipc == node, Self::HostIpc),
            (spec.namespaces.pid == node, Self::HostPid),
            (spec.namespaces.users.ids().is_some(), Self::UserNamespaces),
            (spec.privileged, Self::Privileged),
        ];
        needed(&needs)
    }

    /// What a container needs beyond the plain.
    #[must_use]
    pub fn of_container(spec: &ContainerSpec) -> Vec<Self> {
        let pid = spec.security.namespaces.pid;
        let private = Propagation::Private;
        let mut mounts = spec.mounts.iter();
        let needs = [
            (pid == NamespaceMode::Node, Self::HostPid),
            (pid == NamespaceMode::Target, Self::TargetPid),
            (
                !spec.devices.is_empty() || !spec.cdi_devices.is_empty(),
                Self::Devices,
            ),
            (spec.security.privileged, Self::Privileged),
            (
                mounts.any(|mount| mount.propagation != private),
                Self::Propagation,
            ),
            (
                spec.mounts.iter().any(|mount| mount.recursive_read_only),
                Self::RecursiveReadOnly,
            ),
            (
                spec.mounts.iter().any(|mount| !mount.options.is_empty()),
                Self::MountOptions,
            ),
            (
                spec.mounts.iter().any(|mount| mount.ids.is_some()),
                Self::MappedMounts,
            ),
            (
                spec.extras.as_ref().is_some_and(|it| it.health.is_some()),
                Self::HealthChecks,
            ),
        ];
        needed(&needs)
    }
}

fn needed(needs: &[(bool, Ability)]) -> Vec<Ability> {
    let needs = needs.iter().filter(|(needed, _)| *needed);
    needs.map(|(_, ability)| *ability).collect()
}

/// A form in which a root file system can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RootForm {
    /// Layers as directories, for the handler to lay over each other
    /// ([`store::RootFilesystem::overlay_paths`]).
    Layers,
    /// One directory.
    Directory,
    /// A mount descriptor (fsmount(2), [`store::RootFilesystem::open`]).
    Mount,
    /// An image of a file system in a file.
    Image,
}

impl RootForm {
    /// It, as a refusal names it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Layers => "layers as directories",
            Self::Directory => "one directory",
            Self::Mount => "a mount descriptor",
            Self::Image => "an image of a file system",
        }
    }

    /// The forms that the engine can hand a container's root file system over in. A mount of layers by
    /// descriptor needs Linux 6.13.
    pub(crate) fn of_node(node: &Node) -> Vec<Self> {
        let mut forms = vec![Self::Layers];
        forms.extend(
            node.kernel()
                .overlay_layers_by_descriptor()
                .then_some(Self::Mount),
        );
        forms
    }
}

/// What a handler can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// The forms of a root file system that it takes, the best first.
    pub roots: Vec<RootForm>,
    has: BTreeSet<Ability>,
}

impl Abilities {
    /// Of a handler that takes these roots and can do that.
    #[must_use]
    pub fn new(roots: &[RootForm], has: &[Ability]) -> Self {
        Self {
            roots: roots.to_vec(),
            has: has.iter().copied().collect(),
        }
    }

    /// Can it?
    #[must_use]
    pub fn has(&self, ability: Ability) -> bool {
        self.has.contains(&ability)
    }

    /// The same without this one.
    #[must_use]
    pub(crate) fn without(mut self, ability: Ability) -> Self {
        self.has.remove(&ability);
        self
    }

    /// All that it can do.
    pub fn all(&self) -> impl Iterator<Item = Ability> {
        self.has.iter().copied()
    }

    /// Why none of the forms that there are is one that it takes.
    #[must_use]
    pub fn refused_root(&self, there: &[RootForm]) -> Option<String> {
        if self.roots.iter().any(|form| there.contains(form)) {
            return None;
        }
        let named = |forms: &[RootForm]| {
            let words: Vec<&str> = forms.iter().map(|form| form.words()).collect();
            match words.is_empty() {
                true => "nothing".to_owned(),
                false => words.join(" or "),
            }
        };
        Some(format!(
            "root file systems as {}, which is what there are here (it takes {})",
            named(there),
            named(&self.roots)
        ))
    }

    /// The first of what is needed that it lacks.
    #[must_use]
    pub fn lacking(&self, needed: &[Ability]) -> Option<Ability> {
        needed.iter().copied().find(|ability| !self.has(*ability))
    }
}

/// What one pod takes beside its containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overhead {
    /// Bytes of memory.
    pub memory: u64,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Device, Mount};
    use crate::pod::{UserIds, UserMode};

    #[test]
    fn what_is_lacking_is_named_by_its_field() {
        let none = Abilities::default();
        assert_eq!(none.lacking(&Ability::of_pod(&PodSpec::default())), None);
        let mut pod = PodSpec::default();
        pod.namespaces.network = NamespaceMode::Node;
        pod.namespaces.users = UserMode::Pod(UserIds::default());
        let needed = Ability::of_pod(&pod);
        assert_eq!(needed, [Ability::HostNetwork, Ability::UserNamespaces]);
        let network = Abilities::new(&[], &[Ability::HostNetwork]);
        let lacking = network.lacking(&needed).unwrap();
        assert!(lacking.words().contains("userns_options"), "{lacking:?}");
    }

    #[test]
    fn a_root_file_system_that_there_is_in_no_form_that_is_taken_is_refused_by_name() {
        let image = Abilities::new(&[RootForm::Image], &[]);
        let there = [RootForm::Layers, RootForm::Mount];
        let reason = image.refused_root(&there).unwrap();
        assert!(
            reason.contains("as layers as directories or a mount"),
            "{reason}"
        );
        assert!(
            reason.ends_with("(it takes an image of a file system)"),
            "{reason}"
        );
        // The best may be missing on this node; any that is there will do.
        let both = Abilities::new(&[RootForm::Mount, RootForm::Layers], &[]);
        assert_eq!(both.refused_root(&[RootForm::Layers]), None);
        assert!(both.refused_root(&[RootForm::Image]).is_some());
        let reason = Abilities::default().refused_root(&there).unwrap();
        assert!(reason.contains("takes nothing"), "{reason}");
    }

    #[test]
    fn a_container_needs_what_its_mounts_and_devices_say() {
        let mut spec = ContainerSpec::default();
        assert_eq!(Ability::of_container(&spec), []);
        spec.devices.push(Device::default());
        spec.mounts.push(Mount {
            propagation: Propagation::Bidirectional,
            ..Mount::default()
        });
        spec.security.privileged = true;
        assert_eq!(
            Ability::of_container(&spec),
            [Ability::Devices, Ability::Privileged, Ability::Propagation]
        );
    }
}
