//! Foreign words in XML. Must be well-formed whatever they are, and must not reach a terminal that shows the file
//! as something that it obeys.

use crate::say;

/// A text inside of an element or an attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\n' => out += "&#10;",
            '\t' => out += "&#9;",
            // XML has no way to write the others of them.
            c if say::is_obeyed(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}
