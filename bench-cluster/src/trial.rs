//! One peer under one number of clients, in a closed loop.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Result;
use crate::peer::{Peer, Writer};

/// How long clients write before they are counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// The pause after a write that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// Numbers rows, each of which has another one.
static NUMBER: AtomicI64 = AtomicI64::new(0);

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Writes a second.
    pub(crate) rate: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// All acknowledged writes, also those of the warm-up.
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
}

/// What one client did.
#[derive(Debug, Default)]
struct Share {
    acknowledged: u64,
    failed: u64,
    /// How long each write took that ended while it was counted.
    took: Vec<Duration>,
}

impl Trial {
    /// Has this many clients write.
    pub(crate) async fn run(peer: &Peer, clients: u32, time: Duration) -> Result<Self> {
        let mut writers = Vec::new();
        for _ in 0..clients {
            writers.push(peer.writer().await?);
        }
        let counted = Instant::now() + WARM_UP;
        let end = counted + time;
        let mut tasks = JoinSet::new();
        for (client, writer) in (0..).zip(writers) {
            tasks.spawn(write(writer, client, counted, end));
        }
        let mut all = Share::default();
        while let Some(share) = tasks.join_next().await {
            let share = share??;
            all.acknowledged += share.acknowledged;
            all.failed += share.failed;
            all.took.extend(share.took);
        }
        Ok(all.trial(time))
    }
}

/// Writes until the end.
async fn write(mut writer: Writer, client: u32, counted: Instant, end: Instant) -> Result<Share> {
    let mut share = Share::default();
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(share);
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = writer.write(client, number).await {
            if share.failed == 0 {
                eprintln!("bench-cluster: a write failed: {error}");
            }
            share.failed += 1;
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        share.acknowledged += 1;
        let ended = Instant::now();
        if ended >= counted && ended < end {
            share.took.push(ended - begun);
        }
    }
}

impl Share {
    fn trial(mut self, time: Duration) -> Trial {
        self.took.sort();
        Trial {
            rate: self.took.len() as f64 / time.as_secs_f64(),
            p50: within(&self.took, 0.5),
            p99: within(&self.took, 0.99),
            acknowledged: self.acknowledged,
            failed: self.failed,
        }
    }
}

/// Returns the time within which this share of the writes was acknowledged.
fn within(took: &[Duration], share: f64) -> Duration {
    let index = (took.len() as f64 * share) as usize;
    took.get(index).or(took.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_writes_is_found() {
        let took: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(within(&took, 0.5), Duration::from_millis(51));
        assert_eq!(within(&took, 0.99), Duration::from_millis(100));
        assert_eq!(within(&took[..1], 0.99), Duration::from_millis(1));
        assert_eq!(within(&[], 0.5), Duration::ZERO);
    }
}
