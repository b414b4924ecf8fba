//! What a worker repeats.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::workload::Workload;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Sends the requests of a workload.
    Workload(Workload),
    /// Reads one row by its key.
    LookUp,
    /// Opens a snapshot with SQLite alone, and holds it for this duration.
    HoldSnapshot(Duration),
}
