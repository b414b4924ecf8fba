//! Rows on standard output, as `penholder query` prints them.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use penholder::RowSet;
use penholder_core::one_line;
use penholder_rows::table_printer::TablePrinter;
use penholder_rows::terminal_text::{printable, printable_json};
use penholder_rows::value_text::{cell, scalar};
use penholder_rows::{csv_line, json_object};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One array of objects.
    Json,
    Csv {
        has_header: bool,
    },
    /// With borders and aligned columns.
    Table {
        has_header: bool,
    },
    /// One value by itself.
    Scalar,
}

/// What keeps rows from being printed.
#[derive(Debug)]
pub(crate) enum PrintError {
    /// There is not exactly one value.
    NoScalar {
        rows: usize,
        columns: usize,
    },
    Io(io::Error),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Out = BufWriter<StdoutLock<'static>>;

/// Prints all rows.
pub(crate) fn print(rows: &RowSet, format: Format) -> Result<(), PrintError> {
    let out = BufWriter::new(io::stdout().lock());
    match format {
        Format::Json => print_json(out, rows)?,
        Format::Csv { has_header } => print_csv(out, rows, has_header)?,
        Format::Table { has_header } => print_table(out, rows, has_header)?,
        Format::Scalar => print_scalar(out, rows)?,
    }
    Ok(())
}

fn print_json(mut out: Out, rows: &RowSet) -> io::Result<()> {
    // An object must not have a key twice.
    let columns = json_object::unique(rows.columns().to_vec());
    let mut start = "[";
    for row in rows {
        let mut object = Vec::new();
        json_object::write(&mut object, &columns, row.values())?;
        out.write_all(start.as_bytes())?;
        write_shown(&mut out, &object, printable_json)?;
        start = ",\n";
    }
    out.write_all(if rows.is_empty() { b"[]\n" } else { b"]\n" })?;
    out.flush()
}

fn print_csv(mut out: Out, rows: &RowSet, has_header: bool) -> io::Result<()> {
    let mut line = Vec::new();
    if has_header {
        csv_line::write_header(&mut line, rows.columns())?;
    }
    for row in rows {
        csv_line::write(&mut line, row.values())?;
        write_shown(&mut out, &line, printable)?;
        line.clear();
    }
    write_shown(&mut out, &line, printable)?;
    out.flush()
}

fn print_table(out: Out, rows: &RowSet, has_header: bool) -> io::Result<()> {
    let names = rows.columns().iter().map(|name| one_line(name).to_string());
    let header = has_header.then(|| names.collect());
    let mut table = TablePrinter::new(out, header, terminal_width());
    for row in rows {
        table.row(
            row.values()
                .iter()
                .map(|value| printable(&cell(value)))
                .collect(),
        )?;
    }
    table.end()
}

fn print_scalar(mut out: Out, rows: &RowSet) -> Result<(), PrintError> {
    let (count, columns) = (rows.len(), rows.columns().len());
    let Some(row) = rows.first().filter(|_| count == 1 && columns == 1) else {
        return Err(PrintError::NoScalar {
            rows: count,
            columns,
        });
    };
    let text = row.values().first().map(scalar).unwrap_or_default();
    write_shown(&mut out, format!("{text}\n").as_bytes(), printable)?;
    out.flush()?;
    Ok(())
}

/// Writes a part of the output; on a terminal without what could drive it.
fn write_shown(out: &mut Out, part: &[u8], escape: fn(&str) -> String) -> io::Result<()> {
    match io::stdout().is_terminal() {
        true => out.write_all(escape(&String::from_utf8_lossy(part)).as_bytes()),
        false => out.write_all(part),
    }
}

fn terminal_width() -> Option<usize> {
    let is_terminal = io::stdout().is_terminal();
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (is_terminal && size.ws_col > 0).then(|| size.ws_col.into())
}
