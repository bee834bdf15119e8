//! Debian's GnuPG with a private home directory: keys and signatures as people make them.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Error;

/// GnuPG's home directory; its agent is ended and the directory removed when dropped.
#[derive(Debug)]
pub struct Gnupg {
    home: TempDir,
}

impl Gnupg {
    /// A home without keys.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new() -> Result<Self, Error> {
        // The path of the agent's socket must be short.
        let home = tempfile::Builder::new()
            .prefix("floe-gpg-")
            .tempdir_in("/tmp")?;
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700))?;
        Ok(Self { home })
    }

    /// The value for `GNUPGHOME`.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Makes a key without passphrase (`algorithm` as `ed25519` or `rsa2048`, `usage` as `sign`,
    /// `expires` as `never` or `1d`) and returns its fingerprint.
    ///
    /// # Errors
    /// gpg fails or is not installed.
    pub fn key(&self, name: &str, algorithm: &str, expires: &str) -> Result<String, Error> {
        let make = ["--quick-generate-key", name, algorithm, "sign", expires];
        self.run(["--passphrase", ""].iter().chain(&make), b"")?;
        self.fingerprint(name)
    }

    /// The fingerprint of the only key with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn fingerprint(&self, name: &str) -> Result<String, Error> {
        let list = self.run(["--list-keys", "--with-colons", name], b"")?;
        let list = String::from_utf8(list)?;
        let line = list.lines().find(|line| line.starts_with("fpr:"));
        let fingerprint = line.and_then(|line| line.split(':').nth(9));
        Ok(fingerprint.ok_or("gpg lists no fingerprint")?.to_owned())
    }

    /// A message with this content, signed by the key.
    ///
    /// # Errors
    /// gpg fails.
    pub fn sign(&self, key: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
        self.run(["--local-user", key, "--sign"], content)
    }

    /// The public key.
    ///
    /// # Errors
    /// gpg fails.
    pub fn export(&self, key: &str) -> Result<Vec<u8>, Error> {
        self.run(["--export", key], b"")
    }

    /// Runs gpg with these arguments and input, and returns what it writes.
    ///
    /// # Errors
    /// gpg fails or is not installed; the message is gpg's.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut child = Command::new("gpg")
            .arg("--homedir")
            .arg(self.home())
            .args([
                "--batch",
                "--quiet",
                "--no-tty",
                "--pinentry-mode",
                "loopback",
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("gpg (Debian's gnupg): {e}"))?;
        let mut pipe = child.stdin.take().ok_or("gpg has no input")?;
        let bytes = input.to_vec();
        // Large inputs come out again while they go in.
        let writer = std::thread::spawn(move || pipe.write_all(&bytes));
        let output = child.wait_with_output()?;
        // gpg may end without reading: then its own words say why.
        let _ = writer.join();
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home())
            .args(["--kill", "all"])
            .status();
    }
}
