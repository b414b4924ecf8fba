//! When writers leave SQLite's write lock alone, so that an outsider can take it.
//!
//! An outsider is a program that writes without penholder: it waits by polling, and would never
//! find WRITE free between leases that follow each other. So at the end of a slice, with the
//! write lock of penholder still held, WRITE is left alone for a while:
//!
//! | at the end of a slice | WRITE is left alone for |
//! | --- | --- |
//! | a trace, and a token to pay with | [`LISTEN`], or until it was used |
//! | otherwise, once a whole gap is owed | [`GAP`] |
//! | otherwise | not at all |
//!
//! Tokens: one each 100 ms, two at most; each gap that was used gives one more. Owed is a share of
//! the time for which was written: 2% in quiet times; within 300 ms of a trace 25%, or 12% once
//! [`DOUBTFUL`] gaps in a row were of no use; and 50% within 10 s of a gap that was used. Only that
//! proves an outsider: what is found at other times may come from readers, or from a program that
//! takes penholder's write lock and writes without a lease. The figures were found by measurement:
//! `docs/design.md`, "Outsiders".

use std::thread;
use std::time::{Duration, Instant};

use crate::mirror::{Account, Mirror};
use crate::wal_index::WalIndex;

/// How long WRITE is left alone after a trace.
const LISTEN: Duration = Duration::from_micros(3500);
/// How long it is left alone for what is owed.
const GAP: Duration = Duration::from_millis(5);
/// How often it is looked whether an outsider has written.
const LOOK: Duration = Duration::from_micros(200);

/// One token, in thousandths.
const TOKEN: i64 = 1000;
/// How long a thousandth of a token takes, in nanoseconds.
const REFILL: u64 = 100_000;
/// How many tokens time gives at most, and how many there are at most.
const REFILLED_MAX: i64 = 2 * TOKEN;
const TOKENS_MAX: i64 = 4 * TOKEN;

/// For how long a trace, and a write, of an outsider counts.
const TRACE_COUNTS: u64 = 300_000_000;
const WRITE_COUNTS: u64 = 10_000_000_000;
/// The share of the time that is owed, in hundredths.
const SHARE_QUIET: i64 = 2;
const SHARE_TRACED: i64 = 25;
const SHARE_DOUBTFUL: i64 = 12;
const SHARE_WRITTEN: i64 = 50;
/// After so many gaps in a row that no outsider used, traces are taken for those of readers.
const DOUBTFUL: u64 = 16;

/// The longest slice that counts in full.
const SLICE_MAX: Duration = Duration::from_millis(20);
const DEBT_MIN: i64 = -8_000_000;
const DEBT_MAX: i64 = 30_000_000;
/// So much credit is as good as none.
const SMALL_CREDIT: i64 = -1_000_000;

/// A time for which WRITE was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gap {
    /// Zero if it was not.
    pub length: Duration,
    /// Whether an outsider wrote.
    pub was_used: bool,
}

/// Leaves WRITE alone, if that is due after a slice in which was written for `wrote`.
///
/// The caller holds penholder's write lock, and has ended its lease. `at` is the time on the
/// monotonic clock in nanoseconds.
pub(crate) fn listen(mirror: &Mirror, index: &WalIndex, wrote: Duration, at: u64) -> Gap {
    let mut account = Account::read(mirror, at);
    let has_written = mirror.take_writes(index);
    let is_traced = mirror.take_traces(index) || has_written;
    if is_traced {
        account.last_trace = at;
    }
    let due = account.charge(wrote, at, is_traced);
    let gap = leave_alone(mirror, index, due);
    if !gap.length.is_zero() {
        account.note_gap(gap.was_used, at);
        mirror.count_gap(gap.was_used);
        account.pay(gap.length);
    }
    mirror.set_account(account);
    gap
}

/// Leaves WRITE alone until an outsider has written, at most for `due`.
fn leave_alone(mirror: &Mirror, index: &WalIndex, due: Duration) -> Gap {
    if due.is_zero() {
        return Gap::default();
    }
    let begun = Instant::now();
    while begun.elapsed() < due && !mirror.has_foreign_header(index) {
        thread::sleep(LOOK);
    }
    Gap {
        length: begun.elapsed(),
        was_used: mirror.take_writes(index),
    }
}

impl Account {
    /// Reads it, with what may have been overwritten brought within bounds, and adds the tokens
    /// that time has given.
    fn read(mirror: &Mirror, now: u64) -> Self {
        let mut account = mirror.account();
        account.tokens = account.tokens.clamp(0, TOKENS_MAX);
        account.debt = account.debt.clamp(DEBT_MIN, DEBT_MAX);
        for at in [
            &mut account.refilled,
            &mut account.last_write,
            &mut account.last_trace,
        ] {
            *at = (*at).min(now);
        }
        let new = i64::try_from((now - account.refilled) / REFILL).unwrap_or(REFILLED_MAX);
        if new > 0 {
            let sum = account.tokens.saturating_add(new).min(REFILLED_MAX);
            account.tokens = account.tokens.max(sum);
            account.refilled = now;
        }
        account
    }

