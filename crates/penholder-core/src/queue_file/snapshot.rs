//! The queue file as it was at one moment, more or less: for readers that only look.

use std::io::{self, Read};
use std::path::Path;

use super::counter::Counter;
use super::event::{EventRecord, read_event};
use super::fault::QueueFileFault;
use super::header;
use super::histogram::{BUCKETS, Histogram};
use super::layout::{
    self, AT_BUILT, AT_MAILBOXES, AT_TURNSTILE, CMD_AT, CMD_LEN, EVENTS, LABEL_AT, LABEL_LEN,
    LENGTH, path_of,
};
use super::outsider::{OutsiderRecord, read_outsider};
use super::text::read_text;
use super::trust::Authority;
use crate::running_statement;
use crate::sys::file;
use crate::turnstile::{SLOTS, SlotIndex, TurnState, TurnWord, Word};

/// A copy of the queue file without the mailboxes: requests are not for readers.
#[derive(Debug)]
pub(crate) struct QueueFileSnapshot {
    words: Vec<u64>,
}

/// What stands in the place of the queue file.
#[derive(Debug)]
pub(crate) enum QueueFileReading {
    Nothing,
    /// Not a queue file that this process would use.
    Unusable(QueueFileFault),
    Valid(QueueFileSnapshot),
}

/// The occupant of a slot as the slot describes it. Any process may have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occupant {
    pub(crate) pid: u32,
    pub(crate) start: Option<u64>,
    pub(crate) pidns: Option<u64>,
    pub(crate) cmd: String,
    pub(crate) label: String,
    /// What it ran last with the lock held.
    pub(crate) statement: Option<String>,
    pub(crate) ticket: u64,
    /// Since when it waits: monotonic clock, nanoseconds.
    pub(crate) since: u64,
    /// Its deadline, likewise; `u64::MAX` for none.
    pub(crate) until: u64,
}

impl QueueFileSnapshot {
    /// Reads the queue file of a lock file. It is read, not mapped: a file that is
    /// truncated meanwhile does no harm to a reader.
    pub(crate) fn read(lock_file: &Path, model: Option<&Path>) -> io::Result<QueueFileReading> {
        let file = match file::open_to_look(&path_of(lock_file)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(QueueFileReading::Nothing);
            }
            Err(error) => return Err(error),
        };
        let authority = Authority::of(lock_file, model);
        if let Some(fault) = authority.fault_of(&file::ownership(&file)?) {
            return Ok(QueueFileReading::Unusable(fault));
        }
        if file.metadata()?.len() < LENGTH as u64 {
            let fault = header::fault_of_short(&file)?;
            return Ok(QueueFileReading::Unusable(fault));
        }
        let mut bytes = Vec::new();
        file.take(AT_MAILBOXES as u64).read_to_end(&mut bytes)?;
        if bytes.len() != AT_MAILBOXES {
            return Ok(QueueFileReading::Unusable(QueueFileFault::TooShort));
        }
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)))
            .collect();
        let snapshot = Self { words };
        Ok(match header::fault_of(|at| snapshot.word(at)) {
            Some(fault) => QueueFileReading::Unusable(fault),
            None => QueueFileReading::Valid(snapshot),
        })
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.word(counter.at())
    }

    pub(crate) fn histogram(&self, histogram: Histogram) -> Vec<u64> {
        (0..BUCKETS)
            .map(|bucket| self.word(histogram.at(bucket)))
            .collect()
    }

    /// Returns when the file was built, in nanoseconds since 1970. It tells one file from
    /// the next.
    pub(crate) fn built(&self) -> u64 {
        self.word(AT_BUILT)
    }

    /// Returns the holder as the turnstile names it, which may have died with the lock.
    pub(crate) fn holder(&self) -> Option<Occupant> {
        let turn = self.turn();
        let slot = turn.slot().filter(|_| turn.state() == TurnState::Held)?;
        self.occupant(slot)
    }

    /// Whether the turnstile says that no process has the lock, and that it is kept or
    /// reserved for none.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.turn().state() == TurnState::Free
    }

    fn turn(&self) -> TurnWord {
        TurnWord::from_raw(self.word(AT_TURNSTILE))
    }

    /// Returns the waiters in the order in which they are served.
    pub(crate) fn queue(&self) -> Vec<Occupant> {
        let is_waiting = |slot: &SlotIndex| {
            let group = self.word(layout::word(Word::Queue(slot.group())));
            group & slot.bit() != 0
        };
        let mut queue: Vec<_> = (0..SLOTS)
            .filter_map(SlotIndex::new)
            .filter(is_waiting)
            .filter_map(|slot| self.occupant(slot))
            .collect();
        queue.sort_by_key(|occupant| occupant.ticket);
        queue
    }

    fn occupant(&self, slot: SlotIndex) -> Option<Occupant> {
        let at = layout::occupant(slot);
        let statement = layout::statement(slot);
        let non_zero = |at| Some(self.word(at)).filter(|&value| value > 0);
        Some(Occupant {
            pid: u32::try_from(non_zero(at)?).ok()?,
            start: non_zero(at + 8),
            pidns: non_zero(at + 16),
            cmd: self.text(at + CMD_AT, CMD_LEN),
            label: self.text(at + LABEL_AT, LABEL_LEN),
            statement: running_statement::read(|number| self.word(statement + number * 8))
                .map(|shown| shown.text),
            ticket: self.word(layout::word(Word::Ticket(slot))),
            since: self.word(layout::word(Word::Since(slot))),
            until: self.word(layout::word(Word::Until(slot))),
        })
    }

    /// Returns the kept events with their numbers, the latest first.
    pub(crate) fn events(&self) -> Vec<(u64, EventRecord)> {
        let mut events: Vec<_> = (0..EVENTS).filter_map(|place| self.event(place)).collect();
        events.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        events
    }

    fn event(&self, place: usize) -> Option<(u64, EventRecord)> {
        read_event(place, |at| self.word(at))
    }

    /// Returns the process that a waiter found in the way.
    pub(crate) fn outsider(&self) -> Option<OutsiderRecord> {
        read_outsider(|at| self.word(at))
    }

    fn text(&self, at: usize, length: usize) -> String {
        read_text(at, length, |at| self.word(at))
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at / 8).copied().unwrap_or(0)
    }
}
