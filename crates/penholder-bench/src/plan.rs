//! The plan of a comparison: what is measured, for how long, and where the results
//! go.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock;
use crate::closures::Closures;
use crate::directory::Directory;
use crate::peer::Peers;
use crate::synchronous::Synchronous;
use crate::workload::Workload;

#[derive(clap::Args)]
pub(crate) struct Plan {
    /// Numbers of processes that write at the same time, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1,2,8,32")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) processes: Vec<u32>,
    /// Number of threads in each process: each has a connection of its own, but those
    /// of penholder share a `Database`; penholder-8-threads always has eight
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) threads: u32,
    /// Which share of the processes write by closure, with penholder: no other process
    /// can execute what they write
    #[arg(long, default_value_t = Closures::NONE, value_name = "SHARE")]
    pub(crate) closures: Closures,
    /// What each transaction does
    #[arg(long, value_enum, default_value_t = Workload::Insert)]
    pub(crate) workload: Workload,
    /// Values of `PRAGMA synchronous`, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "normal,full")]
    pub(crate) sync: Vec<Synchronous>,
    #[arg(long, default_value = "all", help = Peers::help())]
    pub(crate) peers: Peers,
    /// Duration of each trial, in seconds
    #[arg(long, default_value = "5", value_parser = clock::parse_seconds)]
    pub(crate) seconds: Duration,
    /// How long each thread sleeps between its transactions, for example 200us
    #[arg(long, default_value = "0us", value_parser = clock::parse)]
    pub(crate) think: Duration,
    /// How often each trial is run; medians are reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Write the figures to this file as a JSON array, one object for each trial
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write plots of the figures to this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) directory: Directory,
}
