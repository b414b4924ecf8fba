//! The file to import. It can be read twice.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use encoding_rs::Encoding;
use penholder_core::shown_path;

use crate::encoding::{self, ConversionError};
use crate::failure::{FAILED, Failure};
use crate::file_kind;

/// Some programs write it at the beginning of UTF-8 text.
const BYTE_ORDER_MARK: [u8; 3] = *b"\xEF\xBB\xBF";

/// How many bytes show what a file is.
const HEAD: u64 = 4096;

/// A file, up to the length that it had when it was opened.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its name in messages.
    pub(crate) name: String,
    file: File,
    /// Where its text begins and ends.
    start: u64,
    end: u64,
    /// The lines at offsets that were asked for: the same ones are asked for after each batch.
    lines: RefCell<BTreeMap<u64, u64>>,
}

/// Reads the text of a file. It has a position of its own: the line of a row is looked for while
/// other rows are read.
#[derive(Debug)]
pub(crate) struct Text {
    file: File,
    at: u64,
    end: u64,
}

impl Source {
    /// Opens a file. Input that can be read only once, like standard input, and text that is
    /// not UTF-8, is copied into a temporary file without a name.
    pub(crate) fn open(path: &Path, given: Option<&'static Encoding>) -> Result<Self, Failure> {
        let name = match path.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => shown_path(path).to_string(),
        };
        let what = format!("import: {name}");
        let cannot_open =
            |error| Failure::of_system(&what, &error, "check its name and permissions");
        let cannot_copy = |error: io::Error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                let next = "make room in TMPDIR, where a copy is kept";
                Failure::new(format!("{what}: {error}: {next}"), FAILED)
            }
            _ => {
                let next = "check TMPDIR, where a copy is kept";
                Failure::of_system(&what, &error, next)
            }
        };
        let mut file = match open_file(path).map_err(cannot_open)? {
            Input::File(file) => file,
            Input::Stream(mut input) => spool(&mut input).map_err(cannot_copy)?,
        };
        let head = head(&file).map_err(cannot_open)?;
        if let Some(why) = file_kind::why_not_text(&head, path) {
            return Err(Failure::new(format!("import: {name}: {why}"), FAILED));
        }
        let chosen = encoding::choose(given, &head)
            .map_err(|why| Failure::new(format!("import: {name}: {why}"), FAILED))?;
        if let Some(encoding) = chosen {
            file = encoding::convert(&mut file, encoding).map_err(|error| match error {
                ConversionError::Read(error) => cannot_open(error),
                ConversionError::Write(error) => cannot_copy(error),
                ConversionError::Malformed { line } => {
                    let why = format!("line {line}: it is not {}", encoding.name());
                    let next = "nothing was imported: give another --encoding";
                    Failure::new(format!("import: {name}: {why}: {next}"), FAILED)
                }
            })?;
        }
        let (start, end) = bounds(&file).map_err(cannot_open)?;
        Ok(Self {
            name,
            file,
            start,
            end,
            lines: RefCell::default(),
        })
    }

    /// Where its text begins, in bytes.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The length of its text in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Reads its text from the beginning.
    pub(crate) fn read(&self) -> io::Result<Text> {
        Ok(Text {
            file: self.file.try_clone()?,
            at: self.start,
            end: self.end,
        })
    }

    /// The number of the line at this offset.
    pub(crate) fn line_at(&self, offset: u64) -> io::Result<u64> {
        if let Some(line) = self.lines.borrow().get(&offset) {
            return Ok(*line);
        }
        let line = self.count_lines(offset)?;
        self.lines.borrow_mut().insert(offset, line);
        Ok(line)
    }

    fn count_lines(&self, offset: u64) -> io::Result<u64> {
        let mut text = BufReader::new(self.read()?);
        let mut lines = Lines::default();
        let mut left = offset.saturating_sub(self.start);
        loop {
            let chunk = text.fill_buf()?;
            let length = chunk.len();
            for &byte in chunk {
                if left == 0 {
                    return Ok(lines.number());
                }
                left -= 1;
                lines.add(byte);
            }
            if length == 0 {
                return Ok(lines.number());
            }
            text.consume(length);
        }
    }
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        // All readers of the file share the position that the kernel keeps.
        self.file.seek(SeekFrom::Start(self.at))?;
        let length = self.file.read(&mut buffer[..most])?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Counts lines that end in LF, CR LF or CR.
#[derive(Debug, Default)]
struct Lines {
    ended: u64,
    after_cr: bool,
}

impl Lines {
    fn add(&mut self, byte: u8) {
        let ends = byte == b'\r' || (byte == b'\n' && !self.after_cr);
        self.ended += u64::from(ends);
        self.after_cr = byte == b'\r';
    }

    fn number(&self) -> u64 {
        self.ended + 1
    }
}

enum Input {
    /// Can be read twice.
    File(File),
    /// Can be read only once.
    Stream(Box<dyn Read>),
}

fn open_file(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        return Ok(Input::Stream(Box::new(io::stdin())));
    }
    // Windows does not open one.
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    Ok(match kind.is_file() {
        true => Input::File(file),
        false => Input::Stream(Box::new(file)),
    })
}

/// Copies a stream into a file that exists until it is closed, or this process dies.
fn spool(input: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(input, &mut file)?;
    Ok(file)
}

/// The first bytes. Leaves the position at the beginning.
fn head(mut file: &File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(head)
}

fn bounds(mut file: &File) -> io::Result<(u64, u64)> {
    let end = file.seek(SeekFrom::End(0))?;
    let has_mark = head(file)?.starts_with(&BYTE_ORDER_MARK);
    Ok((if has_mark { 3 } else { 0 }, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn source(text: &str) -> Source {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Source::open(file.path(), None).unwrap()
    }

    #[test]
    fn lines_are_counted_as_an_editor_counts_them() {
        for text in ["a\nb\nc", "a\r\nb\r\nc", "a\rb\rc", "\u{feff}a\nb\nc"] {
            let source = source(text);
            for (letter, line) in [('a', 1), ('b', 2), ('c', 3)] {
                let offset = u64::try_from(text.find(letter).unwrap()).unwrap();
                assert_eq!(source.line_at(offset).unwrap(), line, "{text:?} {letter}");
            }
        }
        // An empty line is a line.
        for (offset, line) in [(0, 1), (3, 2), (5, 3), (6, 3)] {
            assert_eq!(source("a\r\n\r\nb").line_at(offset).unwrap(), line);
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(
            (source("\u{feff}a").start(), source("\u{feff}a").len()),
            (3, 1)
        );
        assert_eq!(source("").len(), 0);
    }
}
