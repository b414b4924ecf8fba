//! The peers that are compared: the ways in which a process can read and write.

pub(crate) mod access;
pub(crate) mod client;
mod database;
mod flock_blocking;
mod naive;
pub(crate) mod python;
pub(crate) mod setting;
pub(crate) mod sqlite;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Peer {
    /// The usual implementation of the pattern: see `naive.rs`.
    Naive,
    /// `BEGIN IMMEDIATE`, the statements, `COMMIT` and a busy timeout. `BEGIN` and
    /// `COMMIT` are parsed each time, as in most programs.
    SqliteBusy,
    /// The same with prepared `BEGIN` and `COMMIT`.
    SqliteBusyPrepared,
    /// A single prepared statement has no explicit transaction.
    SqliteAutocommit,
    /// Like `SqliteBusy`, but retries every millisecond, as Rails does.
    #[value(name = "sqlite-busy-1ms")]
    SqliteBusy1ms,
    /// A blocking `flock` around a prepared transaction.
    FlockBlocking,
    /// Like `SqliteBusy`, with Python's `sqlite3` module: see `python.rs`.
    #[value(name = "python-sqlite3")]
    PythonSqlite3,
    /// penholder with its default options.
    Penholder,
    /// penholder with `QueuePolicy::Fifo`.
    PenholderFifo,
    /// penholder without group commit.
    PenholderAlone,
    /// penholder with eight threads in each process.
    #[value(name = "penholder-8-threads")]
    PenholderThreads,
}

impl Peer {
    /// How long a write waits before it fails, if the benchmark sets no timeout.
    pub(crate) fn timeout(self) -> Duration {
        match self {
            Self::Naive => Duration::from_millis(500),
            _ if self.is_penholder() => Duration::from_secs(60),
            _ => Duration::from_secs(5),
        }
    }

    pub(crate) fn is_penholder(self) -> bool {
        matches!(
            self,
            Self::Penholder | Self::PenholderAlone | Self::PenholderFifo | Self::PenholderThreads
        )
    }

    /// Threads in each process, if the peer does not leave that to the benchmark.
    pub(crate) fn threads(self) -> Option<u32> {
        (self == Self::PenholderThreads).then_some(8)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&names::name(self))
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        <Self as ValueEnum>::from_str(&name, false).map_err(de::Error::custom)
    }
}

/// A list of peers on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Peers(pub(crate) Vec<Peer>);

impl Peers {
    /// The help text of an option that takes such a list.
    pub(crate) fn help() -> String {
        let all = known();
        format!("Peers to compare: `all`, or names separated by commas, of {all}")
    }
}

fn known() -> String {
    let names: Vec<String> = Peer::value_variants().iter().map(names::name).collect();
    names.join(", ")
}

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(Peer::value_variants().to_vec()));
        }
        let mut peers = Vec::new();
        for name in text.split(',').map(str::trim) {
            let peer = <Peer as ValueEnum>::from_str(name, false);
            let peer = peer.map_err(|_| format!("{name:?} is none of {}", known()))?;
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        Ok(Self(peers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_peers_is_all_or_names_without_repeats() {
        let peers = |text: &str| text.parse::<Peers>().map(|peers| peers.0);
        assert_eq!(peers("all").unwrap().len(), 11);
        assert_eq!(
            peers("penholder, naive,penholder"),
            Ok(vec![Peer::Penholder, Peer::Naive])
        );
        assert!(peers("unknown").unwrap_err().contains("sqlite-busy-1ms"));
    }

    #[test]
    fn the_names_of_peers_are_those_in_published_figures() {
        assert_eq!(
            known(),
            "naive, sqlite-busy, sqlite-busy-prepared, sqlite-autocommit, sqlite-busy-1ms, \
             flock-blocking, python-sqlite3, penholder, penholder-fifo, penholder-alone, \
             penholder-8-threads"
        );
    }
}
