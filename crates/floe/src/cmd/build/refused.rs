//! What podman's build has and floe's has not.

use crate::refused::{List, Refused, Takes};

/// The options that `floe build` refuses.
#[derive(Debug)]
pub(crate) struct NotInBuild;

const ALONE: &str = "a build makes one image for one platform; floe manifest puts several together";
const CACHE: &str = "caches are this node's own";
const NAMESPACE: &str = "commands have namespaces of their own";
const CPP: &str = "Containerfiles are not run through a C preprocessor";
const RESOLVER: &str = "commands have the node's resolver";
const SBOM: &str = "floe makes no list of an image's parts";
const USERS: &str = "commands have the node's users";

use Takes::{Nothing, Value};

impl List for NotInBuild {
    const OPTIONS: &'static [Refused] = &[
        ("all-platforms", Nothing, ALONE),
        ("cache-from", Value, CACHE),
        ("cache-to", Value, CACHE),
        ("cgroupns", Value, NAMESPACE),
        ("cpp-flag", Value, CPP),
        (
            "cw",
            Value,
            "floe makes no images for confidential machines",
        ),
        (
            "decryption-key",
            Value,
            "floe does not encrypt or decrypt layers",
        ),
        (
            "device",
            Value,
            "commands have the devices of every container",
        ),
        ("dns", Value, RESOLVER),
        ("dns-option", Value, RESOLVER),
        ("dns-search", Value, RESOLVER),
        ("hooks-dir", Value, "hooks are the configuration's"),
        ("ipc", Value, NAMESPACE),
        ("logsplit", Nothing, ALONE),
        ("manifest", Value, ALONE),
        (
            "no-hosts",
            Nothing,
            "commands have the /etc/hosts of every container",
        ),
        ("os-feature", Value, "it is for Windows"),
        ("os-version", Value, "it is for Windows"),
        (
            "output",
            Value,
            "images go into the store: floe save and floe push take them elsewhere",
        ),
        ("pid", Value, NAMESPACE),
        (
            "runtime-flag",
            Value,
            "a handler's options are its entry's in the configuration",
        ),
        ("sbom", Value, SBOM),
        ("sign-by", Value, "floe push and floe copy sign"),
        ("ssh", Value, "steps get no agents of ssh"),
        ("stdin", Nothing, "commands have no standard input"),
        ("userns", Value, USERS),
        ("userns-gid-map", Value, USERS),
        ("userns-gid-map-group", Value, USERS),
        ("userns-uid-map", Value, USERS),
        ("userns-uid-map-user", Value, USERS),
        ("uts", Value, NAMESPACE),
    ];
}
