//! What is imported: a file that can be read twice.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::failure::{FAILED, Failure};

/// The mark that some programs write at the beginning of UTF-8 text.
const BYTE_ORDER_MARK: [u8; 3] = *b"\xEF\xBB\xBF";

/// A file of which the part that was there at the beginning is read.
#[derive(Debug)]
pub(crate) struct Source {
    /// As messages call it.
    pub(crate) name: String,
    file: File,
    /// Where its text begins, and where it ends.
    start: u64,
    end: u64,
}

impl Source {
    /// Opens a file. Standard input, and whatever else can be read only once, is
    /// copied into a temporary file without a name.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let name = match path.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => path.display().to_string(),
        };
        let failed = |next: &str, error: io::Error| {
            Failure::new(format!("import: {name}: {error}: {next}"), FAILED)
        };
        let permitted = |error| failed("check its name and permissions", error);
        let roomy = |error| failed("make room in TMPDIR, where it is copied first", error);
        let file = match open_file(path).map_err(permitted)? {
            Input::Twice(file) => file,
            Input::Once(mut input) => spool(&mut input).map_err(roomy)?,
        };
        let (start, end) = bounds(&file).map_err(permitted)?;
        Ok(Self {
            name,
            file,
            start,
            end,
        })
    }

    /// Where its text begins.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes of text there are.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Its text from the beginning. There is one such reader at a time: they share
    /// the place in the file.
    pub(crate) fn read(&self) -> io::Result<io::Take<File>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(file.take(self.len()))
    }

    /// The number of the line on which stands what comes next at this place; line
    /// ends there are passed over.
    pub(crate) fn line_at(&self, place: u64) -> io::Result<u64> {
        let before = place.saturating_sub(self.start);
        let mut text = BufReader::new(self.read()?);
        let mut lines = Lines::default();
        let mut left = before;
        loop {
            let piece = text.fill_buf()?;
            let length = piece.len();
            for &byte in piece {
                if left == 0 && !matches!(byte, b'\r' | b'\n') {
                    return Ok(lines.number());
                }
                left = left.saturating_sub(1);
                lines.pass(byte);
            }
            if length == 0 {
                return Ok(lines.number());
            }
            text.consume(length);
        }
    }
}

/// Counts lines that end in LF, CR LF or CR.
#[derive(Debug, Default)]
struct Lines {
    ended: u64,
    after_cr: bool,
}

impl Lines {
    fn pass(&mut self, byte: u8) {
        let ends = byte == b'\r' || (byte == b'\n' && !self.after_cr);
        self.ended += u64::from(ends);
        self.after_cr = byte == b'\r';
    }

    fn number(&self) -> u64 {
        self.ended + 1
    }
}

/// How often something can be read.
enum Input {
    Twice(File),
    Once(Box<dyn Read>),
}

fn open_file(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        return Ok(Input::Once(Box::new(io::stdin())));
    }
    let file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(match kind.is_file() {
        true => Input::Twice(file),
        false => Input::Once(Box::new(file)),
    })
}

/// Gone when it is closed, or when this process dies.
fn spool(input: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(input, &mut file)?;
    Ok(file)
}

fn bounds(mut file: &File) -> io::Result<(u64, u64)> {
    let end = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut head = Vec::new();
    file.take(3).read_to_end(&mut head)?;
    let start = if head == BYTE_ORDER_MARK { 3 } else { 0 };
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn source(text: &str) -> Source {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Source::open(file.path()).unwrap()
    }

    #[test]
    fn lines_are_counted_as_an_editor_counts_them() {
        for text in ["a\nb\nc", "a\r\nb\r\nc", "a\rb\rc", "\u{feff}a\nb\nc"] {
            let source = source(text);
            for (letter, line) in [('a', 1), ('b', 2), ('c', 3)] {
                let place = u64::try_from(text.find(letter).unwrap()).unwrap();
                assert_eq!(source.line_at(place).unwrap(), line, "{text:?} {letter}");
            }
        }
        // The place may be anywhere among the line ends before.
        for place in 1..5 {
            assert_eq!(source("a\r\n\r\nb").line_at(place).unwrap(), 3);
        }
    }

    #[test]
    fn a_mark_at_the_beginning_is_no_text() {
        assert_eq!(
            (source("\u{feff}a").start(), source("\u{feff}a").len()),
            (3, 1)
        );
        assert_eq!(source("").len(), 0);
    }
}
