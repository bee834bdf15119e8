//! config.md, mounts and root; config-linux.md, masked and read-only paths.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::Lab;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

#[test]
fn a_bind_is_writable_unless_it_is_asked_to_be_read_only() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    lab.mount("/rw", "bind", &source, &["rbind"]);
    lab.mount("/ro", "bind", &source, &["bind", "ro"]);
    lab.mount(
        "/etc/one-file",
        "",
        &format!("{source}/file"),
        &["bind", "ro"],
    );
    let out = lab.prints(
        "echo new >/rw/new; cat /ro/new /etc/one-file; echo x >/ro/x; echo y >/etc/one-file; true",
    );
    assert_eq!(out, "new\nof the host\n");
    assert!(!Path::new(&source).join("x").exists());
    assert_eq!(
        std::fs::read_to_string(format!("{source}/file")).unwrap(),
        "of the host\n"
    );
    lab.config["root"]["readonly"] = json!(true);
    assert_eq!(
        lab.prints("echo more >/rw/new && touch /x 2>/dev/null || cat /ro/new"),
        "more\n"
    );
}

#[test]
fn options_of_a_bind_end_up_on_the_mount() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    lab.mount(
        "/a",
        "bind",
        &source,
        &["bind", "nosuid", "nodev", "noexec", "noatime"],
    );
    lab.mount(
        "/b",
        "bind",
        &source,
        &["bind", "ro", "rw", "noexec", "exec"],
    );
    let out = lab.prints("grep -E ' /(a|b) ' /proc/self/mountinfo");
    let options = |place: &str| {
        let line = out.lines().find(|line| line.contains(place)).unwrap();
        line.split_whitespace().nth(5).unwrap().to_owned()
    };
    let a = options(" /a ");
    for word in ["rw", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(
            a.split(',').any(|option| option == word),
            "{a} without {word}"
        );
    }
    let b = options(" /b ");
    assert!(b.starts_with("rw") && !b.contains("noexec"), "{b}");
}

#[test]
fn recursive_options_reach_the_mounts_below() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    let below = format!("{source}/below");
    std::fs::create_dir(&below).unwrap();
    mount("tmpfs", &below, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    lab.mount("/plain", "bind", &source, &["rbind", "ro"]);
    lab.mount("/all", "bind", &source, &["rbind", "rro"]);
    let out = lab.prints("touch /plain/below/x && echo plain; touch /all/below/y || echo all");
    unmount(&below, UnmountFlags::empty()).unwrap();
    assert_eq!(out, "plain\nall\n");
}

#[test]
fn propagation_of_a_bind_is_the_one_asked_for() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    mount(&source, &source, "", MountFlags::BIND, None).unwrap();
    mount_change(&source, MountPropagationFlags::SHARED).unwrap();
    std::fs::create_dir(format!("{source}/later")).unwrap();
    for (place, options) in [
        ("/private", &["rbind"][..]),
        ("/slave", &["rbind", "rslave"]),
        ("/shared", &["rbind", "rshared"]),
    ] {
        lab.mount(place, "bind", &source, options);
    }
    lab.sleeper("c");
    mount(
        "tmpfs",
        format!("{source}/later"),
        "tmpfs",
        MountFlags::empty(),
        c"size=64k",
    )
    .unwrap();
    std::fs::write(format!("{source}/later/mounted"), "").unwrap();
    let seen = lab.call(&["exec", "c", "sh", "-c", "cd /; ls -d */later/mounted"]);
    let info = lab
        .call(&[
            "exec",
            "c",
            "grep",
            "-E",
            " /(private|slave|shared) ",
            "/proc/self/mountinfo",
        ])
        .ok();
    unmount(format!("{source}/later"), UnmountFlags::DETACH).unwrap();
    lab.call(&["delete", "--force", "c"]).ok();
    unmount(&source, UnmountFlags::DETACH).unwrap();
    assert_eq!(seen.out, "shared/later/mounted\nslave/later/mounted\n");
    assert!(
        info.lines()
            .any(|line| line.contains(" /slave ") && line.contains("master:")),
        "{info}"
    );
    assert!(
        info.lines()
            .any(|line| line.contains(" /private ") && !line.contains("shared:")),
        "{info}"
    );
}

