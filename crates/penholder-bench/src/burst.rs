//! One write of each of many processes, all at once: each is there, and opens
//! the database and writes when all are told to.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::peer::Peer;
use crate::peer::writer;
use crate::process;
use crate::text;
use crate::trial::{self, Trial};
use crate::worker::Share;

pub(crate) struct Burst {
    peer: Peer,
    processes: usize,
    failed: u64,
    /// From the common start until the last has written and ended.
    elapsed: Duration,
    /// The longest opening and writing.
    longest: Nanos,
    rows_ok: bool,
    /// The first error that was not "busy", if any.
    error: Option<String>,
}

impl Burst {
    /// The peers are given the same patience.
    pub(crate) fn measure(
        trial: &Trial,
        folder: &Path,
        patience: Duration,
    ) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir_in(folder)?;
        let database = folder.path().canonicalize()?.join("bench.db");
        writer::create(&database)?;
        process::raise_file_limit(trial.processes)?;
        let mut workers = trial.start(&database, patience, true)?;
        let window = trial.launch(&mut workers)?;
        let last = clock::after(patience * 2 + Duration::from_secs(60));
        let shares = trial::shares(&mut workers, last)?;
        trial::finish(workers)?;
        let elapsed = Duration::from_nanos(clock::now() - window.start);
        let rows_ok = trial::rows(&database)? == trial::acknowledged(&shares);
        Ok(Self::of(trial.peer, shares, elapsed, rows_ok))
    }

    fn of(peer: Peer, shares: Vec<Share>, elapsed: Duration, rows_ok: bool) -> Self {
        Self {
            peer,
            processes: shares.len(),
            failed: shares.iter().map(|share| share.failed).sum(),
            elapsed,
            longest: shares.iter().map(|share| share.longest).max().unwrap_or(0),
            rows_ok,
            error: shares.into_iter().find_map(|share| share.error),
        }
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<20} {} of {} failed, all done after {}, the longest took {}, rows {}",
            self.peer,
            self.failed,
            self.processes,
            text::duration(self.elapsed),
            text::time(clock::micros(self.longest)),
            text::rows(self.rows_ok)
        )?;
        match &self.error {
            Some(error) => write!(f, "\n  {error}"),
            None => Ok(()),
        }
    }
}
