//! A burst: many processes that start at the same moment. Each opens the database,
//! sends one request and exits.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::peer::Peer;
use crate::share::{self, Share};
use crate::text;
use crate::trial::Trial;
use crate::workers::Workers;

pub(crate) struct Burst {
    peer: Peer,
    processes: usize,
    failed: u64,
    /// From the common start until the last process has written and exited.
    elapsed: Duration,
    /// The longest time that a process took to open the database and write.
    longest: Nanos,
    rows_ok: bool,
    /// The first error other than "busy", if any.
    error: Option<String>,
}

impl Burst {
    /// Measures one burst. All peers get the same timeout.
    pub(crate) fn measure(
        trial: &Trial,
        directory: &Path,
        timeout: Duration,
    ) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir_in(directory)?;
        let database = directory.path().canonicalize()?.join("bench.db");
        trial.workload.create(&database)?;
        let mut settings = trial.settings(&database);
        for setting in &mut settings {
            setting.timeout = timeout;
            setting.once = true;
        }
        let mut workers = Workers::start(&settings)?;
        let window = workers.launch(trial.seconds)?;
        let last = clock::after(timeout * 2 + Duration::from_secs(60));
        let shares = workers.finish(last)?;
        let elapsed = Duration::from_nanos(clock::now() - window.start);
        let rows_ok = trial.workload.is_complete(&database, &shares)?;
        Ok(Self::of(trial.peer, shares, elapsed, rows_ok))
    }

    fn of(peer: Peer, shares: Vec<Share>, elapsed: Duration, rows_ok: bool) -> Self {
        Self {
            peer,
            processes: shares.len(),
            failed: share::failed(&shares),
            elapsed,
            longest: share::longest(&shares),
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
