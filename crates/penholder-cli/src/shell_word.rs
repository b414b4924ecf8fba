//! Words of a shell, so that a command in a message can be pasted.

use std::ffi::OsStr;
use std::fmt::Write;

/// Quotes a word, if it needs that.
pub(crate) fn shell_word(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_encoded_bytes();
    let Some(text) = str::from_utf8(bytes).ok().filter(|text| is_printable(text)) else {
        return escaped(bytes);
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Whether a terminal shows the text as it is.
fn is_printable(text: &str) -> bool {
    let is_mark = |c| matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| c.is_control() || is_mark(c))
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
            (b"my app.db", "'my app.db'"),
            (b"it's $x", r"'it'\''s $x'"),
            ("ä*".as_bytes(), "'ä*'"),
            (b"a\n'\\1\xFF1", r"$'a\012\'\\1\3771'"),
        ] {
            assert_eq!(shell_word(OsStr::from_bytes(word)), expected);
        }
    }
}
