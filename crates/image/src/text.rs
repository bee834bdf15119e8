//! Text of strangers, made fit to be shown: names in images, archives and answers of registries.
//!
//! Must never let through what a terminal obeys, or what makes a line read in another order.

/// `text` with what cannot be seen or would be obeyed written as Rust writes it: `\u{1b}`, `\n`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_plain(c) {
            true => shown.push(c),
            false => shown.extend(c.escape_default()),
        }
    }
    shown
}

/// Whether a character only shows itself.
fn is_plain(c: char) -> bool {
    // Overrides of the direction, separators of lines, and what has no width.
    let odd = matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !odd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out_and_all_else_stays() {
        let plain = "docker.io/größe:1 \"quoted\" \\ 日本";
        assert_eq!(printable(plain), plain);
        assert_eq!(
            printable("a\n\x1b[2J\u{202e}b\u{9b}\0\u{200b}"),
            "a\\n\\u{1b}[2J\\u{202e}b\\u{9b}\\u{0}\\u{200b}"
        );
    }
}
