//! The WAL, and which readers keep it long.

use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder_lock::Process;

use super::report::{Check, Finding};
use super::subject::Subject;
use super::text::{listed, size};
use crate::sqlite::lock_bytes;

/// Above this length, in bytes, a reader keeps the WAL long, or a single write was that large.
const LONG_BYTES: u64 = 32_000_000;
/// How many times readers are searched for. A reader that is found each time stays, or comes
/// back at once.
const SEARCHES: u32 = 5;
/// How long a pause lies between two searches.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let wal = subject.location.wal();
    let length = wal.metadata().map_or(0, |meta| meta.len());
    let readers = lasting_readers(&subject.location.shm());
    vec![judge(&subject.shell_words(), length, &readers)]
}

/// Returns the processes that read at every search.
fn lasting_readers(shm: &Path) -> Vec<Process> {
    let mut readers = Process::with_shared_posix_lock(shm, &lock_bytes::WAL_READ);
    for _ in 1..SEARCHES {
        if readers.is_empty() {
            break;
        }
        thread::sleep(PAUSE);
        let still = Process::with_shared_posix_lock(shm, &lock_bytes::WAL_READ);
        readers.retain(|reader| still.iter().any(|one| one.pid == reader.pid));
    }
    readers
}

fn judge(database: &str, length: u64, readers: &[Process]) -> Finding {
    let checkpoint = format!("`penholder checkpoint {database}`");
    let found = match length {
        0 => "empty".to_owned(),
        length => size(length),
    };
    let end = "end that read transaction, or the process";
    if readers.is_empty() && length < LONG_BYTES {
        return Finding::ok(Check::Wal, found);
    }
    if readers.is_empty() {
        let next = format!("{checkpoint} shortens it");
        return Finding::info(
            Check::Wal,
            found + ", and no process reads from it for long",
        )
        .next(next);
    }
    let found = format!("{found}; held by {}, which keeps reading", listed(readers));
    if length < LONG_BYTES {
        return Finding::info(Check::Wal, found).next(format!("{end}, before the WAL is long"));
    }
    let next = format!("{end}, then {checkpoint}");
    Finding::warning(Check::Wal, found).next(next)
}
