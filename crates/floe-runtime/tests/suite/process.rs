//! config.md, process: the identity, limits and surroundings of a container's process.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::Lab;
use serde_json::{Value, json};

#[test]
fn user_group_and_further_groups_are_those_asked_for_and_no_others() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6] });
    let ids = lab.prints("grep -E '^(Uid|Gid|Groups)' /proc/self/status");
    assert_eq!(
        ids,
        "Uid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\nGroups:\t5 6 \n"
    );
    lab.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    assert_eq!(lab.prints("grep ^Groups /proc/self/status"), "Groups:\t \n");
}

#[test]
fn the_id_that_means_no_change_to_the_kernel_is_refused() {
    needs_host!();
    let mut lab = Lab::sh("id -u; id -g");
    for (user, field) in [
        (json!({ "uid": u32::MAX, "gid": 1 }), "uid"),
        (json!({ "uid": 1, "gid": u32::MAX }), "gid"),
        (
            json!({ "uid": 1, "gid": 1, "additionalGids": [2, u32::MAX] }),
            "additionalGids",
        ),
    ] {
        lab.config["process"]["user"] = user;
        lab.run()
            .fails(&format!("process.user.{field}: 4294967295 is no id"));
    }
    lab.is_clean().unwrap();
}

#[test]
fn umask_is_the_one_asked_for_or_the_usual() {
    needs_host!();
    let mut lab = Lab::new();
    assert_eq!(lab.prints("umask"), "0022\n");
    lab.config["process"]["user"]["umask"] = json!(0o077);
    assert_eq!(lab.prints("umask"), "0077\n");
}

#[test]
fn of_equal_names_in_env_the_last_wins_and_nothing_of_the_callers_comes_in() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["env"] = json!(["PATH=/bin", "A=1", "B=x=y", "A=2", "HOME=/h", "broken"]);
    lab.config["process"]["args"] = json!(["env"]);
    let out = lab.run().ok();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=2", "B=x=y", "HOME=/h", "PATH=/bin"]);
}

#[test]
fn home_comes_from_the_images_passwd_unless_env_has_one() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::write(
        lab.rootfs("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n",
    )
    .unwrap();
    assert_eq!(lab.prints("echo $HOME"), "/root\n");
    lab.config["process"]["env"] = json!(["PATH=/bin", "HOME="]);
    assert_eq!(lab.prints("echo $HOME"), "/root\n");
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(lab.prints("echo $HOME"), "/home/u\n");
    lab.config["process"]["user"] = json!({ "uid": 7, "gid": 7 });
    assert_eq!(lab.prints("echo $HOME"), "/\n");
    lab.config["process"]["env"] = json!(["PATH=/bin", "HOME=/own"]);
    assert_eq!(lab.prints("echo $HOME"), "/own\n");
}

#[test]
fn the_working_directory_is_made_if_missing_and_entered_as_root_or_as_the_user() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["cwd"] = json!("/not/there/yet");
    assert_eq!(lab.prints("pwd"), "/not/there/yet\n");
    // Only its owner gets in by itself; anybody else is where the runtime put it.
    std::fs::create_dir(lab.rootfs("private")).unwrap();
    std::os::unix::fs::chown(lab.rootfs("private"), Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(lab.rootfs("private"), PermissionsExt::from_mode(0o700)).unwrap();
    lab.config["process"]["cwd"] = json!("/private");
    lab.config["process"]["capabilities"] = Value::Null;
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(lab.prints("pwd"), "/private\n");
    lab.config["process"]["user"] = json!({ "uid": 1001, "gid": 1001 });
    assert_eq!(lab.prints("echo $PWD"), "/private\n");
    lab.config["process"]["cwd"] = json!("/bin/busybox");
    lab.run()
        .fails("chdir to cwd (\"/bin/busybox\") set in config.json failed: not a directory");
}

/// Links of an image's WORKDIR lead nowhere outside (podman's CVE-2026-55686).
#[test]
fn the_working_directory_is_made_inside_before_the_root_is_read_only() {
    needs_host!();
    let mut lab = Lab::new();
    let outside = lab.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, lab.rootfs("work")).unwrap();
    std::os::unix::fs::symlink("/../../../no/such", lab.rootfs("dangling")).unwrap();
    lab.config["root"]["readonly"] = json!(true);
    lab.config["process"]["cwd"] = json!("/work/made/deep");
    let inside = format!("{}/made/deep\n", outside.display());
    assert_eq!(
        lab.prints("pwd -P; touch x 2>/dev/null || echo ro"),
        inside + "ro\n"
    );
    lab.config["process"]["cwd"] = json!("/dangling");
    assert_eq!(lab.prints("pwd -P"), "/no/such\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(lab.rootfs("no/such").is_dir());
}

