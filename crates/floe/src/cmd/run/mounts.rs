//! What `floe run` mounts: `--volume`, `--mount`, `--tmpfs`, and what `--read-only` leaves writable.

use std::path::{Path, PathBuf};

use engine::container::{Filesystem, ImageVolume, Mount, Propagation, VolumeUse};

use engine::{ContainerSpec, Engine};

use super::limits::bytes;
use crate::containers_conf::Containers;
use crate::failure::Failure;
use crate::names;

/// What stays writable with a root that is not.
const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// What is mounted.
#[derive(Debug, clap::Args)]
pub(crate) struct Mounts {
    /// [SOURCE:]TARGET[:OPTIONS], where SOURCE is a path or the name of a volume; with options ro, rw, nocopy, rslave, rshared,
    /// rprivate, noexec, nosuid, nodev
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,
    /// type=bind,src=PATH,dst=PATH and so on; the types are bind, volume, tmpfs, ramfs, devpts and image
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// PATH[:OPTIONS]: a file system in memory, with options such as size=64m, mode=1777, ro, noexec
    #[arg(long, value_name = "TMPFS")]
    tmpfs: Vec<String>,
    /// Root file system not writable
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, hide_default_value = true, value_name = "BOOL")]
    pub(super) read_only: bool,
    /// What becomes of the volumes that the image declares: anonymous (also bind), tmpfs, ignore
    #[arg(long, value_name = "MODE", default_value = "anonymous", value_parser = ["anonymous", "bind", "tmpfs", "ignore"])]
    image_volume: String,
    /// The volumes and mounts of another container: CONTAINER[:ro]
    #[arg(long, value_name = "CONTAINER")]
    pub(super) volumes_from: Vec<String>,
    /// With --read-only, keep /run, /tmp and /var/tmp writable, in memory [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true")]
    read_only_tmpfs: bool,
    /// containers.conf's volumes and mounts, where nothing else is mounted
    #[arg(skip)]
    defaults: (Vec<String>, Vec<String>),
}

/// What the flags come to.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Of the node and of images.
    pub(super) mounts: Vec<Mount>,
    /// The container's own.
    pub(super) filesystems: Vec<Filesystem>,
}

impl Mounts {
    /// Takes from containers.conf what was not said.
    pub(super) fn take_defaults(&mut self, given: &Containers) {
        self.defaults = (given.volumes.to_vec(), given.mounts.to_vec());
        self.read_only |= given.read_only == Some(true);
    }

    pub(super) fn wanted(&self) -> Result<Wanted, Failure> {
        let mut wanted = Wanted::default();
        for text in &self.volume {
            let mount = volume(text)?;
            // Said twice, it is meant once.
            if !wanted.mounts.contains(&mount) {
                wanted.mounts.push(mount);
            }
        }
        for text in &self.mount {
            wanted.add(text)?;
        }
        for text in &self.tmpfs {
            wanted.filesystems.push(tmpfs(text)?);
        }
        let twice = wanted.targets().enumerate().find(|(number, target)| {
            let mut before = wanted.targets().take(*number);
            before.any(|other| other == *target)
        });
        if let Some((_, target)) = twice {
            return Err(Failure::new(format!(
                "{}: duplicate mount destination",
                target.display()
            )));
        }
        let mut usual = Wanted::default();
        for text in &self.defaults.0 {
            usual.mounts.push(volume(text)?);
        }
        for text in &self.defaults.1 {
            usual.add(text)?;
        }
        wanted.add_where_free(usual);
        if self.read_only && self.read_only_tmpfs {
            let free = WRITABLE.iter().filter(|path| {
                let mut targets = wanted.targets();
                !targets.any(|target| target == Path::new(path))
            });
            let more: Vec<_> = free.map(|path| in_memory(path, &[])).collect();
            wanted.filesystems.extend(more);
        }
        Ok(wanted)
    }
}

