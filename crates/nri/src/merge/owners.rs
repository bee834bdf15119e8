//! Who has set what: a field of a container, or an entry of a list or map of it, has one owner. A plugin that
//! takes away what another has set may set it itself, and nobody else may then.

use crate::api::{CompoundFieldOwners, Field, FieldOwners, OwningPlugins, removal, removed};
use crate::error::{Error, Result};

/// May `plugin` set what `owner` has?
fn check(owner: Option<&String>, plugin: &str, field: impl FnOnce() -> String) -> Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let taken_away_by = removed(owner);
    if taken_away_by == Some(plugin) {
        return Ok(());
    }
    Err(Error::Conflict {
        plugin: plugin.to_owned(),
        other: taken_away_by.unwrap_or(owner).to_owned(),
        field: field(),
    })
}

impl OwningPlugins {
    fn of(&mut self, container: &str) -> &mut FieldOwners {
        self.owners.entry(container.to_owned()).or_default()
    }

    fn entries(&mut self, container: &str, field: Field) -> &mut CompoundFieldOwners {
        let compound = &mut self.of(container).compound;
        compound.entry(field as i32).or_default()
    }

    /// The plugin sets a field.
    pub(crate) fn claim(&mut self, container: &str, field: Field, plugin: &str) -> Result<()> {
        let simple = &mut self.of(container).simple;
        check(simple.get(&(field as i32)), plugin, || format!("{field:?}"))?;
        simple.insert(field as i32, plugin.to_owned());
        Ok(())
    }

    /// The plugin sets an entry of a field.
    pub(crate) fn claim_entry(
        &mut self,
        container: &str,
        field: Field,
        entry: &str,
        plugin: &str,
    ) -> Result<()> {
        let owners = &mut self.entries(container, field).owners;
        check(owners.get(entry), plugin, || format!("{field:?} {entry:?}"))?;
        owners.insert(entry.to_owned(), plugin.to_owned());
        Ok(())
    }

    /// The plugin is one of those who add to a field.
    pub(crate) fn add(&mut self, container: &str, field: Field, plugin: &str) {
        let owners = self.of(container).simple.entry(field as i32).or_default();
        if !owners.is_empty() {
            owners.push(',');
        }
        owners.push_str(plugin);
    }

    /// The plugin takes a field away.
    pub(crate) fn clear(&mut self, container: &str, field: Field, plugin: &str) {
        let simple = &mut self.of(container).simple;
        simple.insert(field as i32, removal(plugin));
    }

    /// The plugin takes an entry of a field away.
    pub(crate) fn clear_entry(&mut self, container: &str, field: Field, entry: &str, plugin: &str) {
        let owners = &mut self.entries(container, field).owners;
        owners.insert(entry.to_owned(), removal(plugin));
    }

    /// Who has set a field.
    pub(crate) fn owner(&self, container: &str, field: Field) -> Option<&str> {
        let simple = &self.owners.get(container)?.simple;
        simple.get(&(field as i32)).map(String::as_str)
    }

    /// Who has set which entries of a field.
    pub(crate) fn owners_of_entries(
        &self,
        container: &str,
        field: Field,
    ) -> impl Iterator<Item = (&str, &str)> {
        let compound = self.owners.get(container).map(|owners| &owners.compound);
        let entries = compound.and_then(|compound| compound.get(&(field as i32)));
        let entries = entries.into_iter().flat_map(|entries| &entries.owners);
        entries.map(|(entry, owner)| (entry.as_str(), owner.as_str()))
    }
}