#[test]
fn a_filter_that_refuses_getcwd_keeps_no_container_from_being_made() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["cwd"] = json!("/tmp");
    lab.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
    });
    for set in [true, false] {
        lab.config["process"]["noNewPrivileges"] = json!(set);
        lab.config["process"]["args"] = json!(["ls", "-d", "../tmp"]);
        assert_eq!(lab.run().ok(), "../tmp\n", "no_new_privs {set}");
    }
    lab.sleeper("c");
    assert_eq!(
        lab.call(&["exec", "--cwd", "/etc", "c", "ls", "-d", "../tmp"])
            .ok(),
        "../tmp\n"
    );
}

#[test]
fn arguments_arrive_as_they_are() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["args"] = json!(["printf", "<%s>", "", "a b", "$HOME", "-x", "ü\n"]);
    assert_eq!(lab.run().ok(), "<><a b><$HOME><-x><ü\n>");
}

#[test]
fn resource_limits_are_set_and_an_unknown_one_is_refused() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
    ]);
    assert_eq!(
        lab.prints("ulimit -S -n; ulimit -H -n; ulimit -c"),
        "512\n1024\n0\n"
    );
    lab.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_PATIENCE", "soft": 1, "hard": 1 }]);
    lab.run()
        .fails("process.rlimits: \"RLIMIT_PATIENCE\" is no limit");
    lab.is_clean().unwrap();
}

#[test]
fn of_a_limit_that_may_not_be_raised_as_much_is_set_as_may_be_and_told() {
    needs_host!();
    let mut lab = Lab::new();
    let before = lab.prints("ulimit -H -n");
    // Above fs.nr_open, which nobody may.
    lab.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 1_u64 << 40 }]);
    let done = lab.script("ulimit -S -n; ulimit -H -n").run();
    assert_eq!(done.out, format!("100\n{before}"));
    assert!(done.err.contains("level=warning") && done.err.contains("RLIMIT_NOFILE 100:"));
}

#[test]
fn oom_score_adj_is_set_where_it_may_be() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(lab.prints("cat /proc/self/oom_score_adj"), "500\n");
    lab.config["process"]["oomScoreAdj"] = json!(-1000);
    lab.script("true");
    let done = lab.run();
    assert_eq!(done.code, 0, "{done:#?}");
    lab.config["process"]["oomScoreAdj"] = json!(2000);
    lab.run().fails("process.oomScoreAdj 2000");
}

fn capabilities(lab: &mut Lab) -> Vec<u64> {
    let text = lab.prints("grep ^Cap /proc/self/status");
    let value =
        |line: &str| u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
    text.lines().map(value).collect()
}

#[test]
fn capabilities_are_exactly_those_asked_for() {
    needs_host!();
    let (chown, kill, setpcap) = (1 << 0, 1 << 5, 1 << 8);
    let mut lab = Lab::new();
    lab.config["process"]["noNewPrivileges"] = json!(false);
    lab.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
    });
    // Root regains all of its bounding set by execve.
    let all = chown | kill | setpcap;
    assert_eq!(capabilities(&mut lab), [0, all, all, all, 0]);
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(capabilities(&mut lab), [0, 0, 0, all, 0]);
    for set in ["inheritable", "ambient", "permitted", "effective"] {
        lab.config["process"]["capabilities"][set] = json!(["CAP_KILL"]);
    }
    assert_eq!(capabilities(&mut lab), [kill, kill, kill, all, kill]);
    lab.config["process"]["capabilities"] = Value::Null;
    assert_eq!(capabilities(&mut lab), [0; 5]);
}

#[test]
fn a_capability_that_nobody_knows_is_a_warning() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["capabilities"] = json!({ "bounding": ["CAP_FLY", "CAP_KILL"] });
    let done = lab.run();
    assert_eq!(done.code, 0);
    assert!(
        done.err.contains("level=warning") && done.err.contains("CAP_FLY"),
        "{}",
        done.err
    );
}

#[test]
fn capabilities_that_the_bounding_set_takes_away_are_told() {
    needs_host!();
    let mut lab = Lab::new();
    let three = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"]);
    lab.config["process"]["capabilities"] =
        json!({ "effective": three, "permitted": three, "bounding": ["CAP_KILL"] });
    let done = lab.run();
    assert_eq!(done.code, 0);
    let told = "process.capabilities: not in the bounding set, so that the program goes without: CAP_CHOWN CAP_SETUID";
    assert!(done.err.contains(told), "{}", done.err);
    let all = json!({ "effective": three, "permitted": three, "bounding": three });
    lab.config["process"]["capabilities"] = all;
    assert_eq!(lab.run().err, "");
}

