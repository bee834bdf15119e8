//! Who the container's process is and what confines it: users, groups, capabilities, devices, profiles and
//! namespaces of `floe run`.

use std::path::PathBuf;

use engine::Engine;
use engine::container::{Device, Extras, Profile, Security};
use engine::pod::{IdMapping, NamespaceMode, NamespaceModes, UserIds, UserMode};

use crate::containers_conf::Containers;
use crate::failure::Failure;

/// Paths under /proc and /sys that tell or change too much of the node.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// The most of a group file that is read.
const MAX_FILE: u64 = 8 << 20;

/// Identity and confinement.
#[derive(Debug, clap::Args)]
pub(crate) struct Identity {
    /// USER[:GROUP], names or numbers
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// A further group, by name or number
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    group_add: Vec<String>,
    /// All capabilities and devices
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, hide_default_value = true, value_name = "BOOL")]
    pub(super) privileged: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined, seccomp=FILE, apparmor=PROFILE, mask=PATH:PATH, unmask=PATH:PATH or ALL
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// A device of the node, PATH[:PATH INSIDE][:rwm], or the name of one (CDI)
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// GPUs by their CDI names: all, or one of nvidia.com/gpu
    #[arg(long, value_name = "GPU")]
    gpus: Vec<String>,
    /// host or private
    #[arg(long, default_value = "private", value_parser = pid)]
    pid: NamespaceMode,
    /// host, private or shareable
    #[arg(long, default_value = "private", value_parser = ipc)]
    ipc: NamespaceMode,
    /// private
    #[arg(long, value_name = "MODE", value_parser = uts)]
    uts: Option<()>,
    /// host or private
    #[arg(long, value_name = "MODE", value_parser = cgroupns)]
    cgroupns: Option<bool>,
    /// host
    #[arg(long, value_name = "MODE", value_parser = userns)]
    userns: Option<()>,
    /// INSIDE:OUTSIDE:COUNT: a user namespace with these users
    #[arg(long, value_name = "MAP", value_parser = mapping)]
    uidmap: Vec<IdMapping>,
    /// INSIDE:OUTSIDE:COUNT: a user namespace with these groups
    #[arg(long, value_name = "MAP", value_parser = mapping)]
    gidmap: Vec<IdMapping>,
    /// Run an init beside the command, that takes care of what processes leave
    #[arg(long)]
    init: bool,
    /// Mask for new files, in octal digits [default: 0022]
    #[arg(long, value_name = "MASK", value_parser = umask)]
    umask: Option<u32>,
}

fn pid(text: &str) -> Result<NamespaceMode, String> {
    match text {
        "private" => Ok(NamespaceMode::Container),
        "host" => Ok(NamespaceMode::Node),
        _ => Err(only("private and host")),
    }
}

fn ipc(text: &str) -> Result<NamespaceMode, String> {
    match text {
        "private" | "shareable" => Ok(NamespaceMode::Pod),
        "host" => Ok(NamespaceMode::Node),
        _ => Err(only("private, shareable and host")),
    }
}

fn uts(text: &str) -> Result<(), String> {
    match text {
        "private" => Ok(()),
        _ => Err(only("private")),
    }
}

fn cgroupns(text: &str) -> Result<bool, String> {
    match text {
        "private" => Ok(true),
        "host" => Ok(false),
        _ => Err(only("private and host")),
    }
}

fn userns(text: &str) -> Result<(), String> {
    match text {
        "" | "host" => Ok(()),
        _ => Err(only("host, and --uidmap and --gidmap for others")),
    }
}

fn only(what: &str) -> String {
    format!("not offered: floe has {what}")
}

fn umask(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).ok();
    let mask = mask.filter(|mask| *mask <= 0o7777);
    mask.ok_or_else(|| "write octal digits, such as 0022".into())
}

fn mapping(text: &str) -> Result<IdMapping, String> {
    let numbers: Vec<Option<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match numbers[..] {
        [Some(container_id), Some(host_id), Some(size)] if size > 0 => Ok(IdMapping {
            container_id,
            host_id,
            size,
        }),
        _ => Err("write INSIDE:OUTSIDE:COUNT, three numbers".into()),
    }
}

