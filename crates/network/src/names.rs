//! Who has which name on a network that people have made, as files that the pods' resolvers read at every question
//! (`floe-runtime resolve`). There is a file for each name of each pod, so that no two pods ever write the same one and
//! nothing is locked.
//!
//! ```text
//! names/NETWORK/settings             `internal`, and `server ADDRESS`, one a line
//! names/NETWORK/names/NAME/POD       the pod's addresses, one a line
//! names/NETWORK/addresses/ADDRESS    the names of whoever has it, one a line
//! names/NETWORK/pods/POD             the pod's names, one a line: what is to be taken back
//! names/NETWORK/new/POD              what the pod's engine is writing
//! ```

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::file::read_text;

use crate::{Error, Network, OwnNetwork, Result};

/// As many bytes as the names of one pod have.
const FILE_MAX: u64 = 64 << 10;
/// The longest name that a message can have.
const NAME_MAX: usize = 253;
/// As often is a directory made that others remove meanwhile.
const ATTEMPTS: usize = 100;
/// Where a pod's files are before they have their names.
const NEW: &str = "new";

impl Network {
    fn names_of(&self, network: &str) -> PathBuf {
        self.config().state_dir.join("names").join(network)
    }

    /// Where names and the networks of pods are told.
    pub fn names_dir(&self) -> &Path {
        &self.config().state_dir
    }

    /// Says which names a pod has on a network from now on. What is no name of DNS is passed over. Names that it had
    /// and has no longer are taken back.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn tell_names(
        &self,
        network: &OwnNetwork,
        servers: &[IpAddr],
        id: &str,
        names: &[String],
        ips: &[IpAddr],
    ) -> Result<()> {
        let dir = self.names_of(&network.name);
        let mut all: Vec<String> = Vec::new();
        for name in names.iter().map(|name| name.to_ascii_lowercase()) {
            if is_name(&name) && !all.contains(&name) {
                all.push(name);
            }
        }
        let mut settings = String::new();
        if network.internal {
            settings.push_str("internal\n");
        }
        for server in servers {
            settings.push_str(&format!("server {server}\n"));
        }
        let former = names_told(&dir, id)?;
        write(&dir, id, &dir.join("settings"), &settings)?;
        // First what is to be taken back: a kill leaves nothing that nobody knows of.
        let both = former.iter().chain(&all).map(|name| format!("{name}\n"));
        write(
            &dir,
            id,
            &dir.join("pods").join(id),
            &both.collect::<String>(),
        )?;
        let text: String = ips.iter().map(|ip| format!("{ip}\n")).collect();
        for name in &all {
            write(&dir, id, &dir.join("names").join(name).join(id), &text)?;
        }
        let text: String = all.iter().map(|name| format!("{name}\n")).collect();
        for ip in ips {
            write(&dir, id, &dir.join("addresses").join(ip.to_string()), &text)?;
        }
        for name in former.iter().filter(|name| !all.contains(name)) {
            take_back(&dir, name, id)?;
        }
        write(&dir, id, &dir.join("pods").join(id), &text)
    }

    /// Takes back all names that a pod has on a network; it may have none. Its addresses must still be its own.
    pub(crate) fn forget_names(&self, network: &str, id: &str) -> Result<()> {
        let dir = self.names_of(network);
        let names = names_told(&dir, id)?;
        let mut ips = Vec::new();
        for name in &names {
            let text = read(&dir.join("names").join(name).join(id))?;
            ips.extend(text.lines().filter_map(|line| line.parse::<IpAddr>().ok()));
            take_back(&dir, name, id)?;
        }
        for ip in ips {
            remove(&dir.join("addresses").join(ip.to_string()))?;
        }
        remove(&dir.join(NEW).join(id))?;
        remove(&dir.join("pods").join(id))
    }

    /// Removes everything that is told of a network.
    pub(crate) fn forget_network(&self, network: &str) -> Result<()> {
        let dir = self.names_of(network);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::file("remove", dir)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Letters, digits, hyphens and underscores between dots: no way out of a directory, and nothing that DNS has not.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    name.len() <= NAME_MAX && name.split('.').all(is_label)
}

fn names_told(dir: &Path, id: &str) -> Result<Vec<String>> {
    let text = read(&dir.join("pods").join(id))?;
    let names = text.lines().filter(|name| is_name(name));
    Ok(names.map(str::to_owned).collect())
}

fn take_back(dir: &Path, name: &str, id: &str) -> Result<()> {
    let of_name = dir.join("names").join(name);
    remove(&of_name.join(id))?;
    // Unless another pod has it as well.
    let _ = fs::remove_dir(&of_name);
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let text = read_text(path, FILE_MAX).map_err(Error::file("read", path))?;
    Ok(text.unwrap_or_default())
}

/// Writes a file of the pod's whose directory may be missing, or go with the last name in it at any moment. What a kill
/// leaves half written is in a place of the pod's own, and nobody takes it for a name.
fn write(dir: &Path, id: &str, path: &Path, text: &str) -> Result<()> {
    let new = dir.join(NEW).join(id);
    for _ in 0..ATTEMPTS {
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
        match written {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            written => return written.map_err(Error::file("write", path)),
        }
        for dir in [new.parent(), path.parent()].into_iter().flatten() {
            fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        }
    }
    Err(Error::file("write", path)(ErrorKind::NotFound.into()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_files_of_their_own_directory() {
        for good in ["web", "a.b", "a_b-c", "0123456789ab"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", ".", "..", "a/b", "a..b", ".a", "a b", "\u{fc}", &long] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
