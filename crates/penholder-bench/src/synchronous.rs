//! What a commit waits for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names;

/// A value of `PRAGMA synchronous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Synchronous {
    /// `synchronous=NORMAL`: a commit survives the death of every process
    Normal,
    /// `synchronous=FULL`: a commit also survives a power cut
    Full,
}

impl fmt::Display for Synchronous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&names::name(self))
    }
}

impl From<Synchronous> for penholder::Synchronous {
    fn from(synchronous: Synchronous) -> Self {
        match synchronous {
            Synchronous::Normal => Self::Normal,
            Synchronous::Full => Self::Full,
        }
    }
}
