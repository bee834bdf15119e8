//! What two configurations differ in, key by key, and which keys keep their value for as long as an engine
//! runs: those of what is made once (roots, sockets, cgroups, the network, the server of metrics, plugins).

use super::Config;

impl Config {
    /// This configuration, with what cannot change in an engine that runs taken from the one in force.
    #[must_use]
    pub(crate) fn within(&self, running: &Self) -> Self {
        let mut new = self.clone();
        new.root_table.root.clone_from(&running.root_table.root);
        new.root_table
            .runroot
            .clone_from(&running.root_table.runroot);
        let stores = &running.root_table.additionalimagestores;
        new.root_table.additionalimagestores.clone_from(stores);
        new.api = running.api.clone();
        new.network = running.network.clone();
        new.metrics = running.metrics.clone();
        new.tracing = running.tracing.clone();
        let name = &running.compat.runtime_name;
        new.compat.runtime_name.clone_from(name);
        new.nri = running.nri.clone();
        let image = &running.image;
        new.image.peers.clone_from(&image.peers);
        new.image.peers_listen.clone_from(&image.peers_listen);
        new.image.peers_tls_cert.clone_from(&image.peers_tls_cert);
        new.image.peers_tls_key.clone_from(&image.peers_tls_key);
        new.image.peers_tls_ca.clone_from(&image.peers_tls_ca);
        new.image.peers_certs_dir.clone_from(&image.peers_certs_dir);
        let runtime = &running.runtime;
        new.runtime.cgroup_manager = runtime.cgroup_manager;
        new.runtime.cgroup_parent.clone_from(&runtime.cgroup_parent);
        new.runtime.runtime_path.clone_from(&runtime.runtime_path);
        new
    }

    /// The dotted keys whose values differ, in the order of their names.
    #[must_use]
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<String> {
        let written = |config| toml::Value::try_from(config).unwrap_or(toml::Value::Boolean(false));
        let (one, other) = (written(self), written(other));
        let mut keys = Vec::new();
        let mut pairs = vec![("crio".to_owned(), Some(&one), Some(&other))];
        while let Some((name, one, other)) = pairs.pop() {
            let tables = [one, other].map(|value| value.and_then(toml::Value::as_table));
            if one == other {
                continue;
            }
            let [Some(mine), Some(theirs)] = tables else {
                keys.push(name);
                continue;
            };
            let added = theirs.keys().filter(|key| !mine.contains_key(*key));
            for key in mine.keys().chain(added) {
                pairs.push((format!("{name}.{key}"), mine.get(key), theirs.get(key)));
            }
        }
        keys.sort();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RuntimeEntry;

    #[test]
    fn what_is_made_once_keeps_its_value_and_is_named() {
        let running = Config::default();
        let mut wanted = running.clone();
        wanted.root_table.root = "/elsewhere".into();
        wanted.api.stream_port = "1".into();
        wanted.network.bridge = "b".into();
        wanted.metrics.enable_metrics = true;
        wanted.runtime.pids_limit = 7;
        wanted.runtime.cgroup_parent = "/other".into();
        let new = wanted.within(&running);
        assert_eq!(new.differing_keys(&running), ["crio.runtime.pids_limit"]);
        assert_eq!(
            wanted.differing_keys(&new),
            [
                "crio.api.stream_port",
                "crio.metrics.enable_metrics",
                "crio.network.bridge",
                "crio.root",
                "crio.runtime.cgroup_parent",
            ]
        );
    }

    #[test]
    fn a_runtime_that_comes_or_changes_is_named() {
        let before = Config::default();
        let mut after = before.clone();
        let runtimes = &mut after.runtime.runtimes;
        runtimes.insert("kata".into(), RuntimeEntry::default());
        assert_eq!(
            after.differing_keys(&before),
            ["crio.runtime.runtimes.kata"]
        );
        let before = after.clone();
        let kata = after.runtime.runtimes.get_mut("kata").unwrap();
        kata.runtime_path = "/opt/kata".into();
        assert_eq!(
            after.differing_keys(&before),
            ["crio.runtime.runtimes.kata.runtime_path"]
        );
        assert_eq!(after.differing_keys(&after), Vec::<String>::new());
    }
}
