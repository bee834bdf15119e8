//! Huge pages.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::files::Files;
use crate::cgroup::Cgroup;
use crate::cgroup::error::Error;
use crate::cgroup::hierarchy::{Controller, Version};

/// Huge pages of one size, in bytes unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// In use.
    pub usage: u64,
    /// Most ever in use; `None` where it is not counted, as in v2.
    pub peak: Option<u64>,
    /// Times the limit was hit, a number.
    pub limit_hits: u64,
}

pub(super) fn read(
    cgroup: &Cgroup,
    files: &mut Files,
) -> Result<BTreeMap<String, HugetlbStats>, Error> {
    let mut all = BTreeMap::new();
    let Some(dir) = cgroup.dir_of(Controller::Hugetlb) else {
        return Ok(all);
    };
    for size in page_sizes() {
        let file = |end: &str| format!("hugetlb.{size}.{end}");
        let (usage, peak, limit_hits) = match dir.version() {
            Version::V1 => (
                files.number(&dir, &file("usage_in_bytes"))?,
                files.number(&dir, &file("max_usage_in_bytes"))?,
                files.number(&dir, &file("failcnt"))?,
            ),
            Version::V2 => {
                let usage = files.number(&dir, &file("current"))?;
                let events = files.table(&dir, &file("events"))?;
                (usage, None, events.map(|events| events.get("max")))
            }
        };
        if let Some(usage) = usage {
            let limit_hits = limit_hits.unwrap_or(0);
            let stats = HugetlbStats {
                usage,
                peak,
                limit_hits,
            };
            all.insert(size.clone(), stats);
        }
    }
    Ok(all)
}

/// The page sizes of this kernel, as the control files write them: found once.
fn page_sizes() -> &'static [String] {
    static SIZES: OnceLock<Vec<String>> = OnceLock::new();
    SIZES.get_or_init(find_page_sizes)
}

fn find_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| page_size(&name)).collect()
}

/// `hugepages-2048kB` is called 2MB.
fn page_size(name: &str) -> Option<String> {
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(match kib {
        0..1024 => format!("{kib}KB"),
        1024..0x10_0000 => format!("{}MB", kib >> 10),
        _ => format!("{}GB", kib >> 20),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn page_sizes_are_named_as_in_control_files() {
        let sizes = [
            "hugepages-64kB",
            "hugepages-2048kB",
            "hugepages-1048576kB",
            "other",
        ]
        .map(super::page_size);
        assert_eq!(
            sizes,
            [
                Some("64KB".into()),
                Some("2MB".into()),
                Some("1GB".into()),
                None
            ]
        );
    }
}
