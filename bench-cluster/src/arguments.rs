//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Durable writes of one row: a cluster and its peers, one after another on this machine
#[derive(Debug, Parser)]
#[command(
    after_help = "All servers are started on free ports of 127.0.0.1 and ended afterwards. \
etcd is the package etcd-server of Debian, and PostgreSQL its package postgresql; what is missing is skipped."
)]
pub(crate) struct Arguments {
    /// How often each peer has its turn; the medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// How long each trial is counted
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// How many clients write at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32],
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) clients: Vec<u32>,
    /// Only these peers: penholder, one-proposal, hiqlite, hiqlite-keyed, etcd, postgresql, local
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the servers have their data [default: the directory for temporary files]
    #[arg(long)]
    pub(crate) directory: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Whether a peer is asked for.
    pub(crate) fn wants(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == peer)
    }
}
