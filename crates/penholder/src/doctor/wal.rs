//! The log (`-wal`), and who keeps it from being started anew.

use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder_lock::Process;

use super::report::{Check, Finding};
use super::subject::Subject;
use super::text::{listed, size};
use crate::sqlite::lock_bytes;

/// So long a log is only if somebody keeps it so, or a single write was that large.
const LONG: u64 = 32_000_000;
/// How often, and how far apart, readers are looked for: one that is there each time
/// stays, or comes again at once.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let log = subject.location.wal();
    let length = log.metadata().map_or(0, |meta| meta.len());
    let readers = lasting_readers(&subject.location.shm());
    vec![judge(length, &readers)]
}

/// The processes that are seen to read at every look.
fn lasting_readers(shm: &Path) -> Vec<Process> {
    let mut readers = Process::with_shared_posix_lock(shm, &lock_bytes::WAL_READ);
    for _ in 1..LOOKS {
        if readers.is_empty() {
            break;
        }
        thread::sleep(PAUSE);
        let still = Process::with_shared_posix_lock(shm, &lock_bytes::WAL_READ);
        readers.retain(|reader| still.iter().any(|one| one.pid == reader.pid));
    }
    readers
}

fn judge(length: u64, readers: &[Process]) -> Finding {
    let found = match length {
        0 => "empty".to_owned(),
        length => size(length),
    };
    let end = "end that read transaction, or the process";
    if readers.is_empty() && length < LONG {
        return Finding::ok(Check::Wal, found);
    }
    if readers.is_empty() {
        let next = "`penholder checkpoint DB` shortens it";
        return Finding::info(Check::Wal, found + ", and nobody reads from it for long").next(next);
    }
    let found = format!(
        "{found}; held by {}, which reads all the while",
        listed(readers)
    );
    if length < LONG {
        return Finding::info(Check::Wal, found).next(format!("{end}, before the log is long"));
    }
    let next = format!("{end}, then `penholder checkpoint DB`");
    Finding::warning(Check::Wal, found).next(next)
}
