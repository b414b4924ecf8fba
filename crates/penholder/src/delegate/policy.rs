//! When it pays to execute what other processes offer.
//!
//! Combining pays if commits are expensive. Otherwise handing the lock over is faster, as was
//! measured with 32, 64 and 256 processes (`docs/design.md`). Without leases, it also pays if many
//! processes wait.

use std::time::Duration;

use penholder_core::commit_stats::CommitStats;

use crate::options::{GroupCommit, Synchronous};
use crate::write::{WriteContext, WriteTurn};

/// A commit that syncs nothing is expensive from here on. That of a large batch takes longer than
/// that of one write, so a lower limit would keep combining going where it does not pay.
const SLOW_WITHOUT_SYNC: Duration = Duration::from_micros(500);
/// With at least this many waiters, requests are combined even if a commit is cheap, unless processes
/// have leases.
const MANY: usize = 48;
/// The same while the last batch was large, so that combining does not stop and start.
const STILL_MANY: usize = 40;
/// A batch of at least this many writes is large.
const LARGE_BATCH: usize = 8;

/// Returns whether the options let processes execute each other's writes.
pub(super) fn is_across_processes(context: &WriteContext<'_>) -> bool {
    let options = context.options;
    options.group_commit == GroupCommit::AcrossProcesses && options.queue
}

/// Returns whether the holder should execute what others offer.
///
/// It does not at the first write of a process: a second connection is not worth its cost for
/// one write, and if hundreds of processes start at once, each gets its turn sooner.
pub(super) fn is_combining_worth_it(context: &WriteContext<'_>, turn: &WriteTurn) -> bool {
    let has_written = context.resources.has_written();
    if !turn.is_awaited || !has_written || !is_across_processes(context) {
        return false;
    }
    let guard = &turn.guard;
    let Some(stats) = guard.commit_stats() else {
        return false;
    };
    if context.resources.may_lease() {
        return is_expensive(context, stats);
    }
    let many = if stats.last_batch() >= LARGE_BATCH {
        STILL_MANY
    } else {
        MANY
    };
    stats.is_expensive() || guard.count_waiters() >= many
}

fn is_expensive(context: &WriteContext<'_>, stats: CommitStats<'_>) -> bool {
    match context.options.synchronous {
        Synchronous::Full => stats.is_expensive(),
        Synchronous::Normal => stats.commit_time() >= SLOW_WITHOUT_SYNC,
    }
}

/// Returns whether writes of this process may be executed on another connection than its own.
pub(super) fn may_use_other_connection(context: &WriteContext<'_>) -> bool {
    context.resources.has_written() && !context.resources.is_customized()
}

/// Returns whether this process should offer its writes to others, as its commits were so far. A
/// request is SQL in the queue file; it costs its owner a second connection, and its place among
/// those that watch for the lock.
pub(super) fn should_offer_requests(context: &WriteContext<'_>, commits: CommitStats<'_>) -> bool {
    // What it knows of commits may be from processes that do not sync.
    let is_synced = context.options.synchronous == Synchronous::Full;
    let may_be_taken =
        is_synced || !context.resources.may_lease() || is_expensive(context, commits);
    may_be_taken
        && context.options.record_sql
        && is_across_processes(context)
        && may_use_other_connection(context)
}
