use super::*;
use crate::api::*;

fn container() -> Container {
    Container {
        id: "c".into(),
        args: vec!["sh".into()],
        env: vec!["A=1".into(), "B=2".into()],
        mounts: vec![mount("/a", "/src/a"), mount("/b", "/src/b")],
        ..Container::default()
    }
}

fn mount(destination: &str, source: &str) -> Mount {
    Mount {
        destination: destination.into(),
        source: source.into(),
        ..Mount::default()
    }
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
    }
}

fn memory(limit: i64) -> LinuxResources {
    LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(OptionalInt64 { value: limit }),
            ..LinuxMemory::default()
        }),
        ..LinuxResources::default()
    }
}

fn update(container: &str, resources: LinuxResources, ignore_failure: bool) -> ContainerUpdate {
    ContainerUpdate {
        container_id: container.into(),
        linux: Some(LinuxContainerUpdate {
            resources: Some(resources),
        }),
        ignore_failure,
    }
}

fn conflict(outcome: Result<()>, words: &str) {
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains("both set") && error.contains(words),
        "{error}"
    );
}

#[test]
fn a_name_has_one_owner_and_others_conflict() {
    let mut making = Making::new(container());
    let mounts = |list: &[Mount]| ContainerAdjustment {
        mounts: list.to_vec(),
        env: vec![variable("C", "3")],
        ..ContainerAdjustment::default()
    };
    making.adjust(mounts(&[mount("/c", "/x")]), "00-a").unwrap();
    conflict(
        making.adjust(mounts(&[mount("/c", "/y")]), "10-b"),
        "\"/c\"",
    );
    let env = ContainerAdjustment {
        env: vec![variable("C", "4")],
        ..ContainerAdjustment::default()
    };
    conflict(making.adjust(env, "10-b"), "Env \"C\"");
}

