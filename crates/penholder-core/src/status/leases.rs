//! What leases did on a lock.

use std::time::Duration;

use crate::queue_file::{DatabaseWord, QueueFileSnapshot};

/// What leases did since the queue file was built: a process that writes again and again keeps the
/// lock, and SQLite's own locks, from one write to the next. Counted when a lease ends; of all
/// databases with this lock file together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Leases {
    /// How many leases there were.
    pub count: u64,
    /// Writes under them.
    pub writes: u64,
    /// How long the lock was held by them, together.
    pub held: Duration,
    /// Leases that ended because the slice of their process was over, and no process waited.
    pub ended_slice: u64,
    /// … and another process waited.
    pub ended_waiter: u64,
    /// … because no write followed.
    pub ended_idle: u64,
    /// … to leave SQLite's write lock to programs that write without penholder.
    pub ended_outsider: u64,
    /// … because the process ran a checkpoint under the lock, or waited for one.
    pub ended_checkpoint: u64,
    /// … because the database was closed, or the process forked.
    pub ended_close: u64,
    /// … because the process did something else under the lock, or a write failed.
    pub ended_other: u64,
    /// How often SQLite's write lock was left alone for programs that write without penholder.
    pub gaps: u64,
    /// In how many of these gaps such a program wrote.
    pub gaps_used: u64,
    /// How often it was seen that such a program had written.
    pub outsider_writes: u64,
}

impl Leases {
    pub(super) fn of(snapshot: &QueueFileSnapshot) -> Self {
        let sum = |word| snapshot.sum_of_databases(word);
        Self {
            count: sum(DatabaseWord::Leases),
            writes: sum(DatabaseWord::LeaseWrites),
            held: Duration::from_nanos(sum(DatabaseWord::LeaseTime)),
            ended_slice: sum(DatabaseWord::EndedSlice),
            ended_waiter: sum(DatabaseWord::EndedWaiter),
            ended_idle: sum(DatabaseWord::EndedIdle),
            ended_outsider: sum(DatabaseWord::EndedOutsider),
            ended_checkpoint: sum(DatabaseWord::EndedCheckpoint),
            ended_close: sum(DatabaseWord::EndedClose),
            ended_other: sum(DatabaseWord::EndedOther),
            gaps: sum(DatabaseWord::Gaps),
            gaps_used: sum(DatabaseWord::GapsUsed),
            outsider_writes: sum(DatabaseWord::ForeignWrites),
        }
    }

    /// Returns how many leases there were, and writes in them, between an earlier snapshot of the
    /// same queue file and this one, and for how long they had the lock.
    pub(super) fn since(self, earlier: Self) -> Self {
        let less = u64::saturating_sub;
        Self {
            count: less(self.count, earlier.count),
            writes: less(self.writes, earlier.writes),
            held: self.held.saturating_sub(earlier.held),
            ended_slice: less(self.ended_slice, earlier.ended_slice),
            ended_waiter: less(self.ended_waiter, earlier.ended_waiter),
            ended_idle: less(self.ended_idle, earlier.ended_idle),
            ended_outsider: less(self.ended_outsider, earlier.ended_outsider),
            ended_checkpoint: less(self.ended_checkpoint, earlier.ended_checkpoint),
            ended_close: less(self.ended_close, earlier.ended_close),
            ended_other: less(self.ended_other, earlier.ended_other),
            gaps: less(self.gaps, earlier.gaps),
            gaps_used: less(self.gaps_used, earlier.gaps_used),
            outsider_writes: less(self.outsider_writes, earlier.outsider_writes),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Leases {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Leases", 13)?;
        out.serialize_field("count", &self.count)?;
        out.serialize_field("writes", &self.writes)?;
        out.serialize_field("held_s", &self.held.as_secs_f64())?;
        out.serialize_field("ended_slice", &self.ended_slice)?;
        out.serialize_field("ended_waiter", &self.ended_waiter)?;
        out.serialize_field("ended_idle", &self.ended_idle)?;
        out.serialize_field("ended_outsider", &self.ended_outsider)?;
        out.serialize_field("ended_checkpoint", &self.ended_checkpoint)?;
        out.serialize_field("ended_close", &self.ended_close)?;
        out.serialize_field("ended_other", &self.ended_other)?;
        out.serialize_field("gaps", &self.gaps)?;
        out.serialize_field("gaps_used", &self.gaps_used)?;
        out.serialize_field("outsider_writes", &self.outsider_writes)?;
        out.end()
    }
}
