//! Telemetry of writes: spans and events of `tracing` and, with the feature `metrics`,
//! counters and histograms. The names are in the crate's documentation ("Telemetry").
//!
//! Without a subscriber each call costs one comparison: it reads no clock and makes no text.

use std::fmt::Display;
use std::panic::Location as SourceLocation;
use std::time::{Duration, Instant};

use penholder_core::{Guard, shown_path};
use tracing::level_filters::LevelFilter;
use tracing::span::EnteredSpan;
use tracing::{Level, debug, debug_span, event_enabled, warn};

use crate::error::{Error, FileChange};
use crate::location::Location;
use crate::options::OpenOptions;

/// What spans and events say about their database: its path and its label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels<'a> {
    pub(crate) location: &'a Location,
    pub(crate) options: &'a OpenOptions,
}

impl Labels<'_> {
    fn label(&self) -> &str {
        self.options.label.as_deref().unwrap_or("")
    }

    fn path(&self) -> impl Display + '_ {
        shown_path(&self.location.path)
    }
}

/// Returns whether a recorder or a subscriber wants times.
fn is_observed() -> bool {
    cfg!(feature = "metrics") || LevelFilter::current() > LevelFilter::OFF
}

/// The wait for the write lock, from the request on.
#[derive(Debug)]
pub(crate) struct WaitSpan {
    begun: Option<Instant>,
    _span: EnteredSpan,
}

impl WaitSpan {
    pub(crate) fn begin(labels: Labels<'_>) -> Self {
        let span = debug_span!(
            target: "penholder",
            "wait",
            database = %labels.path(),
            label = labels.label(),
        );
        Self {
            begun: is_observed().then(Instant::now),
            _span: span.entered(),
        }
    }

    /// Reports that the lock was taken.
    pub(crate) fn ends(self, labels: Labels<'_>, guard: &Guard) {
        let waited = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        taken(labels, guard, waited);
    }
}

/// Reports that the lock was taken after a wait of this length.
pub(crate) fn taken(labels: Labels<'_>, guard: &Guard, waited: Duration) {
    if !is_observed() {
        return;
    }
    #[cfg(feature = "metrics")]
    metrics::histogram!("penholder_wait_seconds").record(waited);
    debug!(target: "penholder", waited_s = waited.as_secs_f64(), "write lock taken");
    if let Some(dead) = guard.recovered_from() {
        #[cfg(feature = "metrics")]
        metrics::counter!("penholder_recoveries_total").increment(1);
        warn!(
            target: "penholder",
            database = %labels.path(),
            label = labels.label(),
            dead_pid = dead,
            "write lock recovered from a process that had died",
        );
    }
}

/// The hold of the write lock, from the moment that it was taken.
#[derive(Debug)]
pub(crate) struct HoldSpan {
    begun: Option<Instant>,
    _span: EnteredSpan,
}

impl HoldSpan {
    pub(crate) fn begin(labels: Labels<'_>) -> Self {
        let span = debug_span!(
            target: "penholder",
            "hold",
            database = %labels.path(),
            label = labels.label(),
        );
        Self {
            begun: is_observed().then(Instant::now),
            _span: span.entered(),
        }
    }

    /// Returns whether the lock was held for [`OpenOptions::long_hold_threshold`] or longer, if times are
    /// wanted.
    pub(crate) fn is_long(&self, options: &OpenOptions) -> bool {
        let held = self.begun.map(|begun| begun.elapsed());
        held.is_some_and(|held| held >= options.long_hold_threshold)
    }

    /// Reports that the lock was released. `long_hold` is the statement that ran last, if the
    /// hold was long.
    pub(crate) fn ends(
        self,
        labels: Labels<'_>,
        site: Option<&SourceLocation<'_>>,
        long_hold: Option<&str>,
    ) {
        let Some(held) = self.begun.map(|begun| begun.elapsed()) else {
            return;
        };
        #[cfg(feature = "metrics")]
        metrics::histogram!("penholder_hold_seconds").record(held);
        debug!(target: "penholder", held_s = held.as_secs_f64(), "write lock released");
        let Some(statement) = long_hold else {
            return;
        };
        #[cfg(feature = "metrics")]
        metrics::counter!("penholder_long_holds_total").increment(1);
        warn!(
            target: "penholder",
            database = %labels.path(),
            label = labels.label(),
            held_s = held.as_secs_f64(),
            statement = (!statement.is_empty()).then_some(statement),
            call_site = site.map(tracing::field::display),
            "write lock held for long",
        );
    }
}

/// Reports a call that ended at its deadline; other errors are not reported.
pub(crate) fn failed(labels: Labels<'_>, error: &Error) {
    if !error.is_timeout() {
        return;
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("penholder_timeouts_total").increment(1);
    warn!(
        target: "penholder",
        database = %labels.path(),
        label = labels.label(),
        %error,
        "timeout",
    );
}

/// Reports that writes of other processes were committed together with our own.
pub(crate) fn combined(labels: Labels<'_>, requests: usize, writes: usize) {
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("penholder_combined_batches_total").increment(1);
        metrics::counter!("penholder_combined_writes_total").increment(writes as u64);
    }
    if event_enabled!(target: "penholder", Level::DEBUG) {
        debug!(
            target: "penholder",
            database = %labels.path(),
            label = labels.label(),
            requests,
            writes,
            "combined writes of other processes",
        );
    }
}

/// Reports that writes of other processes are not executed for a while.
pub(crate) fn combining_paused(labels: Labels<'_>, reason: impl Display) {
    warn!(
        target: "penholder",
        database = %labels.path(),
        label = labels.label(),
        %reason,
        "the table `_penholder_batch` cannot be used: writes are not combined with those of other \
         processes: run `penholder doctor`",
    );
}

/// Reports that the WAL is long and a reader keeps a checkpoint from copying all of it;
/// `moved` of its `frames` frames were copied.
pub(crate) fn wal_is_pinned(location: &Location, frames: u64, moved: u64) {
    #[cfg(feature = "metrics")]
    metrics::counter!("penholder_wal_pinned_total").increment(1);
    warn!(
        target: "penholder",
        database = %shown_path(&location.path),
        frames,
        moved,
        "the WAL is long, and a reader keeps it from being checkpointed",
    );
}

/// Reports that a file of the database was replaced or deleted while it was open.
pub(crate) fn file_replaced(location: &Location, change: &FileChange) {
    #[cfg(feature = "metrics")]
    metrics::counter!("penholder_files_replaced_total").increment(1);
    warn!(
        target: "penholder",
        database = %shown_path(&location.path),
        %change,
        "a file of the database was replaced or deleted; all connections are given up",
    );
}

/// Reports that the database was opened again after that.
pub(crate) fn reopened(location: &Location) {
    warn!(
        target: "penholder",
        database = %shown_path(&location.path),
        "opened the files that are there now",
    );
}

/// Reports that a release failed: the lock is free, or will be when the process ends, and what
/// was committed stays committed.
pub(crate) fn release_failed(labels: Labels<'_>, error: &Error) {
    warn!(
        target: "penholder",
        database = %labels.path(),
        label = labels.label(),
        %error,
        "write lock released with an error",
    );
}
