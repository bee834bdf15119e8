//! Without root: containers of an ordinary user, alone in his user namespace or with the ids that
//! newuidmap(1) gives him, with a cgroup that is his and without one.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{self, Done, Lab};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

/// Nobody of this host.
const USER: u32 = 54_321;

/// A lab of that user, with the configuration that `spec --rootless` writes for him.
fn lab() -> Lab {
    let mut lab = Lab::new();
    give(&lab.dir);
    std::fs::remove_file(lab.dir.join("bundle/config.json")).unwrap_or_default();
    let (command, ..) = lab.command(&["spec", "--rootless"]);
    std::fs::remove_file(lab.dir.join("bundle/config.json")).unwrap();
    let status = as_user(command).status().unwrap();
    assert!(status.success());
    let text = std::fs::read(lab.dir.join("bundle/config.json")).unwrap();
    lab.config = serde_json::from_slice(&text).unwrap();
    lab.config["process"]["terminal"] = json!(false);
    lab.config["root"]["readonly"] = json!(false);
    lab
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_symlink() {
                give(&path);
            }
        }
    }
}

fn as_user(mut command: Command) -> Command {
    command.uid(USER).gid(USER);
    command
}

fn call(lab: &Lab, arguments: &[&str]) -> Done {
    lab.call_as(arguments, |command| {
        command.uid(USER).gid(USER);
    })
}

/// Does this host let an ordinary user make user namespaces?
fn cannot_run() -> Option<String> {
    let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    let none = limit.is_ok_and(|text| text.trim() == "0");
    none.then(|| "this host has no user namespaces for ordinary users".to_owned())
}

macro_rules! needs_users {
    () => {
        needs_host!();
        if let Some(reason) = cannot_run() {
            eprintln!("SKIP: {reason}");
            return;
        }
    };
}

