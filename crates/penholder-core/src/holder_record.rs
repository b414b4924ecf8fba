//! The holder record: the text in the lock file that says who holds the lock.
//!
//! It is for people and for error messages; nothing in it grants the lock. Each line is
//! a `key:value`, in this order:
//!
//! | line | value |
//! | --- | --- |
//! | `pid:` | process id, in the holder's own pid namespace |
//! | `time:` | when the lock was taken, RFC 3339, UTC, milliseconds |
//! | `cmd:` | command line, escaped, at most 160 bytes |
//! | `label:` | the caller's label, escaped, at most 64 bytes; omitted without a label |
//! | `db:` | the database that it works on, escaped, at most 160 bytes: its name if it is in the directory of the lock file, otherwise its path; omitted for the lock by itself |
//! | `start:` | when the process started, in clock ticks since boot: with the pid it names one process, even after pids are reused |
//! | `pidns:` | the pid namespace that the pid belongs to |
//!
//! The record is a block of fixed length, padded with spaces: one positioned write
//! replaces it, and the file is never truncated first, so a waiter never reads an empty
//! record of a held lock. After the release the block is blank. There is no `fsync`:
//! after a power failure the lock is free anyway. On some file systems a reader can see
//! half of a write and half of the previous record for a moment: [`Record::read`] reads
//! until two readings agree, and code that uses the pid asks the kernel whether that
//! process holds the lock.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::printable::{COMMAND_MAX, printable};
use crate::sys::file::{open_to_look, read_at, write_at_start};
use crate::sys::process::Identity;
use crate::time;

/// Length of the block, in bytes.
pub(crate) const RECORD_LEN: usize = 512;
/// Longest label kept, in bytes.
const LABEL_MAX: usize = 64;
/// Longest name of a database kept, in bytes.
const DATABASE_MAX: usize = 160;
/// How much of another program's record is read, in bytes.
const READ_MAX: usize = 4096;
/// A blank block.
const BLANK: [u8; RECORD_LEN] = blank();

const fn blank() -> [u8; RECORD_LEN] {
    let mut block = [b' '; RECORD_LEN];
    block[RECORD_LEN - 1] = b'\n';
    block
}

/// Writes this process's record into the lock file.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    label: Option<String>,
    database: Option<PathBuf>,
    block: [u8; RECORD_LEN],
    /// The offset of the time in `block`, in bytes.
    time_at: usize,
    /// The second that the time in `block` is of, since 1970.
    second: Option<u64>,
}

impl RecordWriter {
    /// Formats everything but the time. `database` is named as seen from the directory of the lock
    /// file.
    pub(crate) fn new(
        identity: &Identity,
        label: Option<&str>,
        database: Option<&Path>,
        lock_file: &Path,
    ) -> Self {
        let mut head = format!("pid:{}\ntime:", identity.pid);
        let time_at = head.len();
        head.push_str("0000-00-00T00:00:00.000Z\n");
        head.push_str(&format!("cmd:{}\n", printable(&identity.cmd, COMMAND_MAX)));
        if let Some(label) = label {
            head.push_str(&format!("label:{}\n", printable(label, LABEL_MAX)));
        }
        if let Some(database) = database {
            head.push_str(&format!("db:{}\n", database_text(database, lock_file)));
        }
        if let Some(start) = identity.start {
            head.push_str(&format!("start:{start}\n"));
        }
        if let Some(pidns) = identity.pidns {
            head.push_str(&format!("pidns:{pidns}\n"));
        }
        debug_assert!(
            head.len() < RECORD_LEN,
            "bounded by COMMAND_MAX, LABEL_MAX and DATABASE_MAX"
        );
        let mut block = BLANK;
        for (to, from) in block.iter_mut().zip(head.bytes()) {
            *to = from;
        }
        Self {
            label: label.map(str::to_owned),
            database: database.map(Path::to_owned),
            block,
            time_at,
            second: None,
        }
    }

    /// Returns whether this writer's record has this label and names this database.
    pub(crate) fn fits(&self, label: Option<&str>, database: Option<&Path>) -> bool {
        // As bytes, which is fast: it is asked at every acquisition.
        self.label.as_deref() == label
            && self.database.as_deref().map(Path::as_os_str) == database.map(Path::as_os_str)
    }

