//! One trial of the comparison: one peer, so many processes, measured once in a
//! database of its own, and every acknowledged row looked for afterwards.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::clock::{self, Nanos};
use crate::figures::Figures;
use crate::peer::python;
use crate::peer::writer::{self, Setting};
use crate::peer::{Peer, Sync};
use crate::process::{self, Process};
use crate::worker::{self, Share, Window};

const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    pub(crate) peer: Peer,
    pub(crate) sync: Sync,
    pub(crate) processes: u32,
    pub(crate) think: Duration,
    pub(crate) seconds: Duration,
}

impl Trial {
    pub(crate) fn measure(&self, folder: &Path) -> Result<Figures, Box<dyn Error>> {
        let folder = tempfile::tempdir_in(folder)?;
        let database = folder.path().canonicalize()?.join("bench.db");
        writer::create(&database)?;
        process::raise_file_limit(self.processes)?;
        let mut workers = self.start(&database, self.peer.patience(), false)?;
        let window = self.launch(&mut workers)?;
        let log = largest_log(&database, window.end);
        let last = window.end + clock::nanos(self.peer.patience() + Duration::from_secs(15));
        let shares = shares(&mut workers, last)?;
        finish(workers)?;
        let rows_ok = rows(&database)? == acknowledged(&shares);
        Figures::of(self, &shares, rows_ok, log)
    }

    pub(crate) fn start(
        &self,
        database: &Path,
        patience: Duration,
        once: bool,
    ) -> Result<Vec<Process>, Box<dyn Error>> {
        (0..self.processes)
            .map(|number| {
                let setting = Setting {
                    peer: self.peer,
                    sync: self.sync,
                    database: database.to_owned(),
                    number,
                    patience,
                };
                if self.peer == Peer::PythonSqlite3 {
                    return Process::start(&mut python::worker(&setting, self.think, once));
                }
                let mut arguments = worker::arguments(&setting, self.think);
                if once {
                    arguments.push("--once".into());
                }
                Process::of_this_program(&arguments)
            })
            .collect()
    }

    /// Waits until all are ready, and tells them when to start.
    pub(crate) fn launch(&self, workers: &mut [Process]) -> Result<Window, Box<dyn Error>> {
        // Opened in turn by so many processes on few processors.
        let ready = clock::after(Duration::from_secs(60));
        for worker in &mut *workers {
            let line = worker.receive(ready)?;
            if line != "ready" {
                return Err(format!("{} said {line:?} instead of \"ready\"", self.peer).into());
            }
        }
        let window = self.window();
        for worker in workers {
            worker.send(&window.order())?;
        }
        Ok(window)
    }

    /// It starts when the last has surely heard of it.
    fn window(&self) -> Window {
        let hearing = Duration::from_millis(20) + Duration::from_micros(500) * self.processes;
        let start = clock::after(hearing);
        let counted = start + clock::nanos(WARM_UP);
        let end = counted + clock::nanos(self.seconds);
        Window {
            start,
            counted,
            end,
        }
    }
}

/// The largest size of the log until the end; it is only looked at from outside:
/// opening and closing it would drop SQLite's locks.
fn largest_log(database: &Path, end: Nanos) -> u64 {
    let log = database.with_file_name("bench.db-wal");
    let mut largest = 0;
    loop {
        largest = largest.max(std::fs::metadata(&log).map_or(0, |data| data.len()));
        let left = clock::left(end);
        if left.is_zero() {
            return largest;
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

pub(crate) fn shares(
    workers: &mut [Process],
    deadline: Nanos,
) -> Result<Vec<Share>, Box<dyn Error>> {
    let hear = |worker: &mut Process| Ok(serde_json::from_str(&worker.receive(deadline)?)?);
    workers.iter_mut().map(hear).collect()
}

pub(crate) fn finish(workers: Vec<Process>) -> Result<(), Box<dyn Error>> {
    let deadline = clock::after(Duration::from_secs(60));
    for worker in workers {
        worker.finish(deadline)?;
    }
    Ok(())
}

/// How many rows of which process must be there.
pub(crate) fn acknowledged(shares: &[Share]) -> HashMap<usize, u64> {
    let writes = shares.iter().map(|share| share.acknowledged).enumerate();
    writes.filter(|(_, writes)| *writes > 0).collect()
}

/// How many rows of which process are there.
pub(crate) fn rows(database: &Path) -> Result<HashMap<usize, u64>, Box<dyn Error>> {
    let connection = Connection::open(database)?;
    let mut statement = connection.prepare("SELECT worker, count(*) FROM t GROUP BY worker")?;
    let rows = statement.query_map((), |row| {
        let (worker, writes): (i64, i64) = row.try_into()?;
        Ok((worker, writes))
    })?;
    let mut found = HashMap::new();
    for row in rows {
        let (worker, writes) = row?;
        found.insert(usize::try_from(worker)?, u64::try_from(writes)?);
    }
    Ok(found)
}
