//! The text in `db.lock`, which any program may have written.
#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use penholder_core::fuzzing::HolderRecord;

/// How much of a lock file is read.
const READ_MAX: usize = 4096;
/// Length of a record that was written.
const RECORD_LENGTH: u64 = 512;
/// The longest texts.
const COMMAND_MAX: usize = 160;
const LABEL_MAX: usize = 64;
const DATABASE_MAX: usize = 160;

thread_local! {
    static FILE: RefCell<File> = RefCell::new(tempfile::tempfile().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    FILE.with_borrow_mut(|file| check(file, bytes));
});

fn check(file: &mut File, bytes: &[u8]) {
    let parsed = HolderRecord::parse(&bytes[..bytes.len().min(READ_MAX)]);
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(bytes).unwrap();
    assert_eq!(HolderRecord::read(file).unwrap(), parsed);
    let may_replace = HolderRecord::may_replace(file).unwrap();

    let Some(mut record) = parsed else {
        return;
    };
    assert_printable(record.cmd.as_deref(), COMMAND_MAX);
    assert_printable(record.label.as_deref(), LABEL_MAX);
    let database = record.database.as_deref().and_then(Path::to_str);
    assert_printable(database, DATABASE_MAX);

    // Written by this program, it is read back as it is; a clock before 1970 is not kept.
    record.time = Some(in_milliseconds(record.time));
    record.write(file).unwrap();
    assert!(file.metadata().unwrap().len() >= RECORD_LENGTH);
    let expected = HolderRecord {
        pid: record.pid,
        time: record.time,
        cmd: Some(record.cmd.unwrap_or_default()),
        label: record.label,
        database: record.database,
        start: record.start,
        pidns: record.pidns,
    };
    assert_eq!(HolderRecord::read(file).unwrap(), Some(expected));
    assert!(HolderRecord::may_replace(file).unwrap());
    if may_replace {
        assert!(!bytes.starts_with(b"SQLite format 3\0"));
    }
}

fn assert_printable(text: Option<&str>, max: usize) {
    if let Some(text) = text {
        assert!(text.len() <= max, "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// Returns what a record keeps of a time: no part of a millisecond, nothing before 1970.
fn in_milliseconds(time: Option<SystemTime>) -> SystemTime {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let whole = since.unwrap_or_default().as_millis();
    UNIX_EPOCH + Duration::from_millis(whole.try_into().unwrap())
}