#[test]
fn nothing_mounted_for_the_container_shows_on_a_host_with_shared_mounts() {
    needs_host!();
    let mut lab = Lab::new();
    let dir = lab.dir.join("bundle");
    mount(&dir, &dir, "", MountFlags::BIND, None).unwrap();
    mount_change(&dir, MountPropagationFlags::SHARED).unwrap();
    for propagation in ["", "slave", "rshared"] {
        lab.config["linux"]["rootfsPropagation"] = json!(propagation);
        lab.sleeper("c");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_it = mounts
            .lines()
            .filter(|line| line.contains(dir.to_str().unwrap()))
            .count();
        lab.call(&["delete", "--force", "c"]).ok();
        if of_it != 1 {
            unmount(&dir, UnmountFlags::DETACH).unwrap();
        }
        assert_eq!(of_it, 1, "{propagation:?}: {mounts}");
    }
    unmount(&dir, UnmountFlags::DETACH).unwrap();
}

#[test]
fn rootfs_propagation_is_set_and_a_wrong_one_refused() {
    needs_host!();
    let mut lab = Lab::new();
    for (asked, found) in [
        ("", ""),
        ("private", ""),
        ("shared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        lab.config["linux"]["rootfsPropagation"] = json!(asked);
        let line = lab.prints("grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo");
        assert!(line.contains(found), "{asked}: {line}");
        assert!(!found.is_empty() || !line.contains("shared:"), "{line}");
    }
    lab.config["linux"]["rootfsPropagation"] = json!("viral");
    lab.run().fails("linux.rootfsPropagation: \"viral\"");
}

#[test]
fn a_tmpfs_has_the_size_and_mode_asked_for_or_those_of_what_it_covers() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::create_dir(lab.rootfs("covered")).unwrap();
    std::fs::set_permissions(lab.rootfs("covered"), PermissionsExt::from_mode(0o2710)).unwrap();
    lab.mount("/covered", "tmpfs", "tmpfs", &["size=64k"]);
    lab.mount("/asked", "tmpfs", "tmpfs", &["mode=700"]);
    lab.mount("/new", "tmpfs", "tmpfs", &["ro"]);
    let out = lab.prints("stat -c '%a' /covered /asked /new; dd if=/dev/zero of=/covered/x bs=1k count=65 2>/dev/null || echo full; touch /new/x || echo ro");
    assert_eq!(out, "2710\n700\n1777\nfull\nro\n");
}

#[test]
fn tmpcopyup_keeps_what_the_tmpfs_covers_with_owners_and_links() {
    needs_host!();
    let mut lab = Lab::new();
    let dir = lab.rootfs("data");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("sub/file"), "copied\n").unwrap();
    std::fs::set_permissions(dir.join("sub/file"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(dir.join("sub/file"), Some(7), Some(8)).unwrap();
    std::fs::set_permissions(dir.join("sub/file"), PermissionsExt::from_mode(0o4755)).unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
    lab.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let out = lab.prints("cat /data/sub/file; stat -c '%u %g %a' /data/sub/file; readlink /data/link; echo x >/data/sub/file");
    assert_eq!(out, "copied\n7 8 4755\n/etc/passwd\n");
    assert_eq!(
        std::fs::read_to_string(dir.join("sub/file")).unwrap(),
        "copied\n"
    );
}

#[test]
fn links_in_the_image_lead_nowhere_outside_of_it() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.host_dir("host");
    let outside = lab.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, lab.rootfs("absolute")).unwrap();
    symlink("../../../../../../../../..", lab.rootfs("up")).unwrap();
    symlink("dangling/target", lab.rootfs("dangling-link")).unwrap();
    lab.mount("/absolute/a", "bind", &source, &["bind"]);
    lab.mount("/up/b", "bind", &source, &["bind"]);
    lab.mount("/../../c", "tmpfs", "tmpfs", &[]);
    lab.mount(
        "/dangling-link",
        "bind",
        &format!("{source}/file"),
        &["bind"],
    );
    lab.config["linux"]["devices"] =
        json!([{ "path": "/absolute/null", "type": "c", "major": 1, "minor": 3 }]);
    let out = lab.prints(&format!(
        "ls {0} /b; cat /dangling/target; echo x >/c/x",
        outside.display()
    ));
    assert_eq!(
        out,
        format!(
            "/b:\nfile\n\n{}:\na\nnull\nof the host\n",
            outside.display()
        )
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(lab.rootfs("b").is_dir() && !Path::new("/b").exists() && !Path::new("/c").exists());
}