impl Mounts {
    /// Adds what the image declares and nothing else is mounted at.
    pub(super) fn declare<'a>(
        &self,
        container: &mut ContainerSpec,
        declared: impl Iterator<Item = &'a str>,
    ) {
        let extras = container.extras.get_or_insert_default();
        for place in declared {
            let path = Path::new("/").join(place);
            let mut taken = container.mounts.iter().map(|mount| &mount.container_path);
            let mut own = extras.filesystems.iter().map(|made| &made.container_path);
            if path == Path::new("/")
                || taken.any(|one| *one == path)
                || own.any(|one| *one == path)
            {
                continue;
            }
            match self.image_volume.as_str() {
                "ignore" => {}
                "tmpfs" => extras.filesystems.push(in_memory(&path, &[])),
                _ => container.mounts.push(Mount {
                    container_path: path,
                    volume: Some(named("")),
                    ..Mount::default()
                }),
            }
        }
    }

    /// Adds what other containers have mounted, where nothing else is.
    pub(super) fn take_over(
        &self,
        engine: &Engine,
        container: &mut ContainerSpec,
    ) -> Result<(), Failure> {
        for text in &self.volumes_from {
            let (name, options) = text.split_once(':').unwrap_or((text, ""));
            let other = names::find(engine, name)?;
            for mount in other
                .spec
                .mounts
                .iter()
                .filter(|mount| mount.image.is_none())
            {
                let mut taken = container.mounts.iter();
                if taken.any(|one| one.container_path == mount.container_path) {
                    continue;
                }
                let mut mount = mount.clone();
                for given in options.split(',').filter(|option| !option.is_empty()) {
                    option(&mut mount, given)
                        .map_err(|why| Failure::new(format!("--volumes-from {text:?}: {why}")))?;
                }
                container.mounts.push(mount);
            }
        }
        Ok(())
    }
}

impl Wanted {
    fn targets(&self) -> impl Iterator<Item = &Path> {
        let of_node = self
            .mounts
            .iter()
            .map(|mount| mount.container_path.as_path());
        of_node.chain(
            self.filesystems
                .iter()
                .map(|made| made.container_path.as_path()),
        )
    }

    /// Adds what is mounted where nothing is yet.
    fn add_where_free(&mut self, more: Wanted) {
        let taken: Vec<PathBuf> = self.targets().map(Path::to_owned).collect();
        let is_free = |path: &PathBuf| !taken.contains(path);
        let mounts = more.mounts.into_iter();
        self.mounts
            .extend(mounts.filter(|mount| is_free(&mount.container_path)));
        let made = more.filesystems.into_iter();
        self.filesystems
            .extend(made.filter(|made| is_free(&made.container_path)));
    }

    /// `--mount`'s words.
    fn add(&mut self, text: &str) -> Result<(), Failure> {
        let wrong = |why: String| Failure::new(format!("--mount {text:?}: {why}"));
        let fields: Vec<(&str, &str)> = text
            .split(',')
            .map(|field| field.split_once('=').unwrap_or((field, "")))
            .collect();
        let kind = fields.iter().find(|(key, _)| *key == "type");
        let kind = kind.map_or("volume", |(_, kind)| kind);
        let rest = fields.iter().filter(|(key, _)| *key != "type").copied();
        match kind {
            "bind" => self.mounts.push(bind(rest).map_err(wrong)?),
            "image" => self.mounts.push(image(rest).map_err(wrong)?),
            "tmpfs" | "ramfs" | "devpts" => {
                self.filesystems.push(own(kind, rest).map_err(wrong)?);
            }
            "volume" => self.mounts.push(of_volume(rest).map_err(wrong)?),
            "artifact" | "glob" => return Err(wrong(format!("the type {kind} is not offered"))),
            other => return Err(wrong(format!("invalid filesystem type {other:?}"))),
        }
        Ok(())
    }
}

