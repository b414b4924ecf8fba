//! Data on standard output.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use comfy_table::{Table, presets};
use penholder::Value;
use serde::Serialize;

use crate::failure::Failure;
use crate::sys::pipe;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One array of objects.
    Json,
    /// With a header.
    Csv,
    /// For people.
    Table,
}

impl Format {
    /// A table for a person, CSV for a program.
    pub(crate) fn for_stdout() -> Self {
        if io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Csv
        }
    }
}

/// Prints bytes and ends well.
pub(crate) fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one JSON value on a line.
pub(crate) fn print_json(value: &impl Serialize) -> Result<ExitCode, Failure> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    print(&text)
}

/// Waits for this time, unless the reader of our output goes away first.
pub(crate) fn pause(time: Duration) -> Result<(), Failure> {
    if pipe::stdout_closes_within(time)? {
        return Err(Failure::PipeClosed);
    }
    Ok(())
}

/// Prints rows as they come; only a table is kept until its end.
pub(crate) struct RowPrinter {
    columns: Vec<String>,
    to: Printer,
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
        let to = match format {
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
                    .set_header(&columns);
                Printer::Table(Box::new(table))
            }
        };
        // An object has each key once.
        let columns = unique(columns);
        Ok(Self { columns, to })
    }

    pub(crate) fn row(&mut self, values: &[Value]) -> Result<(), Failure> {
        match &mut self.to {
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
        match self.to {
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

/// The error of the output below, so that a closed pipe is known as one.
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
            // JSON has no infinity: the number beyond all is read as one.
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
        // Shortest text that reads back as the same number, never an integer.
        Value::Real(value) => format!("{value:?}"),
        Value::Text(value) => value.clone(),
        Value::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("X'{digits}'")
        }
    }
}

/// Text that cannot drive a terminal; line breaks and tabs are left.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A second `a` becomes `a:1`, as SQLite does it.
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

/// A duration for people.
pub(crate) fn duration(duration: Duration) -> String {
    time(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// A moment of the wall clock, as the lock writes it.
pub(crate) fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.3}"))
}

/// A size for people: `512 bytes`, `4.1 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..1_000_000 => format!("{} kB", bytes / 1000),
        1_000_000..1_000_000_000 => {
            format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
        }
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// A time for people, from microseconds: `14 µs`, `1.2 ms`, `3.3 s`.
pub(crate) fn time(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
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
    fn a_table_cannot_drive_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\nb");
    }

    #[test]
    fn columns_of_one_name_are_told_apart() {
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

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(45_678), "45 kB");
        assert_eq!(size(4_152_000), "4.1 MB");
        assert_eq!(size(2_000_000_000), "2.0 GB");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(time(7), "7 µs");
        assert_eq!(time(1_250), "1.2 ms");
        assert_eq!(time(45_000), "45 ms");
        assert_eq!(time(3_300_000), "3.3 s");
    }
}
