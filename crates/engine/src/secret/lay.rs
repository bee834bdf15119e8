//! What a container has of secrets: copies of its own, beside its writable layer, made with it and gone with it. So it
//! starts again with what it was given, after the node's start too, whatever has become of the secret.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base::file::{Lasts, replace};
use runtime::spec::{BinaryVariable, Mount, Process, Spec};

use super::{MAX_DATA, SecretPlace, SecretUse};
use crate::container::record::ContainerRecord;
use crate::disk;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Has config.json show them.
    ///
    /// # Errors
    /// A secret that is gone when the container is made, a variable that cannot have it, or what cannot be written.
    pub(crate) fn lay_secrets(&self, record: &ContainerRecord, config: &mut Spec) -> Result<()> {
        let Some(extras) = record.spec.extras.as_deref() else {
            return Ok(());
        };
        if extras.secrets.is_empty() {
            return Ok(());
        }
        let root = &self.config().root_table.root;
        let dir = root.join("containers").join(&record.id).join("secrets");
        disk::make_dir(&dir)?;
        for (number, used) in extras.secrets.iter().enumerate() {
            let file = dir.join(number.to_string());
            self.copy_secret(used, &file)?;
            match &used.place {
                SecretPlace::File { path, .. } => config.mounts.push(Mount {
                    destination: path.clone(),
                    kind: Some("bind".into()),
                    source: Some(file),
                    options: ["bind", "ro", "nosuid", "nodev", "noexec", "rprivate"]
                        .map(str::to_owned)
                        .to_vec(),
                    ..Mount::default()
                }),
                SecretPlace::Variable(name) => {
                    if let Some(process) = &mut config.process {
                        set(process, name, &read(&file)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the container's copy, unless it has one.
    fn copy_secret(&self, used: &SecretUse, file: &Path) -> Result<()> {
        if file.exists() {
            return Ok(());
        }
        let data = self.secret_data(&used.id)?;
        let (owner, mode) = match used.place {
            SecretPlace::File { uid, gid, mode, .. } => (Some((uid, gid)), mode),
            SecretPlace::Variable(_) => (None, 0o600),
        };
        // It has its name once all is as it should be: what is there is not looked at again.
        let new = file.with_extension("new");
        replace(&new, &data, 0o600, Lasts::UntilBoot).map_err(Error::io("write", &new))?;
        if let Some((uid, gid)) = owner {
            let given = std::os::unix::fs::chown(&new, Some(uid), Some(gid));
            given.map_err(Error::io("give", &new))?;
        }
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&new, mode).map_err(Error::io("change the mode of", &new))?;
        std::fs::rename(&new, file).map_err(Error::io("rename", &new))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let read = base::file::read_bounded(file, MAX_DATA as u64);
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let read = read.and_then(|bytes| bytes.ok_or_else(gone));
    read.map_err(Error::io("read", file))
}

/// Sets a variable of the process.
fn set(process: &mut Process, name: &str, value: &[u8]) -> Result<()> {
    if value.contains(&0) {
        let reason = "a variable has no NUL: show the secret as a file".to_owned();
        return Err(Error::invalid(format!("secret for {name}"), reason));
    }
    let begin = format!("{name}=");
    process.env.retain(|entry| !entry.starts_with(&begin));
    match std::str::from_utf8(value) {
        Ok(text) => process.env.push(begin + text),
        Err(_) => process.binary_env.push(BinaryVariable {
            name: name.to_owned(),
            value: value.to_vec(),
        }),
    }
    Ok(())
}
