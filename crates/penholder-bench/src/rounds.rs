//! Measuring several peers in turns: machines are shared and noisy, so each
//! round runs every peer once, briefly, the next round the other way round, and
//! the median of many rounds counts.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How much to measure.
#[derive(clap::Args, Clone)]
pub(crate) struct Plan {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 101)]
    pub(crate) rounds: usize,
    /// Operations of each peer in each round.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) count: u32,
    /// Where the files go: the file system decides the figures.
    #[arg(long, default_value = ".")]
    pub(crate) folder: PathBuf,
}

/// One of the things compared: its name and one operation.
pub(crate) struct Peer<'a> {
    pub(crate) name: &'static str,
    pub(crate) operation: Box<dyn FnMut() -> Result<(), Box<dyn Error>> + 'a>,
}

/// The median time of one operation of each peer, in the order given.
pub(crate) fn measure(
    plan: &Plan,
    peers: &mut [Peer<'_>],
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut times = vec![Vec::new(); peers.len()];
    // The first round warms up and does not count.
    for round in 0..=plan.rounds {
        let mut order: Vec<usize> = (0..peers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for number in order {
            let begun = Instant::now();
            for _ in 0..plan.count {
                (peers[number].operation)()?;
            }
            if round > 0 {
                times[number].push(begun.elapsed() / plan.count);
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Prints a line for each peer, with its time as a multiple of the first's.
pub(crate) fn print(peers: &[Peer<'_>], times: &[Duration]) {
    let first = times.first().map_or(1.0, Duration::as_secs_f64);
    println!(
        "{:<34} {:>12} {:>10} {:>10}",
        "", "ns each", "times", "rate"
    );
    for (peer, time) in peers.iter().zip(times) {
        let ratio = time.as_secs_f64() / first;
        let nanos = time.as_nanos();
        println!(
            "{:<34} {nanos:>12} {ratio:>10.2} {:>10.2}",
            peer.name,
            1.0 / ratio
        );
    }
}
