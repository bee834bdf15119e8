//! A directory that looks like a v2 hierarchy, for hosts that have none: it takes what is written
//! and checks nothing.

use std::path::Path;

use super::*;
use hierarchy::Hierarchy;

/// The directory and a cgroup in it.
pub(super) struct Fake {
    root: PathBuf,
    pub(super) cgroup: Cgroup,
}

impl Fake {
    /// A v2 cgroup with these files, empty or with the text given.
    pub(super) fn v2(files: &[(&str, &str)]) -> Fake {
        let root = std::env::temp_dir().join(&Scratch::new().0);
        let dir = root.join("group");
        std::fs::create_dir_all(&dir).expect("mkdir");
        for (file, text) in files {
            std::fs::write(dir.join(file), text).expect("write");
        }
        let open = |path: &Path| {
            rustix::fs::open(
                path,
                OFlags::PATH | OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
        };
        let hierarchy = Hierarchy {
            version: Version::V2,
            mount: root.clone(),
            root: open(&root).expect("open"),
            controllers: vec![
                Controller::Cpu,
                Controller::Cpuacct,
                Controller::Cpuset,
                Controller::Memory,
                Controller::Io,
                Controller::Pids,
                Controller::Hugetlb,
                Controller::Rdma,
            ],
        };
        // A few hundred bytes per test, so that the type can promise what the host's has.
        let hierarchies = Box::leak(Box::new(Hierarchies {
            all: vec![hierarchy],
        }));
        let cgroup = Cgroup {
            below: Vec::new(),
            hierarchies,
            path: "group".into(),
            present: vec![true],
            manager: Arc::new(manager::Fs),
        };
        Fake { root, cgroup }
    }

    /// What a file holds now.
    pub(super) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.root.join("group").join(file)).expect(file)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
