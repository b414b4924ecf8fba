//! CSV: rows of fields, the first with the names of the columns.

use penholder::Value;

use super::column_type::Stored;
use super::format::{Dialect, other_delimiter};
use super::record::Record;
use super::records::Records;
use super::row::{Cell, ReadError, Row};
use super::source::Source;
use super::table::Table;
use super::unknown::Unknown;
use crate::args::{Blobs, EmptyFields};
use crate::number;
use crate::text::count;
use penholder_rows::blob_literal;

/// Reads rows and checks each.
#[derive(Debug)]
pub(crate) struct CsvReader<'a> {
    records: Records,
    table: &'a Table,
    /// The column of each field; `None` if the field is left out.
    columns: Vec<Option<usize>>,
    unknown: Unknown,
    dialect: Dialect,
    is_lossy: bool,
}

impl<'a> CsvReader<'a> {
    pub(crate) fn open(
        source: &Source,
        dialect: Dialect,
        table: &'a Table,
        mut unknown: Unknown,
        is_lossy: bool,
    ) -> Result<Self, ReadError> {
        let is_column = |name: &str| table.column(name, 0).is_some();
        let mut records = Records::open(source, dialect, is_column)?;
        let header = records.header()?;
        let start = records.start();
        let columns = columns(&header, table, &mut unknown, dialect, records.delimiter())
            .map_err(|why| ReadError::Malformed { start, why })?;
        Ok(Self {
            records,
            table,
            columns,
            unknown,
            dialect,
            is_lossy,
        })
    }

    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, ReadError> {
        if !self.records.read(&mut row.record)? {
            return Ok(false);
        }
        row.start = self.records.start();
        row.keeps_quotes = self.dialect.keeps_quotes;
        let filled = self.fill(row);
        filled.map_err(|why| ReadError::Malformed {
            start: row.start,
            why,
        })?;
        Ok(true)
    }

    pub(crate) fn offset(&self) -> u64 {
        self.records.offset()
    }

    /// The names that were left out.
    pub(crate) fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    /// Finds the value of each column.
    fn fill(&self, row: &mut Row) -> Result<(), String> {
        self.check_length(&row.record)?;
        row.columns.clear();
        row.values.clear();
        let fields = self.columns.iter().enumerate().take(row.record.len());
        for (field, column) in fields {
            if let Some(column) = *column {
                row.values.push(self.cell(&row.record, field, column)?);
                row.columns.push(column);
            }
        }
        Ok(())
    }

    fn check_length(&self, record: &Record) -> Result<(), String> {
        let (found, named) = (record.len(), self.columns.len());
        if found == named {
            return Ok(());
        }
        let (fields, columns) = (count(found, "field"), count(named, "column"));
        let why = format!("{fields}, but the header names {columns}");
        if !self.dialect.accepts_ragged {
            let next = match (found < named, self.quote_of(record)) {
                (_, Some(next)) => next,
                (true, _) => "give --ragged to use the defaults of the columns that are missing",
                (false, _) => "give --ragged to accept more fields if they are empty",
            };
            return Err(format!("{why}: {next}"));
        }
        match (named..found).find(|field| !record.field(*field).is_empty()) {
            Some(field) => Err(format!("{why}, and field {} is not empty", field + 1)),
            None => Ok(()),
        }
    }

    /// What to do about quotes, if a field has some that are not read as such.
    fn quote_of(&self, record: &Record) -> Option<&'static str> {
        let is_apostrophed = |field: &str| field.starts_with('\'');
        if self.dialect.quote != Some(b'\'') && record.iter().any(is_apostrophed) {
            return Some("if apostrophes enclose the fields, give --quote \"'\"");
        }
        let (quote, next) = match self.dialect.quote {
            Some(quote) => (
                quote,
                "a quote encloses a field only at its very beginning: remove what stands before it",
            ),
            None => (b'"', QUOTES),
        };
        let has_quote = |number: usize| {
            !record.is_quoted(number) && record.field(number).as_bytes().contains(&quote)
        };
        (0..record.len()).any(has_quote).then_some(next)
    }

    /// The value to store for a field.
    fn cell(&self, record: &Record, field: usize, column: usize) -> Result<Cell, String> {
        let (text, is_quoted) = (record.field(field), record.is_quoted(field));
        if text.is_empty() && self.dialect.empty_is_null(is_quoted) {
            return Ok(Cell::Value(Value::Null));
        }
        let kind = self.table.column_type(column);
        let refused = |why: String| {
            let name = self.table.name(column);
            format!("field {}, column {name:?}: {why}", field + 1)
        };
        if !is_quoted && blob_literal::is_literal(text) {
            let is_blob = self.dialect.is_blob(kind.is_for_blobs()).ok_or_else(|| {
                refused(format!(
                    "{text:.40} may be a blob or a text: give --blobs literal or --blobs text"
                ))
            })?;
            let bytes = blob_literal::read(text).filter(|_| is_blob);
            return Ok(bytes.map_or(Cell::Field(field), |bytes| Cell::Value(bytes.into())));
        }
        match kind.word(text) {
            Ok(Stored::Word) => Ok(Cell::Field(field)),
            Ok(Stored::Number(number)) => Ok(Cell::Number(number)),
            // SQLite converts the text.
            Err(_) if self.is_lossy && number::is_number(text) => Ok(Cell::Field(field)),
            Err(why) => Err(refused(why)),
        }
    }
}

