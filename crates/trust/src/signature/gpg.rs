//! The `gpg` program, which keeps the user's keys: to sign with one, and to get public ones.
//!
//! Secret keys stay with it; `GNUPGHOME` names its directory. It may block for a passphrase, so that
//! async callers need a thread.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::flaw::SignatureFlaw;
use super::openpgp::Keyring;

/// Signs `content` with the user's key `key` (a fingerprint, or what else gpg knows it by). The
/// passphrase is the first line of a file, or gpg's agent asks for it.
pub fn sign(
    content: &[u8],
    key: &str,
    passphrase: Option<&Path>,
) -> Result<Vec<u8>, SignatureFlaw> {
    let mut arguments: Vec<&OsStr> = vec!["--local-user".as_ref(), key.as_ref()];
    if let Some(file) = passphrase {
        arguments.extend(["--pinentry-mode", "loopback", "--passphrase-file"].map(OsStr::new));
        arguments.push(file.as_os_str());
    }
    arguments.extend(["--sign", "--output", "-"].map(OsStr::new));
    run(&arguments, content)
}

/// The user's public keys with these names or fingerprints; gpg must know each.
pub fn export(keys: &[String]) -> Result<Keyring, SignatureFlaw> {
    let mut ring = Keyring::default();
    for key in keys {
        let bytes = run(&["--export".as_ref(), "--".as_ref(), key.as_ref()], &[])?;
        if bytes.is_empty() {
            return Err(SignatureFlaw::Program(format!(
                "gpg has no public key {key:?}"
            )));
        }
        ring.add(&bytes)?;
    }
    Ok(ring)
}

fn run(arguments: &[&OsStr], input: &[u8]) -> Result<Vec<u8>, SignatureFlaw> {
    let failed = |what: &str, error: io::Error| {
        SignatureFlaw::Program(format!("{what} gpg (GnuPG's program): {error}"))
    };
    let mut child = Command::new("gpg")
        .args(["--batch", "--quiet", "--no-tty"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed("start", e))?;
    // The input is far smaller than a pipe, so that gpg cannot be waiting for us to read meanwhile.
    let written = match child.stdin.take() {
        Some(mut pipe) => pipe.write_all(input),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(|e| failed("run", e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        return Err(SignatureFlaw::Program(format!(
            "gpg failed: {}",
            said.join("; ")
        )));
    }
    match written {
        Ok(()) => Ok(output.stdout),
        Err(error) => Err(failed("write to", error)),
    }
}