#[test]
fn what_is_taken_away_may_be_set_by_who_took_it_and_by_nobody_else() {
    let mut making = Making::new(container());
    let say = |list: &[Mount], env: &[KeyValue]| ContainerAdjustment {
        mounts: list.to_vec(),
        env: env.to_vec(),
        ..ContainerAdjustment::default()
    };
    making
        .adjust(say(&[mount("/c", "/x")], &[variable("C", "3")]), "00-a")
        .unwrap();
    let anew = [mount("-/c", ""), mount("/c", "/y"), mount("-/a", "")];
    let env = [variable("-C", ""), variable("C", "4"), variable("-A", "")];
    making.adjust(say(&anew, &env), "10-b").unwrap();
    conflict(
        making.adjust(say(&[mount("/c", "/z")], &[]), "20-c"),
        "10-b",
    );
    conflict(
        making.adjust(say(&[mount("/a", "/z")], &[]), "20-c"),
        "10-b",
    );
    assert_eq!(making.container.env, ["B=2", "C=4"]);
    let places = |mounts: &[Mount]| -> Vec<(String, String)> {
        let place = |one: &Mount| (one.destination.clone(), one.source.clone());
        mounts.iter().map(place).collect()
    };
    let shown = [("/b", "/src/b"), ("/c", "/y")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(places(&making.container.mounts), shown);
    let (adjust, _) = making.finish();
    let said = [("-/a", ""), ("-/c", ""), ("/c", "/y")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(places(&adjust.mounts), said);
    let names: Vec<&str> = adjust.env.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(names, ["-A", "-C", "C"]);
}

#[test]
fn maps_are_as_lists() {
    let mut making = Making::new(container());
    let say = |pairs: &[(&str, &str)]| ContainerAdjustment {
        annotations: pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
        ..ContainerAdjustment::default()
    };
    making
        .adjust(say(&[("k", "1"), ("l", "1")]), "00-a")
        .unwrap();
    conflict(
        making.adjust(say(&[("k", "2")]), "10-b"),
        "Annotations \"k\"",
    );
    making
        .adjust(say(&[("-k", ""), ("k", "3"), ("-l", "")]), "10-b")
        .unwrap();
    let (adjust, _) = making.finish();
    let said: Vec<_> = adjust.annotations.into_iter().collect();
    let pairs = [("-k", ""), ("-l", ""), ("k", "3")];
    assert_eq!(
        said,
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
}

#[test]
fn limits_have_an_owner_each() {
    let mut making = Making::new(container());
    let say = |resources| ContainerAdjustment {
        linux: Some(LinuxContainerAdjustment {
            resources: Some(resources),
            ..LinuxContainerAdjustment::default()
        }),
        ..ContainerAdjustment::default()
    };
    making.adjust(say(memory(7)), "00-a").unwrap();
    let cpu = LinuxResources {
        cpu: Some(LinuxCpu {
            cpus: "0".into(),
            ..LinuxCpu::default()
        }),
        ..LinuxResources::default()
    };
    making.adjust(say(cpu), "10-b").unwrap();
    conflict(making.adjust(say(memory(8)), "10-b"), "MemLimit");
    let shown = making.container.linux.as_ref().unwrap();
    let shown = shown.resources.as_ref().unwrap();
    assert_eq!(shown.cpu.as_ref().unwrap().cpus, "0");
    assert_eq!(shown.memory, memory(7).memory);
}

#[test]
fn arguments_are_replaced_by_who_says_so() {
    let mut making = Making::new(container());
    let say = |args: &[&str]| ContainerAdjustment {
        args: args.iter().map(|word| (*word).into()).collect(),
        ..ContainerAdjustment::default()
    };
    making.adjust(say(&["a"]), "00-a").unwrap();
    conflict(making.adjust(say(&["b"]), "10-b"), "Args");
    making.adjust(say(&["", "b", "c"]), "10-b").unwrap();
    assert_eq!(making.container.args, ["b", "c"]);
    assert_eq!(making.finish().0.args, ["b", "c"]);
}

#[test]
fn hooks_of_all_are_called() {
    let mut making = Making::new(container());
    let say = |path: &str| ContainerAdjustment {
        hooks: Some(Hooks {
            poststop: vec![Hook {
                path: path.into(),
                ..Hook::default()
            }],
            ..Hooks::default()
        }),
        ..ContainerAdjustment::default()
    };
    making.adjust(say("/a"), "00-a").unwrap();
    making.adjust(say("/b"), "10-b").unwrap();
    let owners = making.updates.owners.owner("c", Field::OciHooks);
    assert_eq!(owners, Some("00-a,10-b"));
    assert_eq!(making.finish().0.hooks.unwrap().poststop.len(), 2);
}

#[test]
fn others_can_be_updated_but_not_the_one_that_is_made() {
    let mut updates = Updates::while_making("c");
    updates
        .add(&[update("d", memory(1), false)], "00-a")
        .unwrap();
    let refused = updates.add(&[update("c", memory(1), true)], "00-a");
    assert!(refused.unwrap_err().to_string().contains("being made"));
    // Who does not mind is left out, and changes nothing.
    updates
        .add(&[update("d", memory(2), true)], "10-b")
        .unwrap();
    conflict(
        updates.add(&[update("d", memory(2), false)], "10-b"),
        "MemLimit",
    );
    assert_eq!(updates.finish(), [update("d", memory(1), false)]);
}

#[test]
fn an_update_begins_with_what_was_asked_for() {
    let mut updates = Updates::beginning_with("c", memory(5));
    let cpu = LinuxResources {
        cpu: Some(LinuxCpu {
            mems: "1".into(),
            ..LinuxCpu::default()
        }),
        ..LinuxResources::default()
    };
    let asked = [update("d", memory(1), true), update("c", cpu, false)];
    updates.add(&asked, "00-a").unwrap();
    let all = updates.finish();
    let first = all[0].linux.as_ref().unwrap().resources.as_ref().unwrap();
    assert_eq!((all[0].container_id.as_str(), all.len()), ("c", 2));
    assert_eq!(first.memory, memory(5).memory);
    assert_eq!(first.cpu.as_ref().unwrap().mems, "1");
}
