//! One row of a file.

use std::io;

use penholder::Value;
use penholder::rusqlite::{self, Statement};

use super::record::Record;
use crate::number::Number;

/// The longest row, in bytes. A file without line ends, or with a quote that is never
/// closed, must not fill the memory.
pub(crate) const MAX_ROW_BYTES: u64 = 100_000_000;

/// A row to read into. It is reused for many rows and keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Where it begins in the file, in bytes.
    pub(crate) start: u64,
    /// The numbers of the columns that it has values for.
    pub(crate) columns: Vec<usize>,
    /// A value for each of them.
    pub(crate) values: Vec<Cell>,
    /// Whether quotes are ordinary characters of its fields though no option says so.
    pub(crate) keeps_quotes: bool,
    /// The fields, if it is from a CSV file.
    pub(crate) record: Record,
}

/// A value to store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// The text of the field of this number.
    Field(usize),
    Number(Number),
    Value(Value),
}

impl Row {
    /// Binds its values to a statement that has a parameter for each.
    pub(crate) fn bind(&self, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        for (cell, number) in self.values.iter().zip(1..) {
            match cell {
                Cell::Field(field) => {
                    statement.raw_bind_parameter(number, self.record.field(*field))?;
                }
                Cell::Number(Number::Integer(value)) => {
                    statement.raw_bind_parameter(number, value)?;
                }
                Cell::Number(Number::Real(value)) => statement.raw_bind_parameter(number, value)?,
                Cell::Value(value) => statement.raw_bind_parameter(number, value)?,
            }
        }
        Ok(())
    }

    /// Whether a field is empty and stored as text.
    pub(crate) fn has_empty_text(&self) -> bool {
        let is_empty = |cell: &Cell| match cell {
            Cell::Field(field) => self.record.field(*field).is_empty(),
            _ => false,
        };
        self.values.iter().any(is_empty)
    }

    /// Estimates the memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let values: usize = self.values.iter().map(size).sum();
        size_of::<Self>() + size_of_val(self.columns.as_slice()) + self.record.size() + values
    }
}

fn size(cell: &Cell) -> usize {
    let text = match cell {
        Cell::Value(Value::Text(text)) => text.len(),
        Cell::Value(Value::Blob(bytes)) => bytes.len(),
        _ => 0,
    };
    size_of::<Cell>() + text
}

/// Why a row cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// What begins at `start` is malformed.
    Malformed { start: u64, why: String },
    /// The file cannot be read.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
