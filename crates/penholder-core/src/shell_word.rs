//! Words of a shell, so that a command in a message can be pasted.

use std::ffi::OsStr;
use std::fmt::Write;

use crate::printable::is_escaped;

/// Returns a word as a shell reads it, in quotes if it needs that. What a terminal would not show as
/// it is stands in the `$'…'` of bash, zsh and ksh.
///
/// ```
/// use penholder_core::shell_word;
///
/// assert_eq!(shell_word("/srv/app.db"), "/srv/app.db");
/// assert_eq!(shell_word("my app.db"), "'my app.db'");
/// assert_eq!(shell_word("two\nlines"), r"$'two\012lines'");
/// ```
#[must_use]
pub fn shell_word(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_encoded_bytes();
    let Some(text) = str::from_utf8(bytes).ok().filter(|text| is_printable(text)) else {
        return escaped(bytes);
    };
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Whether a terminal shows the text as it is.
fn is_printable(text: &str) -> bool {
    !text.chars().any(is_escaped)
}

/// A word in the `$'…'` of bash, zsh and ksh, with escapes for everything unusual.
fn escaped(bytes: &[u8]) -> String {
    let mut word = "$'".to_owned();
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => word.extend(['\\', char::from(byte)]),
            b' '..=b'~' => word.push(byte.into()),
            // Three digits, so that a digit may follow.
            _ => {
                let _ = write!(word, "\\{byte:03o}");
            }
        }
    }
    word.push('\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_word_is_quoted_if_it_needs_that() {
        for (word, expected) in [
            (&b"/srv/a-b.db"[..], "/srv/a-b.db"),
            (b"", "''"),
            (b"/$(x)", "'/$(x)'"),
            (b"my app.db", "'my app.db'"),
            (b"it's $x", r"'it'\''s $x'"),
            ("ä*".as_bytes(), "'ä*'"),
            (b"a\n'\\1\xFF1", r"$'a\012\'\\1\3771'"),
        ] {
            assert_eq!(shell_word(OsStr::from_bytes(word)), expected);
        }
    }
}
