//! Processes that use the same database as the writers of a trial, and not in the
//! same way: an outsider, readers, and readers that hold their snapshots.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::pause::Pause;
use crate::peer::Peer;
use crate::peer::setting::Setting;
use crate::task::Task;
use crate::trial::Trial;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Company {
    /// About how long an outsider, a writer with SQLite alone, pauses between its
    /// writes, if there is one.
    pub(crate) outsider: Option<Duration>,
    /// Readers in a closed loop.
    pub(crate) readers: u32,
    pub(crate) reads: Reads,
    /// Readers that hold each snapshot for `hold`.
    pub(crate) long_readers: u32,
    pub(crate) hold: Duration,
}

/// How readers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reads {
    /// A prepared SELECT on a connection of SQLite alone
    Sqlite,
    /// `Database::read`
    Penholder,
}

impl Reads {
    fn peer(self) -> Peer {
        match self {
            Self::Sqlite => Peer::SqliteBusy,
            Self::Penholder => Peer::Penholder,
        }
    }
}

impl Company {
    pub(crate) const NONE: Self = Self {
        outsider: None,
        readers: 0,
        reads: Reads::Sqlite,
        long_readers: 0,
        hold: Duration::ZERO,
    };

    pub(crate) fn has_readers(&self) -> bool {
        self.readers + self.long_readers > 0
    }

    /// The setting of the outsider. It writes what the writers write, and its number
    /// follows theirs.
    pub(crate) fn outsider(&self, trial: &Trial, database: &Path) -> Option<Setting> {
        let task = Task::Workload(trial.workload);
        let setting = Self::setting(trial, database, Peer::SqliteBusy, task);
        self.outsider.map(|pause| Setting {
            pause: Pause::about(pause),
            ..setting
        })
    }

    pub(crate) fn readers(&self, trial: &Trial, database: &Path) -> Vec<Setting> {
        let setting = Self::setting(trial, database, self.reads.peer(), Task::LookUp);
        vec![setting; self.readers as usize]
    }

    pub(crate) fn long_readers(&self, trial: &Trial, database: &Path) -> Vec<Setting> {
        let task = Task::HoldSnapshot(self.hold);
        let setting = Self::setting(trial, database, Peer::SqliteBusy, task);
        vec![setting; self.long_readers as usize]
    }

    fn setting(trial: &Trial, database: &Path, peer: Peer, task: Task) -> Setting {
        Setting {
            peer,
            task,
            sync: trial.sync,
            database: database.to_owned(),
            number: trial.processes,
            threads: 1,
            timeout: peer.timeout(),
            pause: Pause::NONE,
            by_closure: false,
            once: false,
        }
    }
}
