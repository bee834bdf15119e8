//! A hostile registries.conf: nothing panics.

#[path = "../../../image/tests/support/fuzz.rs"]
mod fuzz;
#[path = "support/targets.rs"]
mod targets;

#[test]
fn registries_conf_is_read_or_refused() {
    let registries = br#"unqualified-search-registries = ["a.example"]
short-name-mode = "enforcing"
[[registry]]
prefix = "*.example.com/x"
location = "b.example/y"
blocked = false
[[registry.mirror]]
location = "c.example"
insecure = true
pull-from-mirror = "digest-only"
[aliases]
"x" = "a.example/x"
"#;
    fuzz::run(15_000, &[registries], targets::registries);
}