    /// Writes the record with the time `now`; `len` is the file's length in bytes. Text
    /// of another program after the block is cut off.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn publish(&mut self, file: &File, now: SystemTime, len: u64) -> io::Result<()> {
        self.set_time(now);
        write_at_start(file, &self.block)?;
        if len > RECORD_LEN as u64 {
            file.set_len(RECORD_LEN as u64)?;
        }
        Ok(())
    }

    /// Formats only the milliseconds if the second is the same: formatting a date at
    /// every acquisition costs as much as a system call.
    fn set_time(&mut self, now: SystemTime) {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let second = since_epoch.as_secs();
        let place = &mut self.block[self.time_at..];
        if self.second != Some(second) {
            let text = time::rfc3339(now);
            if text.len() == "0000-00-00T00:00:00.000Z".len() {
                place[..text.len()].copy_from_slice(text.as_bytes());
            }
            self.second = Some(second);
        }
        let digits = since_epoch.subsec_millis();
        for (place, unit) in place["0000-00-00T00:00:00.".len()..]
            .iter_mut()
            .zip([100, 10, 1])
        {
            // A digit is less than ten.
            *place = b'0' + u8::try_from(digits / unit % 10).unwrap_or(0);
        }
    }
}

/// Returns the text by which a record names a database: its name if it is in the directory of the
/// lock file, otherwise its path. Two databases that share a lock file have two texts.
pub(crate) fn database_text(database: &Path, lock_file: &Path) -> String {
    let shown = match database.file_name() {
        Some(name) if database.parent() == lock_file.parent() => Path::new(name),
        _ => database,
    };
    printable(&shown.to_string_lossy(), DATABASE_MAX)
}

/// Opens a lock file to read its record; `None` if it does not exist.
///
/// # Errors
///
/// It cannot be opened, or is not a regular file.
pub(crate) fn open(lock_file: &Path) -> io::Result<Option<File>> {
    match open_to_look(lock_file) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Blanks the record.
///
/// # Errors
///
/// The file cannot be written.
pub(crate) fn clear(file: &File) -> io::Result<()> {
    write_at_start(file, &BLANK)
}

/// What a lock file says, as far as it is understood. It is untrusted: any program may
/// have written it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) pid: Option<u32>,
    pub(crate) time: Option<SystemTime>,
    pub(crate) cmd: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) start: Option<u64>,
    pub(crate) pidns: Option<u64>,
}

impl Record {
    /// Reads the record; `None` if the file contains nothing but white space.
    ///
    /// Another process may be writing it: the text is read until two readings agree, at
    /// most three times, so that it is not half of one holder and half of the next.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut text = read_start(file)?;
        for _ in 0..2 {
            let again = read_start(file)?;
            if again == text {
                break;
            }
            text = again;
        }
        Ok(Self::parse(&text))
    }

    /// Parses the lines that it understands and ignores the others.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if text.is_empty() {
            return None;
        }
        let mut record = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match key.trim() {
                "pid" => record.pid = value.parse().ok().filter(|&pid| pid > 0),
                "time" => record.time = time::parse(value),
                "cmd" => record.cmd = Some(printable(value, COMMAND_MAX)),
                "label" => record.label = Some(printable(value, LABEL_MAX)),
                "db" => record.database = Some(printable(value, DATABASE_MAX)),
                "start" => record.start = value.parse().ok(),
                "pidns" => record.pidns = value.parse().ok(),
                _ => {}
            }
        }
        Some(record)
    }
}

/// What a file contains that shall become a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileContent {
    /// White space, or a record.
    Record,
    /// A SQLite database, which a record would destroy.
    Database,
    /// Anything else, for example a user's text.
    Other,
}

/// Tells what a record would overwrite.
///
/// # Errors
///
/// The file cannot be read.
pub(crate) fn found(file: &File) -> io::Result<FileContent> {
    let text = read_start(file)?;
    let blank = text
        .iter()
        .all(|&byte| byte == 0 || byte.is_ascii_whitespace());
    let record = text
        .split(|&byte| byte == b'\n')
        .any(|line| line.starts_with(b"pid:"));
    Ok(if text.starts_with(b"SQLite format 3\0") {
        FileContent::Database
    } else if blank || record {
        FileContent::Record
    } else {
        FileContent::Other
    })
}

