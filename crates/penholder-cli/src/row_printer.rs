//! Rows on standard output.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use penholder::Value;
use penholder_core::one_line;
use penholder_rows::table_printer::TablePrinter;
use penholder_rows::terminal_text::{printable, printable_json};
use penholder_rows::value_text::cell;
use penholder_rows::{csv_line, json_object};

use crate::caveats::Caveats;
use crate::failure::Failure;
use crate::output;

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
        let columns = json_object::unique(columns);
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
                data.write(|out| Ok(json_object::write(out, &self.columns, values)?))?;
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
