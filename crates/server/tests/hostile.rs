//! Requests and images that mean harm, or are only large: refused by field, or served in time that
//! grows with their size; nothing of an image is obeyed but what the image-spec says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;

use common::{World, secured, world};
use tonic::Code;

fn device(host: &Path, container: &str) -> cri::Device {
    cri::Device {
        host_path: host.display().to_string(),
        container_path: container.to_owned(),
        permissions: "rwm".to_owned(),
    }
}

fn make_null(path: &Path) {
    let kind = rustix::fs::FileType::CharacterDevice;
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o666.into(), device).unwrap();
}

#[test]
fn devices_of_a_whole_directory_are_given_and_no_link_below_it_is_followed() {
    world(async |world| {
        let pod = world.pod("a").await;
        let dir = world.node.path("devices");
        std::fs::create_dir_all(dir.join("below")).unwrap();
        make_null(&dir.join("one"));
        make_null(&dir.join("below/two"));
        for (to, name) in [(".", "loop"), ("/proc/self/fd", "fd"), ("/dev", "dev")] {
            std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        }
        let mut config = world.script("c", "cd /dev/given && find . -type c | sort; echo x > one");
        config.devices = vec![device(&dir, "/dev/given")];
        let (output, status) = world.output(&pod, config).await;
        assert_eq!(
            (output.as_str(), status.exit_code),
            ("./below/two\n./one\n", 0)
        );
        // The node's own /dev, with its links to /proc, to a place of its own and in place.
        let mut config = world.script("d", "ls /dev/node; test -c /dev/null && echo well");
        config.devices = vec![
            device(Path::new("/dev"), "/dev/node"),
            device(Path::new("/dev"), "/dev"),
        ];
        let (output, status) = world.output(&pod, config).await;
        assert_eq!(status.exit_code, 0, "{status:?}");
        let names: Vec<&str> = output.lines().collect();
        assert!(
            names.contains(&"zero") && names.contains(&"well"),
            "{output}"
        );
        assert!(
            !names.contains(&"fd") && !names.contains(&"stdin"),
            "{output}"
        );
    });
}

#[test]
fn too_many_devices_are_refused_by_field() {
    world(async |world| {
        let pod = world.pod("a").await;
        let dir = world.node.path("devices");
        std::fs::create_dir(&dir).unwrap();
        for number in 0..5000 {
            make_null(&dir.join(number.to_string()));
        }
        let mut config = world.config("c", &["true"]);
        config.devices = vec![device(&dir, "/dev/many")];
        let refused = world.create(&pod, config.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("devices"), "{refused}");
        config.devices = vec![device(Path::new("/dev/null"), "/dev/x"); 20_000];
        let refused = world.create(&pod, config).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(world.pod_status(&pod).await.is_ok());
    });
}