/// Mounts as `--mount` has them: of the node, and a container's own.
pub(crate) fn of_texts(texts: &[String]) -> Result<(Vec<Mount>, Vec<Filesystem>), Failure> {
    let mut wanted = Wanted::default();
    for text in texts {
        wanted.add(text)?;
    }
    Ok((wanted.mounts, wanted.filesystems))
}

/// A flag's value: true when it stands alone.
fn truth(value: &str) -> Result<bool, String> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    match Path::new(path).is_absolute() {
        true => Ok(path.into()),
        false => Err("the target must be an absolute path".into()),
    }
}

fn source(path: &str) -> Result<PathBuf, String> {
    std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))
}

/// An option of a mount of the node's, in mount(8)'s words.
fn option(mount: &mut Mount, option: &str) -> Result<(), String> {
    match option {
        "ro" => mount.readonly = true,
        "rro" => (mount.readonly, mount.recursive_read_only) = (true, true),
        "rw" | "rprivate" | "private" | "rbind" | "bind" | "exec" | "suid" | "dev" => {}
        "noexec" | "nosuid" | "nodev" => mount.options.push(option.to_owned()),
        "z" | "Z" => mount.selinux_relabel = true,
        "copy" if mount.volume.is_some() => {}
        "nocopy" => match &mut mount.volume {
            Some(volume) => volume.no_copy = true,
            None => return Err("nocopy is of volumes".into()),
        },
        "rslave" | "slave" => mount.propagation = Propagation::HostToContainer,
        "rshared" | "shared" => mount.propagation = Propagation::Bidirectional,
        other => return Err(format!("option {other:?} is not supported")),
    }
    Ok(())
}

/// SOURCE:TARGET[:OPTIONS]
pub(crate) fn volume(text: &str) -> Result<Mount, Failure> {
    let wrong = |why: &str| Failure::new(format!("--volume {text:?}: {why}"));
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let (from, target, options) = match parts[..] {
        [target] => ("", target, ""),
        // Without a source, the second word is a list of options.
        [target, options] if !options.starts_with('/') => ("", target, options),
        [from, target] => (from, target, ""),
        [from, target, options] => (from, target, options),
        _ => return Err(wrong("write [SOURCE:]TARGET[:OPTIONS]")),
    };
    let mut mount = Mount {
        container_path: absolute(target).map_err(|why| wrong(&why))?,
        ..Mount::default()
    };
    match from.starts_with(['/', '.', '~']) {
        true => mount.host_path = source(from).map_err(|why| wrong(&why))?,
        false => mount.volume = Some(named(from)),
    }
    for given in options.split(',').filter(|option| !option.is_empty()) {
        option(&mut mount, given).map_err(|why| wrong(&why))?;
    }
    Ok(mount)
}

/// A volume of that name; empty: an anonymous one.
fn named(name: &str) -> VolumeUse {
    VolumeUse {
        name: name.to_owned(),
        no_copy: false,
    }
}

fn of_volume<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Mount, String> {
    let mut mount = Mount {
        volume: Some(named("")),
        ..Mount::default()
    };
    for (key, value) in fields {
        match key {
            "src" | "source" => {
                if value.contains('/') {
                    return Err(format!(
                        "{value:?} is not the name of a volume: write type=bind"
                    ));
                }
                mount.volume = Some(named(value));
            }
            "dst" | "destination" | "target" => mount.container_path = absolute(value)?,
            "ro" | "readonly" => mount.readonly = truth(value)?,
            "rw" => mount.readonly = !truth(value)?,
            "volume-nocopy" => {
                if truth(value)? {
                    option(&mut mount, "nocopy")?;
                }
            }
            "consistency" => {}
            other => option(&mut mount, other)?,
        }
    }
    match mount.container_path.as_os_str().is_empty() {
        true => Err("must set volume destination".into()),
        false => Ok(mount),
    }
}

