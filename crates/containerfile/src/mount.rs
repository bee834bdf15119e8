//! `RUN --mount`: fields with commas between them, once their variables are replaced.

use crate::error::Flaw;

/// The fields that there are.
const KEYS: [&str; 18] = [
    "type",
    "target",
    "source",
    "from",
    "readonly",
    "readwrite",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
    "relabel",
    "bind-propagation",
    "tmpcopyup",
    "chown",
];

/// What a mount of a `RUN` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What it is.
    pub kind: MountKind,
    /// Where it is in the container; relative to the working directory; `None`: its kind has a place of its own.
    pub target: Option<String>,
    /// May it be written to? What is written to a bind mount is thrown away.
    pub read_only: bool,
}

/// What a mount is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind {
        /// The stage, image or named context; `None`: the context.
        from: Option<String>,
        /// Path below its root.
        source: String,
    },
    /// A directory that later builds find again.
    Cache {
        /// Its name; `None`: its place.
        id: Option<String>,
        /// Who else may use it meanwhile.
        sharing: Sharing,
        /// The stage, image or named context that it begins with.
        from: Option<String>,
        /// Path below that one's root.
        source: String,
        /// Its mode when it is made.
        mode: u32,
        /// Its owner then.
        uid: u32,
        /// Its group then.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// The most bytes.
        size: Option<u64>,
    },
    /// A secret of the build.
    Secret {
        /// Its name.
        id: String,
        /// A variable that has it.
        env: Option<String>,
        /// Whether a build without it fails.
        required: bool,
        /// The mode of its file.
        mode: u32,
        /// The file's owner.
        uid: u32,
        /// The file's group.
        gid: u32,
    },
    /// An agent of ssh.
    Ssh {
        /// Its name.
        id: String,
        /// Whether a build without it fails.
        required: bool,
    },
}

/// Who may use a cache at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One after the other.
    Locked,
}

#[derive(Default)]
struct Fields {
    all: Vec<(&'static str, Option<String>)>,
}

impl Fields {
    fn parse(text: &str) -> Result<Fields, Flaw> {
        let mut fields = Fields::default();
        for field in csv(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.to_owned())),
                None => (field.trim(), None),
            };
            let key = key.to_ascii_lowercase();
            let long = match key.as_str() {
                "src" => "source",
                "dst" | "destination" => "target",
                "ro" => "readonly",
                "rw" => "readwrite",
                "z" | "U" => "relabel",
                other => other,
            };
            let known = KEYS.iter().find(|known| **known == long);
            let known = known.ok_or_else(|| {
                Flaw::new(format!("--mount has no field {key:?}")).among(&key, KEYS)
            })?;
            fields.all.push((known, value));
        }
        Ok(fields)
    }

    fn take(&mut self, key: &str) -> Option<Option<String>> {
        let mut found = None;
        self.all.retain_mut(|(known, value)| {
            let same = *known == key;
            if same {
                found = Some(value.take());
            }
            !same
        });
        found
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, Flaw> {
        match self.take(key) {
            None => Ok(None),
            Some(Some(value)) if !value.is_empty() => Ok(Some(value)),
            Some(_) => Err(Flaw::new(format!("--mount: {key} has no value"))),
        }
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, Flaw> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => match value.as_deref() {
                None | Some("true" | "1" | "") => Ok(Some(true)),
                Some("false" | "0") => Ok(Some(false)),
                Some(other) => Err(Flaw::new(format!(
                    "--mount: {key}={other} is neither true nor false"
                ))),
            },
        }
    }

    fn number(&mut self, key: &str, radix: u32) -> Result<Option<u32>, Flaw> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let number = u32::from_str_radix(&text, radix).ok();
        match number.filter(|number| radix != 8 || *number <= 0o7777) {
            Some(number) => Ok(Some(number)),
            None => Err(Flaw::new(format!(
                "--mount: {key}={text} is no number that it can be"
            ))),
        }
    }
}

impl Mount {
    /// Reads the value of `--mount`.
    ///
    /// # Errors
    /// A field that there is not, or not for this type, or with a value that it cannot have.
    pub fn parse(text: &str) -> Result<Mount, String> {
        Self::read(text).map_err(|flaw| match flaw.hint {
            Some(hint) => format!("{} ({hint})", flaw.reason),
            None => flaw.reason,
        })
    }

