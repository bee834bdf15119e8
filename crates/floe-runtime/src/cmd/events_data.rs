//! The figures of `events` in the words of runc's document, which exporters parse. Only renames
//! what the runtime library reads; what runc leaves out when it is zero is left out.

use runtime::cgroup::{Cgroup, DetailedStats, MemoryUse, Stats};
use serde_json::{Map, Value, json};

use super::Failure;

/// The `data` of a `stats` event.
pub(super) fn data(cgroup: &Cgroup) -> Result<Value, Failure> {
    let (stats, detail) = (cgroup.stats()?, cgroup.detailed_stats()?);
    Ok(json!({
        "cpu": cpu(&stats, &detail),
        "cpuset": cpuset(&detail),
        "memory": {
            "cache": stats.memory.map_or(0, |memory| memory.cache),
            "usage": memory(detail.memory),
            "swap": memory(detail.swap),
            "kernel": memory(detail.kernel),
            "kernelTCP": memory(detail.kernel_tcp),
            "raw": detail.memory_stat,
        },
        "pids": nonzero([
            ("current", stats.pids.map_or(0, |pids| pids.current)),
            ("limit", stats.pids.and_then(|pids| pids.limit).unwrap_or(0)),
        ]),
        "blkio": blkio(&stats),
        "hugetlb": hugetlb(&stats),
        "intel_rdt": {},
        "network_interfaces": null,
    }))
}

fn cpu(stats: &Stats, detail: &DetailedStats) -> Value {
    let cpu = stats.cpu.unwrap_or_default();
    let mut usage = nonzero([("total", cpu.usage)]);
    let lists = [
        ("percpu", &detail.per_cpu),
        ("percpu_kernel", &detail.per_cpu_kernel),
        ("percpu_user", &detail.per_cpu_user),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            usage.insert(name.to_owned(), json!(list));
        }
    }
    usage.insert("kernel".to_owned(), json!(cpu.system));
    usage.insert("user".to_owned(), json!(cpu.user));
    let throttling = nonzero([
        ("periods", cpu.periods),
        ("throttledPeriods", cpu.throttled_periods),
        ("throttledTime", cpu.throttled),
    ]);
    json!({ "usage": usage, "throttling": throttling })
}

fn cpuset(detail: &DetailedStats) -> Value {
    let mut all = Map::new();
    for (name, list) in [("cpus", &detail.cpus), ("mems", &detail.mems)] {
        if !list.is_empty() {
            all.insert(name.to_owned(), json!(list));
        }
    }
    for name in [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ] {
        let value = detail.cpuset.get(name).copied().unwrap_or(0);
        all.insert(name.to_owned(), json!(value));
    }
    Value::Object(all)
}

fn memory(of: MemoryUse) -> Value {
    let mut all = nonzero([("usage", of.usage), ("max", of.peak)]);
    all.insert("limit".to_owned(), json!(of.limit));
    all.insert("failcnt".to_owned(), json!(of.limit_hits));
    Value::Object(all)
}

fn blkio(stats: &Stats) -> Value {
    let mut all = Map::new();
    let (mut bytes, mut requests) = (Vec::new(), Vec::new());
    for ((major, minor), io) in &stats.io {
        let entry = |op: &str, value: u64| {
            let mut entry = json!({ "major": major, "minor": minor, "op": op });
            if value > 0 {
                entry["value"] = json!(value);
            }
            entry
        };
        bytes.extend([
            entry("Read", io.read_bytes),
            entry("Write", io.write_bytes),
            entry("Discard", io.discard_bytes),
        ]);
        requests.extend([
            entry("Read", io.reads),
            entry("Write", io.writes),
            entry("Discard", io.discards),
        ]);
    }
    if !bytes.is_empty() {
        all.insert("ioServiceBytesRecursive".to_owned(), json!(bytes));
        all.insert("ioServicedRecursive".to_owned(), json!(requests));
    }
    Value::Object(all)
}

fn hugetlb(stats: &Stats) -> Value {
    let sizes = stats.hugetlb.iter().map(|(size, huge)| {
        let mut figures = nonzero([("usage", huge.usage), ("max", huge.peak.unwrap_or(0))]);
        figures.insert("failcnt".to_owned(), json!(huge.limit_hits));
        (size.clone(), Value::Object(figures))
    });
    Value::Object(sizes.collect())
}

/// Fields that are left out when they are zero.
fn nonzero<const N: usize>(fields: [(&str, u64); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect()
}
