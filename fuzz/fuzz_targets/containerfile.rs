//! A Containerfile of anybody's, every word of it with variables, and the same bytes as patterns.
#![no_main]

use containerfile::{Containerfile, Expander, Ignore, Kind, Mount};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(ignore) = Ignore::parse(text) {
        let _ = ignore.ignores("a/b.txt");
    }
    let _ = Mount::parse(text);
    let lookup = |name: &str| (name.len() % 2 == 0).then(|| name.repeat(3));
    match Containerfile::parse("Containerfile", text) {
        Ok(whole) => {
            let expander = Expander::new(whole.escape, &lookup);
            for instruction in whole.stages.iter().flat_map(|stage| &stage.instructions) {
                match &instruction.kind {
                    Kind::Env(pairs) | Kind::Label(pairs) => {
                        for (key, value) in pairs {
                            let _ = (expander.word(key), expander.words(value));
                        }
                    }
                    Kind::Run(run) => {
                        for document in &run.documents {
                            let _ = expander.document(&document.content);
                        }
                    }
                    _ => {}
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
