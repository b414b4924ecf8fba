//! Text from other processes, from paths, statements and files, made safe to print, and paths,
//! made safe to paste.

use std::fmt::{self, Display, Write};
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
        if is_escaped(c) {
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

/// Whether a terminal shows the text as it is.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.chars().any(is_escaped)
}

/// Text that is shown on one line: see [`one_line`].
#[derive(Debug, Clone, Copy)]
pub struct OneLine<T>(T);

/// Returns text as it may be part of a message: every character that could forge a line or drive
/// a terminal is escaped. A message escapes each part that it did not write itself, so that its
/// own line ends stay.
///
/// ```
/// use penholder_core::one_line;
///
/// let shown = one_line("x\n\u{1b}[31mpenholder: 1 row changed").to_string();
/// assert_eq!(shown, r"x\n\u{1b}[31mpenholder: 1 row changed");
/// ```
#[must_use]
pub fn one_line<T: Display>(text: T) -> OneLine<T> {
    OneLine(text)
}

/// Returns a path as it may be part of a message. In these crates a lint refuses
/// [`Path::display`], which escapes nothing.
#[expect(clippy::disallowed_methods, reason = "escaped here")]
#[must_use]
pub fn shown_path(path: &Path) -> OneLine<std::path::Display<'_>> {
    OneLine(path.display())
}

/// Returns the last part of a path as it may be part of a message.
#[must_use]
pub fn shown_name(path: &Path) -> OneLine<std::path::Display<'_>> {
    shown_path(Path::new(path.file_name().unwrap_or_default()))
}

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{}", self.0)
    }
}

struct Escaper<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_escaped) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut chars = from.chars();
            for c in chars.next().into_iter().flat_map(char::escape_default) {
                self.0.write_char(c)?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Returns whether a character could forge a line or drive a terminal.
#[must_use]
pub fn is_escaped(c: char) -> bool {
    c.is_control() || is_line_or_direction_mark(c)
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

        #[test]
        fn one_line_escapes_the_same_characters(text in any::<String>()) {
            let out = one_line(&text).to_string();
            prop_assert!(!out.chars().any(is_escaped));
            prop_assert_eq!(out, printable(&text, usize::MAX));
        }
    }
}
