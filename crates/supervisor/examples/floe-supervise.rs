//! The supervisor as a program of its own, for this crate's tests: `floe-supervise supervise POD`
//! is what `floe-runtime supervise POD` is in the product; `floe-supervise launch SETUP` starts
//! one from a set-up in JSON and ends.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|verb| verb.to_str()) {
        Some("supervise") => supervisor::supervise(args),
        Some("launch") => launch(&args.next().unwrap_or_default().to_string_lossy()),
        _ => ExitCode::from(2),
    }
}

fn launch(setup: &str) -> ExitCode {
    let launched = std::env::current_exe()
        .map_err(|error| error.to_string())
        .and_then(|program| {
            let setup = serde_json::from_str(setup).map_err(|error| error.to_string())?;
            supervisor::launch(&program, &setup, None, supervisor::ANSWER_LIMIT)
                .map_err(|error| error.to_string())
        });
    match launched {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
