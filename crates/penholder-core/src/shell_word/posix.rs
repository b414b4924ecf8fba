//! The words of the shells of Unix.

use std::fmt::Write;

use crate::printable::is_printable;

/// Quotes a word, if it needs that.
pub(super) fn word(bytes: &[u8]) -> String {
    let Some(text) = str::from_utf8(bytes).ok().filter(|text| is_printable(text)) else {
        return escaped(bytes);
    };
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A word with escapes for everything unusual.
fn escaped(bytes: &[u8]) -> String {
    match bytes.last() {
        Some(b'\n') => format!("$'{}'", octal(bytes, "\\")),
        _ => format!("\"$(printf %b '{}')\"", octal(bytes, "\\0")),
    }
}

/// The word with a number in the place of each byte that is not to be read as it is.
fn octal(bytes: &[u8], prefix: &str) -> String {
    let mut word = String::new();
    for &byte in bytes {
        match byte {
            b' '..=b'~' if !b"'\\!".contains(&byte) => word.push(byte.into()),
            // Three digits, so that a digit may follow.
            _ => {
                let _ = write!(word, "{prefix}{byte:03o}");
            }
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn a_word_is_quoted_if_it_needs_that() {
        for (word, expected) in [
            (&b"/srv/a-b.db"[..], "/srv/a-b.db"),
            (b"", "''"),
            (b"/$(x)", "'/$(x)'"),
            (b"my app.db", "'my app.db'"),
            (b"it's $x", r"'it'\''s $x'"),
            ("ä*".as_bytes(), "'ä*'"),
            (
                b"a\n'\\1\xFF1",
                r#""$(printf %b 'a\0012\0047\01341\03771')""#,
            ),
            (b"a'\n", r"$'a\047\012'"),
        ] {
            assert_eq!(super::word(word), expected);
        }
    }

    /// With every shell that is installed here.
    #[test]
    fn a_shell_reads_the_word() {
        let words: [&[u8]; 12] = [
            b"/srv/a-b.db",
            b"",
            b"$(x)`y`\"z\"\\",
            b"it's",
            b"-n",
            b"two\nlines",
            b"\n",
            b"\x1B[31m'red' \\n %s %b 100%",
            b"-e\ttab\\c",
            b"\xFF\xFE7",
            "r\u{202e}l!x".as_bytes(),
            b"ends\n\n",
        ];
        for shell in ["sh", "dash", "bash", "zsh", "busybox"] {
            for word in words {
                let is_plain_sh = !matches!(shell, "bash" | "zsh");
                if is_plain_sh && word.ends_with(b"\n") {
                    continue;
                }
                let script = format!("printf %s {}", super::word(word));
                let mut command = Command::new(shell);
                if shell == "busybox" {
                    command.arg("sh");
                }
                let Ok(output) = command.args(["-c", &script]).output() else {
                    continue;
                };
                assert_eq!(output.stdout, word, "{shell}: {script}: {output:?}");
            }
        }
    }
}