fn read_start(file: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; READ_MAX];
    let length = read_at(file, &mut text, 0)?;
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writer(identity: &Identity, label: Option<&str>) -> RecordWriter {
        let database = Path::new("/srv/app.db");
        RecordWriter::new(identity, label, Some(database), Path::new("/srv/db.lock"))
    }

    fn identity(cmd: &str) -> Identity {
        Identity {
            pid: 4242,
            start: Some(77),
            pidns: Some(4_026_531_836),
            cmd: cmd.to_owned(),
        }
    }

    fn at(text: &str) -> SystemTime {
        time::parse(text).unwrap()
    }

    #[test]
    fn written_record_is_read_back() {
        let file = tempfile::tempfile().unwrap();
        let now = at("2026-01-15T10:30:45.123Z");
        let mut writer = writer(&identity("sync --all"), Some("nightly"));
        writer.publish(&file, now, 0).unwrap();
        let record = Record::read(&file).unwrap().unwrap();
        assert_eq!(
            record,
            Record {
                pid: Some(4242),
                time: Some(now),
                cmd: Some("sync --all".into()),
                label: Some("nightly".into()),
                database: Some("app.db".into()),
                start: Some(77),
                pidns: Some(4_026_531_836),
            }
        );
        let text = String::from_utf8(read_start(&file).unwrap()).unwrap();
        assert!(text.starts_with(
            "pid:4242\ntime:2026-01-15T10:30:45.123Z\ncmd:sync --all\nlabel:nightly\ndb:app.db\n"
        ));
        clear(&file).unwrap();
        assert_eq!(Record::read(&file).unwrap(), None);
        assert_eq!(file.metadata().unwrap().len(), RECORD_LEN as u64);
    }

    #[test]
    fn time_is_exact_within_and_across_a_second() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = writer(&identity("x"), None);
        for text in [
            "2026-01-15T10:30:45.123Z",
            "2026-01-15T10:30:45.999Z",
            "2026-01-15T10:30:46.000Z",
            "2026-01-15T10:30:45.007Z",
        ] {
            writer.publish(&file, at(text), 0).unwrap();
            let record = Record::read(&file).unwrap().unwrap();
            assert_eq!(record.time, Some(at(text)), "{text}");
        }
    }

    #[test]
    fn longer_text_of_another_program_is_replaced() {
        let file = tempfile::tempfile().unwrap();
        write_at_start(&file, &[b'x'; 3000]).unwrap();
        let mut writer = writer(&identity("x"), None);
        writer.publish(&file, SystemTime::now(), 3000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), RECORD_LEN as u64);
    }

    #[test]
    fn label_cannot_forge_a_line_or_drive_a_terminal() {
        let file = tempfile::tempfile().unwrap();
        let long = "y".repeat(5000);
        let mut writer = writer(&identity(&long), Some("a\npid:1\u{1b}[31m\u{202e}"));
        writer.publish(&file, SystemTime::now(), 0).unwrap();
        let record = Record::read(&file).unwrap().unwrap();
        assert_eq!(record.pid, Some(4242));
        assert_eq!(
            record.label.as_deref(),
            Some("a\\npid:1\\u{1b}[31m\\u{202e}")
        );
        assert!(record.cmd.unwrap().len() <= COMMAND_MAX);
    }

    #[test]
    fn records_of_other_programs_are_parsed() {
        let record = Record::parse(b"pid:17\ntime:2026-01-15T10:30:45Z\nhost:box\n").unwrap();
        assert_eq!(record.pid, Some(17));
        assert_eq!(record.time, Some(at("2026-01-15T10:30:45Z")));
        assert_eq!(Record::parse(b" \n\t \0\n"), None);
        assert_eq!(
            Record::parse(b"pid:-3\ntime:yesterday\n"),
            Some(Record::default())
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Record::parse(&bytes);
        }
    }
}
