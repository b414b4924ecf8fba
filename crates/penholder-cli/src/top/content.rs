//! What there is to draw: the latest snapshot as escaped text.

use penholder::lock::{QueueFileState, Status};
use penholder_core::{one_line, shown_path};

use super::entry::{Entry, entries};
use super::trend::Trend;
use super::watch::Watch;
use crate::summary::why_no_queue;

/// What there is to draw. All texts are escaped.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) database: String,
    /// Whether the lock is held, how many wait, and why.
    pub(crate) title: String,
    /// Why there is no queue, and what to do.
    pub(crate) fault: Option<String>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) trend: Trend,
    /// What was counted and measured.
    pub(crate) figures: Vec<String>,
    /// The latest first.
    pub(crate) events: Vec<String>,
}

impl Content {
    pub(crate) fn of(watch: &Watch) -> Self {
        let status = &watch.snapshot().status;
        let shown = |text: &dyn ToString| one_line(text.to_string()).to_string();
        let fault = why_no_queue(status).filter(|_| status.queue_file != QueueFileState::None);
        Self {
            database: shown_path(watch.database()).to_string(),
            title: shown(&title(status)),
            fault: fault.map(|why| shown(&format!("no queue: {why}"))),
            entries: entries(status),
            trend: watch.trend().clone(),
            figures: watch.figures().iter().map(|line| shown(line)).collect(),
            events: status.events.iter().map(|event| shown(event)).collect(),
        }
    }

    /// The same process as it is now.
    pub(crate) fn find(&self, process: &Entry) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.is_same_process(process))
    }
}

/// The title of the processes.
fn title(status: &Status) -> String {
    let waiting = status.queue.len();
    match (&status.holder, status.queue_file) {
        (_, QueueFileState::None) => "no queue yet: free, or the holder does not queue".to_owned(),
        (None, QueueFileState::InUse) if status.outsider().is_some() => {
            format!("free, {waiting} waiting, but a process writes without the lock (out)")
        }
        (None, QueueFileState::InUse) => format!("free, {waiting} waiting"),
        (Some(holder), QueueFileState::InUse) if !holder.queues => {
            format!("held, {waiting} waiting, held by a process that does not queue")
        }
        (Some(_), QueueFileState::InUse) if status.outsider().is_some() => {
            format!("held, {waiting} waiting, all for a process that writes without the lock (out)")
        }
        (Some(holder), QueueFileState::InUse) => {
            let database = holder.database.as_ref();
            let database = database.filter(|_| status.has_other_database);
            let database = database.map(|name| format!(", on another database: {name}"));
            let last = holder
                .statement
                .as_ref()
                .map(|last| format!(", last: {last}"));
            let (database, last) = (database.unwrap_or_default(), last.unwrap_or_default());
            format!("held, {waiting} waiting{database}{last}")
        }
        _ => "no queue".to_owned(),
    }
}
