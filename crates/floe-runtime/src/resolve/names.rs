//! Who has which name: looked up where the engine writes it, at every question, so that an answer is never of before.
//! Nothing is kept here.
//!
//! ```text
//! STATE/joined/POD/NETWORK.json            the networks of a pod: here only their names count
//! STATE/results/POD.json                   it is on the network of the configuration as well
//! STATE/names/NETWORK/names/NAME/POD       addresses, one a line
//! STATE/names/NETWORK/addresses/ADDRESS    the names of whoever has it, one a line
//! STATE/names/NETWORK/settings             `internal`, and `server ADDRESS`, one a line
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::file::read_text;

/// No file here is longer.
const FILE_MAX: u64 = 64 << 10;
/// As many addresses one name has in an answer.
const ADDRESSES_MAX: usize = 512;
/// As many networks a pod is looked for on.
const NETWORKS_MAX: usize = 256;
/// What podman lets stand behind a name.
const DOMAIN: &str = ".dns.podman";

/// The names that one pod can see.
pub(super) struct Names {
    state: PathBuf,
    pod: String,
}

/// How questions that nobody here answers are asked elsewhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// They are not: all networks of the pod lead nowhere.
    pub(super) nowhere: bool,
    /// Servers that its networks name.
    pub(super) servers: Vec<IpAddr>,
}

impl Names {
    pub(super) fn new(state: PathBuf, pod: String) -> Self {
        Names { state, pod }
    }

    /// The places of names of the pod's networks, and how many there are without any.
    fn networks(&self) -> (Vec<PathBuf>, usize) {
        let mut nameless = 0;
        let mut found = Vec::new();
        let entries = std::fs::read_dir(self.state.join("joined").join(&self.pod));
        for entry in entries.into_iter().flatten().flatten().take(NETWORKS_MAX) {
            let file = entry.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(name) = name else { continue };
            let dir = self.state.join("names").join(name);
            match dir.is_dir() {
                true => found.push(dir),
                false => nameless += 1,
            }
        }
        found.sort();
        (found, nameless)
    }

    /// The addresses of a name on the networks that the pod is on; `None`: nobody there has it.
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.strip_suffix(DOMAIN).unwrap_or(name);
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '?']) {
            return None;
        }
        let mut known = false;
        let mut all = Vec::new();
        for network in self.networks().0 {
            let entries = std::fs::read_dir(network.join("names").join(name));
            for entry in entries.into_iter().flatten().flatten() {
                for line in lines(&entry.path()) {
                    known = true;
                    if let Ok(ip) = line.parse()
                        && !all.contains(&ip)
                        && all.len() < ADDRESSES_MAX
                    {
                        all.push(ip);
                    }
                }
            }
        }
        known.then_some(all)
    }

    /// The names of an address there.
    pub(super) fn names(&self, ip: IpAddr) -> Vec<String> {
        let networks = self.networks().0;
        let file = |network: PathBuf| network.join("addresses").join(ip.to_string());
        networks
            .into_iter()
            .map(file)
            .flat_map(|file| lines(&file))
            .collect()
    }

    /// Is a name one that only containers can have?
    pub(super) fn is_ours(name: &str) -> bool {
        name.ends_with(DOMAIN)
    }

    /// Whom to ask for all else.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        let default = self
            .state
            .join("results")
            .join(format!("{}.json", self.pod));
        let (networks, nameless) = self.networks();
        let mut leads_out = nameless > 0 || default.exists();
        let mut servers = Vec::new();
        for network in networks {
            let settings = lines(&network.join("settings"));
            leads_out |= !settings.iter().any(|line| line == "internal");
            let named = settings
                .iter()
                .filter_map(|line| line.strip_prefix("server "));
            servers.extend(named.filter_map(|text| text.parse::<IpAddr>().ok()));
        }
        Elsewhere {
            nowhere: !leads_out,
            servers,
        }
    }
}

/// The lines of a file; none of one that is not there, or is no plain file.
fn lines(path: &Path) -> Vec<String> {
    let text = read_text(path, FILE_MAX).ok().flatten().unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The servers that the host asks: read anew each time, as they change with the network that it is on.
pub(super) fn of_the_host() -> Vec<IpAddr> {
    let text = base::file::read_linked(Path::new("/etc/resolv.conf"), FILE_MAX);
    let text = text.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
    });
    servers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_pod_sees_the_names_of_its_own_networks_alone() {
        let dir = std::env::temp_dir().join(format!("floe-names-{}", std::process::id()));
        let at = |path: &str| dir.join(path);
        write(&at("joined/p/red.json"), "{}");
        write(&at("names/red/names/web/a"), "10.1.0.2\nfd00::2\n");
        write(&at("names/red/names/web/b"), "10.1.0.3\n");
        write(&at("names/red/addresses/10.1.0.2"), "web\n");
        write(&at("names/red/settings"), "internal\nserver 1.1.1.1\n");
        write(&at("names/blue/names/db/a"), "10.2.0.2\n");
        let names = Names::new(dir.clone(), "p".into());
        assert_eq!(names.addresses("web").unwrap().len(), 3);
        assert_eq!(names.addresses("web.dns.podman").unwrap().len(), 3);
        for other in ["db", "", "..", "../../joined", "web/a", "a?b"] {
            assert_eq!(names.addresses(other), None, "{other}");
        }
        assert_eq!(names.names("10.1.0.2".parse().unwrap()), ["web"]);
        let elsewhere = names.elsewhere();
        assert!(elsewhere.nowhere && elsewhere.servers.len() == 1);
        write(&at("joined/p/blue.json"), "{}");
        assert_eq!(names.addresses("db").unwrap().len(), 1);
        assert!(!names.elsewhere().nowhere);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