impl Identity {
    /// The namespaces of the pod and of its container.
    pub(super) fn namespaces(&self, network: NamespaceMode) -> (NamespaceModes, NamespaceModes) {
        let users = match (&self.uidmap[..], &self.gidmap[..]) {
            ([], []) => UserMode::Unsaid,
            (uids, []) => UserMode::Pod(UserIds {
                uids: uids.to_vec(),
                gids: uids.to_vec(),
            }),
            ([], gids) => UserMode::Pod(UserIds {
                uids: gids.to_vec(),
                gids: gids.to_vec(),
            }),
            (uids, gids) => UserMode::Pod(UserIds {
                uids: uids.to_vec(),
                gids: gids.to_vec(),
            }),
        };
        // The pod's own namespace has an init of floe's.
        let pid = match self.pid {
            NamespaceMode::Container if self.init => NamespaceMode::Pod,
            pid => pid,
        };
        let own = NamespaceModes {
            network,
            pid,
            ipc: self.ipc,
            users,
            ..NamespaceModes::default()
        };
        (own.clone(), own)
    }

    /// Takes from containers.conf what was not said. Its capabilities are those that options add to and take from.
    pub(super) fn take_defaults(&mut self, given: &Containers) -> Result<(), Failure> {
        if self.umask.is_none()
            && let Some(text) = &given.umask
        {
            let mask = umask(text);
            self.umask = Some(mask.map_err(|why| Failure::new(format!("umask {text:?}: {why}")))?);
        }
        self.init |= given.init == Some(true);
        self.device.extend(given.devices.iter().cloned());
        let usual = &given.default_capabilities;
        let is_all = |text: &String| text.eq_ignore_ascii_case("all");
        let of_all = self.cap_add.iter().chain(&self.cap_drop).any(is_all);
        if usual.is_empty() || of_all || self.privileged {
            return Ok(());
        }
        let plain = |text: &str| {
            let text = text.to_ascii_uppercase();
            text.strip_prefix("CAP_").unwrap_or(&text).to_owned()
        };
        let dropped: Vec<String> = self.cap_drop.iter().map(|text| plain(text)).collect();
        let added = usual.iter().chain(&self.cap_add).map(|text| plain(text));
        self.cap_add = added.filter(|text| !dropped.contains(text)).collect();
        self.cap_drop = vec!["ALL".to_owned()];
        Ok(())
    }

    pub(super) fn security(&self, namespaces: NamespaceModes) -> Result<Security, Failure> {
        Ok(Security {
            image_groups: true,
            privileged: self.privileged,
            namespaces,
            user: self.user.clone().unwrap_or_default(),
            ..confined(&self.cap_add, &self.cap_drop, &self.security_opt)?
        })
    }

    /// What of it CRI has no words for.
    pub(super) fn add_to(&self, extras: &mut Extras) {
        // podman's default is the usual one of Linux, whatever the mask of who starts it.
        extras.umask = Some(self.umask.unwrap_or(0o022));
        extras.own_cgroups = self.cgroupns;
        for option in &self.security_opt {
            match parts(option) {
                ("unmask", "ALL" | "all") | ("systempaths", "unconfined") => {
                    extras.unmask.push(None);
                }
                ("unmask", list) => {
                    extras
                        .unmask
                        .extend(list.split(':').map(|path| Some(path.into())));
                }
                ("mask", list) => extras.mask.extend(list.split(':').map(PathBuf::from)),
                _ => {}
            }
        }
    }

    /// The devices, and those by their names.
    pub(super) fn devices(&self) -> Result<(Vec<Device>, Vec<String>), Failure> {
        let (mut devices, mut named) = (Vec::new(), Vec::new());
        for text in &self.device {
            match text.starts_with('/') {
                true => devices.push(device(text)?),
                false if text.contains('=') => named.push(text.clone()),
                false => {
                    return Err(Failure::new(format!(
                        "--device {text:?} is neither a path nor VENDOR/CLASS=NAME"
                    )));
                }
            }
        }
        named.extend(self.gpus.iter().map(|gpu| format!("nvidia.com/gpu={gpu}")));
        Ok((devices, named))
    }

    /// The further groups by their numbers; names are those of the image.
    pub(super) fn groups(&self, engine: &Engine, image: &str) -> Result<Vec<i64>, Failure> {
        let mut names = None;
        let mut all = Vec::new();
        for group in &self.group_add {
            if let Ok(number) = group.parse::<u32>() {
                all.push(i64::from(number));
                continue;
            }
            if group == "keep-groups" {
                return Err(Failure::new(
                    "--group-add keep-groups is not offered: a container has groups of its own",
                ));
            }
            let text = match &names {
                Some(text) => text,
                None => {
                    let image = engine.image(image)?;
                    let file = engine.store().read_file(&image, "/etc/group", MAX_FILE)?;
                    names.insert(String::from_utf8_lossy(&file.unwrap_or_default()).into_owned())
                }
            };
            let number = text.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == group).then(|| fields.nth(1)?.parse::<u32>().ok())?
            });
            all.push(i64::from(number.ok_or_else(|| {
                Failure::new(format!(
                    "unable to find group {group}: no matching entries in group file"
                ))
            })?));
        }
        Ok(all)
    }
}

