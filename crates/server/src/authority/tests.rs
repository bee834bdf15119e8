use tokio::io::AsyncReadExt;

use super::*;

fn frame_of(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, 1][..], payload].concat()
}

fn authority(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[0x83, 0x86, 0x41, length][..], text.as_bytes(), &[0x84]].concat()
}

/// A client's bytes with such an authority in every form of HEADERS, among other frames.
fn session(text: &str) -> Vec<u8> {
    let block = authority(text);
    let padded = [&[3][..], &block, &[0, 0, 0]].concat();
    let both = [&[2, 0, 0, 0, 0, 7][..], &block, &[0, 0]].concat();
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    all.extend(frame_of(4, 0, &[0, 3, 0, 0, 0, 100]));
    all.extend(frame_of(HEADERS, 0x4, &block));
    all.extend(frame_of(0, 1, &vec![b'/'; 40_000]));
    all.extend(frame_of(HEADERS, 0x4 | PADDED, &padded));
    all.extend(frame_of(HEADERS, 0x4 | PADDED | PRIORITY, &both));
    all.extend(frame_of(8, 0, &[0, 0, 1, 0]));
    all.extend(frame_of(HEADERS, 0x5, &block));
    all
}

async fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut frames = Frames::default();
    let mut seen = Vec::new();
    for part in bytes.chunks(piece) {
        frames.take(part, &mut seen);
        assert!(frames.held.len() <= HEADER + LONGEST);
    }
    seen.append(&mut frames.held);
    seen
}

#[tokio::test]
async fn only_the_authority_changes_however_the_bytes_come() {
    let bad = session("/run/floe.sock");
    let good = session(&"a".repeat("/run/floe.sock".len()));
    for piece in [1, 2, 7, 9, 1000, bad.len()] {
        assert_eq!(through(&bad, piece).await, good, "pieces of {piece}");
        assert_eq!(through(&good, piece).await, good, "pieces of {piece}");
    }
}

#[tokio::test]
async fn a_reader_gets_all_and_the_end() {
    let bad = session("a%2Fb");
    let mut stream = AnyAuthority::new(bad.as_slice());
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, session("aaaaa"));
    // A frame that is cut comes as it is.
    let cut = &bad[..bad.len() - 1];
    let mut seen = Vec::new();
    AnyAuthority::new(cut).read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen.len(), cut.len());
}

#[tokio::test]
async fn frames_that_are_nonsense_go_through() {
    let mut state = 7_u32;
    let mut noise = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    for _ in 0..200_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.push((state >> 24) as u8 & [1, 0xff][(state >> 20 & 1) as usize]);
    }
    let seen = through(&noise, 1000).await;
    assert!(seen.len() <= noise.len() * 2);
    // Too long, and padding longer than the frame.
    for frame in [
        frame_of(HEADERS, 0x4, &vec![0x41; LONGEST + 1]),
        frame_of(HEADERS, 0x4 | PADDED, &[200, 0x83]),
        frame_of(HEADERS, 0x4 | PRIORITY, &[1]),
        frame_of(HEADERS, 0x4, &[]),
    ] {
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame.as_slice()].concat();
        assert_eq!(through(&bytes, 100).await, bytes);
    }
}
