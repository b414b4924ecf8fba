//! Files that are not text, by their first bytes.

use std::path::Path;

use penholder_core::shell_path;

/// What to do if a file that begins so is not text. `None` if it may be one.
pub(crate) fn why_not_text(head: &[u8], path: &Path) -> Option<String> {
    let Some(program) = compression(head) else {
        return other_kind(head);
    };
    let file = match path == Path::new("-") {
        true => String::new(),
        false => format!(" {}", shell_path(path)),
    };
    Some(format!(
        "it is compressed with {program}: import what this prints: {program} -dc{file}"
    ))
}

/// The program that has compressed a file that begins so.
pub(crate) fn compression(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1F, 0x8B, ..] => Some("gzip"),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some("zstd"),
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', ..] => Some("bzip2"),
        _ => None,
    }
}

fn other_kind(head: &[u8]) -> Option<String> {
    let (what, next) = match head {
        [b'P', b'K', 3, 4, ..] => ("a zip archive, such as .xlsx or .ods", "save it as CSV"),
        [0xD0, 0xCF, 0x11, 0xE0, ..] => ("a spreadsheet of Excel", "save it as CSV"),
        [b'P', b'A', b'R', b'1', 0..=0x1F, ..] => ("a Parquet file", "write it as CSV or JSON"),
        _ if head.starts_with(b"SQLite format 3\0") => (
            "an SQLite database",
            "print a table of it with penholder query and --json, and import that",
        ),
        _ => return None,
    };
    Some(format!("it is {what}: {next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_text_is_refused() {
        let path = Path::new("my file");
        let with_path = |command: &str| format!("{command} -dc {}", shell_path(path));
        let [gzip, zstd, bzip2] = ["gzip", "zstd", "bzip2"].map(with_path);
        for (head, words) in [
            (&b"\x1F\x8B\x08"[..], gzip.as_str()),
            (b"(\xB5/\xFD", &zstd),
            (b"BZh91AY&SY", &bzip2),
            (b"PK\x03\x04", "save it as CSV"),
            (b"PAR1\x15", "Parquet"),
            (b"SQLite format 3\0", "SQLite database"),
        ] {
            let why = why_not_text(head, path).unwrap_or_default();
            assert!(why.contains(words), "{why}");
        }
        for head in ["", "PK,b", "PAR1,b", "BZh1,b", "a,b", "SQLite format 3"] {
            assert_eq!(why_not_text(head.as_bytes(), path), None, "{head}");
        }
    }
}
