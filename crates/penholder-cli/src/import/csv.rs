//! Rows of fields, the first with the names of the columns.

use std::fs::File;
use std::io::{self, Chain, Read, Take};

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::row::{Broken, LONGEST, Row, Values};
use super::source::Source;
use super::table::Table;

/// How fields are told apart, and what an empty one means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) empty_as_null: bool,
}

/// Reads rows and checks each.
#[derive(Debug)]
pub(crate) struct Reader {
    text: Text,
    /// The columns that the header names, in its order.
    columns: Vec<usize>,
    dialect: Dialect,
}

impl Reader {
    pub(crate) fn open(source: &Source, dialect: Dialect, table: &Table) -> Result<Self, Broken> {
        let mut text = Text::open(source, dialect)?;
        let start = text.place();
        let header = text.header()?;
        let columns = columns(&header, table).map_err(|why| Broken::Malformed { start, why })?;
        Ok(Self {
            text,
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

    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, Broken> {
        let Values::Text { fields, .. } = &mut row.values else {
            return Ok(false);
        };
        row.start = self.text.place();
        if !self.text.read(fields)? {
            return Ok(false);
        }
        let (found, named) = (fields.len(), self.columns.len());
        if found != named {
            let plural = if found == 1 { "field" } else { "fields" };
            return Err(Broken::Malformed {
                start: row.start,
                why: format!("{found} {plural}, but the header names {named} columns"),
            });
        }
        Ok(true)
    }

    pub(crate) fn place(&self) -> u64 {
        self.text.place()
    }
}

/// The names that a file begins with.
pub(crate) fn header(source: &Source, dialect: Dialect) -> Result<StringRecord, Broken> {
    Text::open(source, dialect)?.header()
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

/// After the end there are two line ends more. Only a quote that is still open
/// takes in the second: that is how it is noticed.
const END: &[u8] = b"\n\n";

/// Records, whatever they mean.
#[derive(Debug)]
struct Text {
    records: csv::Reader<Bounded<Chain<Take<File>, &'static [u8]>>>,
    start: u64,
    length: u64,
}

impl Text {
    fn open(source: &Source, dialect: Dialect) -> io::Result<Self> {
        let input = Bounded {
            input: source.read()?.chain(END),
            left: LONGEST,
        };
        let records = ReaderBuilder::new()
            .has_headers(false)
            // Counted by us: the message is clearer.
            .flexible(true)
            .delimiter(dialect.delimiter)
            .buffer_capacity(1 << 16)
            .from_reader(input);
        Ok(Self {
            records,
            start: source.start(),
            length: source.len(),
        })
    }

    fn header(&mut self) -> Result<StringRecord, Broken> {
        let start = self.place();
        let mut header = StringRecord::new();
        if self.read(&mut header)? {
            return Ok(header);
        }
        let why = "it is empty: there is no header with the names of the columns".to_owned();
        Err(Broken::Malformed { start, why })
    }

    fn read(&mut self, record: &mut StringRecord) -> Result<bool, Broken> {
        let start = self.place();
        self.records.get_mut().left = LONGEST;
        let malformed = |why: &str| Broken::Malformed {
            start,
            why: why.to_owned(),
        };
        let found = self.records.read_record(record);
        let found = found.map_err(|error| match error.into_kind() {
            ErrorKind::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                malformed("it is longer than 100 MB; probably a quote is not closed")
            }
            ErrorKind::Io(error) => Broken::Io(error),
            ErrorKind::Utf8 { err, .. } => {
                malformed(&format!("field {} is not UTF-8", err.field() + 1))
            }
            other => malformed(&format!("{other:?}")),
        })?;
        if found && self.records.position().byte() > self.length + 1 {
            return Err(malformed("a quote is not closed until the end of the file"));
        }
        Ok(found)
    }

    fn place(&self) -> u64 {
        self.start + self.records.position().byte()
    }
}

/// Ends with an error when a row takes more than `left`.
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