    pub(crate) fn read(text: &str) -> Result<Mount, Flaw> {
        let mut fields = Fields::parse(text)?;
        let kind = fields.text("type")?.unwrap_or_else(|| "bind".to_owned());
        let target = fields.text("target")?;
        let read_only = fields.flag("readonly")?;
        let writable = fields.flag("readwrite")?;
        let read_only = read_only.or(writable.map(|writable| !writable));
        // Labels of SELinux, which nothing here has.
        fields.take("relabel");
        let kind = match kind.as_str() {
            "bind" => MountKind::Bind {
                from: fields.text("from")?,
                source: fields.text("source")?.unwrap_or_else(|| "/".to_owned()),
            },
            "cache" => Self::cache(&mut fields)?,
            "tmpfs" => MountKind::Tmpfs {
                size: fields.text("size")?.map(|size| bytes(&size)).transpose()?,
            },
            "secret" => Self::secret(&mut fields, target.as_deref())?,
            "ssh" => MountKind::Ssh {
                id: fields.text("id")?.unwrap_or_else(|| "default".to_owned()),
                required: fields.flag("required")?.unwrap_or(false),
            },
            other => {
                let kinds = ["bind", "cache", "tmpfs", "secret", "ssh"];
                return Err(
                    Flaw::new(format!("--mount: there is no type {other:?}")).among(other, kinds)
                );
            }
        };
        if let Some((key, _)) = fields.all.first() {
            return Err(Flaw::new(format!(
                "--mount: {key} is not offered for {}",
                kind.word()
            )));
        }
        if target.is_none()
            && matches!(
                kind,
                MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. }
            )
        {
            return Err(Flaw::new(format!(
                "--mount of type {} needs a target",
                kind.word()
            )));
        }
        let read_only = read_only.unwrap_or(matches!(kind, MountKind::Bind { .. }));
        Ok(Mount {
            kind,
            target,
            read_only,
        })
    }

    fn cache(fields: &mut Fields) -> Result<MountKind, Flaw> {
        let sharing = match fields.text("sharing")?.as_deref() {
            None | Some("shared") => Sharing::Shared,
            Some("private") => Sharing::Private,
            Some("locked") => Sharing::Locked,
            Some(other) => {
                let reason =
                    format!("--mount: sharing={other} is none of shared, private and locked");
                return Err(Flaw::new(reason).among(other, ["shared", "private", "locked"]));
            }
        };
        Ok(MountKind::Cache {
            id: fields.text("id")?,
            sharing,
            from: fields.text("from")?,
            source: fields.text("source")?.unwrap_or_else(|| "/".to_owned()),
            mode: fields.number("mode", 8)?.unwrap_or(0o755),
            uid: fields.number("uid", 10)?.unwrap_or(0),
            gid: fields.number("gid", 10)?.unwrap_or(0),
        })
    }

    fn secret(fields: &mut Fields, target: Option<&str>) -> Result<MountKind, Flaw> {
        let id = fields.text("id")?.or(fields.text("source")?);
        let of_target = || {
            let name = target?.rsplit('/').find(|name| !name.is_empty())?;
            Some(name.to_owned())
        };
        let id = id.or_else(of_target);
        Ok(MountKind::Secret {
            id: id.ok_or_else(|| Flaw::new("--mount of type secret needs an id or a target"))?,
            env: fields.text("env")?,
            required: fields.flag("required")?.unwrap_or(false),
            mode: fields.number("mode", 8)?.unwrap_or(0o400),
            uid: fields.number("uid", 10)?.unwrap_or(0),
            gid: fields.number("gid", 10)?.unwrap_or(0),
        })
    }
}

impl MountKind {
    /// The word of its type.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            MountKind::Bind { .. } => "bind",
            MountKind::Cache { .. } => "cache",
            MountKind::Tmpfs { .. } => "tmpfs",
            MountKind::Secret { .. } => "secret",
            MountKind::Ssh { .. } => "ssh",
        }
    }
}

/// Fields with commas between them; one in double quotes may have a comma.
fn csv(text: &str) -> Result<Vec<String>, Flaw> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut();
        match (c, field) {
            ('"', Some(field)) if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => fields.push(String::new()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    match quoted {
        true => Err(Flaw::new("--mount: a quote is not closed")),
        false => Ok(fields),
    }
}

/// A size such as `64m`.
fn bytes(text: &str) -> Result<u64, Flaw> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(['b', 'i']);
    let (number, unit) = match number.strip_suffix(['k', 'm', 'g', 't']) {
        Some(number) => (number, &lower[number.len()..=number.len()]),
        None => (number, ""),
    };
    let shift = match unit {
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| Flaw::new(format!("--mount: size={text} is no size")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_every_type() {
        let bind = Mount::parse("target=/src,from=build,source=/out,rw").unwrap();
        assert_eq!(
            bind.kind,
            MountKind::Bind {
                from: Some("build".into()),
                source: "/out".into()
            }
        );
        assert!(!bind.read_only && Mount::parse("type=bind,dst=/x").unwrap().read_only);
        let cache =
            Mount::parse("type=cache,target=/c,id=go,sharing=locked,mode=0700,uid=1").unwrap();
        let MountKind::Cache {
            id,
            sharing,
            mode,
            uid,
            ..
        } = cache.kind
        else {
            panic!()
        };
        assert_eq!(
            (id.as_deref(), sharing, mode, uid),
            (Some("go"), Sharing::Locked, 0o700, 1)
        );
        let tmpfs = Mount::parse("type=tmpfs,target=/t,size=64m").unwrap();
        assert_eq!(
            tmpfs.kind,
            MountKind::Tmpfs {
                size: Some(64 << 20)
            }
        );
        let secret = Mount::parse("type=secret,target=/run/secrets/key,required").unwrap();
        let MountKind::Secret {
            id, required, mode, ..
        } = secret.kind
        else {
            panic!()
        };
        assert_eq!((id.as_str(), required, mode), ("key", true, 0o400));
        let comma = Mount::parse("type=bind,\"target=/a,b\"").unwrap();
        assert_eq!(comma.target.as_deref(), Some("/a,b"));
    }

    #[test]
    fn what_is_no_mount_says_why() {
        for (text, why) in [
            ("type=bnd,target=/x", "did you mean bind?"),
            ("type=bind,tagret=/x", "did you mean target?"),
            ("type=bind", "needs a target"),
            (
                "type=tmpfs,target=/x,sharing=locked",
                "not offered for tmpfs",
            ),
            ("type=cache,target=/x,sharing=all", "none of shared"),
            ("type=cache,target=/x,mode=9", "no number"),
            ("type=secret", "needs an id"),
            ("type=tmpfs,target=/t,size=x", "no size"),
            ("type=bind,target=/x,ro=maybe", "neither true nor false"),
            ("\"type=bind", "not closed"),
            ("type=bind,target=", "has no value"),
        ] {
            let error = Mount::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
