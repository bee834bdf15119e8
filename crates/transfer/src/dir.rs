//! `dir:`: a directory with one file per blob, named by its digest's hex, and the manifest and its
//! signatures (`signature-N`) beside them. Not meant for keeping images: for looking at them and carrying them.
//!
//! Must never empty a directory that is not one of these.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use image::{Descriptor, Digest};
use trust::signature::{MAX_SIGNATURE, MAX_SIGNATURES};
use trust::{Signature, SignatureFlaw};

use crate::chunks::{self, Chunks};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::{layout, temporary};

const VERSION: &str = "Directory Transport Version: 1.1\n";

/// An image in a directory.
#[derive(Debug)]
pub(crate) struct DirSource {
    dir: PathBuf,
}

impl DirSource {
    pub(crate) fn open(dir: &Path) -> DirSource {
        DirSource {
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn manifest(&self, digest: Option<&Digest>) -> Result<Document> {
        let path = self.dir.join(match digest {
            Some(digest) => format!("{}.manifest.json", digest.hex()),
            None => "manifest.json".into(),
        });
        let document = Document::untyped(fs::read(&path).map_err(Error::io("read", &path))?)?;
        match digest {
            Some(digest) => Document::checked(document.media_type, digest, document.bytes.to_vec()),
            None => Ok(document),
        }
    }

    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Chunks> {
        let path = self.dir.join(descriptor.digest.hex());
        chunks::from_file(&path, 0, descriptor.size.saturating_add(1)).await
    }
}

impl DirSource {
    /// The signatures of the manifest, or of one that it points at.
    pub(crate) fn signatures(&self, digest: Option<&Digest>) -> Result<Vec<Signature>> {
        let mut found = Vec::new();
        for number in 1..=MAX_SIGNATURES {
            let path = self.dir.join(signature_name(digest, number));
            let file = match fs::File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
                Err(e) => return Err(Error::io("open", path)(e)),
            };
            let mut bytes = Vec::new();
            let read = file.take(MAX_SIGNATURE + 1).read_to_end(&mut bytes);
            read.map_err(Error::io("read", &path))?;
            let flawed = |flaw| trust::Error::Signature {
                subject: path.display().to_string(),
                flaw,
            };
            if bytes.len() as u64 > MAX_SIGNATURE {
                return Err(flawed(SignatureFlaw::TooLarge(MAX_SIGNATURE)).into());
            }
            found.push(Signature::from_file(&bytes).map_err(flawed)?);
        }
        Err(trust::Error::Signature {
            subject: self.dir.display().to_string(),
            flaw: SignatureFlaw::TooMany(MAX_SIGNATURES),
        }
        .into())
    }
}

fn signature_name(digest: Option<&Digest>, number: usize) -> String {
    match digest {
        Some(digest) => format!("{}.signature-{number}", digest.hex()),
        None => format!("signature-{number}"),
    }
}

/// A directory that gets an image.
#[derive(Debug)]
pub(crate) struct DirTarget {
    dir: PathBuf,
}

impl DirTarget {
    pub(crate) fn open(dir: &Path) -> Result<DirTarget> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        temporary::sweep(dir, None);
        let version = dir.join("version");
        match fs::read_to_string(&version) {
            Ok(text) if text.starts_with("Directory Transport Version: ") => clear(dir)?,
            Ok(_) => return Err(Error::place(dir.display(), "its file version is not ours")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
                if entries.next().is_some() {
                    return Err(Error::place(
                        dir.display(),
                        "it is not empty, and not made by this transport",
                    ));
                }
            }
            Err(e) => return Err(Error::io("read", version)(e)),
        }
        temporary::write(&version, VERSION.as_bytes())?;
        Ok(DirTarget {
            dir: dir.to_owned(),
        })
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.dir.join(digest.hex()).exists()
    }

    pub(crate) async fn put_blob(&self, descriptor: &Descriptor, chunks: Chunks) -> Result<()> {
        let path = self.dir.join(descriptor.digest.hex());
        layout::put_file(&path, descriptor, chunks).await
    }

    pub(crate) fn put_manifest(&self, document: &Document) -> Result<()> {
        let name = format!("{}.manifest.json", document.digest.hex());
        temporary::write(&self.dir.join(name), &document.bytes)
    }

    pub(crate) fn put_signatures(
        &self,
        digest: Option<&Digest>,
        signatures: &[Signature],
    ) -> Result<()> {
        for (number, signature) in (1..).zip(signatures) {
            let path = self.dir.join(signature_name(digest, number));
            let bytes = signature
                .to_file()
                .map_err(|flaw| trust::Error::Signature {
                    subject: path.display().to_string(),
                    flaw,
                })?;
            temporary::write(&path, &bytes)?;
        }
        Ok(())
    }

    pub(crate) fn commit(self, top: &Document) -> Result<()> {
        temporary::write(&self.dir.join("manifest.json"), &top.bytes)
    }
}

/// Removes the files of an earlier image, and no others.
fn clear(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let path = entry.map_err(Error::io("read", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hex = name.split_once('.').map_or(&*name, |(hex, rest)| {
            let ours = rest == "manifest.json" || rest.starts_with("signature-");
            if ours { hex } else { &*name }
        });
        let digest = hex.len() >= 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digest || name == "manifest.json" || name.starts_with("signature-") {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