/// What to do if fields are in quotes, which are ordinary characters.
const QUOTES: &str = "if quotes enclose the fields, give --quote '\"'";

/// Whether quotes seem to enclose a field of which they are a part.
pub(crate) fn is_in_quotes(field: &str) -> bool {
    field.len() > 1 && field.starts_with('"') && field.ends_with('"')
}

impl Dialect {
    fn empty_is_null(self, is_quoted: bool) -> bool {
        match self.empty_as_null {
            None => false,
            Some(EmptyFields::All) => true,
            Some(EmptyFields::Unquoted) => !is_quoted,
        }
    }

    /// Whether an unquoted literal is a blob. `None`: it may be a text.
    fn is_blob(self, is_for_blobs: bool) -> Option<bool> {
        match self.blobs {
            Some(Blobs::Literal) => Some(true),
            Some(Blobs::Text) => Some(false),
            None => is_for_blobs.then_some(true),
        }
    }
}

/// Reads the names of the columns.
pub(crate) fn header(source: &Source, dialect: Dialect) -> Result<Vec<String>, ReadError> {
    let mut records = Records::open(source, dialect, |_| false)?;
    let header = records.header()?;
    let start = records.start();
    let names: Vec<String> = header.iter().map(str::to_owned).collect();
    let delimiter = records.delimiter();
    let mut why = match names.as_slice() {
        [name] => delimiter_in(name, delimiter).map(|next| format!("one column {name:?}: {next}")),
        _ => None,
    };
    for (number, name) in names.iter().enumerate() {
        if names[..number]
            .iter()
            .any(|before| before.eq_ignore_ascii_case(name))
        {
            why = why.or(Some(named_twice(name)));
        }
    }
    match why {
        Some(why) => Err(ReadError::Malformed { start, why }),
        None => Ok(names),
    }
}

fn columns(
    header: &Record,
    table: &Table,
    unknown: &mut Unknown,
    dialect: Dialect,
    delimiter: u8,
) -> Result<Vec<Option<usize>>, String> {
    let mut columns = Vec::with_capacity(header.len());
    for name in header.iter() {
        let number = table.column(name, columns.len());
        if number.is_none() && !unknown.leave_out(name) {
            return Err(no_column(name, header, table, dialect, delimiter));
        }
        if number.is_some() && columns.contains(&number) {
            return Err(named_twice(name));
        }
        columns.push(number);
    }
    if columns.iter().all(Option::is_none) {
        return Err(no_column(
            header.field(0),
            header,
            table,
            dialect,
            delimiter,
        ));
    }
    Ok(columns)
}

fn named_twice(name: &str) -> String {
    if name.is_empty() {
        let next = "create the table for the others, and give --ignore-unknown";
        return format!("the header has several columns without a name: name them, or {next}");
    }
    format!("the header names the column {name:?} twice")
}

fn no_column(
    name: &str,
    header: &Record,
    table: &Table,
    dialect: Dialect,
    delimiter: u8,
) -> String {
    let why = table.no_column(name);
    if dialect.quote.is_none() && is_in_quotes(name) {
        return format!("{why}: {QUOTES}");
    }
    if let Some(next) = delimiter_in(name, delimiter) {
        return format!("{why}: {next}");
    }
    if header.field(0).starts_with(['{', '[']) {
        return format!("{why}: if the file is JSON, give --format jsonl");
    }
    if !header.iter().any(|name| table.has(name)) {
        let names = table.names();
        return format!("{why}, nor another one of this line: name its columns there: {names}");
    }
    format!("{why}: {}", table.instead(name))
}

/// What to do if a name contains what may be the delimiter.
fn delimiter_in(name: &str, delimiter: u8) -> Option<String> {
    name.chars()
        .find_map(|character| other_delimiter(character, delimiter))
}
