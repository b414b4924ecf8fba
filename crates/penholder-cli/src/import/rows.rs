//! One row of a file, and the rows of a file one after the other.

use std::io;

use csv::StringRecord;
use penholder::Value;
use penholder::rusqlite::{self, Statement};

use super::source::Source;
use super::table::Table;
use super::{Layout, csv as sheet, jsonl};

/// The longest row, in bytes: what comes without a line end, or in a quote that
/// nobody closes, must not fill the memory.
pub(crate) const LONGEST: u64 = 100_000_000;

/// A row, to be read into again and again: it keeps its memory.
#[derive(Debug)]
pub(crate) struct Row {
    /// Where it begins in the file, in bytes.
    pub(crate) start: u64,
    /// The columns that it has values for.
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
    /// Hands its values to a statement that has a parameter for each.
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

    /// About how much memory it takes.
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

/// Why the next row cannot be had.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The row that begins there is not as it should be.
    Malformed { start: u64, why: String },
    /// The file cannot be read.
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The rows of a file, one after the other.
#[derive(Debug)]
pub(crate) enum Rows<'a> {
    Csv(sheet::Reader),
    JsonLines(jsonl::Reader<'a>),
}

impl<'a> Rows<'a> {
    /// From the first on.
    pub(crate) fn of(source: &Source, layout: &Layout, table: &'a Table) -> Result<Self, Broken> {
        match layout {
            Layout::Csv(dialect) => sheet::Reader::open(source, *dialect, table).map(Self::Csv),
            Layout::JsonLines => Ok(Self::JsonLines(jsonl::Reader::open(source, table)?)),
        }
    }

    /// A row that [`read`](Self::read) can read into.
    pub(crate) fn new_row(&self) -> Row {
        match self {
            Self::Csv(reader) => reader.new_row(),
            Self::JsonLines(_) => jsonl::new_row(),
        }
    }

    /// Reads and checks the next row; `false` if there is none.
    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, Broken> {
        match self {
            Self::Csv(reader) => reader.read(row),
            Self::JsonLines(reader) => reader.read(row),
        }
    }

    /// How many bytes of the file were read.
    pub(crate) fn place(&self) -> u64 {
        match self {
            Self::Csv(reader) => reader.place(),
            Self::JsonLines(reader) => reader.place(),
        }
    }
}
