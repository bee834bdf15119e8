//! `ADD` of archives: what is a tar file, plain or compressed, is unpacked where nobody can see it, and copied from there
//! as anything else is: its names and links lead nowhere outside.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};

use rustix::fs::{AtFlags, FileType};
use store::{Access, MountOptions, Store};

use crate::error::Failed;
use crate::put::{Given, Put};
use crate::select::{self, Filter, Source};
use crate::tree::Tree;

const BLOCK: usize = 512;
const BUFFER: usize = 128 << 10;

/// Unpacks archives in a store.
pub(crate) struct Unpacker<'a> {
    pub(crate) store: &'a Store,
}

impl Unpacker<'_> {
    /// Unpacks `file` into `target` if it is an archive; whether it is one.
    pub(crate) fn unpack(
        &self,
        mut file: File,
        root: &Tree,
        target: &str,
        given: &Given,
    ) -> Result<bool, Failed> {
        let failed = |e: std::io::Error| Failed::io("read", "the archive")(e);
        if !file.metadata().map_err(failed)?.is_file() {
            return Ok(false);
        }
        let mut head = vec![0; BLOCK];
        let Ok(()) = opened(&mut file).and_then(|mut reader| reader.read_exact(&mut head)) else {
            return Ok(false);
        };
        if !is_header(&head) {
            return Ok(false);
        }
        file.rewind().map_err(failed)?;
        // On nothing: what hides something hides nothing.
        let place = self.store.working_layer(&[])?;
        let reader = opened(&mut file).map_err(failed)?;
        place
            .root()
            .read_difference(BufReader::with_capacity(BUFFER, reader))?;
        let mounted = place.root().open(&MountOptions::new(Access::ReadOnly))?;
        let from = Tree::new(mounted);
        let given = Given {
            keep_owners: true,
            ..*given
        };
        let source = Source {
            path: String::new(),
            name: String::new(),
            is_directory: true,
        };
        let mut put = Put::new(root, target, None, given)?;
        // As most programs write it, the root is the first entry.
        if matches!(head.split(|byte| *byte == 0).next(), Some(b"./" | b".")) {
            put = put.with_target();
        }
        select::walk(&from, &Filter::default(), &source, &mut |found| {
            let stat = rustix::fs::statat(found.parent, found.name, AtFlags::SYMLINK_NOFOLLOW);
            let is_device = stat.is_ok_and(|stat| {
                let kind = FileType::from_raw_mode(stat.st_mode);
                matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
            });
            // As where an ordinary user unpacks it.
            if is_device { Ok(()) } else { put.put(found) }
        })?;
        put.finish()?;
        Ok(true)
    }
}

/// The content of a file that may be compressed.
fn opened(file: &mut File) -> std::io::Result<Box<dyn Read + '_>> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let magic = reader.fill_buf()?;
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(reader))
        }
        _ => Box::new(reader),
    })
}

/// Whether a block is the header of an entry: its checksum is right.
fn is_header(block: &[u8]) -> bool {
    let field = |bytes: &[u8]| -> Option<u64> {
        let text = std::str::from_utf8(bytes).ok()?;
        let digits = text.trim_matches(['\0', ' ']);
        u64::from_str_radix(digits, 8).ok()
    };
    let Some(said) = field(&block[148..156]) else {
        return false;
    };
    let sum = |(at, byte): (usize, &u8)| match at {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    };
    said > 0 && block.iter().enumerate().map(sum).sum::<u64>() == said
}