#[test]
fn the_configuration_for_a_user_runs_and_he_is_root_inside_alone() {
    needs_users!();
    let mut lab = lab();
    lab.script("id -u; cat /proc/self/uid_map; ls /dev; echo x >/tmp/made; cat /proc/1/comm");
    let out = call(&lab, &["run", "c"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "0");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words, ["0", "54321", "1"]);
    for device in ["full", "null", "random", "tty", "zero"] {
        assert!(lines.contains(&device), "{out}");
    }
    let made = std::fs::metadata(lab.rootfs("tmp/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), USER);
}

#[test]
fn the_whole_life_of_a_container_without_a_cgroup() {
    needs_users!();
    let mut lab = lab();
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/c", lab.name()));
    call(&lab, &["create", "c"]).ok();
    assert_eq!(lab.status("c"), "created");
    call(&lab, &["start", "c"]).ok();
    let table = call(&lab, &["list"]).ok();
    assert!(
        table.contains("running") && table.contains("#54321"),
        "{table}"
    );
    let seen = call(&lab, &["exec", "c", "sh", "-c", "id -u; cat /proc/1/comm"]).ok();
    assert_eq!(seen, "0\nsleep\n");
    assert!(lab.cgroups("c").is_empty());
    call(&lab, &["pause", "c"]).fails("the freezer cgroup controller is not available here");
    call(&lab, &["update", "--memory", "100m", "c"])
        .fails("the memory cgroup controller is not available here");
    call(&lab, &["ps", "c"]).fails("the container has no cgroup");
    call(&lab, &["kill", "c", "KILL"]).ok();
    support::soon("its end", || lab.status("c") == "stopped");
    call(&lab, &["delete", "c"]).ok();
    lab.is_clean().unwrap();
}

#[test]
fn what_a_user_cannot_have_is_refused_in_words() {
    needs_users!();
    let refused = |words: &str, change: &dyn Fn(&mut Value)| {
        let mut lab = lab();
        change(&mut lab.config);
        call(&lab, &["run", "c"]).fails(words);
        lab.is_clean().unwrap();
    };
    refused("rootless container requires user namespaces", &|config| {
        let linux = &mut config["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user");
        linux.as_object_mut().unwrap().remove("uidMappings");
        linux.as_object_mut().unwrap().remove("gidMappings");
    });
    refused(
        "cannot set any additional groups in a rootless container",
        &|config| {
            config["process"]["user"]["additionalGids"] = json!([5]);
        },
    );
    refused(
        "cannot specify gid=5 mount option for rootless container",
        &|config| {
            config["mounts"][2]["options"]
                .as_array_mut()
                .unwrap()
                .push(json!("gid=5"));
        },
    );
    refused(
        "linux.resources.memory.limit is set to 100000000, but",
        &|config| {
            config["linux"]["resources"] = json!({ "memory": { "limit": 100_000_000 } });
        },
    );
    refused("linux.uidMappings: \"0 0 1\" is refused", &|config| {
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    });
    let lab = lab();
    call(&lab, &["--rootless", "false", "run", "c"]).fails("ermission denied");
}

/// A cgroup in each hierarchy that may hold limits, which the user may use as he likes.
struct Delegated {
    dirs: Vec<PathBuf>,
    path: String,
}

impl Delegated {
    fn new(name: &str) -> Self {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let roots: Vec<PathBuf> = match unified {
            true => vec!["/sys/fs/cgroup".into()],
            false => ["memory", "pids", "freezer"]
                .map(|kind| Path::new("/sys/fs/cgroup").join(kind))
                .to_vec(),
        };
        let path = format!("{name}/user");
        let dirs: Vec<PathBuf> = roots.iter().map(|root| root.join(&path)).collect();
        for dir in &dirs {
            // Whoever starts containers is in one of its own: a v2 cgroup with others below it holds none.
            std::fs::create_dir_all(dir.join("shell")).unwrap();
            if unified {
                let above = dir.parent().unwrap();
                std::fs::write(above.join("cgroup.subtree_control"), "+memory +pids").unwrap();
            }
            give(dir);
        }
        Self { dirs, path }
    }

    /// Puts what the command starts into the part that is the user's.
    fn enter(&self, command: &mut Command) {
        let files: Vec<PathBuf> = self
            .dirs
            .iter()
            .map(|dir| dir.join("shell/cgroup.procs"))
            .collect();
        // SAFETY: the child writes files and changes ids, with memory that was made before the fork; this
        // test's other threads hold no lock that it needs but the allocator's, which it does not use.
        unsafe {
            command.pre_exec(move || {
                for file in &files {
                    let fd = rustix::fs::open(
                        file,
                        rustix::fs::OFlags::WRONLY,
                        rustix::fs::Mode::empty(),
                    )?;
                    rustix::io::write(&fd, b"0")?;
                }
                rustix::thread::set_thread_groups(&[])?;
                let (uid, gid) = (
                    rustix::fs::Uid::from_raw(USER),
                    rustix::fs::Gid::from_raw(USER),
                );
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
                Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
            });
        }
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in &self.dirs {
            for below in ["shell", ""] {
                let _ = std::fs::remove_dir(dir.join(below));
            }
            let _ = std::fs::remove_dir(dir.parent().unwrap());
        }
    }
}

#[test]
fn limits_hold_in_a_cgroup_that_was_given_to_the_user() {
    needs_users!();
    let mut lab = lab();
    let delegated = Delegated::new(lab.name());
    lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/c", delegated.path));
    lab.config["linux"]["resources"] =
        json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 } });
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    let call = |arguments: &[&str]| lab.call_as(arguments, |command| delegated.enter(command));
    call(&["run", "-d", "c"]).ok();
    let read = |files: &[&str]| {
        let paths = delegated
            .dirs
            .iter()
            .flat_map(|dir| files.iter().map(move |file| dir.join("c").join(file)));
        paths
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .next()
    };
    let memory = read(&["memory.max", "memory.limit_in_bytes"]);
    assert_eq!(memory.unwrap().trim(), (64 << 20).to_string());
    assert_eq!(read(&["pids.max"]).unwrap().trim(), "20");
    call(&["pause", "c"]).ok();
    assert_eq!(lab.status("c"), "paused");
    call(&["resume", "c"]).ok();
    call(&["update", "--pids-limit", "30", "c"]).ok();
    assert_eq!(read(&["pids.max"]).unwrap().trim(), "30");
    assert!(call(&["ps", "c"]).ok().contains("sleep"));
    assert_eq!(call(&["exec", "c", "id", "-u"]).ok(), "0\n");
    call(&["delete", "--force", "c"]).ok();
    assert_eq!(read(&["pids.max"]), None);
}

