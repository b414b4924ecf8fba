//! Rows as JSON objects.

use std::io::{self, Write};

use penholder::Value;

use crate::{base64, real_literal};

/// Writes a row as an object. The names of the columns differ: see [`unique`].
///
/// # Errors
///
/// Those of `out`.
pub fn write(mut out: &mut dyn Write, columns: &[String], values: &[Value]) -> io::Result<()> {
    for (number, (column, value)) in columns.iter().zip(values).enumerate() {
        out.write_all(if number == 0 { b"{" } else { b"," })?;
        serde_json::to_writer(&mut out, column)?;
        out.write_all(b":")?;
        match value {
            Value::Null => out.write_all(b"null")?,
            Value::Integer(value) => write!(out, "{value}")?,
            Value::Real(value) => out.write_all(real_literal::write(*value).as_bytes())?,
            Value::Text(value) => serde_json::to_writer(&mut out, value)?,
            // As Datasette and sqlite-utils write it, so that it is not taken for a text.
            Value::Blob(bytes) => {
                let encoded = base64::encode(bytes);
                write!(out, "{{\"$base64\":true,\"encoded\":\"{encoded}\"}}")?;
            }
        }
    }
    out.write_all(b"}")
}

/// Makes names unique as SQLite does: a second `a` becomes `a:1`.
pub fn unique(columns: Vec<String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let again = (1..).map(|number| format!("{column}:{number}"));
        let name = std::iter::once(column.clone())
            .chain(again)
            .find(|name| !seen.contains(name));
        seen.extend(name);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_column_names_become_unique() {
        let names = ["a", "a", "b", "a", "a:1"].map(str::to_owned).to_vec();
        assert_eq!(unique(names), ["a", "a:1", "b", "a:2", "a:1:1"]);
    }

    #[test]
    fn objects_are_json() {
        let mut out = Vec::new();
        let columns = ["n", "r", "t", "b"].map(str::to_owned);
        let values = [
            Value::Null,
            Value::Real(f64::INFINITY),
            Value::Text("\"\n".into()),
            Value::Blob(vec![1]),
        ];
        write(&mut out, &columns, &values).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"n":null,"r":9e999,"t":"\"\n","b":{"$base64":true,"encoded":"AQ=="}}"#
        );
    }
}
