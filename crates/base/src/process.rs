//! Processes, told apart from later ones with the same number (proc(5), `/proc/PID/stat`).

use std::io;

/// What the kernel says of a process, be it a zombie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The letter of its state.
    pub state: u8,
    /// Its parent's process id.
    pub parent: i32,
    /// When it started, in clock ticks since boot: together with its pid this names it for ever.
    pub start: u64,
}

impl Stat {
    /// Runs it still? A zombie does not.
    #[must_use]
    pub fn runs(self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

/// The state and start of a process; `None` if there is none with this pid.
///
/// # Errors
/// As open(2) and read(2); `InvalidData` if the kernel's text is not understood.
pub fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => match parse(&text) {
            Some(stat) => Ok(Some(stat)),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Ok(None),
            _ => Err(error),
        },
    }
}

/// When a process started; `None` if it has ended or cannot be looked at.
#[must_use]
pub fn start(pid: i32) -> Option<u64> {
    let stat = stat(pid).ok()??;
    stat.runs().then_some(stat.start)
}

/// Does the process live that has this pid and started then? Who cannot look, for want of files or
/// memory, takes it to live: nothing is cleared away on a guess.
#[must_use]
pub fn lives(pid: i32, start: u64) -> bool {
    match stat(pid) {
        Ok(Some(stat)) => stat.runs() && stat.start == start,
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Fields 3, 4 and 22.
fn parse(text: &[u8]) -> Option<Stat> {
    // The name is in parentheses and may hold anything, spaces and parentheses included.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = text.split(' ');
    Some(Stat {
        state: *fields.next()?.as_bytes().first()?,
        parent: fields.next()?.parse().ok()?,
        start: fields.nth(17)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_move_the_fields() {
        let line = b"42 (a) Z 1) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2";
        let stat = Stat {
            state: b'S',
            parent: 1,
            start: 777,
        };
        assert_eq!(parse(line), Some(stat));
        assert_eq!(parse(b"42 (a) S 1"), None);
    }

    #[test]
    fn this_process_lives_and_one_with_another_start_time_does_not() {
        let me = std::process::id().cast_signed();
        let begun = start(me).unwrap();
        assert!(lives(me, begun));
        assert!(!lives(me, begun + 1));
        assert!(!lives(i32::MAX, begun));
        assert_eq!(start(i32::MAX), None);
    }
}
