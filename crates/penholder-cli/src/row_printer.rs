//! Rows on standard output.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Table, presets};
use penholder::Value;
use penholder_core::one_line;

use crate::failure::Failure;
use crate::text::printable;

/// The format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One array of objects.
    Json,
    /// Begins with a header.
    Csv,
    /// Has borders and aligned columns.
    Table,
}

impl Format {
    /// A table on a terminal, otherwise CSV.
    pub(crate) fn for_stdout() -> Self {
        if io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Csv
        }
    }
}

/// Prints rows as they come. Only a table is printed at its end.
pub(crate) struct RowPrinter {
    columns: Vec<String>,
    format: Printer,
}

enum Printer {
    Json {
        out: io::StdoutLock<'static>,
        rows: u64,
    },
    Csv(Box<csv::Writer<io::StdoutLock<'static>>>),
    Table(Box<Table>),
}

impl RowPrinter {
    pub(crate) fn new(columns: Vec<String>, format: Format) -> Result<Self, Failure> {
        let out = io::stdout().lock();
        let printer = match format {
            Format::Json => Printer::Json { out, rows: 0 },
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(&columns).map_err(csv_error)?;
                Printer::Csv(Box::new(writer))
            }
            Format::Table => {
                let mut table = Table::new();
                table
                    .load_preset(presets::UTF8_FULL_CONDENSED)
                    .set_header(columns.iter().map(one_line));
                Printer::Table(Box::new(table))
            }
        };
        // An object must not have a key twice.
        let columns = unique(columns);
        Ok(Self {
            columns,
            format: printer,
        })
    }

    pub(crate) fn row(&mut self, values: &[Value]) -> Result<(), Failure> {
        match &mut self.format {
            Printer::Json { out, rows } => {
                out.write_all(if *rows == 0 { b"[" } else { b",\n" })?;
                *rows += 1;
                write_object(out, &self.columns, values)?;
            }
            Printer::Csv(writer) => {
                let fields = values.iter().map(|value| text(value, ""));
                writer.write_record(fields).map_err(csv_error)?;
            }
            Printer::Table(table) => {
                table.add_row(values.iter().map(|value| printable(&text(value, "NULL"))));
            }
        }
        Ok(())
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.format {
            Printer::Json { mut out, rows } => {
                out.write_all(if rows == 0 { b"[]\n" } else { b"]\n" })?;
                out.flush()?;
            }
            Printer::Csv(mut writer) => writer.flush()?,
            Printer::Table(table) => {
                let mut out = io::stdout().lock();
                writeln!(out, "{table}")?;
                out.flush()?;
            }
        }
        Ok(())
    }
}

/// Unwraps the error of the output, so that a closed pipe is recognised.
fn csv_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn write_object(out: &mut impl Write, columns: &[String], values: &[Value]) -> Result<(), Failure> {
    for (number, (column, value)) in columns.iter().zip(values).enumerate() {
        out.write_all(if number == 0 { b"{" } else { b"," })?;
        serde_json::to_writer(&mut *out, column)?;
        out.write_all(b":")?;
        match value {
            Value::Null => out.write_all(b"null")?,
            Value::Integer(value) => write!(out, "{value}")?,
            // JSON has no infinity. Parsers read this number as one.
            Value::Real(value) if value.is_infinite() => {
                out.write_all(if *value > 0.0 { b"9e999" } else { b"-9e999" })?;
            }
            Value::Real(value) => serde_json::to_writer(&mut *out, value)?,
            Value::Text(value) => serde_json::to_writer(&mut *out, value)?,
            Value::Blob(_) => serde_json::to_writer(&mut *out, &text(value, ""))?,
        }
    }
    out.write_all(b"}")?;
    Ok(())
}

/// A value as text; a blob as the SQL literal `X'0A0B'`.
fn text(value: &Value, null: &str) -> String {
    match value {
        Value::Null => null.to_owned(),
        Value::Integer(value) => value.to_string(),
        // The shortest text that is read back as the same real number.
        Value::Real(value) => format!("{value:?}"),
        Value::Text(value) => value.clone(),
        Value::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("X'{digits}'")
        }
    }
}

/// Makes names unique as SQLite does: a second `a` becomes `a:1`.
fn unique(columns: Vec<String>) -> Vec<String> {
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
    fn values_as_text() {
        assert_eq!(text(&Value::Real(1.0), ""), "1.0");
        assert_eq!(text(&Value::Blob(vec![10, 255]), ""), "X'0AFF'");
        assert_eq!(text(&Value::Null, "NULL"), "NULL");
    }

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
        write_object(&mut out, &columns, &values).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"n":null,"r":9e999,"t":"\"\n","b":"X'01'"}"#
        );
    }
}
