//! The words of PowerShell, and of `cmd` where both read a word alike.

use std::fmt::Write;

use crate::printable::is_printable;

/// Quotes a word, if it needs that.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || r"\/._-+:".contains(c);
    if !is_printable(text) {
        escaped(text)
    } else if text.contains(['"', '%', '$', '`']) {
        literal(text)
    } else if text.is_empty() || !text.chars().all(is_plain) {
        format!("\"{}\"", with_end_doubled(text))
    } else {
        text.to_owned()
    }
}

/// In single quotes PowerShell reads everything as it is. A program reads a double quote only after a
/// backslash.
fn literal(text: &str) -> String {
    let text = text.replace('\'', "''").replace('"', "\\\"");
    format!("'{}'", with_end_doubled(&text))
}

/// With the number of each character that is not to be read as it is.
fn escaped(text: &str) -> String {
    let mut word = String::new();
    for c in text.chars() {
        match c {
            '`' | '$' => word.extend(['`', c]),
            '"' => word.push_str("\\`\""),
            ' '..='~' => word.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(word, "$([char]{unit})");
                }
            }
        }
    }
    format!("\"{}\"", with_end_doubled(&word))
}

/// A program takes a backslash before the closing quote for part of an escape.
fn with_end_doubled(text: &str) -> String {
    let end = text.len() - text.trim_end_matches('\\').len();
    format!("{text}{}", "\\".repeat(end))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_word_is_quoted_if_it_needs_that() {
        for (word, expected) in [
            (r"C:\data\a-b.db", r"C:\data\a-b.db"),
            ("", r#""""#),
            (r"C:\my data\", r#""C:\my data\\""#),
            ("it's (1).db", r#""it's (1).db""#),
            ("100%", "'100%'"),
            (r#"say "it's""#, r#"'say \"it''s\"'"#),
            ("$x`", "'$x`'"),
            ("a\nb $x", r#""a$([char]10)b `$x""#),
        ] {
            assert_eq!(super::word(word), expected);
        }
    }
}
