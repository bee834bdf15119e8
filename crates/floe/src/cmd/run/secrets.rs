//! `--secret` of `floe run` and `floe create`: which secrets a container is given, and where it finds them.

use std::path::{Path, PathBuf};

use engine::Engine;
use engine::secret::{SecretPlace, SecretUse};

use crate::cmd::secret::find;
use crate::failure::Failure;

/// Where files are whose place nobody has said.
const DIRECTORY: &str = "/run/secrets";

/// `NAME[,type=mount|env][,target=…][,uid=…][,gid=…][,mode=…]`, as podman has it.
pub(super) fn parse(engine: &Engine, text: &str) -> Result<SecretUse, Failure> {
    let wrong = |why: String| Failure::new(format!("--secret {text:?}: {why}"));
    let (mut source, mut is_variable, mut target) = (None, false, None);
    let (mut uid, mut gid, mut mode) = (None, None, None);
    for (place, option) in text.split(',').enumerate() {
        if place == 0 && !option.contains('=') {
            source = Some(option);
            continue;
        }
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let number = |radix| {
            u32::from_str_radix(value, radix).map_err(|_| format!("{key}={value} is no number"))
        };
        match key {
            "source" => source = Some(value),
            "type" => match value {
                "mount" => is_variable = false,
                "env" => is_variable = true,
                _ => return Err(wrong(format!("type {value} is invalid"))),
            },
            "target" => target = Some(value),
            "uid" | "UID" => uid = Some(number(10).map_err(wrong)?),
            "gid" | "GID" => gid = Some(number(10).map_err(wrong)?),
            "mode" => mode = Some(number(8).map_err(wrong)?),
            _ => return Err(wrong(format!("option {key} is invalid"))),
        }
    }
    let source = source.ok_or_else(|| wrong("no source found".to_owned()))?;
    if is_variable && (uid.is_some() || gid.is_some() || mode.is_some()) {
        return Err(wrong("uid, gid and mode are for type=mount".to_owned()));
    }
    let secret = find(engine, source)?;
    let place = match is_variable {
        true => SecretPlace::Variable(variable(target.unwrap_or(&secret.name)).map_err(wrong)?),
        false => SecretPlace::File {
            path: place(target.unwrap_or(&secret.name)),
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(0),
            mode: mode.unwrap_or(0o444) & 0o7777,
        },
    };
    Ok(SecretUse {
        id: secret.id,
        name: secret.name,
        place,
    })
}

fn variable(name: &str) -> Result<String, String> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err(format!("{name:?} is no name of a variable")),
        false => Ok(name.to_owned()),
    }
}

/// A relative path is below the directory of secrets.
fn place(target: &str) -> PathBuf {
    Path::new(DIRECTORY).join(target)
}
