//! How the program is linked: with packed relative relocations (DT_RELR), as a static
//! position-independent program has thousands of them, and packed they take 5 kB instead of 165;
//! and in release without symbols, which cargo keeps (650 kB) for a package with a profile of its
//! own although the profile says `strip`.

fn main() {
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
