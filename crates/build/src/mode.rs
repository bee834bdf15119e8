//! `--chmod`: modes in digits, or in the words of chmod(1).

use crate::error::Failed;

/// `--chmod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Bits that stay, of a file and of a directory.
    keep: (u32, u32),
    set: (u32, u32),
    /// `X`: the bits that are set where somebody may execute.
    set_if_executable: u32,
}

impl Change {
    /// Octal digits, or what chmod(1) takes.
    pub(crate) fn parse(text: &str) -> Result<Change, Failed> {
        let bad = || {
            Failed::Words(format!(
                "--chmod={text} is no mode: write 0755 or u=rwX,go=rX"
            ))
        };
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| bad())?;
            return match mode <= 0o7777 && !text.is_empty() {
                true => Ok(Change {
                    keep: (0, 0),
                    set: (mode, mode),
                    set_if_executable: 0,
                }),
                false => Err(bad()),
            };
        }
        let mut change = Change {
            keep: (0o7777, 0o7777),
            set: (0, 0),
            set_if_executable: 0,
        };
        for clause in text.split(',') {
            change.add(clause).ok_or_else(bad)?;
        }
        Ok(change)
    }

    fn add(&mut self, clause: &str) -> Option<()> {
        let at = clause.find(['+', '-', '='])?;
        let (who, rest) = clause.split_at(at);
        let mut whose = 0;
        for letter in who.chars() {
            whose |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        let whose = if who.is_empty() { 0o7777 } else { whose };
        let mut bits = 0;
        let mut conditional = 0;
        for letter in rest[1..].chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' => {
                    conditional |= 0o111;
                    0
                }
                's' => 0o6000,
                't' => 0o1000,
                _ => return None,
            };
        }
        let (bits, conditional) = (bits & whose, conditional & whose);
        match &rest[..1] {
            "-" => {
                let gone = bits | conditional;
                self.keep = (self.keep.0 & !gone, self.keep.1 & !gone);
                self.set = (self.set.0 & !gone, self.set.1 & !gone);
                return Some(());
            }
            "=" => {
                self.keep = (self.keep.0 & !whose, self.keep.1 & !whose);
                self.set = (self.set.0 & !whose, self.set.1 & !whose);
            }
            _ => {}
        }
        self.set = (self.set.0 | bits, self.set.1 | bits | conditional);
        self.set_if_executable |= conditional;
        Some(())
    }

    pub(crate) fn of(self, mode: u32, is_directory: bool) -> u32 {
        let (keep, set) = match is_directory {
            true => (self.keep.1, self.set.1),
            false => (self.keep.0, self.set.0),
        };
        let executable = if mode & 0o111 != 0 {
            self.set_if_executable
        } else {
            0
        };
        mode & keep | set | executable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_digits_or_what_chmod_takes() {
        for (text, mode, is_directory, expected) in [
            ("0755", 0o644, false, 0o755),
            ("4711", 0o644, true, 0o4711),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("+w", 0o444, false, 0o666),
            ("u+s", 0o755, false, 0o4755),
            ("o+t", 0o777, true, 0o1777),
            ("g=", 0o775, false, 0o705),
        ] {
            let change = Change::parse(text).unwrap();
            assert_eq!(change.of(mode, is_directory), expected, "{text} {mode:o}");
        }
        for bad in ["", "8", "99999", "u", "u=q", "q=r", "07777777"] {
            assert!(Change::parse(bad).is_err(), "{bad}");
        }
    }
}
