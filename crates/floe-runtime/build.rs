//! How the program is linked, and the commit that it was built from (FLOE_COMMIT, which `make build`
//! sets).
//!
//! Packed relative relocations (DT_RELR): a static position-independent program has thousands of them,
//! and packed they take 5 kB instead of 165. With musl and without position independence, as
//! `.cargo/config.toml` asks for, the program begins in `src/first.rs`. In release no symbols, which cargo
//! keeps (650 kB) for a package with a profile of its own although the profile says `strip`, and no tables
//! for unwinding the stack (`no-unwind.ld`): a panic aborts.

fn main() {
    println!("cargo::rerun-if-env-changed=FLOE_COMMIT");
    let commit = std::env::var("FLOE_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=FLOE_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=no-unwind.ld");
    println!("cargo::rustc-check-cfg=cfg(begins_first)");
    let musl = variable("CARGO_CFG_TARGET_ENV") == "musl";
    let fixed = variable("CARGO_ENCODED_RUSTFLAGS").contains("relocation-model=static");
    if !fixed {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    if musl && fixed && variable("CARGO_CFG_TARGET_ARCH") == "x86_64" {
        println!("cargo::rustc-cfg=begins_first");
        println!("cargo::rustc-link-arg-bins=-Wl,-e,floe_start");
    }
    if variable("PROFILE") == "release" {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        println!(
            "cargo::rustc-link-arg-bins=-Wl,-T,{}/no-unwind.ld",
            variable("CARGO_MANIFEST_DIR")
        );
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
