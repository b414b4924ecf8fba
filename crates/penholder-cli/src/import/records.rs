//! Splits CSV text into records.

use std::io::{self, BufRead, BufReader};

use super::format::{Dialect, other_delimiter};
use super::record::{Record, RecordBuilder};
use super::row::{MAX_ROW_BYTES, ReadError};
use super::source::{Source, Text};
use crate::args::EmptyLines;

/// Records that are not yet checked against a table.
#[derive(Debug)]
pub(crate) struct Records {
    text: BufReader<Text>,
    delimiter: u8,
    quote: Option<u8>,
    offset: u64,
    /// Where the current record begins.
    start: u64,
    /// Whether the last record ended with CR, so that an LF after it belongs to its line end.
    after_cr: bool,
    empty_lines: Option<EmptyLines>,
    /// Whether the header names one column, so that an empty line may be a row.
    has_one_column: bool,
}

/// How the text of a field goes on.
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote inside a quoted field: its end, or the first half of a quote.
    QuoteInQuoted,
}

impl Records {
    /// Begins with the header. A first line like `sep=;`, as Excel writes and reads it, is
    /// not a record: it gives the delimiter, unless an option did. But it is the header if
    /// `is_column` says so of it.
    pub(crate) fn open(
        source: &Source,
        dialect: Dialect,
        is_column: impl Fn(&str) -> bool,
    ) -> io::Result<Self> {
        let mut text = BufReader::with_capacity(1 << 16, source.read()?);
        let separator = separator_line(text.fill_buf()?);
        let name = |(byte, _): &(u8, usize)| format!("sep={}", char::from(*byte));
        let separator = separator.filter(|line| !is_column(&name(line)));
        let (named, length) = separator.map_or((None, 0), |(byte, length)| (Some(byte), length));
        text.consume(length);
        let offset = source.start() + length as u64;
        Ok(Self {
            text,
            delimiter: dialect
                .delimiter
                .or(named)
                .unwrap_or(dialect.usual_delimiter),
            quote: dialect.quote,
            offset,
            start: offset,
            after_cr: false,
            empty_lines: dialect.empty_lines,
            has_one_column: false,
        })
    }

    /// How far the text was read, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the record begins that was read last.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Reads the first record, which has the names of the columns.
    pub(crate) fn header(&mut self) -> Result<Record, ReadError> {
        let mut header = Record::default();
        if self.read(&mut header)? {
            self.has_one_column = header.len() == 1;
            return Ok(header);
        }
        let why = "it is empty: there is no header with the names of the columns";
        Err(malformed(self.start, why))
    }

    /// Reads the next record. Returns `false` if there is none.
    pub(crate) fn read(&mut self, record: &mut Record) -> Result<bool, ReadError> {
        if !self.begin()? {
            return Ok(false);
        }
        let mut builder = RecordBuilder::reusing(record);
        let mut state = State::FieldStart;
        loop {
            let chunk = self.text.fill_buf()?;
            if chunk.is_empty() {
                if matches!(state, State::Quoted) {
                    let why = "a quote is not closed before the end of the file";
                    return Err(malformed(self.start, why));
                }
                builder.end_field(matches!(state, State::QuoteInQuoted));
                break;
            }
            let delimiter = self.delimiter;
            let (used, ends) = take(chunk, &mut state, &mut builder, delimiter, self.quote)
                .map_err(|at| {
                    let start = self.offset + at as u64;
                    text_after_quote(start, chunk[at], delimiter, &builder)
                })?;
            self.after_cr = ends && chunk[used - 1] == b'\r';
            self.text.consume(used);
            self.offset += used as u64;
            if ends {
                break;
            }
            if self.offset - self.start > MAX_ROW_BYTES {
                let why = "it is longer than 100 MB; probably a quote is not closed";
                return Err(malformed(self.start, why));
            }
        }
        *record = builder.finish().map_err(|field| {
            let why = format!(
                "field {field} is not UTF-8: give the encoding of the file, for example \
                 --encoding windows-1252"
            );
            malformed(self.start, why)
        })?;
        Ok(true)
    }

