//! Rows on standard output.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use penholder::Value;
use penholder_core::one_line;

use crate::caveats::Caveats;
use crate::failure::Failure;
use crate::output;
use crate::table_printer::TablePrinter;
use crate::text::{printable, printable_json};
use crate::{base64, blob_literal, csv_line, real_literal};

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

/// How rows are printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    /// Whether CSV and a table begin with the names of the columns.
    pub(crate) has_header: bool,
}

impl Layout {
    pub(crate) fn for_stdout() -> Self {
        Self {
            format: Format::for_stdout(),
            has_header: true,
        }
    }
}

/// Prints rows as they come.
pub(crate) struct RowPrinter {
    columns: Vec<String>,
    format: Printer,
    /// What the reader of the rows has to know.
    pub(crate) caveats: Caveats,
}

enum Printer {
    Json { data: Data, rows: u64 },
    Csv(Data),
    Table(TablePrinter<Out>),
}

/// Where JSON and CSV go.
struct Data {
    out: Out,
    /// On a terminal: how to write what could drive it.
    escape: Option<fn(&str) -> String>,
}

type Out = BufWriter<StdoutLock<'static>>;

impl RowPrinter {
    pub(crate) fn new(columns: Vec<String>, layout: Layout) -> Result<Self, Failure> {
        let out = BufWriter::new(io::stdout().lock());
        let printer = match layout.format {
            Format::Json => Printer::Json {
                data: Data::new(out, printable_json),
                rows: 0,
            },
            Format::Csv => {
                let mut data = Data::new(out, printable);
                if layout.has_header {
                    data.write(|out| Ok(csv_line::write_header(out, &columns)?))?;
                }
                Printer::Csv(data)
            }
            Format::Table => {
                let names = || {
                    columns
                        .iter()
                        .map(|name| one_line(name).to_string())
                        .collect()
                };
                let header = layout.has_header.then(names);
                Printer::Table(TablePrinter::new(out, header, output::terminal_width()))
            }
        };
        // An object must not have a key twice.
        let columns = unique(columns);
        Ok(Self {
            columns,
            format: printer,
            caveats: Caveats::default(),
        })
    }

    pub(crate) fn row(&mut self, values: &[Value]) -> Result<(), Failure> {
        match &mut self.format {
            Printer::Json { data, rows } => {
                data.out.write_all(if *rows == 0 { b"[" } else { b",\n" })?;
                *rows += 1;
                data.write(|out| write_object(out, &self.columns, values))?;
            }
            Printer::Csv(data) => {
                data.write(|out| Ok(csv_line::write(out, values)?))?;
                self.caveats.note_csv(values);
            }
            Printer::Table(table) => {
                table.row(values.iter().map(|value| printable(&cell(value))).collect())?;
            }
        }
        Ok(())
    }

    /// Prints what is left, and then warns of what the rows do not show.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.format {
            Printer::Json { data, rows } => {
                let mut out = data.out;
                out.write_all(if rows == 0 { b"[]\n" } else { b"]\n" })?;
                out.flush()?;
            }
            Printer::Csv(data) => {
                let mut out = data.out;
                out.flush()?;
            }
            Printer::Table(table) => table.end()?,
        }
        self.caveats.say();
        Ok(())
    }
}

impl Data {
    fn new(out: Out, escape: fn(&str) -> String) -> Self {
        let escape = io::stdout().is_terminal().then_some(escape);
        Self { out, escape }
    }

    /// Writes a line, or a part of one.
    fn write(
        &mut self,
        line: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(escape) = self.escape else {
            return line(&mut self.out);
        };
        let mut text = Vec::new();
        line(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        self.out.write_all(escape(&text).as_bytes())?;
        Ok(())
    }
}

fn write_object(
    mut out: &mut dyn Write,
    columns: &[String],
    values: &[Value],
) -> Result<(), Failure> {
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
    out.write_all(b"}")?;
    Ok(())
}

/// A value by itself.
pub(crate) fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => text.clone(),
        other => cell(other),
    }
}

/// A value in a table. A text that could be taken for NULL or a blob is an SQL literal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => real_literal::write(*value),
        Value::Text(text) if is_ambiguous(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => blob_literal::write(bytes),
    }
}

fn is_ambiguous(text: &str) -> bool {
    let is_literal = text.len() > 1 && text.starts_with('\'') && text.ends_with('\'');
    text == "NULL" || is_literal || blob_literal::is_literal(text)
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
    fn no_text_in_a_table_looks_like_another_value() {
        for (value, expected) in [
            (Value::Real(1.0), "1.0"),
            (Value::Real(f64::NEG_INFINITY), "-9e999"),
            (vec![10, 255].into(), "X'0AFF'"),
            (Value::Null, "NULL"),
            ("null".into(), "null"),
            ("it's".into(), "it's"),
            ("'".into(), "'"),
            ("NULL".into(), "'NULL'"),
            ("x'0a'".into(), "'x''0a'''"),
            ("'NULL'".into(), "'''NULL'''"),
        ] {
            assert_eq!(cell(&value), expected);
        }
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
            r#"{"n":null,"r":9e999,"t":"\"\n","b":{"$base64":true,"encoded":"AQ=="}}"#
        );
    }
}
