//! What a worker of any peer needs to know.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pause::Pause;
use crate::peer::Peer;
use crate::synchronous::Synchronous;
use crate::task::Task;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) peer: Peer,
    pub(crate) task: Task,
    pub(crate) sync: Synchronous,
    pub(crate) database: PathBuf,
    /// The number of the worker, which is stored in its rows.
    pub(crate) number: u32,
    pub(crate) threads: u32,
    /// How long a request waits before it fails.
    pub(crate) timeout: Duration,
    /// Between the requests of a thread.
    pub(crate) pause: Pause,
    /// Whether penholder runs each write as a closure.
    pub(crate) by_closure: bool,
    /// Whether it opens the database only when the trial starts, and sends one request.
    pub(crate) once: bool,
}
