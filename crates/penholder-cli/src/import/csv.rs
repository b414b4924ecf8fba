//! CSV: rows of fields, the first with the names of the columns.

use std::fs::File;
use std::io::{self, Chain, Read, Take};

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::format::Dialect;
use super::row::{MAX_ROW_BYTES, ReadError, Row, Values};
use super::source::Source;
use super::table::Table;

/// Reads rows and checks each.
#[derive(Debug)]
pub(crate) struct CsvReader {
    records: Records,
    /// The numbers of the columns that the header names, in its order.
    columns: Vec<usize>,
    dialect: Dialect,
}

impl CsvReader {
    pub(crate) fn open(
        source: &Source,
        dialect: Dialect,
        table: &Table,
    ) -> Result<Self, ReadError> {
        let mut records = Records::open(source, dialect)?;
        let start = records.offset();
        let header = records.header()?;
        let columns = columns(&header, table).map_err(|why| ReadError::Malformed { start, why })?;
        Ok(Self {
            records,
            columns,
            dialect,
        })
    }

    pub(crate) fn new_row(&self) -> Row {
        Row {
            start: 0,
            columns: self.columns.clone(),
            values: Values::Text {
                fields: StringRecord::new(),
                empty_as_null: self.dialect.empty_as_null,
            },
        }
    }

    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, ReadError> {
        let Values::Text { fields, .. } = &mut row.values else {
            return Ok(false);
        };
        row.start = self.records.offset();
        if !self.records.read(fields)? {
            return Ok(false);
        }
        let (found, named) = (fields.len(), self.columns.len());
        if found != named {
            let plural = if found == 1 { "field" } else { "fields" };
            return Err(ReadError::Malformed {
                start: row.start,
                why: format!("{found} {plural}, but the header names {named} columns"),
            });
        }
        Ok(true)
    }

    pub(crate) fn offset(&self) -> u64 {
        self.records.offset()
    }
}

/// Reads the names of the columns.
pub(crate) fn header(source: &Source, dialect: Dialect) -> Result<StringRecord, ReadError> {
    Records::open(source, dialect)?.header()
}

fn columns(header: &StringRecord, table: &Table) -> Result<Vec<usize>, String> {
    let mut columns = Vec::with_capacity(header.len());
    for name in header {
        let number = table.column(name, columns.len())?;
        if columns.contains(&number) {
            return Err(format!("the header names the column {name:?} twice"));
        }
        columns.push(number);
    }
    Ok(columns)
}

/// Follows the end of the file: two more line ends. The reader takes in the second one
/// only inside a quote, which is how a quote that is never closed is noticed.
const END: &[u8] = b"\n\n";

/// Records that are not yet checked against a table.
#[derive(Debug)]
struct Records {
    reader: csv::Reader<Bounded<Chain<Take<File>, &'static [u8]>>>,
    start: u64,
    length: u64,
}

impl Records {
    fn open(source: &Source, dialect: Dialect) -> io::Result<Self> {
        let input = Bounded {
            input: source.read()?.chain(END),
            left: MAX_ROW_BYTES,
        };
        let reader = ReaderBuilder::new()
            .has_headers(false)
            // `CsvReader` counts the fields: its message is clearer.
            .flexible(true)
            .delimiter(dialect.delimiter)
            .buffer_capacity(1 << 16)
            .from_reader(input);
        Ok(Self {
            reader,
            start: source.start(),
            length: source.len(),
        })
    }

    fn header(&mut self) -> Result<StringRecord, ReadError> {
        let start = self.offset();
        let mut header = StringRecord::new();
        if self.read(&mut header)? {
            return Ok(header);
        }
        let why = "it is empty: there is no header with the names of the columns".to_owned();
        Err(ReadError::Malformed { start, why })
    }

    fn read(&mut self, record: &mut StringRecord) -> Result<bool, ReadError> {
        let start = self.offset();
        self.reader.get_mut().left = MAX_ROW_BYTES;
        let found = self.reader.read_record(record);
        let found = found.map_err(|error| read_error(error, start))?;
        if found && self.reader.position().byte() > self.length + 1 {
            let why = "a quote is not closed before the end of the file".to_owned();
            return Err(ReadError::Malformed { start, why });
        }
        Ok(found)
    }

    fn offset(&self) -> u64 {
        self.start + self.reader.position().byte()
    }
}

fn read_error(error: csv::Error, start: u64) -> ReadError {
    let why = match error.into_kind() {
        ErrorKind::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            "it is longer than 100 MB; probably a quote is not closed".to_owned()
        }
        ErrorKind::Io(error) => return ReadError::Io(error),
        ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8", err.field() + 1),
        other => format!("{other:?}"),
    };
    ReadError::Malformed { start, why }
}

/// Fails when a row takes more than `left` bytes.
#[derive(Debug)]
struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let length = self.input.read(buffer)?;
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}
