//! What a worker repeats.

use serde::{Deserialize, Serialize};

use crate::workload::Workload;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Sends the requests of a workload.
    Workload(Workload),
}
