//! A trial in which each process writes again as soon as its last write has ended.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::figures::Figures;
use crate::share;
use crate::table;
use crate::trial::Trial;
use crate::workers::Workers;

/// Measures a trial in a database of its own, and looks for every acknowledged
/// row afterwards.
pub(crate) fn measure(trial: &Trial, directory: &Path) -> Result<Figures, Box<dyn Error>> {
    let directory = tempfile::tempdir_in(directory)?;
    let database = directory.path().canonicalize()?.join("bench.db");
    table::create(&database)?;
    let timeout = trial.peer.timeout();
    let mut workers = Workers::start(trial, &database, timeout, false)?;
    let window = workers.launch(trial)?;
    let wal_max_bytes = largest_wal(&database, window.end);
    let last = window.end + clock::nanos(timeout + Duration::from_secs(15));
    let shares = workers.finish(last)?;
    let rows_ok = table::rows_by_worker(&database)? == share::acknowledged(&shares);
    Figures::of(trial, &shares, rows_ok, wal_max_bytes)
}

/// Returns the largest size of the WAL until `end`. The file is never opened here:
/// closing it would drop SQLite's POSIX locks in this process.
fn largest_wal(database: &Path, end: Nanos) -> u64 {
    let wal = database.with_file_name("bench.db-wal");
    let mut largest = 0;
    loop {
        largest = largest.max(std::fs::metadata(&wal).map_or(0, |data| data.len()));
        let left = clock::left(end);
        if left.is_zero() {
            return largest;
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}
