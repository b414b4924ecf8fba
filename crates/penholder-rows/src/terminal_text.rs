//! Text that cannot drive the terminal that shows it.

use std::fmt::Write;

/// Escapes characters that could drive a terminal, except line ends and tabs: for a whole text
/// or a cell of a table, whose line ends mean something.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if penholder_core::is_escaped(c) && c != '\n' && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Escapes such characters in JSON, where they can only be in texts, so that it stays the same
/// JSON.
pub fn printable_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if penholder_core::is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_control_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\nb");
    }

    #[test]
    fn json_stays_the_same_json() {
        let shown = printable_json("{\"a\":\"\u{9b}31m\u{202e}ä\u{7f}\"}");
        assert_eq!(shown, r#"{"a":"\u009b31m\u202eä\u007f"}"#);
    }
}
