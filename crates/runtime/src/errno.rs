//! Errors of the kernel in words, the same whatever C library the program is linked with: engines and
//! their users know runc's, which are Go's, and Go's are glibc's in lower case.

use std::io;

/// Where musl's words are others, for what system calls answer.
const WORDS: [(i32, &str); 36] = [
    (libc::EIO, "input/output error"),
    (libc::ECHILD, "no child processes"),
    (libc::ENOMEM, "cannot allocate memory"),
    (libc::EBUSY, "device or resource busy"),
    (libc::EXDEV, "invalid cross-device link"),
    (libc::EMFILE, "too many open files"),
    (libc::ENOTTY, "inappropriate ioctl for device"),
    (libc::ESPIPE, "illegal seek"),
    (libc::EDOM, "numerical argument out of domain"),
    (libc::ERANGE, "numerical result out of range"),
    (libc::EDEADLK, "resource deadlock avoided"),
    (libc::ENAMETOOLONG, "file name too long"),
    (libc::ELOOP, "too many levels of symbolic links"),
    (libc::ETIME, "timer expired"),
    (libc::EOVERFLOW, "value too large for defined data type"),
    (libc::ELIBBAD, "accessing a corrupted shared library"),
    (
        libc::EILSEQ,
        "invalid or incomplete multibyte or wide character",
    ),
    (libc::EUSERS, "too many users"),
    (libc::ENOTSOCK, "socket operation on non-socket"),
    (libc::EMSGSIZE, "message too long"),
    (libc::EOPNOTSUPP, "operation not supported"),
    (libc::EADDRINUSE, "address already in use"),
    (libc::EADDRNOTAVAIL, "cannot assign requested address"),
    (libc::ENETUNREACH, "network is unreachable"),
    (libc::ENETRESET, "network dropped connection on reset"),
    (libc::ECONNABORTED, "software caused connection abort"),
    (libc::EISCONN, "transport endpoint is already connected"),
    (libc::ENOTCONN, "transport endpoint is not connected"),
    (
        libc::ESHUTDOWN,
        "cannot send after transport endpoint shutdown",
    ),
    (libc::ETOOMANYREFS, "too many references: cannot splice"),
    (libc::ETIMEDOUT, "connection timed out"),
    (libc::EHOSTUNREACH, "no route to host"),
    (libc::EINPROGRESS, "operation now in progress"),
    (libc::EUCLEAN, "structure needs cleaning"),
    (libc::EDQUOT, "disk quota exceeded"),
    (libc::EOWNERDEAD, "owner died"),
];

/// What an errno means, as C programs say it: without a number, in lower case.
#[must_use]
pub fn errno_text(number: i32) -> String {
    match WORDS.iter().find(|(known, _)| *known == number) {
        Some((_, words)) => (*words).to_owned(),
        None => of_the_library(number),
    }
}

fn of_the_library(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_lowercase().collect::<String>());
    first.unwrap_or_default() + characters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_env = "gnu")]
    fn the_words_are_glibcs() {
        for (number, words) in WORDS {
            assert_eq!(of_the_library(number), words);
        }
    }

    #[test]
    fn words_are_told_without_a_number() {
        assert_eq!(errno_text(libc::EBUSY), "device or resource busy");
        assert_eq!(errno_text(libc::ENOENT), "no such file or directory");
    }
}