    /// Goes to the beginning of the next record. Returns `false` if there is none. Empty lines are
    /// skipped, unless one may be a row.
    fn begin(&mut self) -> Result<bool, ReadError> {
        let skips = !self.has_one_column || self.empty_lines == Some(EmptyLines::Skip);
        if skips {
            self.skip_line_ends()?;
        } else {
            self.end_line()?;
        }
        self.start = self.offset;
        let next = self.text.fill_buf()?.first().copied();
        if !skips && self.empty_lines.is_none() && next.is_some_and(is_line_end) {
            let why = "the empty line may be a row with an empty field: give --empty-lines row \
                       or --empty-lines skip";
            return Err(malformed(self.start, why));
        }
        Ok(next.is_some())
    }

    /// Skips the LF of a CR LF whose CR ended the last record.
    fn end_line(&mut self) -> io::Result<()> {
        if self.after_cr && self.text.fill_buf()?.first() == Some(&b'\n') {
            self.text.consume(1);
            self.offset += 1;
        }
        self.after_cr = false;
        Ok(())
    }

    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            let chunk = self.text.fill_buf()?;
            let length = chunk.len();
            let ends = chunk.iter().take_while(|byte| is_line_end(**byte)).count();
            self.text.consume(ends);
            self.offset += ends as u64;
            if ends < length || length == 0 {
                return Ok(());
            }
        }
    }
}

/// Takes bytes of a record. Returns how many, and whether the record ends there. The error
/// is the place of text after a closing quote.
fn take(
    chunk: &[u8],
    state: &mut State,
    builder: &mut RecordBuilder,
    delimiter: u8,
    quote: Option<u8>,
) -> Result<(usize, bool), usize> {
    let mut at = 0;
    while let Some(&byte) = chunk.get(at) {
        let is_quoted = matches!(state, State::QuoteInQuoted);
        match state {
            State::Quoted => {
                let rest = &chunk[at..];
                let length = rest.iter().position(|byte| Some(*byte) == quote);
                builder.push(&rest[..length.unwrap_or(rest.len())]);
                at += length.map_or(rest.len(), |length| length + 1);
                if length.is_some() {
                    *state = State::QuoteInQuoted;
                }
                continue;
            }
            State::FieldStart if Some(byte) == quote => *state = State::Quoted,
            State::QuoteInQuoted if Some(byte) == quote => {
                builder.push(&[byte]);
                *state = State::Quoted;
            }
            _ if byte == delimiter => {
                builder.end_field(is_quoted);
                *state = State::FieldStart;
            }
            _ if is_line_end(byte) => {
                builder.end_field(is_quoted);
                return Ok((at + 1, true));
            }
            State::QuoteInQuoted => return Err(at),
            State::FieldStart | State::Unquoted => {
                let rest = &chunk[at..];
                let ends = |byte: &u8| *byte == delimiter || is_line_end(*byte);
                let length = rest.iter().position(ends).unwrap_or(rest.len());
                builder.push(&rest[..length]);
                at += length;
                *state = State::Unquoted;
                continue;
            }
        }
        at += 1;
    }
    Ok((at, false))
}

/// Reads a first line like `sep=;` as its delimiter and its length. The line end is not part
/// of it.
fn separator_line(text: &[u8]) -> Option<(u8, usize)> {
    let bare = text.strip_prefix(b"\"").unwrap_or(text);
    let [
        b's' | b'S',
        b'e' | b'E',
        b'p' | b'P',
        b'=',
        delimiter,
        rest @ ..,
    ] = bare
    else {
        return None;
    };
    let rest = match bare.len() == text.len() {
        true => rest,
        false => rest.strip_prefix(b"\"")?,
    };
    let ends = rest.first().is_none_or(|byte| is_line_end(*byte));
    let is_delimiter = delimiter.is_ascii() && !is_line_end(*delimiter) && *delimiter != b'"';
    (ends && is_delimiter).then_some((*delimiter, text.len() - rest.len()))
}

fn text_after_quote(start: u64, byte: u8, delimiter: u8, builder: &RecordBuilder) -> ReadError {
    let field = builder.field_number();
    let next = other_delimiter(byte.into(), delimiter).unwrap_or_else(|| {
        let next = match byte {
            b' ' => "if it is only a space, remove it; ",
            _ => "",
        };
        format!(
            "{next}write a quote inside a field twice, or give --quote none if quotes are \
             ordinary characters"
        )
    });
    let begun = match builder.line_ends() {
        0 => String::new(),
        1 => ", which was opened on the line before".to_owned(),
        lines => format!(", which was opened {lines} lines before"),
    };
    malformed(
        start,
        format!("field {field} has text after its closing quote{begun}: {next}"),
    )
}

