//! What is read before a build begins: the Containerfile, the context, and what of it is not seen.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use containerfile::{Containerfile, Ignore, limits};
use rustix::fs::{Mode, OFlags};

use super::flags::Inputs;
use crate::failure::Failure;

/// What a build begins with.
pub(super) struct Beginning {
    pub(super) file: Containerfile,
    pub(super) directory: Option<OwnedFd>,
    pub(super) ignore: Ignore,
}

/// A Containerfile's text, and its name.
struct Text {
    name: String,
    text: String,
    /// Where it lies, if it is the context's.
    below: Option<String>,
}

pub(super) fn read(inputs: &Inputs, context: Option<&str>) -> Result<Beginning, Failure> {
    let directory = match context {
        Some("-") => None,
        Some(url) if url.contains("://") || url.starts_with("git@") => {
            return Err(Failure::new(format!(
                "{url}: URLs and git repositories are not offered as contexts: fetch it and give the directory"
            )));
        }
        Some(path) => Some(self::directory(path)?),
        None => Some(self::directory(".")?),
    };
    let texts = texts(inputs, directory.as_ref())?;
    let name = texts
        .first()
        .map_or("Containerfile", |text| &text.name)
        .to_owned();
    let whole: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
    let mut file =
        Containerfile::parse(&name, &whole.join("\n")).map_err(|e| Failure::new(e.to_string()))?;
    if let (Some(base), Some(stage)) = (&inputs.base, file.stages.first_mut()) {
        stage.from.image = containerfile::Text::literal(base);
    }
    let ignore = match &directory {
        Some(directory) => ignore(inputs, directory, texts.first())?,
        None => Ignore::default(),
    };
    Ok(Beginning {
        file,
        directory,
        ignore,
    })
}

/// A directory of this machine as the root of paths.
pub(crate) fn directory(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Failure::new(format!("context {path}: {}", std::io::Error::from(e))))
}

fn texts(inputs: &Inputs, directory: Option<&OwnedFd>) -> Result<Vec<Text>, Failure> {
    if !inputs.file.is_empty() {
        return inputs
            .file
            .iter()
            .map(|file| given(file, directory))
            .collect();
    }
    let Some(directory) = directory else {
        return Ok(vec![standard_input()?]);
    };
    for name in ["Containerfile", "Dockerfile"] {
        if let Some(text) = below(directory, name)? {
            return Ok(vec![text]);
        }
    }
    Err(Failure::new(
        "no Containerfile or Dockerfile specified or found in context directory: name it with -f",
    ))
}

/// A file that was named: of this machine, or of the context.
fn given(name: &str, directory: Option<&OwnedFd>) -> Result<Text, Failure> {
    if name == "-" {
        return standard_input();
    }
    if name.ends_with(".in") {
        return Err(Failure::new(format!(
            "{name}: Containerfiles are not run through a C preprocessor"
        )));
    }
    if name.contains("://") {
        return Err(Failure::new(format!(
            "{name}: URLs are not offered: fetch it and give the file"
        )));
    }
    match File::open(name) {
        Ok(file) => text(name, file),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let found = directory
                .map(|directory| below(directory, name))
                .transpose()?;
            found
                .flatten()
                .ok_or_else(|| Failure::new(format!("the Containerfile {name} does not exist")))
        }
        Err(e) => Err(Failure::new(format!("open {name}: {e}"))),
    }
}

fn standard_input() -> Result<Text, Failure> {
    let mut bytes = Vec::new();
    let most = limits::FILE as u64 + 1;
    std::io::stdin().take(most).read_to_end(&mut bytes)?;
    of_bytes("standard input", bytes)
}

fn text(name: &str, file: File) -> Result<Text, Failure> {
    let mut bytes = Vec::new();
    let read = file.take(limits::FILE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| Failure::new(format!("read {name}: {e}")))?;
    of_bytes(name, bytes)
}

fn of_bytes(name: &str, bytes: Vec<u8>) -> Result<Text, Failure> {
    if bytes.len() > 262 && bytes[257..262] == *b"ustar" || bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(Failure::new(format!(
            "{name}: archives are not offered as contexts: unpack it and give the directory"
        )));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::new(format!("{name}: it is not UTF-8")))?;
    Ok(Text {
        name: name.to_owned(),
        text,
        below: None,
    })
}

/// A file of the context: its links lead nowhere outside.
fn below(directory: &OwnedFd, name: &str) -> Result<Option<Text>, Failure> {
    let read = build::read_below(directory, name, limits::FILE as u64 + 1);
    let bytes = read.map_err(|e| Failure::new(format!("read {name} of the context: {e}")))?;
    let text = bytes.map(|bytes| of_bytes(name, bytes)).transpose()?;
    Ok(text.map(|text| Text {
        below: Some(name.to_owned()),
        ..text
    }))
}

/// Of the file that was named, beside the Containerfile, or at the context's root.
fn ignore(inputs: &Inputs, directory: &OwnedFd, file: Option<&Text>) -> Result<Ignore, Failure> {
    if let Some(path) = &inputs.ignorefile {
        return ignore_file(path);
    }
    for suffix in [".containerignore", ".dockerignore"] {
        let Some(name) = file.map(|file| format!("{}{suffix}", file.name)) else {
            continue;
        };
        let of_context = file.is_some_and(|file| file.below.is_some());
        let found = match of_context {
            true => below(directory, &name)?,
            false => match Path::new(&name).is_file() {
                true => Some(given(&name, None)?),
                false => None,
            },
        };
        if let Some(found) = found {
            return parsed(&name, &found.text);
        }
    }
    ignore_below(directory)
}

/// What a file says that is named.
pub(crate) fn ignore_file(path: &Path) -> Result<Ignore, Failure> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|e| Failure::new(format!("open {shown}: {e}")))?;
    parsed(&shown, &text(&shown, file)?.text)
}

/// What the file of a context says, if it has one.
pub(crate) fn ignore_below(directory: &OwnedFd) -> Result<Ignore, Failure> {
    for name in [".containerignore", ".dockerignore"] {
        if let Some(found) = below(directory, name)? {
            return parsed(name, &found.text);
        }
    }
    Ok(Ignore::default())
}

fn parsed(name: &str, text: &str) -> Result<Ignore, Failure> {
    Ignore::parse(text).map_err(|flaw| Failure::new(format!("{name}: {flaw}")))
}
