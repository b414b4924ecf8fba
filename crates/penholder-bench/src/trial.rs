//! One trial of a comparison: one peer and a number of processes, measured once in
//! a database of their own.

use std::path::Path;
use std::time::Duration;

use crate::closures::Closures;
use crate::pause::Pause;
use crate::peer::Peer;
use crate::peer::setting::Setting;
use crate::synchronous::Synchronous;
use crate::task::Task;
use crate::workload::Workload;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    pub(crate) peer: Peer,
    pub(crate) workload: Workload,
    pub(crate) sync: Synchronous,
    pub(crate) processes: u32,
    /// Threads in each process.
    pub(crate) threads: u32,
    pub(crate) closures: Closures,
    pub(crate) think: Duration,
    pub(crate) seconds: Duration,
}

impl Trial {
    /// The settings of all writers.
    pub(crate) fn settings(&self, database: &Path) -> Vec<Setting> {
        let setting = |number| Setting {
            peer: self.peer,
            task: Task::Workload(self.workload),
            sync: self.sync,
            database: database.to_owned(),
            number,
            threads: self.threads,
            timeout: self.peer.timeout(),
            pause: Pause::exactly(self.think),
            by_closure: self.closures.includes(number),
            once: false,
        };
        (0..self.processes).map(setting).collect()
    }
}
