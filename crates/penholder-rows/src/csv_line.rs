//! One line of CSV.
//!
//! What is not text is never in quotes: an empty field is NULL, and `X'0A'` is a blob. A text
//! that looks like one of them is in quotes.

use std::borrow::Cow;
use std::io::{self, Write};

use penholder::Value;

use crate::{blob_literal, real_literal};

/// Writes the names of the columns.
pub fn write_header(out: &mut (impl Write + ?Sized), columns: &[String]) -> io::Result<()> {
    for (number, column) in columns.iter().enumerate() {
        separate(out, number)?;
        write_text(out, column)?;
    }
    out.write_all(b"\n")
}

/// Writes the values of a row.
pub fn write(out: &mut (impl Write + ?Sized), values: &[Value]) -> io::Result<()> {
    for (number, value) in values.iter().enumerate() {
        separate(out, number)?;
        match value {
            // The line would be empty, and readers skip it.
            Value::Null if values.len() == 1 => out.write_all(b"\"\"")?,
            Value::Null => {}
            Value::Integer(value) => write!(out, "{value}")?,
            Value::Real(value) => out.write_all(real_literal::write(*value).as_bytes())?,
            Value::Text(text) => write_text(out, text)?,
            Value::Blob(bytes) => out.write_all(blob_literal::write(bytes).as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

fn separate(out: &mut (impl Write + ?Sized), number: usize) -> io::Result<()> {
    if number == 0 {
        return Ok(());
    }
    out.write_all(b",")
}

fn write_text(out: &mut (impl Write + ?Sized), text: &str) -> io::Result<()> {
    // Readers drop a byte order mark at the beginning of a file.
    let has_special = text.starts_with('\u{feff}')
        || text
            .bytes()
            .any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if !has_special && !text.is_empty() && !blob_literal::is_literal(text) {
        return out.write_all(text.as_bytes());
    }
    let doubled = match has_special {
        true => Cow::Owned(text.replace('"', "\"\"")),
        false => Cow::Borrowed(text),
    };
    write!(out, "\"{doubled}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[Value]) -> String {
        let mut out = Vec::new();
        write(&mut out, values).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_not_text_is_not_quoted() {
        let values = [
            Value::Null,
            "".into(),
            vec![10].into(),
            "X'0A'".into(),
            Value::Real(f64::NEG_INFINITY),
            Value::Real(1.0),
            "a \"b\",\n".into(),
            "plain".into(),
        ];
        let expected = ",\"\",X'0A',\"X'0A'\",-9e999,1.0,\"a \"\"b\"\",\n\",plain\n";
        assert_eq!(line(&values), expected);
        assert_eq!(line(&[Value::Null]), "\"\"\n");
    }
}