#[test]
fn proc_and_sys_behind_a_link_of_the_image_are_refused() {
    needs_host!();
    let lab = Lab::new();
    std::fs::remove_dir(lab.rootfs("proc")).unwrap();
    symlink("/tmp", lab.rootfs("proc")).unwrap();
    lab.run()
        .fails("mount /proc (proc): must be mounted on ordinary directory");
    lab.is_clean().unwrap();
}

#[test]
fn masked_files_are_empty_and_masked_directories_too() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::create_dir(lab.rootfs("secret")).unwrap();
    std::fs::write(lab.rootfs("secret/file"), "secret").unwrap();
    std::fs::write(lab.rootfs("etc/secret"), "secret").unwrap();
    lab.config["linux"]["maskedPaths"] = json!([
        "/secret",
        "/etc/secret",
        "/secret",
        "/not/there",
        "/dev/zero"
    ]);
    let out =
        lab.prints("ls -A /secret; cat /etc/secret /dev/zero; touch /secret/x || echo read-only");
    assert_eq!(out, "read-only\n");
}

#[test]
fn read_only_paths_cannot_be_written_below_either() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::create_dir_all(lab.rootfs("fixed/deep")).unwrap();
    lab.config["linux"]["readonlyPaths"] = json!(["/fixed", "/proc/sys", "/not/there"]);
    let out = lab.prints("touch /fixed/deep/x || echo a; echo 1 >/proc/sys/kernel/shm_rmid_forced || echo b; touch /tmp/x && echo c");
    assert_eq!(out, "a\nb\nc\n");
}

#[test]
fn a_later_mount_can_take_its_source_from_an_earlier_one() {
    needs_host!();
    let mut lab = Lab::new();
    lab.mount("/fresh", "tmpfs", "tmpfs", &["mode=750"]);
    let source = lab.rootfs("fresh");
    lab.mount("/view", "bind", source.to_str().unwrap(), &["bind"]);
    assert_eq!(
        lab.prints("stat -c %a /view; echo x >/view/x; cat /fresh/x"),
        "750\nx\n"
    );
}

#[test]
fn a_read_only_root_leaves_its_mounts_writable() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["root"]["readonly"] = json!(true);
    assert_eq!(
        lab.prints("touch /x || echo ro; touch /dev/shm/x && echo rw"),
        "ro\nrw\n"
    );
}

#[test]
fn the_hosts_tree_is_out_of_reach_with_and_without_pivot_root() {
    needs_host!();
    let mut lab = Lab::new();
    lab.script("cut -d' ' -f5 /proc/self/mountinfo 2>/dev/null || while read a b c d e f; do echo $e; done </proc/self/mountinfo");
    for arguments in [&["run", "c"][..], &["run", "--no-pivot", "c"]] {
        let out = lab.call(arguments).ok();
        let mut places: Vec<&str> = out.lines().collect();
        places.retain(|place| !["/", "/proc", "/dev", "/dev/pts", "/dev/shm"].contains(place));
        assert_eq!(places, [""; 0], "{arguments:?}");
    }
}

