//! Text from other processes, made safe to print, and paths, made safe to paste.

use std::path::Path;

use crate::sys::user;

/// Longest command line that is kept and shown, in bytes.
pub(crate) const COMMAND_MAX: usize = 160;

/// Escapes every character that could forge a line or drive a terminal, and cuts
/// the result to `max` bytes, the last of them `…`.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let before = out.len();
        if c.is_control() || is_line_or_direction_mark(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        if out.len() > max {
            out.truncate(before);
            while out.len() + '…'.len_utf8() > max {
                out.pop();
            }
            out.push('…');
            break;
        }
    }
    out
}

/// Returns a path as a word of a shell, so that a command with it can be pasted. A path that
/// cannot be printed is escaped, and names nothing.
#[must_use]
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = printable(&text, usize::MAX);
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Names a user: by its name too, if it has one here.
#[must_use]
pub fn user_text(user: u32) -> String {
    match user::name_of(user) {
        Some(name) => format!("user {} ({user})", printable(&name, 64)),
        None => format!("user {user}"),
    }
}

/// Line separators, and the marks that change the direction of a text.
fn is_line_or_direction_mark(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, word) in [
            ("/srv/app/db.lockq", "/srv/app/db.lockq"),
            ("/a b/it's", r"'/a b/it'\''s'"),
            ("/$(x)", "'/$(x)'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }

    #[test]
    fn terminal_sequences_and_line_marks_are_escaped() {
        assert_eq!(printable("a\nb", 99), "a\\nb");
        assert_eq!(printable("\u{1b}[2J\u{202e}", 99), "\\u{1b}[2J\\u{202e}");
        assert_eq!(printable("é…", 99), "é…");
    }

    #[test]
    fn long_text_is_cut_and_marked() {
        assert_eq!(printable("0123456789", 10), "0123456789");
        assert_eq!(printable("0123456789a", 10), "0123456…");
    }

    proptest! {
        #[test]
        fn result_is_bounded_and_has_no_control_characters(text in ".*", max in 8_usize..200) {
            let out = printable(&text, max);
            prop_assert!(out.len() <= max);
            prop_assert!(!out.chars().any(char::is_control));
        }
    }
}
