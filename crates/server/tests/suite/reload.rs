//! The configuration read again while the engine serves: by SIGHUP and when a file changes. What begins
//! afterwards has the new one, whole; a bad file leaves the old one, whole.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{World, world, world_on};
use testkit::NodeOptions;

pub(crate) const RELOADED: &str = "configuration reloaded";
const KEPT: &str = "the configuration stays as it was";

impl World {
    /// Writes a drop-in, in one step as editors do.
    pub(crate) fn drop_in(&self, name: &str, text: &str) -> PathBuf {
        let dir = self.node.path("floe.toml.d");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        let new = dir.join(format!(".{name}"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        path
    }

    /// Waits until the engine has logged `words` so many times, and returns the last such line.
    pub(crate) async fn logged(&self, words: &str, times: usize) -> String {
        self.until(&format!("{times} times {words:?} in the log"), async || {
            let log = self.node.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(words)).collect();
            (lines.len() >= times).then(|| lines[times - 1].to_owned())
        })
        .await
    }

    /// What a container says that prints the variables.
    async fn variables(&self, pod: &str, name: &str) -> String {
        let script = self.script(name, "echo $ONE $TWO");
        self.ran(pod, script).await.1.trim().to_owned()
    }
}

#[test]
fn a_changed_file_holds_for_what_begins_and_a_bad_one_changes_nothing() {
    world(async |world: &mut World| {
        let pod = world.pod("a").await;
        assert_eq!(world.variables(&pod, "before").await, "");
        // Watched, with a directory that was not there.
        world.drop_in(
            "10.toml",
            "[crio.runtime]\ndefault_env = ['ONE=1', 'TWO=2']\n",
        );
        let line = world.logged(RELOADED, 1).await;
        assert!(line.contains("crio.runtime.default_env"), "{line}");
        assert_eq!(world.variables(&pod, "after").await, "1 2");
        let bad = [
            ("[crio.runtime]\npids_limit = 'many'\n", "20.toml:2"),
            (
                "[crio.runtime]\ndefault_env = ['ONE=3']\n\n[crio\n",
                "20.toml:4",
            ),
            (
                "# a\n# b\n[floe.runtime]\ndefault_ulimits = ['x']\n",
                "20.toml:4",
            ),
        ];
        for (number, (text, place)) in bad.into_iter().enumerate() {
            let path = world.drop_in("20.toml", text);
            let line = world.logged(KEPT, number + 1).await;
            assert!(line.contains(place), "{line}");
            let name = format!("kept{number}");
            assert_eq!(world.variables(&pod, &name).await, "1 2");
            std::fs::remove_file(path).unwrap();
            world.logged(RELOADED, number + 2).await;
        }
        world.node.signal(Signal::HUP).unwrap();
        let line = world.logged("why=\"SIGHUP\"", 1).await;
        assert!(line.contains("changed=[]"), "{line}");
        assert_eq!(world.variables(&pod, "last").await, "1 2");
    });
}

#[test]
fn what_is_made_once_is_named_and_the_rest_of_the_file_holds() {
    world(async |world: &mut World| {
        // Whoever cleans up afterwards reads this as well.
        let other = world.node.path("other-root");
        let text = format!(
            "[crio]\nroot = '{}'\n[crio.network]\nbridge = 'other0'\n\
             [crio.runtime]\ndefault_env = ['ONE=1']\n",
            other.display()
        );
        world.drop_in("10.toml", &text);
        let line = world.logged("needs a restart", 1).await;
        let keys = "[\"crio.network.bridge\", \"crio.root\"]";
        assert!(line.contains(keys), "{line}");
        let pod = world.pod("a").await;
        assert_eq!(world.variables(&pod, "a").await, "1");
    });
}

#[test]
fn registries_and_the_policy_are_read_again_and_kept_if_they_are_bad() {
    world(async |world: &mut World| {
        let file = world.node.path("registries.conf");
        let good = std::fs::read_to_string(&file).unwrap();
        let image = world.image.clone();
        let blocked = good.replace("insecure = true", "insecure = true\nblocked = true");
        assert_ne!(good, blocked);
        std::fs::write(&file, &blocked).unwrap();
        world.logged(RELOADED, 1).await;
        let refused = world.pull(&image).await.unwrap_err();
        assert!(refused.message().contains("blocked"), "{refused}");
        std::fs::write(&file, "[[registry]\n").unwrap();
        let line = world.logged(KEPT, 1).await;
        assert!(line.contains("registries.conf"), "{line}");
        let refused = world.pull(&image).await.unwrap_err();
        assert!(refused.message().contains("blocked"), "{refused}");
        std::fs::write(&file, &good).unwrap();
        world.logged(RELOADED, 2).await;
        world.pull(&image).await.unwrap();
        let policy = world.node.path("policy.json");
        std::fs::write(&policy, r#"{"default":[{"type":"reject"}]}"#).unwrap();
        world.logged(RELOADED, 3).await;
        let refused = world.pull(&image).await.unwrap_err();
        assert!(refused.message().contains("policy"), "{refused}");
    });
}

#[test]
fn runtime_handlers_come_and_go_and_a_missing_profile_keeps_the_old_ones() {
    world(async |world: &mut World| {
        let handlers = async |world: &World| {
            let status = world.runtime().status(cri::StatusRequest::default()).await;
            let handlers = status.unwrap().into_inner().runtime_handlers;
            handlers.into_iter().map(|h| h.name).collect::<Vec<_>>()
        };
        assert_eq!(handlers(world).await, ["", "floe"]);
        world.drop_in(
            "10.toml",
            "[crio.runtime.runtimes.fast]\nruntime_path = '/x/floe-runtime'\n",
        );
        world.logged(RELOADED, 1).await;
        assert_eq!(handlers(world).await, ["", "fast", "floe"]);
        let config = world.pod_config("fast");
        let pod = world.try_pod_by("fast", &config).await.unwrap();
        world.drop_in(
            "20.toml",
            "[crio.runtime]\nseccomp_profile = '/no/such.json'\n",
        );
        let line = world.logged(KEPT, 1).await;
        assert!(line.contains("/no/such.json"), "{line}");
        assert_eq!(handlers(world).await, ["", "fast", "floe"]);
        std::fs::remove_dir_all(world.node.path("floe.toml.d")).unwrap();
        world.logged(RELOADED, 2).await;
        assert_eq!(handlers(world).await, ["", "floe"]);
        world.pod_status(&pod).await.unwrap();
    });
}

#[test]
fn the_level_of_the_log_follows_the_configuration() {
    let options = |_: &_| NodeOptions {
        as_on_a_node: true,
        ..NodeOptions::default()
    };
    world_on(options, async |world: &mut World| {
        assert!(!world.node.log().contains("DEBUG"), "{}", world.node.log());
        world.drop_in(
            "10.toml",
            "[crio.runtime]\nlog_level = 'debug'\nno_such_key = 1\n",
        );
        world.logged("DEBUG", 1).await;
        world.drop_in("10.toml", "[crio.runtime]\nlog_level = 'loud'\n");
        let line = world.logged(KEPT, 1).await;
        assert!(line.contains("10.toml:2"), "{line}");
        // Commands read it, too.
        world.drop_in("10.toml", "");
        world.logged(RELOADED, 2).await;
    });
}

/// Each container has both variables of one and the same file, whatever is swapped while it is made.
#[test]
fn a_thousand_reloads_while_pods_are_made_lose_nothing_and_mix_nothing() {
    const RELOADS: usize = 1000;
    world(async |world: &mut World| {
        let write = |number: usize| {
            let text = format!("[crio.runtime]\ndefault_env = ['ONE={number}', 'TWO={number}']\n");
            world.drop_in("10.toml", &text);
        };
        write(0);
        world.logged(RELOADED, 1).await;
        let descriptors = || {
            let pid = world.node.engine_pid().unwrap();
            std::fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .count()
        };
        let before = descriptors();
        let reloads = async {
            let mut seen = 0;
            let mut number = 0;
            while seen < RELOADS {
                number += 1;
                write(number);
                world.node.signal(Signal::HUP).unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
                if number % 50 == 0 {
                    seen = world.node.log().matches(RELOADED).count();
                }
            }
        };
        let pods = async {
            let mut made = 0;
            loop {
                let pod = world.pod(&format!("p{made}")).await;
                let said = world.variables(&pod, "c").await;
                let (one, two) = said.split_once(' ').expect("two variables");
                assert_eq!(one, two, "of one configuration");
                world.stop_pod(&pod).await.unwrap();
                world.remove_pod(&pod).await.unwrap();
                made += 1;
            }
        };
        tokio::select! {
            () = reloads => {}
            made = pods => unreachable!("{made:?}"),
        }
        let log = world.node.log();
        assert_eq!(log.matches(KEPT).count(), 0, "{log}");
        let pod = world.pod("last").await;
        write(424_242);
        world
            .until("the last configuration in force", async || {
                let name = format!("c{}", world.node.log().len());
                (world.variables(&pod, &name).await == "424242 424242").then_some(())
            })
            .await;
        assert!(
            descriptors() <= before + 20,
            "{before} before, {} now",
            descriptors()
        );
    });
}

#[test]
fn lines_of_the_log_are_those_that_the_filter_wants() {
    world(async |world: &mut World| {
        world.drop_in(
            "10.toml",
            "[floe.runtime]\nlog_filter = 'configuration reloaded|wanted'\n",
        );
        world.logged(RELOADED, 1).await;
        world.pod("unseen").await;
        world.pod("wanted").await;
        world.logged("wanted", 1).await;
        assert!(!world.node.log().contains("unseen"));
        let path = world.drop_in("20.toml", "[floe.runtime]\nlog_filter = '('\n");
        std::fs::remove_file(path).unwrap();
        world.drop_in("10.toml", "[floe.runtime]\nlog_filter = ''\n");
        // No line says when the filter has gone: what is filtered is not seen.
        let number = std::cell::Cell::new(0);
        world
            .until("the log says all again", async || {
                number.set(number.get() + 1);
                world.pod(&format!("later-{}", number.get())).await;
                world.node.log().contains("later-").then_some(())
            })
            .await;
    });
}