    /// Notes whether an outsider has written in a gap.
    fn note_gap(&mut self, was_used: bool, now: u64) {
        if !was_used {
            self.unused = self.unused.saturating_add(1);
            return;
        }
        (self.last_write, self.last_trace) = (now, now);
        self.unused = 0;
        self.tokens = (self.tokens + TOKEN).min(TOKENS_MAX);
    }

    /// Adds what is owed for a slice; returns how long WRITE is to be left alone now.
    fn charge(&mut self, wrote: Duration, now: u64, is_traced: bool) -> Duration {
        let share = if now - self.last_trace >= TRACE_COUNTS {
            self.unused = 0;
            SHARE_QUIET
        } else if now - self.last_write < WRITE_COUNTS {
            SHARE_WRITTEN
        } else if self.unused < DOUBTFUL {
            SHARE_TRACED
        } else {
            SHARE_DOUBTFUL
        };
        self.debt += nanos(wrote.min(SLICE_MAX)) * share / 100;
        if is_traced && self.tokens >= TOKEN && self.debt > SMALL_CREDIT {
            self.tokens -= TOKEN;
            return LISTEN;
        }
        if self.debt >= nanos(GAP) {
            return GAP;
        }
        Duration::ZERO
    }

    fn pay(&mut self, waited: Duration) {
        let left = self.debt.saturating_sub(nanos(waited));
        self.debt = left.clamp(DEBT_MIN, DEBT_MAX);
    }
}

/// Credits a time for which WRITE was free anyway.
pub(crate) fn credit(mirror: &Mirror, free: Duration) {
    let mut account = mirror.account();
    account.pay(free);
    mirror.set_account(account);
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SLICE: Duration = Duration::from_millis(2);

    #[test]
    fn in_quiet_times_a_fiftieth_is_owed() {
        let (mut account, mut gaps, begun) = (Account::default(), 0, 20_000 * MS);
        let (mut now, mut listened) = (begun, Duration::ZERO);
        while now < begun + 10_000 * MS {
            let due = account.charge(SLICE, now, false);
            now += 2 * MS;
            if !due.is_zero() {
                gaps += 1;
                account.pay(due);
                listened += due;
                now += u64::try_from(due.as_nanos()).unwrap();
            }
        }
        let share = listened.as_secs_f64() / 10.0;
        assert!((0.015..0.025).contains(&share), "{share} in {gaps} gaps");
    }

    #[test]
    fn a_trace_is_answered_while_there_are_tokens() {
        let now = 20_000 * MS;
        let mut account = Account {
            tokens: 2 * TOKEN,
            last_trace: now,
            ..Account::default()
        };
        assert_eq!(account.charge(SLICE, now, true), LISTEN);
        assert_eq!(account.charge(SLICE, now, true), LISTEN);
        assert_eq!(account.charge(SLICE, now, true), Duration::ZERO);
        // After that a share of the time is owed.
        let slices = (0..100).find(|_| !account.charge(SLICE, now, true).is_zero());
        assert!(slices.is_some_and(|slices| slices < 20), "{slices:?}");
    }

    /// Lets writers write for ten seconds next to a program that leaves a trace in each slice.
    /// Returns which share of the time was left to it.
    fn share_next_to_traces(is_used: impl Fn(u64) -> bool) -> f64 {
        let begun = 20_000 * MS;
        let (mut account, mut now, mut left) = (Account::default(), begun, 0);
        while now < begun + 10_000 * MS {
            account.last_trace = now;
            let due = account.charge(SLICE, now, true);
            now += 2 * MS;
            if due.is_zero() {
                continue;
            }
            account.pay(due);
            now += u64::try_from(due.as_nanos()).unwrap();
            left += u64::try_from(due.as_nanos()).unwrap();
            account.note_gap(is_used(now), now);
        }
        Duration::from_nanos(left).as_secs_f64() / 10.0
    }

    #[test]
    fn readers_cost_less_than_a_writer() {
        let share = share_next_to_traces(|_| false);
        assert!((0.08..0.15).contains(&share), "{share}");
        let share = share_next_to_traces(|_| true);
        assert!((0.30..0.45).contains(&share), "{share}");
    }

    #[test]
    fn garbage_is_brought_within_bounds() {
        let words: Vec<_> = (0..crate::mirror::MIRROR_WORDS)
            .map(|_| std::sync::atomic::AtomicU64::new(u64::MAX / 3))
            .collect();
        let mirror = Mirror::new(std::sync::Arc::new(words)).unwrap();
        let account = Account::read(&mirror, 5);
        assert!((0..=TOKENS_MAX).contains(&account.tokens));
        assert!((DEBT_MIN..=DEBT_MAX).contains(&account.debt));
        assert!(account.refilled <= 5 && account.last_trace <= 5 && account.last_write <= 5);
        mirror.set_account(Account {
            debt: i64::MIN,
            ..account
        });
        credit(&mirror, GAP);
        assert_eq!(mirror.account().debt, DEBT_MIN);
    }
}
