//! Many tasks that write to one cluster at once, and whether what was acknowledged is there.

use std::time::{Duration, Instant};

use penholder::{Error, Store, StoreExt};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::failure::Failure;

/// The table that it writes.
const TABLE: &str = "penholder_stress";

/// What the tasks found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) acknowledged: u64,
    /// Whose outcome is not known.
    pub(crate) unknown: u64,
    pub(crate) failed: u64,
    /// Of this run, at the end.
    pub(crate) rows: u64,
    pub(crate) time: Duration,
    /// How long each acknowledged write took, in order.
    pub(crate) took: Vec<Duration>,
    /// The longest time without an acknowledgement to any task.
    pub(crate) longest_pause: Duration,
}

/// What one task found: when each of its writes was acknowledged, and how long that took.
#[derive(Debug, Default)]
struct Task {
    acknowledged: Vec<(Instant, Duration)>,
    unknown: u64,
    failed: u64,
}

/// Writes with many tasks for some time.
pub(crate) async fn run(cluster: &Cluster, writers: u32, time: Duration) -> Result<Found, Failure> {
    let create =
        format!("CREATE TABLE IF NOT EXISTS {TABLE}(run INTEGER, writer INTEGER, number INTEGER)");
    cluster.execute(create, ()).await?;
    let last = format!("SELECT coalesce(max(run), 0) + 1 FROM {TABLE}");
    let run: i64 = cluster.query_scalar(last, ()).await?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        tasks.spawn(write(cluster.clone(), run, writer, begun + time));
    }
    let mut found = Found::default();
    let mut moments = vec![begun];
    while let Some(task) = tasks.join_next().await {
        let task = task.map_err(|error| Failure::new(format!("stress: {error}")))??;
        found.unknown += task.unknown;
        found.failed += task.failed;
        for (moment, took) in task.acknowledged {
            moments.push(moment);
            found.took.push(took);
        }
    }
    found.time = begun.elapsed();
    found.acknowledged = found.took.len() as u64;
    found.took.sort();
    moments.sort();
    let pauses = moments.windows(2).map(|two| two[1] - two[0]);
    found.longest_pause = pauses.max().unwrap_or_default();
    let count = format!(
        "SELECT count(*) FROM (SELECT DISTINCT writer, number FROM {TABLE} WHERE run = ?1)"
    );
    found.rows = u64::try_from(cluster.query_scalar::<i64>(count, [run]).await?).unwrap_or(0);
    let all = format!("SELECT count(*) FROM {TABLE} WHERE run = ?1");
    let all = u64::try_from(cluster.query_scalar::<i64>(all, [run]).await?).unwrap_or(0);
    if all != found.rows {
        return Err(Failure::new(format!(
            "stress: {} writes are there twice",
            all - found.rows
        )));
    }
    let possible = found.acknowledged..=found.acknowledged + found.unknown;
    if !possible.contains(&found.rows) {
        return Err(Failure::new(format!(
            "stress: {} writes were acknowledged and {} are unknown, and {} are there",
            found.acknowledged, found.unknown, found.rows
        )));
    }
    Ok(found)
}

async fn write(cluster: Cluster, run: i64, writer: u32, end: Instant) -> Result<Task, Error> {
    let insert = format!("INSERT INTO {TABLE} VALUES (?1, ?2, ?3)");
    let mut task = Task::default();
    for number in 0_i64.. {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        match cluster
            .execute(insert.as_str(), (run, writer, number))
            .await
        {
            Ok(_) => task.acknowledged.push((Instant::now(), begun.elapsed())),
            Err(error) if error.is_outcome_unknown() => task.unknown += 1,
            Err(error) if error.is_timeout() => task.failed += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(task)
}

impl Found {
    /// Returns the time within which this share of the writes was acknowledged.
    fn within(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index into a list in memory"
        )]
        let index = (self.took.len() as f64 * share) as usize;
        let found = self.took.get(index).or(self.took.last());
        found.copied().unwrap_or_default()
    }

    pub(crate) fn text(&self, writers: u32) -> String {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are enough for this")]
        let rate = self.acknowledged as f64 / self.time.as_secs_f64();
        format!(
            "{writers} writers wrote {} of {} rows in {:.2} s\n  \
             writes     {} not written, {} unknown, {rate:.0} per second\n  \
             each took  p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms\n  \
             pause      longest {:.1} ms\n",
            self.rows,
            self.acknowledged + self.unknown + self.failed,
            self.time.as_secs_f64(),
            self.failed,
            self.unknown,
            milliseconds(self.within(0.5)),
            milliseconds(self.within(0.99)),
            milliseconds(self.took.last().copied().unwrap_or_default()),
            milliseconds(self.longest_pause),
        )
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
