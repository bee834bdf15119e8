//! What an ordinary user can do: move and look at images, with files of their own.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{Machine, Said, machine};

/// Debian's `nobody`.
const USER: u32 = 65534;

/// A user of the machine with a home.
struct User<'a> {
    floe: &'a Machine,
    program: PathBuf,
    home: PathBuf,
}

impl User<'_> {
    fn new(floe: &Machine) -> User<'_> {
        let open = |path: &Path| {
            std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod");
        };
        open(&floe.node.path("."));
        // Wherever the tests are built, everybody can run this one.
        let program = floe.node.path("floe-for-all");
        std::fs::copy(testkit::program("floe").expect("floe is built"), &program).expect("copy");
        let home = floe.node.path("home");
        std::fs::create_dir(&home).expect("create");
        chown(&home, Some(USER), Some(USER)).expect("chown");
        User {
            floe,
            program,
            home,
        }
    }

    fn floe(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(&self.program);
        command
            .uid(USER)
            .gid(USER)
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", "/usr/bin:/bin")
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .current_dir(&self.home)
            .arg("--config")
            .arg(self.floe.node.config())
            .args(arguments);
        command.output().expect("run floe").into()
    }
}

#[test]
fn an_ordinary_user_looks_at_images_and_moves_them() {
    machine(|floe| {
        let user = User::new(floe);
        // What somebody else keeps there is theirs.
        let cache = user.home.join("cache/containers");
        std::fs::create_dir_all(&cache).expect("create");
        std::fs::set_permissions(&cache, Permissions::from_mode(0o700)).expect("chmod");
        let image = format!("docker://{}", floe.image);
        user.floe(&["copy", "-q", &image, "oci:layout:x"]).ok();
        user.floe(&["copy", "-q", "oci:layout:x", "docker-archive:x.tar"])
            .ok();
        let seen = user.floe(&["inspect", "oci:layout:x"]).ok();
        assert!(seen.contains("linux"), "{seen}");
        let repository = format!("docker://{}/cli/busybox", floe.registry.host());
        user.floe(&["list-tags", &repository]).ok();
        let synced = [
            "sync",
            "--src",
            "docker",
            "--dest",
            "dir",
            &floe.image,
            "synced",
        ];
        user.floe(&synced).ok();
        let pushed = format!("docker://{}/by/user:1", floe.registry.host());
        user.floe(&["copy", "-q", "oci:layout:x", &pushed]).ok();
        user.floe(&["images"]).failed(125, &["needs root"]);
    });
}

#[test]
fn an_ordinary_users_logins_are_that_users() {
    machine(|floe| {
        let user = User::new(floe);
        let private = testkit::Registry::start_private().expect("a registry");
        let host = private.host();
        let login = [
            "login",
            "--tls-verify=false",
            "-u",
            "floe",
            "-p",
            "secret",
            &host,
        ];
        user.floe(&login).ok();
        // Where there is no directory for the session, which nobody but root can make.
        let kept = user.home.join(".config/containers/auth.json");
        assert!(kept.exists() || Path::new("/run/containers/65534").is_dir());
        assert_eq!(user.floe(&["login", "--get-login", &host]).ok(), "floe");
        let image = format!("docker://{}", floe.image);
        let to = format!("docker://{host}/x:1");
        let copy = ["copy", "-q", "--dest-tls-verify=false", &image, &to];
        user.floe(&copy).ok();
        user.floe(&["logout", &host]).ok();
        user.floe(&copy).failed(125, &[&host]);
    });
}