#[test]
fn newuidmap_gives_a_user_more_ids() {
    needs_users!();
    if !Path::new("/usr/bin/newuidmap").exists() {
        eprintln!("SKIP: needs newuidmap (Debian: uidmap)");
        return;
    }
    let mut lab = lab();
    private_files(&lab.dir);
    let map = json!([
        { "containerID": 0, "hostID": USER, "size": 1 },
        { "containerID": 1, "hostID": 700_000, "size": 1000 },
    ]);
    lab.config["linux"]["uidMappings"] = map.clone();
    lab.config["linux"]["gidMappings"] = map;
    lab.config["process"]["user"] = json!({ "uid": 5, "gid": 6 });
    lab.script("id -u; id -g; echo x >/tmp/made; cat /proc/self/setgroups");
    std::fs::set_permissions(
        lab.rootfs("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .unwrap();
    let out = call(&lab, &["run", "c"]).ok();
    assert_eq!(out, "5\n6\nallow\n");
    let made = std::fs::metadata(lab.rootfs("tmp/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 700_004);
    // More than were given to him.
    lab.config["linux"]["uidMappings"][1]["size"] = json!(2000);
    call(&lab, &["run", "c"]).fails("newuidmap");
}

/// This thread, and what it starts, see files that know the user and the ids that are his.
fn private_files(dir: &Path) {
    // SAFETY: a mount namespace changes only what this thread sees of the file system.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    for (name, text) in [
        ("passwd", format!("somebody:x:{USER}:{USER}::/:/bin/sh\n")),
        ("subuid", "somebody:700000:1000\n".to_owned()),
        ("subgid", "somebody:700000:1000\n".to_owned()),
    ] {
        let file = dir.join(name);
        let real = Path::new("/etc").join(name);
        let known = std::fs::read_to_string(&real).unwrap_or_default();
        std::fs::write(&file, known + &text).unwrap();
        mount_bind(&file, &real).unwrap();
    }
}

/// Calls of the program by root of one user namespace that is not the host's, as rootless podman's: a shell
/// script in which `$floe` is the program.
fn as_root_of_a_namespace(lab: &Lab, script: &str) -> std::process::Output {
    drop(lab.command(&[]));
    let whole = format!(
        "floe='{} --root {}'; cd {}; {script}",
        crate::support::program(),
        lab.dir.join("state").display(),
        lab.dir.join("bundle").display()
    );
    let mut command = Command::new("timeout");
    command.args([
        "60",
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        &whole,
    ]);
    command.output().unwrap()
}

/// A lab for root of a user namespace in which there is nobody else.
fn lab_of_a_namespace() -> Lab {
    let mut lab = Lab::new();
    for mount in lab.config["mounts"].as_array_mut().unwrap() {
        let options = mount["options"].as_array_mut().unwrap();
        options.retain(|option| option != "gid=5");
    }
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    lab
}

/// With v1 the directories are his where he is mapped to their owner; device rules are the host's all the
/// same, and left out as runc does.
#[test]
fn root_of_a_user_namespace_makes_cgroups_without_device_rules() {
    needs_users!();
    let mut lab = lab_of_a_namespace();
    lab.config["linux"]["resources"] = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "pids": { "limit": 20 },
    });
    for rootless in ["auto", "false"] {
        let script = format!(
            "$floe --rootless {rootless} run -d c </dev/null >/dev/null && $floe state c && $floe delete --force c"
        );
        let done = as_root_of_a_namespace(&lab, &script);
        let out = String::from_utf8_lossy(&done.stdout);
        assert!(
            done.status.success() && out.contains("\"running\""),
            "{rootless}: {done:?}"
        );
        lab.is_clean().unwrap();
    }
}

/// Its PID namespace is the host's, to which it could not go back if it had left it for the container's.
#[test]
fn root_of_a_user_namespace_can_exec() {
    needs_users!();
    let lab = lab_of_a_namespace();
    let done = as_root_of_a_namespace(
        &lab,
        "$floe run -d c </dev/null >/dev/null && $floe exec c cat /proc/1/comm; code=$?; \
         $floe exec c sh -c 'exit 7'; echo $?; $floe delete --force c; exit $code",
    );
    assert_eq!(
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).as_ref()
        ),
        (Some(0), "sleep\n7\n"),
        "{done:?}"
    );
    lab.is_clean().unwrap();
}
