//! What must hold for hostile documents: each function takes any bytes and panics when it does not. For
//! the seeded tests, and for `fuzz/`.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test code; each program uses its own part"
)]

use image::{AnyManifest, Digest, ImageConfig, MediaType, Platform, Reference};

/// A reference that is accepted is written and read as the same, and can be in URLs and file names.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(reference) = Reference::parse(text) else {
        return;
    };
    let written = reference.to_string();
    assert_eq!(Reference::parse(&written).unwrap(), reference);
    let plain = |c: char| c.is_ascii_graphic() && !r#"\"<>?#%&{}"#.contains(c);
    assert!(
        written.chars().all(plain),
        "{written:?} goes into URLs and file names"
    );
    assert!(
        reference
            .path()
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
    );
    assert!(!reference.domain().is_empty() && !reference.domain().contains('/'));
}

/// A manifest that is accepted has one kind and says the same when it is written again.
pub fn manifest(bytes: &[u8]) {
    let host = Platform::host();
    for kind in [
        None,
        Some(MediaType::OciManifest),
        Some(MediaType::OciIndex),
    ] {
        let Ok(parsed) = AnyManifest::parse(kind.as_ref().map(MediaType::as_str), bytes) else {
            continue;
        };
        let (written, index) = match &parsed {
            AnyManifest::Manifest(manifest) => (serde_json::to_vec(manifest).unwrap(), false),
            AnyManifest::Index(index) => {
                // An entry or an error, and no panic.
                let _ = index.choose(&host);
                (serde_json::to_vec(index).unwrap(), true)
            }
        };
        let media_type = parsed.media_type();
        assert_eq!(media_type.is_index(), index, "{media_type}");
        if let Some(kind) = &kind {
            assert_eq!(kind.is_index(), index);
        }
        assert_eq!(AnyManifest::parse(None, &written).unwrap(), parsed);
    }
}

/// A config is read or refused, and so are digests and media types.
pub fn config(bytes: &[u8]) {
    if let Ok(config) = ImageConfig::parse(bytes) {
        let written = serde_json::to_vec(&config).unwrap();
        assert_eq!(ImageConfig::parse(&written).unwrap(), config);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
        assert!(
            digest.hex().bytes().all(|b| b.is_ascii_hexdigit()),
            "it is a file name"
        );
    }
    let media_type = MediaType::from_header(text);
    assert!(!(media_type.is_manifest() && media_type.is_index()));
}
