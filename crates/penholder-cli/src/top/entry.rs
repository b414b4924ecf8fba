//! A process that is in the way, holds the lock or waits for it: a row of the screen.

use std::time::{Duration, SystemTime};

use penholder::lock::{Holder, ProcessIdentity, ProcessState, SqliteHolder, Status, Waiter};
use penholder_core::one_line;

use crate::text;

/// What a process has to do with the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has SQLite's own lock, and not the write lock.
    Outside,
    Holding,
    /// Its place in the queue, from one on.
    Waiting(usize),
}

/// A process that is in the way, holds the lock or waits for it. Its texts are escaped.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) pid: Option<u32>,
    /// What tells it from others with its pid.
    pub(crate) identity: Option<ProcessIdentity>,
    pub(crate) state: ProcessState,
    pub(crate) since: Option<SystemTime>,
    pub(crate) time: Option<Duration>,
    pub(crate) left: Option<Duration>,
    pub(crate) label: String,
    pub(crate) cmd: String,
    /// The database that it works on, if it is known.
    pub(crate) database: Option<String>,
    /// The statement that it runs, or ran last.
    pub(crate) statement: Option<String>,
}

/// The process that writes without the lock, the holder, then the queue.
pub(crate) fn entries(status: &Status) -> Vec<Entry> {
    let waiters = status.queue.iter().enumerate();
    let waiters = waiters.map(|(place, waiter)| Entry::waiting(place + 1, waiter));
    let holder = status.holder.as_ref().map(Entry::holding);
    let outsider = status.outsider().map(Entry::outside);
    outsider.into_iter().chain(holder).chain(waiters).collect()
}

impl Entry {
    fn holding(holder: &Holder) -> Self {
        Self {
            place: Place::Holding,
            pid: holder.pid,
            identity: holder.identity(),
            state: holder.state,
            since: holder.since,
            time: holder.held,
            left: None,
            label: shown(holder.label.as_ref()),
            cmd: shown(holder.cmd.as_ref()),
            database: holder.database.as_ref().map(escaped),
            statement: holder.statement.as_ref().map(escaped),
        }
    }

    fn outside(found: &SqliteHolder) -> Self {
        Self {
            place: Place::Outside,
            pid: Some(found.process.pid),
            identity: Some(found.process.identity()),
            state: found.process.state,
            since: None,
            time: None,
            left: None,
            label: String::new(),
            cmd: shown(found.process.cmd.as_ref()),
            database: None,
            statement: None,
        }
    }

    fn waiting(place: usize, waiter: &Waiter) -> Self {
        Self {
            place: Place::Waiting(place),
            pid: Some(waiter.pid),
            identity: Some(waiter.identity()),
            state: waiter.state,
            since: Some(waiter.since),
            time: Some(waiter.waited),
            left: waiter.left,
            label: shown(waiter.label.as_ref()),
            cmd: shown(waiter.cmd.as_ref()),
            database: None,
            statement: None,
        }
    }

    /// Whether it is the same process, at any place.
    pub(crate) fn is_same_process(&self, other: &Self) -> bool {
        self.pid.is_some() && (self.pid, self.identity) == (other.pid, other.identity)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting(_))
    }

    /// The short name of its place.
    pub(crate) fn place_name(&self) -> String {
        match self.place {
            Place::Outside => "out".to_owned(),
            Place::Holding => "pen".to_owned(),
            Place::Waiting(place) => place.to_string(),
        }
    }

    /// The short name of its state.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            ProcessState::Running => "running",
            ProcessState::Sleeping => "sleeping",
            ProcessState::Stopped => "STOPPED",
            ProcessState::Gone => "gone",
            ProcessState::OtherNamespace => "outside",
            _ => "unknown",
        }
    }

    /// What it does, as the end of a sentence.
    pub(crate) fn does(&self) -> String {
        match self.place {
            Place::Outside => "has SQLite's own lock, without the write lock".to_owned(),
            Place::Holding => "holds the lock".to_owned(),
            Place::Waiting(place) => format!("is number {place} in the queue"),
        }
    }

    /// All that is known of it: names and facts.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("does", Some(self.does())),
            ("state", Some(self.state.to_string())),
            ("for", self.time.map(text::age)),
            ("command", Some(self.cmd.clone())),
            ("last", self.statement.clone()),
            ("since", self.since.map(text::timestamp)),
            ("left", self.left.map(text::age)),
            ("label", Some(self.label.clone())),
            ("database", self.database.clone()),
        ];
        facts.retain(|(_, fact)| fact.as_ref().is_some_and(|fact| !fact.is_empty()));
        let known = facts.into_iter();
        known
            .map(|(name, fact)| (name, fact.unwrap_or_default()))
            .collect()
    }
}

fn shown(text: Option<&String>) -> String {
    text.map(escaped).unwrap_or_default()
}

fn escaped(text: &String) -> String {
    one_line(text).to_string()
}
