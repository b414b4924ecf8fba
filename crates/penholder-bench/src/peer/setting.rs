//! What a writer of any peer needs to know.

use std::path::PathBuf;
use std::time::Duration;

use crate::peer::Peer;
use crate::synchronous::Synchronous;

#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) peer: Peer,
    pub(crate) sync: Synchronous,
    pub(crate) database: PathBuf,
    /// The number of the worker, which is stored in its rows.
    pub(crate) number: u32,
    /// How long a write waits before it fails.
    pub(crate) timeout: Duration,
}
