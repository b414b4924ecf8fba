//! The figures of a scene, and their median over several runs.

use std::error::Error;

use serde::Serialize;

use crate::closed_loop::Measurement;
use crate::company::{Company, Reads};
use crate::peer::Peer;
use crate::synchronous::Synchronous;
use crate::text;
use crate::trial::Trial;
use crate::waits::Waits;
use crate::workload::Workload;

/// One object of the JSON file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    /// The peer that writes in a closed loop.
    pub(crate) peer: Peer,
    pub(crate) workload: Workload,
    pub(crate) sync: Synchronous,
    pub(crate) writers: u32,
    /// How the readers read, if there are any.
    pub(crate) reads: Option<Reads>,
    pub(crate) readers: u32,
    pub(crate) long_readers: u32,
    /// Of the writers in a closed loop.
    pub(crate) writing: Waits,
    /// Of the outsider.
    pub(crate) outsider: Option<Waits>,
    /// Of the readers that hold no snapshot.
    pub(crate) reading: Option<Waits>,
    pub(crate) rows_ok: bool,
    pub(crate) wal_max_bytes: u64,
    pub(crate) runs: usize,
}

impl Figures {
    pub(crate) fn of(
        trial: &Trial,
        company: &Company,
        measured: &Measurement,
    ) -> Result<Self, Box<dyn Error>> {
        let waits = |shares: &[_]| Waits::of(shares, trial.seconds);
        let outsider = measured.outsider.as_ref().map(std::slice::from_ref);
        let readers = (company.readers > 0).then_some(measured.readers.as_slice());
        Ok(Self {
            peer: trial.peer,
            workload: trial.workload,
            sync: trial.sync,
            writers: trial.processes,
            reads: readers.map(|_| company.reads),
            readers: company.readers,
            long_readers: company.long_readers,
            writing: waits(&measured.writers)?,
            outsider: outsider.map(waits).transpose()?,
            reading: readers.map(waits).transpose()?,
            rows_ok: measured.rows_ok,
            wal_max_bytes: measured.wal_max_bytes,
            runs: 1,
        })
    }

    /// Returns the medians of several runs. One run with wrong rows makes the result
    /// wrong, and the largest WAL counts.
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        let first = runs.first()?.clone();
        let median = |waits: fn(&Self) -> Option<Waits>| {
            let waits: Vec<Waits> = runs.iter().filter_map(waits).collect();
            Waits::median(&waits)
        };
        Some(Self {
            writing: median(|run| Some(run.writing))?,
            outsider: median(|run| run.outsider),
            reading: median(|run| run.reading),
            rows_ok: runs.iter().all(|run| run.rows_ok),
            wal_max_bytes: runs.iter().map(|run| run.wal_max_bytes).max()?,
            runs: runs.len(),
            ..first
        })
    }

    /// The peer that writes, and how others read if that is not with SQLite alone.
    pub(crate) fn name(&self) -> String {
        match self.reads {
            Some(Reads::Penholder) => format!("{}, Database::read", self.peer),
            _ => self.peer.to_string(),
        }
    }
}

/// The figures of writers that use SQLite alone, with readers that read in the same way
/// as those of `row`.
pub(crate) fn plain_writers<'a>(all: &'a [Figures], row: &Figures) -> Option<&'a Figures> {
    find(all, Peer::SqliteBusy, row.reads).filter(|plain| plain.peer != row.peer)
}

/// The figures of the same writers, with readers that use SQLite alone.
pub(crate) fn plain_readers<'a>(all: &'a [Figures], row: &Figures) -> Option<&'a Figures> {
    find(all, row.peer, Some(Reads::Sqlite)).filter(|plain| plain.reads != row.reads)
}

fn find(all: &[Figures], peer: Peer, reads: Option<Reads>) -> Option<&Figures> {
    all.iter()
        .find(|row| (row.peer, row.reads) == (peer, reads))
}

/// Prints a table of waits, with a line for each trial; nothing if no trial has any.
pub(crate) fn print_table(figures: &[Figures], what: &str, waits: fn(&Figures) -> Option<Waits>) {
    if figures.iter().all(|row| waits(row).is_none()) {
        return;
    }
    println!(
        "  {:<38} {:>10} {:>10} {:>7} {:>8} {:>8} {:>8} {:>8} {:>7}  rows",
        what, "writes/s", "per s", "failed", "p50", "p90", "p99", "longest", "WAL MB"
    );
    for row in figures {
        let Some(waits) = waits(row) else { continue };
        println!(
            "  {:<38} {:>10.0} {:>10.1} {:>7} {:>8} {:>8} {:>8} {:>8} {:>7.1}  {}",
            row.name(),
            row.writing.rate,
            waits.rate,
            waits.failed,
            text::time(waits.p50_us),
            text::time(waits.p90_us),
            text::time(waits.p99_us),
            text::time(waits.max_us),
            text::megabytes(row.wal_max_bytes),
            text::rows(row.rows_ok),
        );
    }
    println!();
}
