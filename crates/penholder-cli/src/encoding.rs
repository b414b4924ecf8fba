//! How the text of a file is encoded. It is read as UTF-8; another encoding is converted
//! first.

use std::fs::File;
use std::io::{self, Read, Write};

use encoding_rs::{DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// The encoding of a file, as far as its first bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detected {
    /// UTF-8, or an encoding that cannot be told from it.
    Utf8,
    /// A byte order mark says so.
    Marked(&'static Encoding),
    /// It has no byte order mark, and looks like this encoding.
    Probably(&'static Encoding),
    /// Not supported.
    Utf32,
}

/// Looks at the first bytes of a file.
pub(crate) fn detect(head: &[u8]) -> Detected {
    match head {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => Detected::Utf32,
        [0xFF, 0xFE, ..] => Detected::Marked(UTF_16LE),
        [0xFE, 0xFF, ..] => Detected::Marked(UTF_16BE),
        [0xEF, 0xBB, 0xBF, ..] => Detected::Marked(UTF_8),
        _ => probably_utf_16(head).map_or(Detected::Utf8, Detected::Probably),
    }
}

/// In UTF-16, one half of each ASCII character is zero, and always the same half.
fn probably_utf_16(head: &[u8]) -> Option<&'static Encoding> {
    let (pairs, _) = head.as_chunks::<2>();
    let high = pairs.iter().filter(|pair| pair[0] == 0).count();
    let low = pairs.iter().filter(|pair| pair[1] == 0).count();
    // A few zeros may be NUL characters, or halves of others.
    let is_always =
        |zeros: usize, others: usize| zeros >= 2 && zeros * 8 >= pairs.len() && others * 4 <= zeros;
    match (is_always(low, high), is_always(high, low)) {
        (true, _) => Some(UTF_16LE),
        (_, true) => Some(UTF_16BE),
        _ => None,
    }
}

/// The encoding to convert from. `None` if the file is UTF-8. The error says what to do.
pub(crate) fn choose(
    given: Option<&'static Encoding>,
    head: &[u8],
) -> Result<Option<&'static Encoding>, String> {
    let encoding = match (given, detect(head)) {
        (_, Detected::Utf32) => {
            return Err("it is UTF-32: convert it, for example with iconv".to_owned());
        }
        // With the general name, the mark says which of the two it is.
        (Some(given), Detected::Marked(marked)) if is_utf_16(given) && is_utf_16(marked) => marked,
        (Some(given), Detected::Marked(marked)) if given != marked => {
            let name = if marked == UTF_8 { "UTF-8" } else { "UTF-16" };
            return Err(format!(
                "its byte order mark says {name}: leave out --encoding"
            ));
        }
        (Some(given), _) => given,
        (None, Detected::Marked(marked)) => marked,
        (None, Detected::Probably(encoding)) => {
            let name = encoding.name().to_ascii_lowercase();
            return Err(format!(
                "it looks like UTF-16: give --encoding {name}, or --encoding utf-8 if it is not"
            ));
        }
        (None, Detected::Utf8) => UTF_8,
    };
    Ok((encoding != UTF_8).then_some(encoding))
}

fn is_utf_16(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

/// Why a file cannot be converted.
#[derive(Debug)]
pub(crate) enum ConversionError {
    Read(io::Error),
    Write(io::Error),
    /// The bytes before the end of this line are not of the encoding.
    Malformed {
        line: u64,
    },
}

/// Copies text, converted to UTF-8, into a file without a name.
pub(crate) fn convert(
    input: &mut impl Read,
    encoding: &'static Encoding,
) -> Result<File, ConversionError> {
    let mut file = tempfile::tempfile().map_err(ConversionError::Write)?;
    let mut decoder = encoding.new_decoder_with_bom_removal();
    let mut bytes = vec![0; 1 << 16];
    let mut text = vec![0; 1 << 18];
    let mut line = 1;
    loop {
        let length = read(input, &mut bytes).map_err(ConversionError::Read)?;
        let mut rest = &bytes[..length];
        loop {
            let (result, used, written) =
                decoder.decode_to_utf8_without_replacement(rest, &mut text, length == 0);
            rest = &rest[used..];
            let text = &text[..written];
            line += text.iter().filter(|byte| **byte == b'\n').count() as u64;
            file.write_all(text).map_err(ConversionError::Write)?;
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => return Err(ConversionError::Malformed { line }),
            }
        }
        if length == 0 {
            return Ok(file);
        }
    }
}

