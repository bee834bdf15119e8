//! What annotations of a pod change of the pod itself (CRI-O's, `crate::annotations`): the size of its /dev/shm,
//! and a user namespace whose ids floe chooses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::PodRecord;
use super::{IdMapping, PodSpec, UserIds, UserMode};
use crate::annotations::{self, Asked, SHM_SIZE, USERNS_MODE};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::node::IdRange;

/// How many ids a user namespace has where nobody says.
const USUAL_IDS: u32 = 65_536;

/// Held from the choice of ids until a record says whose they are.
static CHOOSING: Mutex<()> = Mutex::new(());

impl Engine {
    /// Looks at the annotations before anything is made, and names those on which floe does not act.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub(super) fn check_annotations(&self, spec: &PodSpec) -> Result<()> {
        let asked = self.annotations(spec);
        self.shm_size(spec)?;
        if let Some((key, mode)) = asked.get(USERNS_MODE) {
            size_of(key, mode)?;
        }
        super::link_logs::check(&asked, spec)?;
        for (annotation, instead) in asked.unbuilt() {
            let (pod, namespace) = (&spec.name, &spec.namespace);
            tracing::warn!(%pod, %namespace, "the annotation {annotation} has no effect: {instead}");
        }
        Ok(())
    }

    /// The annotations of a pod on which the engine acts.
    pub(super) fn annotations<'a>(&'a self, spec: &'a PodSpec) -> Asked<'a> {
        let entry = self.runtime_entry(&spec.runtime_handler);
        Asked::new(&self.config().runtime, entry, &spec.annotations)
    }

    /// The size of the pod's /dev/shm in bytes.
    ///
    /// # Errors
    /// An annotation that is no size.
    pub(super) fn shm_size(&self, spec: &PodSpec) -> Result<u64> {
        if let Some(size) = spec.shm_size {
            return Ok(size);
        }
        match self.annotations(spec).get(SHM_SIZE) {
            None => Ok(self.config().runtime.shm_size),
            Some((key, text)) => base::size::quantity(text)
                .filter(|size| *size > 0)
                .ok_or_else(|| {
                    annotations::wrong(key, format!("{text:?} is no size, such as 64Mi"))
                }),
        }
    }

    /// Gives the pod ids that no other has, if its annotation asks for a user namespace and its request says
    /// nothing of one. They are its own once its record is written: until then the guard is held.
    ///
    /// # Errors
    /// No such ids are left.
    pub(super) fn choose_users(
        &self,
        spec: &mut PodSpec,
    ) -> Result<Option<MutexGuard<'static, ()>>> {
        let Some((key, mode)) = self.annotations(spec).get(USERNS_MODE) else {
            return Ok(None);
        };
        if spec.namespaces.users != UserMode::Unsaid {
            return Ok(None);
        }
        let size = size_of(key, mode)?;
        let key = key.to_owned();
        let choosing = CHOOSING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = Vec::new();
        for id in self.layout().pod_ids()? {
            if let Ok(Some(pod)) = PodRecord::read(&self.layout().pod(&id))
                && let Some(ids) = pod.spec.namespaces.users.ids()
            {
                let maps = ids.uids.iter().chain(&ids.gids);
                used.extend(maps.map(|map| IdRange {
                    first: map.host_id,
                    count: map.size,
                }));
            }
        }
        let node = self.node().ids();
        let first = free(&node.uids, &node.gids, &used, size).ok_or_else(|| {
            let reason = format!(
                "/etc/subuid and /etc/subgid have no {size} ids for \"containers\" that no pod has"
            );
            annotations::wrong(&key, reason)
        })?;
        let map = vec![IdMapping {
            container_id: 0,
            host_id: first,
            size,
        }];
        spec.namespaces.users = UserMode::Pod(UserIds {
            uids: map.clone(),
            gids: map,
        });
        Ok(Some(choosing))
    }
}

/// How many ids `auto` or `auto:size=N` asks for.
fn size_of(key: &str, mode: &str) -> Result<u32> {
    let wrong =
        |reason: &str| Err::<u32, Error>(annotations::wrong(key, format!("{mode:?} {reason}")));
    let (mode_name, options) = mode.split_once(':').unwrap_or((mode, ""));
    if mode_name != "auto" {
        return wrong("is not \"auto\", the only mode that is built");
    }
    let mut size = USUAL_IDS;
    for option in options.split(';').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", number)) => match number.parse() {
                Ok(number) if number > 0 => size = number,
                _ => return wrong("has no size that is a number of ids"),
            },
            _ => return wrong("has an option other than \"size\", the only one that is built"),
        }
    }
    Ok(size)
}

/// The first of `size` ids that lie in a range of each list and in none that is used.
fn free(uids: &[IdRange], gids: &[IdRange], used: &[IdRange], size: u32) -> Option<u32> {
    let end = |range: &IdRange| u64::from(range.first) + u64::from(range.count);
    let until = |first: u32| u64::from(first) + u64::from(size);
    let fits = |first: u32| {
        let inside = |range: &IdRange| first >= range.first && until(first) <= end(range);
        let apart = |range: &IdRange| {
            end(range) <= u64::from(first) || until(first) <= u64::from(range.first)
        };
        uids.iter().any(inside) && gids.iter().any(inside) && used.iter().all(apart)
    };
    // A free range begins where another or a used one ends.
    let begins = uids.iter().chain(gids).map(|range| u64::from(range.first));
    let mut begins: Vec<u64> = begins.chain(used.iter().map(end)).collect();
    begins.sort_unstable();
    let mut begins = begins
        .into_iter()
        .filter_map(|first| u32::try_from(first).ok());
    begins.find(|first| *first > 0 && fits(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, count: u32) -> IdRange {
        IdRange { first, count }
    }

    #[test]
    fn ids_are_the_first_that_both_lists_have_and_nobody_uses() {
        let uids = [range(100, 10), range(1000, 200)];
        let gids = [range(1050, 500)];
        assert_eq!(free(&uids, &gids, &[], 50), Some(1050));
        assert_eq!(free(&uids, &gids, &[range(1050, 50)], 50), Some(1100));
        assert_eq!(free(&uids, &gids, &[range(1099, 2)], 50), Some(1101));
        assert_eq!(
            free(&uids, &gids, &[range(1050, 50), range(1100, 60)], 50),
            None
        );
        assert_eq!(free(&uids, &gids, &[], 151), None);
        assert_eq!(free(&[], &gids, &[], 1), None);
        let top = [range(u32::MAX - 1, 1)];
        assert_eq!(free(&top, &top, &[], 1), Some(u32::MAX - 1));
        assert_eq!(free(&top, &top, &[], 2), None);
    }

    #[test]
    fn a_mode_that_is_not_built_is_refused_by_its_name() {
        assert_eq!(size_of("k", "auto").unwrap(), USUAL_IDS);
        assert_eq!(size_of("k", "auto:size=1024").unwrap(), 1024);
        for bad in [
            "",
            "private",
            "auto:keep-id=true",
            "auto:size=0",
            "auto:size",
        ] {
            let error = size_of("userns-mode.crio.io", bad).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("annotations[userns-mode.crio.io]"),
                "{error}"
            );
        }
    }
}