fn bind<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Mount, String> {
    let mut mount = Mount::default();
    for (key, value) in fields {
        match key {
            "src" | "source" => mount.host_path = source(value)?,
            "dst" | "destination" | "target" => mount.container_path = absolute(value)?,
            "ro" | "readonly" => mount.readonly = truth(value)?,
            "rw" => mount.readonly = !truth(value)?,
            "bind-propagation" => option(&mut mount, value)?,
            "relabel" if matches!(value, "shared" | "private") => mount.selinux_relabel = true,
            "consistency" => {}
            other => option(&mut mount, other)?,
        }
    }
    match (
        mount.host_path.as_os_str().is_empty(),
        mount.container_path.as_os_str().is_empty(),
    ) {
        (false, false) => Ok(mount),
        (true, _) => Err("must set source".into()),
        (_, true) => Err("must set volume destination".into()),
    }
}

fn image<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Mount, String> {
    let mut volume = ImageVolume::default();
    let mut target = PathBuf::new();
    for (key, value) in fields {
        match key {
            "src" | "source" => volume.image = value.to_owned(),
            "dst" | "destination" | "target" => target = absolute(value)?,
            "subpath" | "volume-subpath" => {
                volume.sub_path = value.trim_start_matches('/').into();
            }
            "rw" | "readwrite" if truth(value)? => {
                return Err("images are mounted read-only here".into());
            }
            "rw" | "readwrite" | "ro" | "readonly" => {}
            other => return Err(format!("option {other:?} is not supported")),
        }
    }
    if volume.image.is_empty() || target.as_os_str().is_empty() {
        return Err("an image needs source and destination".into());
    }
    volume.user_specified_image.clone_from(&volume.image);
    Ok(Mount {
        container_path: target,
        image: Some(volume),
        readonly: true,
        ..Mount::default()
    })
}

/// A file system of the container's own.
fn own<'a>(
    kind: &str,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Filesystem, String> {
    let mut target = PathBuf::new();
    let mut options = Vec::new();
    for (key, value) in fields {
        match key {
            "dst" | "destination" | "target" => target = absolute(value)?,
            "tmpfs-size" => options.push(format!("size={value}")),
            "tmpfs-mode" => options.push(format!("mode={value}")),
            "ro" | "readonly" => options.push(if truth(value)? { "ro" } else { "rw" }.to_owned()),
            "consistency" => {}
            key => options.push(match value {
                "" => key.to_owned(),
                value => format!("{key}={value}"),
            }),
        }
    }
    if target.as_os_str().is_empty() {
        return Err("must set volume destination".into());
    }
    let made = match kind {
        "tmpfs" => in_memory(&target, &options),
        kind => Filesystem {
            kind: kind.to_owned(),
            container_path: target,
            options,
        },
    };
    check(&made)?;
    Ok(made)
}

/// PATH[:OPTIONS]
fn tmpfs(text: &str) -> Result<Filesystem, Failure> {
    let wrong = |why: String| Failure::new(format!("--tmpfs {text:?}: {why}"));
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty());
    let options: Vec<String> = options.map(str::to_owned).collect();
    let made = in_memory(&absolute(path).map_err(wrong)?, &options);
    check(&made).map_err(wrong)?;
    Ok(made)
}

/// podman's defaults for what memory holds: it begins with what the image has there.
fn in_memory(path: impl AsRef<Path>, given: &[String]) -> Filesystem {
    let has = |names: &[&str]| given.iter().any(|option| names.contains(&option.as_str()));
    let mut options = Vec::new();
    let mut add = |option: &str, unless: &[&str]| {
        if !has(unless) {
            options.push(option.to_owned());
        }
    };
    add(
        "rprivate",
        &["shared", "rshared", "slave", "rslave", "private"],
    );
    add("rw", &["ro", "rw"]);
    add("nosuid", &["suid", "nosuid"]);
    add("nodev", &["dev", "nodev"]);
    add("tmpcopyup", &["notmpcopyup", "tmpcopyup"]);
    let kept = given.iter().filter(|option| *option != "notmpcopyup");
    options.extend(kept.cloned());
    Filesystem {
        kind: "tmpfs".into(),
        container_path: path.as_ref().to_owned(),
        options,
    }
}

