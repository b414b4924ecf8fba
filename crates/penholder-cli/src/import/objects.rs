//! Splits JSON text into the objects that are its rows: one after the other, on lines of
//! their own or not, or in arrays.
//!
//! Only as much is read as finds the end of an object. Whether an object is well-formed is
//! seen when it is parsed.

use std::io::{self, BufRead, BufReader};

use super::row::{MAX_ROW_BYTES, ReadError};
use super::source::{Source, Text};

/// The objects of a file.
#[derive(Debug)]
pub(crate) struct Objects {
    text: BufReader<Text>,
    offset: u64,
    place: Place,
    object: Vec<u8>,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// An object, an array or the end of the file.
    Outside,
    /// An object, or the end of the array.
    ArrayStart,
    /// A comma, or the end of the array.
    AfterElement,
    /// An object.
    AfterComma,
}

/// Finds the end of an object.
#[derive(Debug, Default)]
struct Scanner {
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    /// The byte before, space not counted.
    before: u8,
}

impl Objects {
    pub(crate) fn open(source: &Source) -> io::Result<Self> {
        Ok(Self {
            text: BufReader::with_capacity(1 << 16, source.read()?),
            offset: source.start(),
            place: Place::Outside,
            object: Vec::new(),
        })
    }

    /// How far the text was read, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next object, and where it begins. `None` if there is none.
    pub(crate) fn read(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        if !self.find_object()? {
            return Ok(None);
        }
        let start = self.offset;
        self.take_object()?;
        self.place = match self.place {
            Place::Outside => Place::Outside,
            _ => Place::AfterElement,
        };
        Ok(Some((start, self.object.trim_ascii_end())))
    }

    /// Goes to the beginning of the next object.
    fn find_object(&mut self) -> Result<bool, ReadError> {
        while let Some(byte) = self.next_token()? {
            self.place = match (self.place, byte) {
                (Place::Outside | Place::ArrayStart | Place::AfterComma, b'{') => return Ok(true),
                (Place::Outside, b'[') => Place::ArrayStart,
                (Place::ArrayStart | Place::AfterElement, b']') => Place::Outside,
                (Place::AfterElement, b',') => Place::AfterComma,
                (Place::AfterElement, _) => {
                    return Err(self.malformed("expected a comma or ] after an object"));
                }
                (Place::Outside, b',') => {
                    let why = "expected one JSON object for each row: objects with commas between \
                               them belong in [ ]";
                    return Err(self.malformed(why));
                }
                (Place::Outside, b'/' | b'#') => {
                    return Err(self.malformed("JSON has no comments: remove them"));
                }
                (Place::AfterComma, b']') => {
                    return Err(self.malformed("a comma stands before ]: remove it"));
                }
                (Place::Outside, _) => {
                    let why = "expected one JSON object for each row: if the file is CSV, give \
                               --format csv";
                    return Err(self.malformed(why));
                }
                (Place::ArrayStart, b'[') => {
                    let why = "expected one JSON object for each row: an array has no names of \
                               columns";
                    return Err(self.malformed(why));
                }
                _ => {
                    return Err(self.malformed("expected one JSON object for each row"));
                }
            };
            self.skip(1);
        }
        match self.place {
            Place::Outside => Ok(false),
            _ => Err(self.malformed("the array is not closed before the end of the file")),
        }
    }

    /// Skips space. Returns the byte after it, which is not taken.
    fn next_token(&mut self) -> io::Result<Option<u8>> {
        loop {
            let chunk = self.text.fill_buf()?;
            let Some(length) = (!chunk.is_empty()).then_some(chunk.len()) else {
                return Ok(None);
            };
            let space = chunk.iter().take_while(|byte| is_space(**byte)).count();
            let byte = chunk.get(space).copied();
            self.skip(space);
            if space < length {
                return Ok(byte);
            }
        }
    }

    fn take_object(&mut self) -> Result<(), ReadError> {
        let start = self.offset;
        self.object.clear();
        let mut scanner = Scanner::default();
        loop {
            let chunk = self.text.fill_buf()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let end = scanner.find_end(chunk);
            let length = end.unwrap_or(chunk.len());
            self.object.extend_from_slice(&chunk[..length]);
            self.skip(length);
            if end.is_some() {
                return Ok(());
            }
            if self.offset - start > MAX_ROW_BYTES {
                let why = "it is longer than 100 MB".to_owned();
                return Err(ReadError::Malformed { start, why });
            }
        }
    }

    fn skip(&mut self, length: usize) {
        self.text.consume(length);
        self.offset += length as u64;
    }

    fn malformed(&self, why: &str) -> ReadError {
        ReadError::Malformed {
            start: self.offset,
            why: why.to_owned(),
        }
    }
}

impl Scanner {
    /// Returns the place after the object. It is also behind the first byte that cannot be
    /// part of an object, so that a brace or a quote that is missing costs one object and
    /// not the rest of the file: the parser refuses what is returned then.
    fn find_end(&mut self, chunk: &[u8]) -> Option<usize> {
        for (at, &byte) in chunk.iter().enumerate() {
            if self.in_string {
                match byte {
                    b'\n' => return Some(at + 1),
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                _ if is_space(byte) => continue,
                b'{' | b'[' | b'"' if !matches!(self.before, 0 | b'{' | b'[' | b',' | b':') => {
                    return Some(at + 1);
                }
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            self.before = byte;
        }
        None
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn objects(text: &str) -> Result<Vec<(u64, String)>, ReadError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let source = Source::open(file.path(), None).unwrap();
        let mut objects = Objects::open(&source).unwrap();
        let mut found = Vec::new();
        while let Some((start, object)) = objects.read()? {
            found.push((start, String::from_utf8(object.to_vec()).unwrap()));
        }
        Ok(found)
    }

    #[test]
    fn objects_are_found_however_they_are_laid_out() {
        for (text, expected) in [
            ("", vec![]),
            (" [ ]\n[]", vec![]),
            ("{}", vec![(0, "{}")]),
            ("{}{ }\n\n {}", vec![(0, "{}"), (2, "{ }"), (8, "{}")]),
            ("[{},\n{}]\n", vec![(1, "{}"), (5, "{}")]),
            ("[{}] {} [{}]", vec![(1, "{}"), (5, "{}"), (9, "{}")]),
            (
                "{\"a\": [{}, \"}\\\"\\\\\"],\n\"b\":{}}",
                vec![(0, "{\"a\": [{}, \"}\\\"\\\\\"],\n\"b\":{}}")],
            ),
        ] {
            let expected = expected.into_iter().map(|(at, text)| (at, text.to_owned()));
            assert_eq!(
                objects(text).unwrap(),
                expected.collect::<Vec<_>>(),
                "{text:?}"
            );
        }
        for text in [
            "[", "[{}", "[{},", "[{},]", "[,{}]", "[{}{}]", "[[{}]]", "]", "{},{}", "1",
        ] {
            assert!(objects(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_object_that_is_not_closed_ends_soon() {
        for (text, end) in [
            ("{\"a\":1\n{\"b\":2}", 8),
            ("{\"a\":1\n\"b\":2}", 8),
            ("{\"a\":\"x}\n{\"b\":2}", 9),
            ("{\"a\":[1,{}", 10),
        ] {
            assert_eq!(
                Scanner::default()
                    .find_end(text.as_bytes())
                    .unwrap_or(text.len()),
                end
            );
        }
    }
}
