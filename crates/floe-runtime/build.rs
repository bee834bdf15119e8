//! How the program is linked, and the commit that it was built from (FLOE_COMMIT, which `make build`
//! sets).
//!
//! Packed relative relocations (DT_RELR): a static position-independent program has thousands of them,
//! and packed they take 5 kB instead of 165. In release no symbols, which cargo keeps (650 kB) for a
//! package with a profile of its own although the profile says `strip`, and no tables for unwinding the
//! stack (290 kB, `no-unwind.ld`): a panic aborts.

fn main() {
    println!("cargo::rerun-if-env-changed=FLOE_COMMIT");
    let commit = std::env::var("FLOE_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=FLOE_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        println!(
            "cargo::rustc-link-arg-bins=-Wl,-T,{}/no-unwind.ld",
            std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default()
        );
    }
}
