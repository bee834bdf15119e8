//! AppArmor profiles and SELinux labels: given where the kernel has them, refused where it has not.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{self, Lab};
use serde_json::json;

/// A profile of this test, loaded as long as this lives.
struct Profile(String);

impl Profile {
    /// One that lets everything be but writing to /tmp; the reason if this host cannot have it.
    fn load() -> Result<Self, String> {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|text| text.starts_with('Y')) {
            return Err("the kernel has no AppArmor".into());
        }
        let profile = Self(format!("floe-runtime-test-{}", std::process::id()));
        let rules = "{ file, signal, ptrace, capability, network, mount, umount, pivot_root, unix, deny /tmp/** w, }";
        let done = profile.parser("--replace", &format!("profile {} {rules}\n", profile.0));
        done.map(|()| profile)
    }

    fn parser(&self, verb: &str, text: &str) -> Result<(), String> {
        let parser = Command::new("apparmor_parser")
            .args([verb, "--skip-cache"])
            .stdin(Stdio::piped())
            .spawn();
        let mut parser = parser.map_err(|error| format!("apparmor_parser: {error}"))?;
        let mut stdin = parser.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let status = parser.wait().unwrap();
        status
            .success()
            .then_some(())
            .ok_or_else(|| format!("apparmor_parser {verb} fails"))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = self.parser("--remove", &format!("profile {} {{}}\n", self.0));
    }
}

#[test]
fn a_profile_confines_the_program_and_an_exec() {
    needs_host!();
    let profile = match Profile::load() {
        Ok(profile) => profile,
        Err(reason) => {
            eprintln!("SKIP: {reason}");
            return;
        }
    };
    let mut lab = Lab::new();
    lab.config["process"]["apparmorProfile"] = json!(profile.0);
    let seen = lab.prints("cat /proc/self/attr/current; echo no >/tmp/file; echo yes >/root/file");
    assert_eq!(seen, format!("{} (enforce)\n", profile.0));
    assert!(!lab.rootfs("tmp/file").exists());
    assert!(lab.rootfs("root/file").exists());
    lab.config["process"]
        .as_object_mut()
        .unwrap()
        .remove("apparmorProfile");
    lab.sleeper("c");
    let exec = |extra: &[&str]| {
        let mut words = vec!["exec"];
        words.extend(extra);
        words.extend(["c", "cat", "/proc/self/attr/current"]);
        lab.call(&words).ok()
    };
    assert_eq!(exec(&[]), "unconfined\n");
    assert_eq!(
        exec(&["--apparmor", &profile.0]),
        format!("{} (enforce)\n", profile.0)
    );
    lab.call(&["exec", "--apparmor", "no-such-profile", "c", "true"])
        .fails("apply apparmor profile no-such-profile: no such file or directory");
}

/// The profile that engines give when nobody says otherwise.
#[test]
fn under_the_default_profile_no_capability_mounts_or_writes_to_the_kernel() {
    needs_host!();
    let parser = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];
    if !runtime::apparmor::is_usable() || !parser.iter().any(|path| Path::new(path).exists()) {
        eprintln!("SKIP: the kernel has no AppArmor, or there is no apparmor_parser");
        return;
    }
    let name = runtime::apparmor::DEFAULT_PROFILE;
    runtime::apparmor::ensure(name).unwrap();
    let mut lab = Lab::new();
    lab.config["process"]["apparmorProfile"] = json!(name);
    let all = json!([
        "CAP_SYS_ADMIN",
        "CAP_DAC_OVERRIDE",
        "CAP_KILL",
        "CAP_SYS_PTRACE"
    ]);
    for set in ["bounding", "effective", "permitted"] {
        lab.config["process"]["capabilities"][set] = all.clone();
    }
    lab.mount("/sys", "sysfs", "sysfs", &[]);
    let script = "cat /proc/self/attr/current; \
        mount -t tmpfs none /tmp 2>/dev/null || echo unmounted; \
        (echo 1 >/proc/sys/kernel/core_pattern) 2>/dev/null || echo unwritten; \
        (echo x >/sys/kernel/mm/ksm/run) 2>/dev/null || echo unchanged; \
        echo x >/tmp/file && echo written; sleep 1000 & kill $! && echo killed";
    let want = format!("{name} (enforce)\nunmounted\nunwritten\nunchanged\nwritten\nkilled\n");
    assert_eq!(lab.prints(script), want);
    lab.sleeper("c");
    assert_eq!(lab.call(&["exec", "c", "sh", "-c", script]).ok(), want);
    lab.call(&["kill", "c", "KILL"]).ok();
    support::soon("its end", || lab.status("c") == "stopped");
}

#[test]
fn what_the_kernel_cannot_enforce_is_refused() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    if !Path::new("/sys/module/apparmor/parameters/enabled").exists() {
        lab.call(&["exec", "--apparmor", "some-profile", "c", "true"])
            .fails("process.apparmorProfile: AppArmor is not enabled on this host");
        // Nothing else than what is there anyway.
        lab.call(&["exec", "--apparmor", "unconfined", "c", "true"])
            .ok();
    }
    if Path::new("/sys/fs/selinux/enforce").exists() {
        return;
    }
    lab.call(&["exec", "--process-label", "a:b:c", "c", "true"])
        .fails("selinux label is specified in config, but selinux is disabled or not supported");
    let mut lab = Lab::new();
    lab.config["linux"]["mountLabel"] = json!("a:b:c");
    lab.run()
        .fails("linux.mountLabel: SELinux is not enabled on this host");
}

#[test]
fn a_share_of_the_cache_is_refused_where_there_is_no_resctrl() {
    needs_host!();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if mounts.contains(" - resctrl ") {
        eprintln!("SKIP: this host has resctrl");
        return;
    }
    let mut lab = Lab::new();
    lab.config["linux"]["intelRdt"] = json!({ "l3CacheSchema": "L3:0=f" });
    lab.run()
        .fails("intelRdt is specified in config, but Intel RDT is not supported or enabled");
}
