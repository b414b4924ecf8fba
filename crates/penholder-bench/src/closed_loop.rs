//! A trial in which each process sends a request as soon as its last one has ended.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::company::Company;
use crate::look_up;
use crate::share::Share;
use crate::trial::Trial;
use crate::workers::Workers;

/// What the processes of a trial did.
pub(crate) struct Measurement {
    pub(crate) writers: Vec<Share>,
    /// Of the outsider, if there is one.
    pub(crate) outsider: Option<Share>,
    /// Without those that hold their snapshots.
    pub(crate) readers: Vec<Share>,
    /// Whether the database has every acknowledged write, and no other.
    pub(crate) rows_ok: bool,
    pub(crate) wal_max_bytes: u64,
}

/// Measures a trial in a database of its own, and looks for every acknowledged
/// write afterwards.
pub(crate) fn measure(
    trial: &Trial,
    company: &Company,
    directory: &Path,
) -> Result<Measurement, Box<dyn Error>> {
    let directory = tempfile::tempdir_in(directory)?;
    let database = directory.path().canonicalize()?.join("bench.db");
    trial.workload.create(&database)?;
    if company.has_readers() {
        look_up::create(&database)?;
    }
    let mut settings = trial.settings(&database);
    settings.extend(company.outsider(trial, &database));
    settings.extend(company.readers(trial, &database));
    settings.extend(company.long_readers(trial, &database));
    let mut workers = Workers::start(&settings)?;
    let window = workers.launch(trial.seconds)?;
    let wal_max_bytes = largest_wal(&database, window.end);
    let timeout = settings.iter().map(|setting| setting.timeout).max();
    let last = timeout.unwrap_or_default() + Duration::from_secs(15);
    let shares = workers.finish(window.end + clock::nanos(last))?;
    let rows_ok = trial.workload.is_complete(&database, &shares)?;
    let mut shares = shares.into_iter();
    let writers = shares.by_ref().take(trial.processes as usize).collect();
    let outsider = company.outsider.and_then(|_| shares.next());
    let readers = shares.take(company.readers as usize).collect();
    Ok(Measurement {
        writers,
        outsider,
        readers,
        rows_ok,
        wal_max_bytes,
    })
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