/// Are its options known? Others would reach mount(2) as the file system's own.
fn check(made: &Filesystem) -> Result<(), String> {
    const FLAGS: [&str; 21] = [
        "noswap",
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "relatime",
        "noatime",
        "strictatime",
        "private",
        "rprivate",
        "slave",
        "rslave",
        "shared",
        "rshared",
        "tmpcopyup",
    ];
    const VALUES: [&str; 8] = [
        "size",
        "mode",
        "nr_inodes",
        "nr_blocks",
        "uid",
        "gid",
        "max",
        "ptmxmode",
    ];
    for option in &made.options {
        let known = match option.split_once('=') {
            Some(("size", value)) => value.ends_with('%') || bytes(value).is_ok() || value == "0",
            Some((key, _)) => VALUES.contains(&key),
            None => FLAGS.contains(&option.as_str()),
        };
        if !known {
            return Err(format!("unknown mount option {option:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_need_a_path_and_a_known_option() {
        let mount = volume("/tmp:/data:ro,rslave,noexec").unwrap();
        assert!(mount.readonly);
        assert_eq!(mount.propagation, Propagation::HostToContainer);
        assert_eq!(mount.options, ["noexec"]);
        let named = |text: &str| volume(text).unwrap().volume.unwrap();
        assert_eq!(named("name:/data").name, "name");
        assert_eq!(named("/tmp").name, "");
        assert!(named("/tmp:nocopy").no_copy);
        for bad in ["/tmp:data", "/tmp:/data:fly", "/tmp:/data:nocopy", "name"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let absent = format!("{}:/data", dir.path().join("absent").display());
        assert!(volume(&absent).is_err());
    }

    fn added(text: &str) -> Result<Wanted, Failure> {
        let mut wanted = Wanted::default();
        wanted.add(text).map(|()| wanted)
    }

    #[test]
    fn mounts_are_told_by_their_words() {
        let bound = added("type=bind,src=/tmp,dst=/data,ro,bind-propagation=rslave").unwrap();
        let bound = &bound.mounts[0];
        assert!(bound.readonly && bound.host_path == Path::new("/tmp"));
        assert_eq!(bound.propagation, Propagation::HostToContainer);
        let image = added("type=image,source=x/y:1,destination=/i,subpath=/a").unwrap();
        let volume = image.mounts[0].image.as_ref().unwrap();
        assert_eq!(
            (volume.image.as_str(), volume.sub_path.to_str()),
            ("x/y:1", Some("a"))
        );
        let made = added("type=tmpfs,dst=/m,tmpfs-size=64m,tmpfs-mode=700,notmpcopyup").unwrap();
        let made = &made.filesystems[0];
        assert_eq!(
            made.options,
            ["rprivate", "rw", "nosuid", "nodev", "size=64m", "mode=700"]
        );
        for (bad, why) in [
            ("type=bind,dst=/x", "must set source"),
            ("type=bind,src=/tmp", "destination"),
            ("type=bind,src=/tmp,dst=x", "absolute"),
            ("type=bind,src=/tmp,dst=/x,fly", "\"fly\""),
            ("type=bind,src=/tmp,dst=/x,ro=maybe", "neither"),
            ("src=x", "destination"),
            ("src=/x,dst=/x", "type=bind"),
            ("type=glob,src=/x,dst=/x", "not offered"),
            ("type=disk,dst=/x", "invalid filesystem type"),
            ("type=tmpfs", "destination"),
            ("type=tmpfs,dst=/x,size=x", "unknown mount option"),
            ("type=image,src=x,dst=/x,rw", "read-only"),
        ] {
            let error = added(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
