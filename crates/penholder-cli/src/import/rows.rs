//! The rows of a file, one after the other.

use super::csv::CsvReader;
use super::format::Format;
use super::json::JsonReader;
use super::row::{ReadError, Row};
use super::source::Source;
use super::table::Table;
use super::unknown::Unknown;
use crate::args::Import;

/// Reads and checks the rows of a file.
#[derive(Debug)]
pub(crate) enum Rows<'a> {
    Csv(CsvReader<'a>),
    Json(JsonReader<'a>),
}

impl<'a> Rows<'a> {
    /// Begins with the first row.
    pub(crate) fn open(
        source: &Source,
        format: Format,
        table: &'a Table,
        args: &Import,
    ) -> Result<Self, ReadError> {
        let unknown = Unknown::new(args.ignore_unknown);
        match format {
            Format::Csv(dialect) => {
                CsvReader::open(source, dialect, table, unknown, args.lossy).map(Self::Csv)
            }
            Format::Json => JsonReader::open(source, table, unknown, args.lossy).map(Self::Json),
        }
    }

    /// Reads and checks the next row. Returns `false` if there is none.
    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, ReadError> {
        match self {
            Self::Csv(reader) => reader.read(row),
            Self::Json(reader) => reader.read(row),
        }
    }

    /// How far the file was read, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Self::Csv(reader) => reader.offset(),
            Self::Json(reader) => reader.offset(),
        }
    }

    /// The names that were left out so far.
    pub(crate) fn unknown(&self) -> &Unknown {
        match self {
            Self::Csv(reader) => reader.unknown(),
            Self::Json(reader) => reader.unknown(),
        }
    }
}