fn malformed(start: u64, why: impl Into<String>) -> ReadError {
    let why = why.into();
    ReadError::Malformed { start, why }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const DIALECT: Dialect = Dialect {
        usual_delimiter: b',',
        ..Dialect::TEST
    };

    fn records(text: &str, dialect: Dialect) -> Result<Vec<Vec<String>>, ReadError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let source = Source::open(file.path(), None).unwrap();
        let mut records = Records::open(&source, dialect, |_| false).unwrap();
        let mut record = Record::default();
        let mut found = Vec::new();
        while records.read(&mut record)? {
            found.push(record.iter().map(str::to_owned).collect());
        }
        Ok(found)
    }

    #[test]
    fn fields_and_quotes() {
        for (text, expected) in [
            ("", vec![]),
            ("\r\n\n", vec![]),
            ("a,b", vec![vec!["a", "b"]]),
            ("a,b\n", vec![vec!["a", "b"]]),
            ("\na,\r\n\r\n,b\r", vec![vec!["a", ""], vec!["", "b"]]),
            (",\n", vec![vec!["", ""]]),
            ("\"\"", vec![vec![""]]),
            ("\"a\"\"b\",\"c,\nd\"", vec![vec!["a\"b", "c,\nd"]]),
            ("a\"b\", \"c\"", vec![vec!["a\"b\"", " \"c\""]]),
        ] {
            assert_eq!(records(text, DIALECT).unwrap(), expected, "{text:?}");
        }
        for text in ["\"a\"b,c", "\"a\" ,b", "a,\"b\"\"\"c", "\"a", "\"a\"\""] {
            assert!(records(text, DIALECT).is_err(), "{text:?}");
        }
        let plain = Dialect {
            quote: None,
            ..DIALECT
        };
        assert_eq!(records("\"a\"b,\"", plain).unwrap(), [["\"a\"b", "\""]]);
    }

    #[test]
    fn an_empty_line_of_one_column_may_be_a_row() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["", "a", "1", "", "2", "", ""].join(end);
            let with = |empty_lines| {
                let dialect = Dialect {
                    empty_lines,
                    ..DIALECT
                };
                let mut file = tempfile::NamedTempFile::new().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                let source = Source::open(file.path(), None).unwrap();
                let mut records = Records::open(&source, dialect, |_| false).unwrap();
                let mut record = records.header()?;
                let mut found = Vec::new();
                while records.read(&mut record)? {
                    let line = source.line_at(records.start())?;
                    found.push((line, record.field(0).to_owned()));
                }
                Ok(found)
            };
            let rows = |rows: &[(u64, &str)]| -> Vec<(u64, String)> {
                rows.iter()
                    .map(|(line, text)| (*line, (*text).to_owned()))
                    .collect()
            };
            let all = rows(&[(3, "1"), (4, ""), (5, "2"), (6, "")]);
            assert_eq!(with(Some(EmptyLines::Row)).unwrap(), all, "{end:?}");
            let full = rows(&[(3, "1"), (5, "2")]);
            assert_eq!(with(Some(EmptyLines::Skip)).unwrap(), full, "{end:?}");
            let refused: Result<_, ReadError> = with(None);
            assert!(
                matches!(refused, Err(ReadError::Malformed { .. })),
                "{end:?}"
            );
        }
    }

    #[test]
    fn a_line_of_excel_names_the_delimiter() {
        for text in ["sep=;\na;b", "SEP=;\r\na;b", "\"sep=;\"\na;b"] {
            assert_eq!(records(text, DIALECT).unwrap(), [["a", "b"]], "{text:?}");
        }
        let given = Dialect {
            delimiter: Some(b'|'),
            ..DIALECT
        };
        assert_eq!(records("sep=;\na|b", given).unwrap(), [["a", "b"]]);
        assert_eq!(records("sep=,b\n", DIALECT).unwrap(), [["sep=", "b"]]);
    }
}