#[test]
fn no_new_privs_is_set_if_asked_for() {
    needs_host!();
    let mut lab = Lab::new();
    assert_eq!(
        lab.prints("grep NoNewPrivs /proc/self/status"),
        "NoNewPrivs:\t1\n"
    );
    lab.config["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(
        lab.prints("grep NoNewPrivs /proc/self/status"),
        "NoNewPrivs:\t0\n"
    );
}

#[test]
fn a_program_that_cannot_be_executed_is_told_in_one_line_of_runcs_words() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::write(lab.rootfs("etc/plain"), "no program").unwrap();
    std::fs::write(lab.rootfs("bin/garbage"), [0, 1, 2]).unwrap();
    std::fs::set_permissions(lab.rootfs("bin/garbage"), PermissionsExt::from_mode(0o755)).unwrap();
    for (program, words) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        (
            "/nope",
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
        (
            "/etc",
            "exec: \"/etc\": permission denied (it is a directory)",
        ),
        ("/bin/garbage", "exec /bin/garbage: exec format error"),
        ("", "exec: \"\": executable file not found in $PATH"),
    ] {
        lab.config["process"]["args"] = json!([program]);
        let said = lab.run().fails(words);
        assert_eq!(said.lines().count(), 1, "{said}");
        lab.is_clean().unwrap();
    }
    lab.config["process"]["args"] = json!(["nope"]);
    lab.call(&["create", "c"])
        .fails("executable file not found in $PATH");
    // Without PATH nothing is searched, not even the working directory.
    lab.config["process"]["env"] = json!([]);
    lab.config["process"]["cwd"] = json!("/bin");
    lab.config["process"]["args"] = json!(["true"]);
    lab.run().fails("executable file not found in $PATH");
}

#[test]
fn path_is_searched_for_what_the_user_may_execute() {
    needs_host!();
    let mut lab = Lab::new();
    std::fs::create_dir_all(lab.rootfs("first")).unwrap();
    std::fs::write(lab.rootfs("first/tool"), "#!/bin/sh\necho first\n").unwrap();
    std::fs::write(lab.rootfs("bin/tool"), "#!/bin/sh\necho second\n").unwrap();
    std::fs::set_permissions(lab.rootfs("first/tool"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::set_permissions(lab.rootfs("bin/tool"), PermissionsExt::from_mode(0o755)).unwrap();
    lab.config["process"]["env"] = json!(["PATH=/none:/first:/bin"]);
    lab.config["process"]["args"] = json!(["tool"]);
    assert_eq!(lab.run().ok(), "first\n");
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    lab.config["process"]["capabilities"] = Value::Null;
    assert_eq!(lab.run().ok(), "second\n");
}

#[test]
fn no_descriptor_of_the_runtime_or_its_caller_gets_in_but_those_asked_for() {
    needs_host!();
    let mut lab = Lab::new();
    assert_eq!(
        lab.prints("echo /proc/self/fd/*"),
        "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n"
    );
    lab.script("cat <&4; readlink /proc/self/fd/3; ls /proc/self/fd | wc -l");
    std::fs::write(lab.dir.join("file"), "kept\n").unwrap();
    let (_, out, _) = lab.command(&["run", "--preserve-fds", "2", "c"]);
    let call = format!(
        "exec 3<{dir}/out 4<{dir}/file 5<{dir}/file; exec {program} --root {dir}/state run -b {dir}/bundle --preserve-fds 2 c",
        dir = lab.dir.display(),
        program = crate::support::program(),
    );
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &call])
        .output()
        .unwrap();
    drop(out);
    let text = String::from_utf8(output.stdout).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    assert_eq!(first, "kept", "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        rest.ends_with("\n6\n"),
        "0, 1, 2, 3, 4 and ls's own: {rest}"
    );
}

#[test]
fn signals_are_as_a_new_program_expects_them() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["process"]["args"] = json!(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    assert_eq!(
        lab.run().ok(),
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
}

#[test]
fn the_streams_belong_to_the_user_but_dev_null_stays_everybodys() {
    needs_host!();
    let mut lab = Lab::new();
    let owner = || std::fs::metadata("/dev/null").unwrap().uid();
    let before = owner();
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(
        lab.prints("stat -c %u /dev/null; echo again >>/proc/self/fd/1"),
        "0\nagain\n"
    );
    assert_eq!(owner(), before);
}
