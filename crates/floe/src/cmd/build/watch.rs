//! What a person or a script sees of a build: lines in buildah's words, or a JSON document a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use build::{Stream, Watch};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;

/// Digits of ids in between.
const SHORT: usize = 12;

/// Shows how a build goes on.
pub(super) struct Progress {
    quiet: bool,
    json: bool,
    file: Option<Mutex<File>>,
}

impl Progress {
    pub(super) fn new(quiet: bool, form: &str, file: Option<&Path>) -> Result<Progress, Failure> {
        let open = |path: &Path| {
            let file = File::create(path);
            file.map_err(|e| Failure::new(format!("create {}: {e}", path.display())))
        };
        Ok(Progress {
            quiet,
            json: form == "json",
            file: file.map(open).transpose()?.map(Mutex::new),
        })
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        let write = |to: &mut dyn Write| to.write_all(bytes).and_then(|()| to.flush());
        // Whoever reads no longer has what it wants.
        let _: io::Result<()> = match (&self.file, stream) {
            (Some(file), _) => write(&mut *file.lock().unwrap_or_else(PoisonError::into_inner)),
            (None, Stream::Stdout) => write(&mut io::stdout()),
            (None, Stream::Stderr) => write(&mut io::stderr()),
        };
    }

    fn event(&self, value: &Value) {
        self.write(Stream::Stdout, format!("{value}\n").as_bytes());
    }

    fn line(&self, (number, of): (usize, usize), text: &str) {
        if self.quiet {
            return;
        }
        let text = output::lines(text);
        let line = match of {
            1 => format!("{text}\n"),
            _ => format!("[{number}/{of}] {text}\n"),
        };
        self.write(Stream::Stdout, line.as_bytes());
    }

    /// The end: the image's names and its id.
    pub(super) fn done(&self, names: &[String], id: &str) -> Result<(), Failure> {
        if self.json {
            self.event(&json!({ "event": "image", "id": id, "names": names }));
            return Ok(());
        }
        for name in names.iter().filter(|_| !self.quiet) {
            let line = format!("Successfully tagged {name}\n");
            self.write(Stream::Stdout, line.as_bytes());
        }
        println!("{id}");
        Ok(())
    }
}

impl Watch for Progress {
    fn step(&self, stage: (usize, usize), (number, of): (usize, usize), text: &str) {
        match self.json {
            true => self.event(&json!({ "event": "step", "stage": stage.0, "step": number, "steps": of, "text": text })),
            false => self.line(stage, &format!("STEP {number}/{of}: {text}")),
        }
    }

    fn output(&self, stream: Stream, bytes: &[u8]) {
        match self.json {
            true => {
                let name = match stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                let text = String::from_utf8_lossy(bytes);
                self.event(&json!({ "event": "output", "stream": name, "text": text }));
            }
            false if self.quiet => {}
            false => self.write(stream, bytes),
        }
    }

    fn cached(&self, stage: (usize, usize), id: &str) {
        match self.json {
            true => self.event(&json!({ "event": "cached", "stage": stage.0, "id": id })),
            false => self.line(stage, &format!("--> Using cache {id}")),
        }
    }

    fn made(&self, stage: (usize, usize), id: &str) {
        match self.json {
            true => self.event(&json!({ "event": "made", "stage": stage.0, "id": id })),
            // In one line with what is not a stage's alone, as buildah has it.
            false => self.line((1, 1), &format!("--> {}", id.get(..SHORT).unwrap_or(id))),
        }
    }

    fn commit(&self, stage: (usize, usize), names: &[String]) {
        match self.json {
            true => self.event(&json!({ "event": "commit", "stage": stage.0, "names": names })),
            false => {
                let name = names.first().map_or("", String::as_str);
                self.line(stage, format!("COMMIT {name}").trim_end());
            }
        }
    }

    fn warn(&self, words: &str) {
        match self.json {
            true => self.event(&json!({ "event": "warning", "text": words })),
            false => eprintln!("[Warning] {}", output::lines(words)),
        }
    }
}