#[test]
fn a_mount_that_fails_names_the_place_and_the_cause() {
    needs_host!();
    let mut lab = Lab::new();
    lab.mount("/x", "nosuchfs", "none", &[]);
    lab.run()
        .fails("mount /x (nosuchfs): mount: no such device");
    lab.config["mounts"].as_array_mut().unwrap().pop();
    lab.mount("/x", "tmpfs", "tmpfs", &["frobnicate"]);
    lab.run().fails("mount /x (tmpfs): mount: invalid argument");
    lab.config["mounts"].as_array_mut().unwrap().pop();
    lab.mount("/x", "bind", "/tmp", &["bind", "idmap"]);
    lab.run().fails("an idmapped mount needs mappings");
    lab.config["mounts"].as_array_mut().unwrap().pop();
    lab.mount("/x", "tmpfs", "tmpfs", &["idmap"]);
    lab.run().fails("only bind mounts can be idmapped");
    lab.is_clean().unwrap();
}

#[test]
fn a_bind_with_a_flag_has_only_what_it_asks_for_and_without_one_what_its_source_has() {
    needs_host!();
    let mut lab = Lab::new();
    let source = lab.dir.join("source");
    std::fs::create_dir(&source).unwrap();
    // A mount of the container's own, with flags, as the source of others.
    lab.mount("/mnt", "tmpfs", "tmpfs", &["noexec", "nosuid", "noatime"]);
    let inside = lab.rootfs("mnt");
    let inside = inside.to_str().unwrap().to_owned();
    lab.mount("/kept", "bind", &inside, &["bind"]);
    lab.mount("/changed", "bind", &inside, &["bind", "nodev"]);
    let out = lab.prints("grep -E ' /(kept|changed) ' /proc/mounts | cut -d' ' -f2,4");
    let flags = |place: &str| {
        let line = out.lines().find(|line| line.starts_with(place)).unwrap();
        line.split_once(' ')
            .unwrap()
            .1
            .split(',')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for kept in ["noexec", "nosuid", "noatime"] {
        assert!(flags("/kept").contains(&kept.to_owned()), "{out}");
    }
    let changed = flags("/changed");
    assert!(
        changed.contains(&"nodev".into()) && changed.contains(&"noatime".into()),
        "{out}"
    );
    assert!(
        !changed.contains(&"noexec".into()) && !changed.contains(&"nosuid".into()),
        "{out}"
    );
}

#[test]
fn a_read_only_dev_still_gets_its_devices() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["mounts"][1]["options"] = serde_json::json!(["nosuid", "mode=755", "ro"]);
    let out = lab.prints("echo x > /dev/null && touch /dev/x 2>/dev/null || echo refused");
    assert_eq!(out, "refused\n");
}

#[test]
fn destinations_may_be_named_by_the_hosts_path_of_the_rootfs() {
    needs_host!();
    let mut lab = Lab::new();
    let inside = lab.rootfs("mnt/x");
    lab.mount(inside.to_str().unwrap(), "tmpfs", "tmpfs", &["size=64k"]);
    let out = lab.prints("grep -c ' /mnt/x tmpfs ' /proc/mounts");
    assert_eq!(out, "1\n");
}

#[test]
fn masked_directories_share_one_file_system_and_a_path_given_twice_is_masked_once() {
    needs_host!();
    let mut lab = Lab::new();
    for dir in ["a", "b"] {
        std::fs::create_dir(lab.rootfs(dir)).unwrap();
    }
    lab.config["linux"]["maskedPaths"] = serde_json::json!(["/a", "/b", "/a"]);
    let out =
        lab.prints("[ $(stat -c %d /a) = $(stat -c %d /b) ] && grep -c -E ' /[ab] ' /proc/mounts");
    assert_eq!(out, "2\n");
}

#[test]
fn without_a_mount_namespace_nothing_stays_mounted_on_the_host() {
    needs_host!();
    let mut lab = Lab::new();
    lab.namespace("mount", None);
    assert_eq!(
        lab.prints("ls /bin/busybox; ls -d /etc/passwd 2>/dev/null || echo none"),
        "/bin/busybox\nnone\n"
    );
    lab.config["process"]["args"] = serde_json::json!(["/no/such"]);
    lab.run().fails("no such file");
    lab.is_clean().unwrap();
}
