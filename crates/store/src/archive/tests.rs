//! Numbers, times and records as odd writers make them, and archives damaged at random.

use super::header::number;
use super::*;

#[path = "../../tests/suite/common/tar.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the integration tests"
)]
mod tar;

use tar::Tar;

#[test]
fn numbers_are_octal_or_base_256() {
    assert_eq!(number(b"0000644\0"), Some(0o644));
    assert_eq!(number(b"   644 \0"), Some(0o644));
    assert_eq!(number(b"\0\0\0\0"), Some(0));
    assert_eq!(number(b"        "), Some(0));
    assert_eq!(number(b"77777777777\0"), Some(0o77777777777));
    assert_eq!(number(b"\x80\0\0\0\0\0\x01\0"), Some(256));
    assert_eq!(number(&[0xff; 12]), Some(-1));
    assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    for bad in [
        &b"8"[..],
        b"12x",
        b"-1",
        b"0x1",
        &[0x9f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(number(bad), None, "{bad:?}");
    }
}

fn parsed(records: &[(&str, &[u8])]) -> std::result::Result<Pax, TarFlaw> {
    let archive = Tar::new().pax(records).unfinished();
    // The records are in the block after the header, as long as its size field says.
    let size = usize::try_from(number(&archive[124..136]).unwrap()).unwrap();
    Pax::parse(&archive[512..512 + size])
}

#[test]
fn times_have_fractions_and_signs() {
    let time = |text: &str| parsed(&[("mtime", text.as_bytes())]).map(|pax| pax.mtime);
    assert_eq!(time("1"), Ok(Some((1, 0))));
    assert_eq!(time("1.5"), Ok(Some((1, 500_000_000))));
    assert_eq!(time("1.0000000019"), Ok(Some((1, 1))));
    assert_eq!(time("-1.25"), Ok(Some((-2, 750_000_000))));
    assert_eq!(time("-3."), Ok(Some((-3, 0))));
    assert_eq!(time(""), Ok(None));
    for bad in ["x", ".5", "1.x", "--1", "1e9", "99999999999999999999"] {
        assert_eq!(time(bad), Err(TarFlaw::Pax), "{bad}");
    }
}

#[test]
fn the_last_record_of_a_key_counts_and_an_empty_one_takes_it_back() {
    let pax = parsed(&[
        ("path", b"a"),
        ("path", b"b=c\nd"),
        ("uid", b"5"),
        ("uid", b""),
    ])
    .unwrap();
    assert_eq!(pax.path.unwrap(), b"b=c\nd");
    assert_eq!(pax.uid, None);
}

fn sample() -> Vec<u8> {
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"9000"),
        ("GNU.sparse.name", b"holes"),
    ];
    let mut map = b"1\n4096\n5\n".to_vec();
    map.resize(512, 0);
    map.extend(b"hello");
    Tar::new()
        .dir("d")
        .pax(&[
            ("path", b"d/long"),
            ("mtime", b"1.5"),
            ("SCHILY.xattr.user.x", b"y"),
        ])
        .file("short", vec![b'x'; 700])
        .pax(sparse)
        .file("GNUSparseFile.0/holes", map)
        .symlink("l", "d")
        .entry(&tar::Entry::new(b'L', "long").data("name\0"))
        .hard_link("h", "d/long")
        .finish()
}

/// Reads all entries and all data.
fn read(archive: &[u8]) -> Result<Vec<Entry>> {
    let mut archive = Archive::new(archive);
    let mut entries = Vec::new();
    while let Some(entry) = archive.next()? {
        loop {
            let length = archive.data()?.len();
            if length == 0 {
                break;
            }
            archive.consume(length);
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[test]
fn all_kinds_of_headers_belong_to_their_entries() {
    let entries = read(&sample()).unwrap();
    let paths: Vec<_> = entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.path))
        .collect();
    assert_eq!(paths, ["d", "d/long", "holes", "l", "name"]);
    assert_eq!(entries[1].mtime, (1, 500_000_000));
    assert_eq!(entries[1].xattrs, [(b"user.x".to_vec(), b"y".to_vec())]);
    assert_eq!(entries[2].size, 9000);
    assert_eq!(
        entries[2].sparse.as_deref(),
        Some(
            &[Extent {
                offset: 4096,
                length: 5
            }][..]
        )
    );
    assert_eq!(
        (entries[4].kind, entries[4].link.as_slice()),
        (Kind::HardLink, &b"d/long"[..])
    );
}

#[test]
fn any_damage_ends_in_an_error_or_in_other_entries_but_never_in_a_panic() {
    let sample = sample();
    let mut state = 88_172_645_463_325_252u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut damaged = sample.clone();
        for _ in 0..=random(3) {
            let at = random(damaged.len());
            damaged[at] = u8::try_from(random(256)).unwrap();
        }
        damaged.truncate(damaged.len() - random(2) * random(sample.len()));
        repair(&mut damaged);
        refused += usize::from(read(&damaged).is_err());
    }
    assert!(
        refused > 1000,
        "the damage did not reach the parser: {refused}"
    );
}

/// Makes the checksums of all blocks that look like headers right, so that the damage is read.
fn repair(archive: &mut [u8]) {
    for block in archive
        .chunks_exact_mut(512)
        .filter(|block| &block[257..262] == b"ustar")
    {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
