//! Who is compared: the ways in which a process may write its row.

pub(crate) mod naive;
pub(crate) mod python;
pub(crate) mod writer;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// The usual implementation of the pattern: see `naive.rs`.
    Naive,
    /// `BEGIN IMMEDIATE`, `INSERT`, `COMMIT` and a busy timeout; BEGIN and COMMIT
    /// are parsed each time, as most programs have it.
    SqliteBusy,
    /// The same with prepared BEGIN and COMMIT.
    SqliteBusyPrepared,
    /// One prepared `INSERT` without a transaction around it.
    SqliteAutocommit,
    /// As `SqliteBusy`, but tries again every millisecond, as Rails does.
    SqliteBusy1ms,
    /// A blocking `flock` around a prepared transaction.
    FlockBlocking,
    /// As `SqliteBusy`, by Python's `sqlite3`: see `python.rs`.
    PythonSqlite3,
    /// penholder as it comes.
    Penholder,
    /// penholder, strictly in the order they came.
    PenholderFifo,
    /// penholder, each write a transaction of its own.
    PenholderAlone,
    /// penholder, eight threads in each process.
    PenholderThreads,
}

impl Peer {
    pub(crate) const ALL: [Self; 11] = [
        Self::Naive,
        Self::SqliteBusy,
        Self::SqliteBusyPrepared,
        Self::SqliteAutocommit,
        Self::SqliteBusy1ms,
        Self::FlockBlocking,
        Self::PythonSqlite3,
        Self::Penholder,
        Self::PenholderFifo,
        Self::PenholderAlone,
        Self::PenholderThreads,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::SqliteBusy => "sqlite-busy",
            Self::SqliteBusyPrepared => "sqlite-busy-prepared",
            Self::SqliteAutocommit => "sqlite-autocommit",
            Self::SqliteBusy1ms => "sqlite-busy-1ms",
            Self::FlockBlocking => "flock-blocking",
            Self::PythonSqlite3 => "python-sqlite3",
            Self::Penholder => "penholder",
            Self::PenholderFifo => "penholder-fifo",
            Self::PenholderAlone => "penholder-alone",
            Self::PenholderThreads => "penholder-8-threads",
        }
    }

    /// How long a write waits before it fails, unless the benchmark says.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Naive => Duration::from_millis(500),
            Self::Penholder
            | Self::PenholderAlone
            | Self::PenholderFifo
            | Self::PenholderThreads => Duration::from_secs(60),
            _ => Duration::from_secs(5),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|peer| peer.name() == name);
        known.ok_or_else(|| {
            format!(
                "{name:?} is none of {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A list of peers on the command line: `all`, or names with commas between.
#[derive(Debug, Clone)]
pub(crate) struct Peers(pub(crate) Vec<Peer>);

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(Peer::ALL.to_vec()));
        }
        let mut peers = Vec::new();
        for name in text.split(',') {
            let peer = name.trim().parse()?;
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        Ok(Self(peers))
    }
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sync {
    /// `synchronous=NORMAL`: survives the death of every process
    Normal,
    /// `synchronous=FULL`: survives a power cut too
    Full,
}

impl Sync {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Sync> for penholder::Synchronous {
    fn from(sync: Sync) -> Self {
        match sync {
            Sync::Normal => Self::Normal,
            Sync::Full => Self::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_peers() {
        let peers = |text: &str| text.parse::<Peers>().map(|peers| peers.0);
        assert_eq!(peers("all"), Ok(Peer::ALL.to_vec()));
        assert_eq!(
            peers("penholder, naive,penholder"),
            Ok(vec![Peer::Penholder, Peer::Naive])
        );
        assert!(peers("nobody").unwrap_err().contains("sqlite-busy-1ms"));
    }
}
