//! Plugins that are started: programs of a directory. The program here is a shell, which speaks no protocol: what
//! it is given and how it ends is what is looked at.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::{Node, World};

fn script(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_program_is_told_who_it_is_and_ends_when_it_does_not_register() {
    let told = tempfile::tempdir().unwrap();
    let file = told.path().join("told");
    let world = World::with(Node::default(), |settings| {
        settings.registration_timeout = Duration::from_millis(500);
        let words = "$NRI_PLUGIN_IDX $NRI_PLUGIN_NAME $NRI_PLUGIN_SOCKET";
        let text = format!(
            "echo \"$$ {words} $(readlink /proc/self/fd/3)\" > {0}.new; mv {0}.new {0}; exec sleep 1000",
            file.display()
        );
        script(&settings.plugin_dir, "10-sleeps", &text);
        script(&settings.plugin_dir, "20-fails", "exit 1");
    });
    let said = std::fs::read_to_string(&file).unwrap();
    let said: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(said[1..4], ["10", "sleeps", "3"]);
    assert!(said[4].starts_with("socket:"), "{said:?}");
    assert!(!world.nri.is_used());
    // It was waited for, so it is no rest either.
    let proc = format!("/proc/{}", said[0]);
    while Path::new(&proc).exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
}
