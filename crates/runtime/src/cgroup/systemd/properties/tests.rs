//! What each limit becomes.

use super::*;

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

/// `name=value`, in order; bytes in hexadecimal.
fn shown(properties: Vec<Property>) -> Vec<String> {
    let show = |(name, value): Property| match value {
        Value::Fixed(_, u64::MAX) => format!("{name}=infinity"),
        Value::Fixed(_, bits) => format!("{name}={bits}"),
        Value::Text(_, text) => format!("{name}={text}"),
        Value::Array(_, bytes) => {
            let byte = |byte| match byte {
                Value::Fixed(_, bits) => format!("{bits:02x}"),
                other => format!("{other:?}"),
            };
            format!("{name}={}", bytes.into_iter().map(byte).collect::<String>())
        }
        other => format!("{name}={other:?}"),
    };
    properties.into_iter().map(show).collect()
}

fn of(json: &str, unified: bool, version: u32) -> Vec<String> {
    shown(limits(&resources(json), unified, &mut || Ok(version)).unwrap())
}

const SOME: &str = r#"{
    "memory": { "limit": 1048576, "reservation": 4096, "swap": 3145728 },
    "cpu": { "shares": 1024, "quota": 50000, "period": 200000, "cpus": "0-1,9", "mems": "0" },
    "pids": { "limit": 7 },
    "blockIO": { "weight": 500 }
}"#;

#[test]
fn limits_are_said_in_the_words_of_v2() {
    assert_eq!(
        of(SOME, true, 252),
        [
            "MemoryMax=1048576",
            "MemoryLow=4096",
            "MemorySwapMax=2097152",
            "CPUWeight=100",
            "CPUQuotaPeriodUSec=200000",
            "CPUQuotaPerSecUSec=250000",
            "AllowedCPUs=0302",
            "AllowedMemoryNodes=01",
            "TasksMax=7",
        ]
    );
}

#[test]
fn limits_are_said_in_the_words_of_v1() {
    assert_eq!(
        of(SOME, false, 252),
        [
            "MemoryLimit=1048576",
            "CPUShares=1024",
            "CPUQuotaPeriodUSec=200000",
            "CPUQuotaPerSecUSec=250000",
            "AllowedCPUs=0302",
            "AllowedMemoryNodes=01",
            "TasksMax=7",
            "BlockIOWeight=500",
        ]
    );
}

#[test]
fn no_limit_is_infinity_and_absence_and_zero_are_nothing() {
    let none = r#"{ "memory": { "limit": -1 }, "cpu": { "quota": -1 }, "pids": { "limit": -1 } }"#;
    assert_eq!(
        of(none, true, 252),
        [
            "MemoryMax=infinity",
            "MemorySwapMax=infinity",
            "CPUQuotaPerSecUSec=infinity",
            "TasksMax=infinity"
        ]
    );
    let zero = r#"{ "memory": { "limit": 0 }, "cpu": { "quota": 0, "shares": 0 }, "pids": {} }"#;
    assert_eq!(of(zero, true, 252), [""; 0]);
    // The container's first process counts.
    assert_eq!(
        of(r#"{ "pids": { "limit": 0 } }"#, true, 252),
        ["TasksMax=1"]
    );
}

#[test]
fn a_quota_is_rounded_up_to_a_hundredth_and_the_file_says_the_same() {
    let json = r#"{ "cpu": { "quota": 10001, "period": 100000 } }"#;
    assert_eq!(of(json, true, 252)[1], "CPUQuotaPerSecUSec=110000");
    let mut cpu = resources(json).cpu.unwrap();
    rounded(&mut cpu);
    assert_eq!(cpu.quota, Some(11_000));
    for (quota, period) in [(50_000, 100_000), (-1, 100_000), (25_000, 50_000)] {
        let mut cpu = Cpu {
            quota: Some(quota),
            period: Some(period),
            ..Cpu::default()
        };
        rounded(&mut cpu);
        assert_eq!(cpu.quota, Some(quota));
    }
}

#[test]
fn an_idle_cgroup_has_no_weight_where_systemd_knows_of_it() {
    let json = r#"{ "cpu": { "idle": 1, "shares": 2048 } }"#;
    assert_eq!(of(json, true, 252), ["CPUWeight=0"]);
    assert_eq!(of(json, true, 251), ["CPUWeight=174"]);
}

#[test]
fn files_of_v2_that_have_a_property_become_one() {
    let json = r#"{ "unified": {
        "cpu.max": "max 50000", "cpu.weight": "7", "cpuset.cpus": "3", "memory.high": "4096",
        "memory.max": "max", "pids.max": "0", "io.max": "8:0 rbps=1", "hugetlb.2MB.max": "0" } }"#;
    assert_eq!(
        of(json, true, 252),
        [
            "CPUQuotaPeriodUSec=50000",
            "CPUQuotaPerSecUSec=infinity",
            "CPUWeight=7",
            "AllowedCPUs=08",
            "MemoryHigh=4096",
            "MemoryMax=infinity",
            "TasksMax=1",
        ]
    );
    let idle = r#"{ "unified": { "cpu.idle": "1", "cpu.weight": "7" } }"#;
    assert_eq!(of(idle, true, 252), ["CPUWeight=0"]);
}

#[test]
fn what_happens_without_memory_is_said_at_the_start() {
    let policy = |value: &str, version: u32| {
        let json = format!(r#"{{ "unified": {{ "memory.oom.group": "{value}" }} }}"#);
        let property = at_start(&resources(&json), &mut || Ok(version)).unwrap();
        shown(property.into_iter().collect())
    };
    assert_eq!(policy("1", 253), ["OOMPolicy=kill"]);
    assert_eq!(policy("0", 253), ["OOMPolicy=continue"]);
    assert_eq!(policy("1", 252), [""; 0]);
}

#[test]
fn values_that_mean_nothing_are_named() {
    for (json, words) in [
        (
            r#"{ "cpu": { "cpus": "3-1" } }"#,
            "linux.resources.cpu.cpus is set to 3-1",
        ),
        (r#"{ "cpu": { "cpus": "x" } }"#, "a list reads like 0-3,7"),
        (r#"{ "cpu": { "mems": "," } }"#, "linux.resources.cpu.mems"),
        (
            r#"{ "cpu": { "cpus": "0-4294967295" } }"#,
            "a list reads like",
        ),
        (
            r#"{ "unified": { "memory.max": "1G" } }"#,
            "\"memory.max\": \"1G\"",
        ),
        (r#"{ "unified": { "cpu.max": "" } }"#, "\"cpu.max\""),
        (
            r#"{ "memory": { "limit": 2, "swap": 1 } }"#,
            "linux.resources.memory.swap",
        ),
    ] {
        let error = limits(&resources(json), true, &mut || Ok(252)).unwrap_err();
        assert!(error.to_string().contains(words), "{json}: {error}");
    }
}

#[test]
fn devices_are_allowed_by_list_and_an_old_list_is_cleared_first() {
    let json = r#"{ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "b", "major": 8, "minor": 1, "access": "rw" } ] }"#;
    let found = devices(&resources(json)).unwrap();
    assert_eq!(found[0], ("DevicePolicy".into(), Value::text("strict")));
    assert_eq!(found[1].1, Value::Array("(ss)".into(), Vec::new()));
    let Value::Array(_, entries) = &found[2].1 else {
        panic!("{found:?}");
    };
    let disk = Value::Struct(vec![Value::text("/dev/block/8:1"), Value::text("rw")]);
    assert_eq!(entries[0], disk);
    assert_eq!(devices(&resources("{}")).unwrap(), []);
}
