//! Names and numbers of signals, as people, images and CRI write them.

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`; `None` if it is no signal.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let real_time = |base: i32, rest: &str, sign: i32| match rest {
        "" => Some(base),
        rest => rest[1..]
            .parse::<i32>()
            .ok()
            .map(|offset| base + sign * offset),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => real_time(34, rest, 1),
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => real_time(64, rest, -1),
        _ => None,
    }?;
    (34..=64).contains(&number).then_some(number)
}

/// `SIGTERM` for 15; real-time signals by number.
#[must_use]
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number == 34 => "SIGRTMIN".into(),
        None if number == 64 => "SIGRTMAX".into(),
        None if (35..=49).contains(&number) => format!("SIGRTMIN+{}", number - 34),
        None if (50..64).contains(&number) => format!("SIGRTMAX-{}", 64 - number),
        None => number.to_string(),
    }
}

/// The first name of a number is the usual one.
const NAMES: &[(&str, i32)] = &[
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGIO),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_forms_are_understood() {
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("3", 3),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGCLD", 17),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "0", "65", "SIGFOO", "RTMIN-1", "RTMAX+1", "RTMIN+99"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        for number in 1..=64 {
            if number != 32 && number != 33 {
                assert_eq!(parse(&name(number)), Some(number));
            }
        }
    }
}
