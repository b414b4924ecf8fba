//! The state of a lock as lines of text, for `status` and `top`.

use std::time::Duration;

use penholder::lock::{Percentiles, QueueFileFault, QueueFileState, Status};
use penholder_core::{OTHER_DATABASE, shown_name, shown_path};

use crate::text::{self, count};

/// The number of events to show. `status --json` shows all of them.
const EVENTS: usize = 8;

/// The holder, the lock file, and the waiters in their order.
pub(crate) fn holder_and_queue(status: &Status) -> Vec<String> {
    let mut lines = vec![state(status)];
    if let (Some(_), Some(found)) = (&status.holder, &status.sqlite_holder) {
        lines.push(format!("  SQLite's own lock: {found}"));
    }
    if status.has_other_database {
        lines.push(format!("  {OTHER_DATABASE}"));
    }
    lines.push(format!("  lock file: {}", shown_path(&status.lock_file)));
    lines.extend(why_no_queue(status).map(|why| format!("  no queue: {why}")));
    for (index, waiter) in status.queue.iter().enumerate() {
        lines.push(format!("  waiter {}: {waiter}", index + 1));
    }
    lines
}

/// Who holds the lock, and who SQLite's own while that one is free.
fn state(status: &Status) -> String {
    match (&status.holder, &status.sqlite_holder) {
        (Some(holder), _) if holder.queues => format!("held by {holder}"),
        (Some(holder), _) => format!("held by a process that does not queue: {holder}"),
        (None, Some(found)) => format!("free, but SQLite's own lock is not: {found}"),
        (None, None) => "free".to_owned(),
    }
}

/// Why processes cannot queue, and what to do; `None` if they can.
pub(crate) fn why_no_queue(status: &Status) -> Option<String> {
    if status.queue_file == QueueFileState::InUse {
        return None;
    }
    Some(match (status.queue_file_fault, status.queue_file) {
        (Some(fault), _) => {
            let file = status.queue_file_path();
            let name = shown_name(&file);
            let found = format!("{name} {fault}: {}", fault.advice(&file));
            match fault {
                QueueFileFault::OtherUser(_)
                | QueueFileFault::WritableByOthers { .. }
                | QueueFileFault::FileSizeLimit(_) => found,
                _ => format!("the queue file is invalid: {found}"),
            }
        }
        (None, QueueFileState::None) => {
            "no process has created one, or none can be created here".to_owned()
        }
        (None, _) => "the queue file may not be read".to_owned(),
    })
}

/// What was counted and measured since the queue file was created.
pub(crate) fn figures(status: &Status) -> impl Iterator<Item = String> + use<> {
    let counters = &status.counters;
    let acquisitions = (counters.acquisitions > 0).then(|| {
        format!(
            "acquired {}, {} after a wait, {}, {}",
            count(counters.acquisitions, "time"),
            counters.contended,
            count(counters.timeouts, "timeout"),
            count(counters.recoveries, "recovery")
        )
    });
    let waits =
        (counters.acquisitions > 0).then(|| format!("waits {}", percentiles(&status.waits)));
    let holds = (status.holds.count > 0).then(|| format!("holds {}", percentiles(&status.holds)));
    let batches = (counters.batches > 0).then(|| {
        let size = &status.batches;
        format!(
            "{} in {}, {} for other processes; p50 {}, p99 {}, most {}",
            count(counters.batched_writes, "write"),
            count(counters.batches, "shared transaction"),
            counters.combined_writes,
            size.p50,
            size.p99,
            size.max
        )
    });
    [
        acquisitions,
        waits,
        holds,
        batches,
        leases(status),
        gaps(status),
    ]
    .into_iter()
    .flatten()
}

/// How often the lock was kept from one write to the next.
fn leases(status: &Status) -> Option<String> {
    let leases = &status.leases;
    let each = |sum: u64| sum / leases.count.max(1);
    let nanos = u64::try_from(leases.held.as_nanos()).unwrap_or(u64::MAX);
    (leases.count > 0).then(|| {
        format!(
            "{}, {} and {} each; ended: {} slice over, {} for a waiter, {} for outsiders, {} for a \
             checkpoint, {} idle, {} other",
            count(leases.count, "lease"),
            count(each(leases.writes), "write"),
            text::duration(Duration::from_nanos(each(nanos))),
            leases.ended_slice,
            leases.ended_waiter,
            leases.ended_outsider,
            leases.ended_checkpoint,
            leases.ended_idle,
            leases.ended_close.saturating_add(leases.ended_other),
        )
    })
}

/// What programs that write without penholder got.
fn gaps(status: &Status) -> Option<String> {
    let leases = &status.leases;
    (leases.gaps > 0).then(|| {
        format!(
            "{} for programs without penholder, {} of them used",
            count(leases.gaps, "gap"),
            leases.gaps_used
        )
    })
}

/// The latest events.
pub(crate) fn events(status: &Status) -> impl Iterator<Item = String> + '_ {
    status.events.iter().take(EVENTS).map(ToString::to_string)
}

fn percentiles(times: &Percentiles) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, longest {}",
        text::duration(times.p50),
        text::duration(times.p90),
        text::duration(times.p99),
        text::duration(times.max)
    )
}
