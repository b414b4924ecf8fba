//! One row of a file.

use std::io;

use csv::StringRecord;
use penholder::Value;
use penholder::rusqlite::{self, Statement};

/// The longest row, in bytes. A file without line ends, or with a quote that is never
/// closed, must not fill the memory.
pub(crate) const MAX_ROW_BYTES: u64 = 100_000_000;

/// A row to read into. It is reused for many rows and keeps its memory.
#[derive(Debug)]
pub(crate) struct Row {
    /// Where it begins in the file, in bytes.
    pub(crate) start: u64,
    /// The numbers of the columns that it has values for.
    pub(crate) columns: Vec<usize>,
    pub(crate) values: Values,
}

#[derive(Debug)]
pub(crate) enum Values {
    Text {
        fields: StringRecord,
        empty_as_null: bool,
    },
    Typed(Vec<Value>),
}

impl Row {
    /// Binds its values to a statement that has a parameter for each.
    pub(crate) fn bind(&self, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        match &self.values {
            Values::Text {
                fields,
                empty_as_null,
            } => fields.iter().zip(1..).try_for_each(|(field, number)| {
                let value = (!(*empty_as_null && field.is_empty())).then_some(field);
                statement.raw_bind_parameter(number, value)
            }),
            Values::Typed(values) => values
                .iter()
                .zip(1..)
                .try_for_each(|(value, number)| statement.raw_bind_parameter(number, value)),
        }
    }

    /// Estimates the memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let text = match &self.values {
            Values::Text { fields, .. } => fields.as_slice().len() + 8 * fields.len(),
            Values::Typed(values) => values.iter().map(size).sum(),
        };
        size_of::<Self>() + size_of_val(self.columns.as_slice()) + text
    }
}

fn size(value: &Value) -> usize {
    let text = match value {
        Value::Text(text) => text.len(),
        _ => 0,
    };
    size_of::<Value>() + text
}

/// Why a row cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The row that begins at `start` is malformed.
    Malformed { start: u64, why: String },
    /// The file cannot be read.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