/// What confines a container: capabilities, profiles, and what of /proc and /sys is hidden.
pub(crate) fn confined(
    cap_add: &[String],
    cap_drop: &[String],
    options: &[String],
) -> Result<Security, Failure> {
    let mut security = Security {
        add_capabilities: cap_add.to_vec(),
        drop_capabilities: cap_drop.to_vec(),
        masked_paths: MASKED.map(String::from).to_vec(),
        readonly_paths: READ_ONLY.map(String::from).to_vec(),
        seccomp: Profile::RuntimeDefault,
        apparmor: Profile::RuntimeDefault,
        ..Security::default()
    };
    for option in options {
        match parts(option) {
            ("no-new-privileges", "" | "true") => security.no_new_privs = true,
            ("no-new-privileges", "false") => security.no_new_privs = false,
            ("seccomp", "unconfined") => security.seccomp = Profile::Unconfined,
            ("seccomp", file) if !file.is_empty() => {
                security.seccomp = Profile::Localhost(absolute(file)?)
            }
            ("apparmor", "unconfined") => security.apparmor = Profile::Unconfined,
            ("apparmor", name) if !name.is_empty() => {
                security.apparmor = Profile::Localhost(name.to_owned())
            }
            // No container of a person's has an SELinux label.
            ("label", "disable") => {}
            // See `paths`.
            ("mask" | "unmask", list) if !list.is_empty() => {}
            ("systempaths", "unconfined") => {}
            _ => {
                return Err(Failure::new(format!(
                    "--security-opt {option:?} is not supported"
                )));
            }
        }
    }
    Ok(security)
}

fn parts(option: &str) -> (&str, &str) {
    // `:` as well, as old words had it.
    option
        .split_once('=')
        .or_else(|| option.split_once(':'))
        .unwrap_or((option, ""))
}

fn absolute(path: &str) -> Result<String, Failure> {
    let full = std::fs::canonicalize(path).map_err(|e| Failure::new(format!("{path}: {e}")))?;
    full.into_os_string()
        .into_string()
        .map_err(|_| Failure::new(format!("{path}: not UTF-8")))
}

/// PATH[:PATH INSIDE][:rwm]
fn device(text: &str) -> Result<Device, Failure> {
    let is_access = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (path, inside, access) = match parts[..] {
        [path] => (path, path, "rwm"),
        [path, access] if is_access(access) => (path, path, access),
        [path, inside] => (path, inside, "rwm"),
        [path, inside, access] if is_access(access) => (path, inside, access),
        _ => {
            return Err(Failure::new(format!(
                "--device {text:?} is not PATH[:PATH INSIDE][:rwm]"
            )));
        }
    };
    std::fs::metadata(path).map_err(|e| Failure::new(format!("--device {path}: {e}")))?;
    Ok(Device {
        container_path: inside.into(),
        host_path: path.into(),
        permissions: access.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_a_path_inside_and_an_access() {
        let read = |text: &str| {
            device(text).map(|d| (d.container_path.display().to_string(), d.permissions))
        };
        let given = |path: &str, access: &str| (path.to_owned(), access.to_owned());
        assert_eq!(read("/dev/null").unwrap(), given("/dev/null", "rwm"));
        assert_eq!(read("/dev/null:r").unwrap(), given("/dev/null", "r"));
        assert_eq!(read("/dev/null:/dev/x").unwrap(), given("/dev/x", "rwm"));
        assert_eq!(read("/dev/null:/dev/x:rw").unwrap(), given("/dev/x", "rw"));
        for bad in ["/no/such", "/dev/null:/x:q", "/dev/null:/x:r:w"] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn maps_and_masks_are_numbers() {
        assert_eq!(mapping("0:100000:65536").unwrap().host_id, 100_000);
        for bad in ["", "0:1", "0:1:0", "a:1:1", "@1:2:3"] {
            assert!(mapping(bad).is_err(), "{bad}");
        }
        assert_eq!(umask("0077").unwrap(), 0o77);
        assert!(umask("9").is_err() && umask("77777").is_err());
    }
}
