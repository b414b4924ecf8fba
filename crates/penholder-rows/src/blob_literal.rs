//! Blobs as SQL literals: `X'0A0B'`.

use std::fmt::Write;

/// Writes the literal of a blob.
pub fn write(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len() + 3);
    text.push_str("X'");
    for byte in bytes {
        let _ = write!(text, "{byte:02X}");
    }
    text.push('\'');
    text
}

/// Reads a text that is the literal of a blob.
pub fn read(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(['X', 'x'])?;
    let digits = digits.strip_prefix('\'')?.strip_suffix('\'')?;
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

/// Whether a text is the literal of a blob.
pub fn is_literal(text: &str) -> bool {
    // Nearly every text ends here.
    matches!(text.as_bytes(), [b'X' | b'x', b'\'', ..]) && read(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_sqlite_reads_them() {
        assert_eq!(write(&[10, 255]), "X'0AFF'");
        assert_eq!(read("x'0aFf'"), Some(vec![10, 255]));
        assert_eq!(read("X''"), Some(Vec::new()));
        for text in [
            "X'0'", "X'0G'", "X'0A", "X0A", "'0A'", "", "X'", " X'0A'", "X'+1'",
        ] {
            assert!(!is_literal(text), "{text}");
        }
    }
}
