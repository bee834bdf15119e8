//! What podman's run has and floe's has not.

use crate::refused::{List, Refused, Takes};

/// The options that `floe run` refuses.
#[derive(Debug)]
pub(crate) struct NotInRun;

const ORDER: &str = "start containers in their order, or let --restart try again";
const ADDRESS: &str =
    "floe gives no address of the link's own: --ip and --ip6 are those of the network";
const REAL_TIME: &str = "no kernel of a distribution schedules groups in real time";
const USERS: &str = "the image's own files of users and groups are seen as they are";
const DESCRIPTORS: &str = "a container gets no open files of who starts it";
const RANGES: &str = "write the ids themselves, with --uidmap and --gidmap";

use Takes::{Nothing, Value};

impl List for NotInRun {
    const OPTIONS: &'static [Refused] = &[
        (
            "attach",
            Value,
            "floe run is attached to all streams, or to none with --detach",
        ),
        (
            "chrootdirs",
            Value,
            "floe's files are in the container's root alone",
        ),
        ("cpu-rt-period", Value, REAL_TIME),
        ("cpu-rt-runtime", Value, REAL_TIME),
        (
            "decryption-key",
            Value,
            "floe does not encrypt or decrypt layers",
        ),
        (
            "device-cgroup-rule",
            Value,
            "write the devices themselves, with --device",
        ),
        (
            "env-merge",
            Value,
            "variables are set and not joined: write the whole value with --env",
        ),
        ("group-entry", Value, USERS),
        (
            "hosts-file",
            Value,
            "/etc/hosts is floe's; --add-host adds to it, --no-hosts leaves the image's",
        ),
        ("hostuser", Value, USERS),
        ("init-path", Value, "--init has floe's own"),
        ("link-local-ip", Value, ADDRESS),
        (
            "log-opt",
            Value,
            "logs are bounded by crio.runtime.log_size_max and log_limit",
        ),
        ("passwd", Value, USERS),
        ("passwd-entry", Value, USERS),
        (
            "personality",
            Value,
            "programs of other machines are not run",
        ),
        ("preserve-fd", Value, DESCRIPTORS),
        ("preserve-fds", Value, DESCRIPTORS),
        (
            "rdt-class",
            Value,
            "the class is that of the pod's annotations",
        ),
        ("requires", Value, ORDER),
        (
            "rootfs",
            Nothing,
            "containers are made of images: floe import makes one of a tar file",
        ),
        (
            "shm-size-systemd",
            Value,
            "floe prepares nothing for a systemd inside",
        ),
        ("subgidname", Value, RANGES),
        ("subuidname", Value, RANGES),
    ];
}

/// A value of an option that has but some of podman's.
pub(super) fn cgroups(text: &str) -> Result<(), String> {
    accepted(
        text,
        &["enabled", "no-conmon"],
        "containers have a cgroup of their own",
    )
}

pub(super) fn seccomp_policy(text: &str) -> Result<(), String> {
    accepted(
        text,
        &["default"],
        "an image has no say in what it may call",
    )
}

pub(super) fn systemd(text: &str) -> Result<(), String> {
    accepted(
        text,
        &["true", "false"],
        "floe prepares nothing for a systemd inside",
    )
}

fn accepted(text: &str, known: &[&str], why: &str) -> Result<(), String> {
    match known.contains(&text) {
        true => Ok(()),
        false => Err(format!("not offered: {why}; write {}", known.join(" or "))),
    }
}
