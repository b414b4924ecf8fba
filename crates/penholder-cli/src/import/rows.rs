//! The rows of a file, one after the other.

use super::csv::CsvReader;
use super::format::Format;
use super::jsonl::{self, JsonLinesReader};
use super::row::{ReadError, Row};
use super::source::Source;
use super::table::Table;

/// Reads and checks the rows of a file.
#[derive(Debug)]
pub(crate) enum Rows<'a> {
    Csv(CsvReader),
    JsonLines(JsonLinesReader<'a>),
}

impl<'a> Rows<'a> {
    /// Begins with the first row.
    pub(crate) fn open(
        source: &Source,
        format: Format,
        table: &'a Table,
    ) -> Result<Self, ReadError> {
        match format {
            Format::Csv(dialect) => CsvReader::open(source, dialect, table).map(Self::Csv),
            Format::JsonLines => Ok(Self::JsonLines(JsonLinesReader::open(source, table)?)),
        }
    }

    /// A row that [`read`](Self::read) can read into.
    pub(crate) fn new_row(&self) -> Row {
        match self {
            Self::Csv(reader) => reader.new_row(),
            Self::JsonLines(_) => jsonl::new_row(),
        }
    }

    /// Reads and checks the next row. Returns `false` if there is none.
    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, ReadError> {
        match self {
            Self::Csv(reader) => reader.read(row),
            Self::JsonLines(reader) => reader.read(row),
        }
    }

    /// How far the file was read, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Self::Csv(reader) => reader.offset(),
            Self::JsonLines(reader) => reader.offset(),
        }
    }
}
