//! The queue file as it was at one moment, more or less: for readers that only look.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::counter::Counter;
use super::database::DatabaseWord;
use super::event::{EventRecord, read_event};
use super::fault::QueueFileFault;
use super::header;
use super::histogram::{BUCKETS, Histogram};
use super::layout::{
    self, AT_BUILT, AT_TURNSTILE, CMD_AT, CMD_LEN, DATABASES, EVENTS, HEAD_LEN, LABEL_AT,
    LABEL_LEN, RECORDS_LEN, path_of,
};
use super::outsider::{OutsiderRecord, read_outsider};
use super::text::read_text;
use super::trust::Authority;
use crate::running_statement;
use crate::sys::file;
use crate::turnstile::{SLOTS, SlotIndex, TurnState, TurnWord, Word};

/// A copy of what readers need of the queue file: its head, and of the slots those of the holder and
/// the waiters, without the mailboxes.
#[derive(Debug)]
pub(crate) struct QueueFileSnapshot {
    head: Vec<u64>,
    /// The records of some blocks.
    blocks: BTreeMap<usize, Vec<u64>>,
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
        let header = header::first_bytes(&file)?;
        if let Some(fault) = header::fault_in(&header, file.metadata()?.len()) {
            return Ok(QueueFileReading::Unusable(fault));
        }
        let Some(head) = read_words(&file, 0, HEAD_LEN)? else {
            return Ok(QueueFileReading::Unusable(QueueFileFault::TooShort));
        };
        let blocks = BTreeMap::new();
        let mut snapshot = Self { head, blocks };
        snapshot.read_blocks(&file, header::blocks_of(&header))?;
        Ok(QueueFileReading::Valid(snapshot))
    }

    /// Reads the records of the holder and of those that wait, in so many blocks.
    fn read_blocks(&mut self, file: &File, blocks: usize) -> io::Result<()> {
        let wanted = self.waiting().chain(self.turn().slot());
        let mut wanted: Vec<usize> = wanted.map(layout::block).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for block in wanted.into_iter().filter(|&block| block < blocks) {
            let words = read_words(file, layout::length(block), RECORDS_LEN)?;
            self.blocks.extend(words.map(|words| (block, words)));
        }
        Ok(())
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
        let mut queue: Vec<_> = self
            .waiting()
            .filter_map(|slot| self.occupant(slot))
            .collect();
        queue.sort_by_key(|occupant| occupant.ticket);
        queue
    }

    /// Returns the slots whose bits say that they are in the queue.
    fn waiting(&self) -> impl Iterator<Item = SlotIndex> {
        let is_waiting = |slot: &SlotIndex| {
            let group = layout::head_word(Word::Queue(slot.group()));
            group.is_some_and(|at| self.word(at) & slot.bit() != 0)
        };
        (0..SLOTS).filter_map(SlotIndex::new).filter(is_waiting)
    }

    fn occupant(&self, slot: SlotIndex) -> Option<Occupant> {
        let block = self.blocks.get(&layout::block(slot))?;
        let word = |at: usize| block.get(at / 8).copied().unwrap_or(0);
        let turn_word = |of| layout::slot_word(of).map_or(0, |(_, at)| word(at));
        let at = layout::occupant(slot);
        let statement = layout::statement(slot);
        let non_zero = |at| Some(word(at)).filter(|&value| value > 0);
        Some(Occupant {
            pid: u32::try_from(non_zero(at)?).ok()?,
            start: non_zero(at + 8),
            pidns: non_zero(at + 16),
            cmd: read_text(at + CMD_AT, CMD_LEN, word),
            label: read_text(at + LABEL_AT, LABEL_LEN, word),
            statement: running_statement::read(|number| word(statement + number * 8))
                .map(|shown| shown.text),
            ticket: turn_word(Word::Ticket(slot)),
            since: turn_word(Word::Since(slot)),
            until: turn_word(Word::Until(slot)),
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

    /// Returns the sum of a word over all databases.
    pub(crate) fn sum_of_databases(&self, word: DatabaseWord) -> u64 {
        let words =
            (0..DATABASES).map(|place| self.word(layout::database(place) + word as usize * 8));
        words.fold(0, u64::saturating_add)
    }

    /// Returns the process that a waiter found in the way.
    pub(crate) fn outsider(&self) -> Option<OutsiderRecord> {
        read_outsider(|at| self.word(at))
    }

    fn word(&self, at: usize) -> u64 {
        self.head.get(at / 8).copied().unwrap_or(0)
    }
}

/// Reads this many bytes from an offset on as words; `None` if the file ends before.
fn read_words(file: &File, offset: usize, length: usize) -> io::Result<Option<Vec<u64>>> {
    let mut bytes = vec![0; length];
    let read = file::read_at(file, &mut bytes, offset as u64)?;
    let word = |bytes: &[u8]| Some(u64::from_ne_bytes(bytes.try_into().ok()?));
    let words = || bytes.chunks_exact(8).filter_map(word).collect();
    Ok((read == length).then(words))
}