fn read(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::WINDOWS_1252;
    use std::io::Seek;

    fn converted(bytes: &[u8], encoding: &'static Encoding) -> Result<String, ConversionError> {
        let mut file = convert(&mut &*bytes, encoding)?;
        file.rewind().unwrap();
        Ok(io::read_to_string(file).unwrap())
    }

    #[test]
    fn text_becomes_utf_8() {
        assert_eq!(converted(b"a\xE4\x80", WINDOWS_1252).unwrap(), "aä€");
        assert_eq!(converted(b"\xFF\xFEa\0\xE4\0", UTF_16LE).unwrap(), "aä");
        assert_eq!(converted(b"\0a\xD8\x3D\xDE\x00", UTF_16BE).unwrap(), "a😀");
        let long = "ä".repeat(1 << 17);
        let bytes: Vec<u8> = long.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(converted(&bytes, UTF_16LE).unwrap(), long);
    }

    #[test]
    fn what_is_not_of_the_encoding_is_named_by_its_line() {
        for bytes in [&b"a\0\n\0\0\xD8b\0"[..], b"a\0\n\0b"] {
            let error = converted(bytes, UTF_16LE).unwrap_err();
            assert!(
                matches!(error, ConversionError::Malformed { line: 2 }),
                "{error:?}"
            );
        }
    }

    #[test]
    fn the_mark_decides_and_zeros_hint() {
        assert_eq!(choose(None, b"id,n"), Ok(None));
        assert_eq!(choose(None, b""), Ok(None));
        assert_eq!(choose(None, b"\xFF\xFEi\0"), Ok(Some(UTF_16LE)));
        assert_eq!(choose(Some(UTF_16LE), b"\xFE\xFF\0i"), Ok(Some(UTF_16BE)));
        assert_eq!(choose(Some(WINDOWS_1252), b"id,n"), Ok(Some(WINDOWS_1252)));
        assert!(
            choose(None, b"i\0d\0")
                .unwrap_err()
                .contains("--encoding utf-16le")
        );
        assert!(
            choose(None, b"\0i\0d")
                .unwrap_err()
                .contains("--encoding utf-16be")
        );
        assert!(
            choose(
                None,
                "имя,b\n"
                    .encode_utf16()
                    .flat_map(u16::to_be_bytes)
                    .collect::<Vec<_>>()
                    .as_slice()
            )
            .unwrap_err()
            .contains("--encoding utf-16be")
        );
        assert_eq!(choose(None, b"a,b\n1,\0\n2,x\0y\n3,\0\n"), Ok(None));
        assert_eq!(choose(Some(UTF_8), b"i\0d\0"), Ok(None));
        assert_eq!(choose(None, b"\xEF\xBB\xBFa"), Ok(None));
        for (given, head) in [
            (WINDOWS_1252, &b"\xEF\xBB\xBFa"[..]),
            (WINDOWS_1252, b"\xFF\xFEa\0"),
            (UTF_8, b"\xFF\xFEa\0"),
            (UTF_16LE, b"\xEF\xBB\xBFa"),
        ] {
            let why = choose(Some(given), head).unwrap_err();
            assert!(why.ends_with("leave out --encoding"), "{why}");
        }
        assert!(
            choose(None, b"\xFF\xFE\0\0")
                .unwrap_err()
                .contains("UTF-32")
        );
    }
}
