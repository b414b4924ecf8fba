//! Which version of SQLite a program contains.
//!
//! A program or library that contains SQLite contains the identity of its source
//! (`2022-12-28 14:03:47 df5c253c…`), and its version as text that ends in a zero byte. The
//! versions of other libraries may have the same form, for instance Python's. If more than
//! one could be SQLite's, the version is unknown.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::sys::{self, FileId};
use penholder_vfs::{OLDEST_WITH_WAL, Version};

/// How many bytes of programs and libraries are read together.
const BYTES_MAX: u64 = 1 << 30;
/// How long all of them are read.
const TIME_MAX: Duration = Duration::from_secs(3);
/// How many bytes are read at once, and how many of them are kept to be searched with the next.
const PIECE: usize = 1 << 20;
const OVERLAP: usize = 128;
/// The length of `2022-12-28 14:03:47 `, and of the shortest hash after it.
const STAMP_LEN: usize = 20;
const HASH_LEN: usize = 40;
/// Version 3.22.0 is of this year: a source of that year or later has no lower version, so a
/// lower number belongs to another library.
const YEAR: (u32, u32) = (2018, 22);
/// Searches the files that processes run, each file once, and stops at a limit of bytes and
/// time.
pub(super) struct Detector {
    left: u64,
    end: Instant,
    known: HashMap<FileId, Content>,
}

/// What a file says about SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Absent,
    Version(Version),
    Unknown,
}

impl Detector {
    pub(super) fn new() -> Self {
        Self {
            left: BYTES_MAX,
            end: Instant::now() + TIME_MAX,
            known: HashMap::new(),
        }
    }

    /// Returns the version in the first of these files that has one; `None` if it is unknown.
    pub(super) fn version_of(&mut self, files: &[PathBuf]) -> Option<Version> {
        let (likely, others): (Vec<_>, Vec<_>) = files.iter().partition(|path| is_likely(path));
        for path in likely.into_iter().chain(others) {
            match self.content_of(path).unwrap_or(Content::Unknown) {
                Content::Absent => {}
                Content::Version(version) => return Some(version),
                Content::Unknown => return None,
            }
        }
        None
    }

    fn content_of(&mut self, path: &Path) -> io::Result<Content> {
        let mut file = File::open(path)?;
        let id = sys::open_file_id(&file)?;
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let content = self.search(&mut file)?;
        self.known.insert(id, content);
        Ok(content)
    }

    fn search(&mut self, file: &mut impl Read) -> io::Result<Content> {
        let mut traces = Traces::default();
        let mut piece = vec![0; PIECE];
        let mut kept = 0;
        loop {
            let read = file.read(&mut piece[kept..])?;
            if read == 0 {
                return Ok(traces.judge());
            }
            self.left = self.left.saturating_sub(read as u64);
            if self.left == 0 || Instant::now() > self.end {
                return Ok(Content::Unknown);
            }
            let filled = kept + read;
            traces.gather(&piece[..filled]);
            let from = filled.saturating_sub(OVERLAP);
            piece.copy_within(from..filled, 0);
            kept = filled - from;
        }
    }
}

/// Returns whether a file has SQLite in its name. Such libraries are searched before other files.
fn is_likely(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().contains("sqlite")
}

/// What was found in a file so far.
#[derive(Debug, Default)]
struct Traces {
    /// The year of the latest source.
    year: Option<u32>,
    versions: BTreeSet<Version>,
}

impl Traces {
    fn gather(&mut self, bytes: &[u8]) {
        let sources = memmem::find_iter(bytes, b"20").filter_map(|at| year_of(&bytes[at..]));
        self.year = self.year.max(sources.max());
        for at in memmem::find_iter(bytes, b"3.") {
            // At the very beginning of a piece it was found in the piece before. After a
            // dash it is the version of another library (`tempfile-3.27.0`).
            let before = at.checked_sub(1).map(|at| bytes[at]);
            if before.is_some_and(|byte| !byte.is_ascii_digit() && !b".-".contains(&byte)) {
                self.versions
                    .extend(ended_by_zero(&bytes[at..]).and_then(Version::parse));
            }
        }
    }

    fn judge(&self) -> Content {
        let Some(year) = self.year else {
            return Content::Absent;
        };
        let oldest = if year >= YEAR.0 {
            YEAR.1
        } else {
            OLDEST_WITH_WAL
        };
        let mut possible = self
            .versions
            .iter()
            .filter(|version| version.minor >= oldest);
        match (possible.next(), possible.next()) {
            (Some(version), None) => Content::Version(*version),
            _ => Content::Unknown,
        }
    }
}

/// Returns the year of a source identity that begins here.
fn year_of(bytes: &[u8]) -> Option<u32> {
    let stamp = bytes.get(..STAMP_LEN)?;
    let hash = bytes.get(STAMP_LEN..STAMP_LEN + HASH_LEN)?;
    let fits = stamp
        .iter()
        .zip(b"0000-00-00 00:00:00 ")
        .all(|(&byte, &form)| match form {
            b'0' => byte.is_ascii_digit(),
            form => byte == form,
        });
    let is_hash = hash.iter().all(u8::is_ascii_hexdigit);
    let year = std::str::from_utf8(&stamp[..4]).ok()?;
    (fits && is_hash).then(|| year.parse().ok()).flatten()
}

/// Returns the text up to the next zero byte, if that is near.
fn ended_by_zero(bytes: &[u8]) -> Option<&[u8]> {
    let near = &bytes[..bytes.len().min(b"3.999.999".len() + 1)];
    let end = near.iter().position(|&byte| byte == 0)?;
    Some(&near[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text.as_bytes()).unwrap()
    }

    const SOURCE: &[u8] =
        b"2025-07-30 19:33:53 4d8adfb30e03f9cf27f800a2c1ba3c48fb4ca1b08b0f5ed59a4d5ecbf45e20a3";

    fn content(parts: &[&[u8]]) -> Content {
        Detector::new().search(&mut &*parts.concat()).unwrap()
    }

    #[test]
    fn the_version_is_found_with_the_source() {
        let found = content(&[b"\0\x013.50.4\0", SOURCE, b"\0"]);
        assert_eq!(found, Content::Version(version("3.50.4")));
        let python = content(&[b"\x003.14.2\0x3.50.4\0", SOURCE]);
        assert_eq!(
            python,
            Content::Version(version("3.50.4")),
            "Python's is too low"
        );
        assert_eq!(content(&[b"\x003.50.4\0"]), Content::Absent);
        assert_eq!(content(&[SOURCE]), Content::Unknown);
        assert_eq!(
            content(&[b"\x003.50.4\0\x003.51.3\0", SOURCE]),
            Content::Unknown
        );
        assert_eq!(
            content(&[b"\x0013.50.4\0\x003.50.4x\0", SOURCE]),
            Content::Unknown
        );
    }

    #[test]
    fn the_version_is_found_at_any_offset() {
        for at in [PIECE - 70, PIECE - 3, PIECE, 2 * PIECE - 200] {
            let padding = vec![b'x'; at];
            let found = content(&[&padding, b"\x003.50.4\0", SOURCE, b"\0"]);
            assert_eq!(found, Content::Version(version("3.50.4")), "{at}");
        }
    }

    #[test]
    fn effort_is_bounded() {
        let mut detector = Detector::new();
        detector.left = 10;
        let found = detector.search(&mut &*SOURCE.to_vec());
        assert_eq!(found.unwrap(), Content::Unknown);
    }
}
