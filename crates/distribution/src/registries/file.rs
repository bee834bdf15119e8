//! One registries.conf file: TOML to checked values, and a warning for each key that is not known.
//!
//! Must never pass over a value it does not understand; an unknown key is only warned about.

use std::collections::BTreeMap;
use std::path::Path;

use image::Reference;
use image::reference::{is_qualified, with_small_host};
use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::{Mirror, PullFromMirror, RegistriesFlaw, Registry, ShortNameMode};
use crate::client::warn_of;
use crate::error::{Error, Result};

/// What one file says; `None` where it says nothing.
pub(super) struct Parsed {
    pub(super) search: Option<Vec<String>>,
    pub(super) mode: Option<ShortNameMode>,
    pub(super) credential_helpers: Option<Vec<String>>,
    pub(super) registries: Vec<Registry>,
    /// An alias to nothing removes the one of an earlier file.
    pub(super) aliases: BTreeMap<String, Option<Reference>>,
}

const TOP_KEYS: &[&str] = &[
    "unqualified-search-registries",
    "credential-helpers",
    "short-name-mode",
    "registry",
    "aliases",
    "additional-layer-store-auth-helper",
];
const REGISTRY_KEYS: &[&str] = &[
    "prefix",
    "location",
    "insecure",
    "blocked",
    "mirror-by-digest-only",
    "mirror",
];
const MIRROR_KEYS: &[&str] = &["location", "insecure", "pull-from-mirror"];

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct RawFile {
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    short_name_mode: Option<String>,
    registry: Vec<RawRegistry>,
    aliases: BTreeMap<String, String>,
    registries: Option<toml::Table>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct RawRegistry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct RawMirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

/// Parses `text`; `path` is only for messages.
pub(super) fn parse(path: &Path, text: &str) -> Result<Parsed> {
    let syntax = |source| Error::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let raw: RawFile = toml::from_str(text).map_err(syntax)?;
    for (line, key) in unknown_keys(&DeTable::parse(text).map_err(syntax)?.into_inner(), text) {
        warn_of(path, line, &format!("unknown key {key:?} is ignored"));
    }
    raw.check().map_err(|flaw| Error::Registries {
        path: path.to_owned(),
        flaw,
    })
}

impl RawFile {
    fn check(self) -> Result<Parsed, RegistriesFlaw> {
        if self.registries.is_some() {
            return Err(RegistriesFlaw::VersionOne);
        }
        let search = self.unqualified_search_registries;
        let search = search
            .map(|list| list.iter().map(|host| location(host)).collect())
            .transpose()?;
        let mode = self
            .short_name_mode
            .as_deref()
            .filter(|mode| !mode.is_empty())
            .map(mode)
            .transpose()?;
        let mut registries: BTreeMap<String, Registry> = BTreeMap::new();
        for registry in self.registry {
            let registry = registry.check()?;
            if let Some(first) = registries.get(&registry.prefix) {
                conflict(first, &registry)?;
            }
            registries.insert(registry.prefix.clone(), registry);
        }
        let aliases = self
            .aliases
            .into_iter()
            .map(alias)
            .collect::<Result<_, _>>()?;
        Ok(Parsed {
            search,
            mode,
            credential_helpers: self.credential_helpers,
            registries: registries.into_values().collect(),
            aliases,
        })
    }
}

impl RawRegistry {
    fn check(self) -> Result<Registry, RegistriesFlaw> {
        let place = if self.location.is_empty() {
            None
        } else {
            Some(location(&self.location)?)
        };
        let prefix = match (self.prefix.is_empty(), &place) {
            (true, Some(place)) => place.clone(),
            (true, None) => return Err(RegistriesFlaw::Nameless),
            (false, _) => prefix(&self.prefix)?,
        };
        let explicit = self
            .mirror
            .iter()
            .any(|mirror| !mirror.pull_from_mirror.is_empty());
        if self.mirror_by_digest_only && explicit {
            return Err(RegistriesFlaw::MirrorModes(prefix));
        }
        let wildcard = prefix.starts_with("*.");
        Ok(Registry {
            location: place.or_else(|| (!wildcard).then(|| prefix.clone())),
            prefix,
            insecure: self.insecure,
            blocked: self.blocked,
            mirror_by_digest_only: self.mirror_by_digest_only,
            mirrors: self
                .mirror
                .into_iter()
                .map(RawMirror::check)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl RawMirror {
    fn check(self) -> Result<Mirror, RegistriesFlaw> {
        let pull = match self.pull_from_mirror.as_str() {
            "" | "all" => PullFromMirror::All,
            "digest-only" => PullFromMirror::DigestOnly,
            "tag-only" => PullFromMirror::TagOnly,
            _ => {
                let allowed = "all, digest-only, tag-only";
                return Err(RegistriesFlaw::Value {
                    key: "pull-from-mirror",
                    value: self.pull_from_mirror,
                    allowed,
                });
            }
        };
        Ok(Mirror {
            location: location(&self.location)?,
            insecure: self.insecure,
            pull,
        })
    }
}

/// Checks `host[:port][/path]`, and drops slashes at its end.
fn location(text: &str) -> Result<String, RegistriesFlaw> {
    let trimmed = text.trim_end_matches('/');
    if trimmed.contains("://") {
        return Err(RegistriesFlaw::Scheme(text.to_owned()));
    }
    if trimmed.contains('*') {
        return Err(RegistriesFlaw::Wildcard(text.to_owned()));
    }
    // A repository below it shows whether it can hold one; `myhost` alone would read as Docker Hub's.
    let below = format!("{trimmed}/x");
    match Reference::parse(&below) {
        Ok(reference) if is_qualified(&below) && reference.tag().is_none() => {
            Ok(with_small_host(trimmed))
        }
        _ => Err(RegistriesFlaw::Location(text.to_owned())),
    }
}

/// Checks a prefix: a location, `*.domain`, or a whole reference with tag or digest.
fn prefix(text: &str) -> Result<String, RegistriesFlaw> {
    if let Some(domain) = text.strip_prefix("*.") {
        location(domain).map_err(|_| RegistriesFlaw::Wildcard(text.to_owned()))?;
        return Ok(with_small_host(text));
    }
    let small = with_small_host(text);
    let whole = is_qualified(text)
        && Reference::parse(text).is_ok_and(|reference| reference.to_string() == small);
    if whole { Ok(small) } else { location(text) }
}

fn mode(text: &str) -> Result<ShortNameMode, RegistriesFlaw> {
    match text {
        "disabled" => Ok(ShortNameMode::Disabled),
        "permissive" => Ok(ShortNameMode::Permissive),
        "enforcing" => Ok(ShortNameMode::Enforcing),
        other => {
            let allowed = "disabled, permissive, enforcing";
            Err(RegistriesFlaw::Value {
                key: "short-name-mode",
                value: other.to_owned(),
                allowed,
            })
        }
    }
}

fn conflict(first: &Registry, second: &Registry) -> Result<(), RegistriesFlaw> {
    let key = if first.insecure != second.insecure {
        "insecure"
    } else if first.blocked != second.blocked {
        "blocked"
    } else {
        return Ok(());
    };
    Err(RegistriesFlaw::Conflict {
        prefix: first.prefix.clone(),
        key,
    })
}

fn alias((name, target): (String, String)) -> Result<(String, Option<Reference>), RegistriesFlaw> {
    let bare = |reference: &Reference| reference.tag().is_none() && reference.digest().is_none();
    let short = !is_qualified(&name) && Reference::parse(&name).is_ok_and(|name| bare(&name));
    if !short {
        return Err(RegistriesFlaw::AliasName(name));
    }
    if target.is_empty() {
        return Ok((name, None));
    }
    match Reference::parse(&target) {
        Ok(reference) if is_qualified(&target) && bare(&reference) => Ok((name, Some(reference))),
        _ => Err(RegistriesFlaw::AliasTarget { name, target }),
    }
}

/// The keys that nothing here reads, with their lines.
fn unknown_keys(table: &DeTable<'_>, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut walk = vec![(table, TOP_KEYS)];
    while let Some((table, known)) = walk.pop() {
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let line = text[..key.span().start.min(text.len())]
                    .matches('\n')
                    .count()
                    + 1;
                found.push((line, name.to_owned()));
            }
            let inner = match name {
                "registry" => REGISTRY_KEYS,
                "mirror" => MIRROR_KEYS,
                _ => continue,
            };
            if let DeValue::Array(tables) = value.get_ref() {
                let tables = tables.iter().filter_map(|entry| entry.get_ref().as_table());
                walk.extend(tables.map(|table| (table, inner)));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_found_with_their_lines() {
        let text = "colour = 1\n[[registry]]\nlocation = \"a.b\"\nsize = 3\n[[registry.mirror]]\nlocation = \"c.d\"\n\
                    insecur = true\n[aliases]\n\"x\" = \"a.b/x\"\n";
        let table = DeTable::parse(text).unwrap().into_inner();
        let expected = [(1, "colour"), (4, "size"), (7, "insecur")];
        let found = unknown_keys(&table, text);
        assert_eq!(
            found
                .iter()
                .map(|(line, key)| (*line, key.as_str()))
                .collect::<Vec<_>>(),
            expected
        );
    }
}
