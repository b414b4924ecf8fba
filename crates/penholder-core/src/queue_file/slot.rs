//! This process's slot in the queue file.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::panic::Location;
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::build::build;
use super::counter::{BatchSize, Counter};
use super::database::{DatabaseWords, Databases};
use super::event::{EventRecord, event_count, place_for, read_event};
use super::header;
use super::histogram::{Histogram, bucket};
use super::layout::{
    self, AT_BATCH_SIZE, AT_COMMIT_TIME, AT_OUTSIDER, AT_ROTOR, BLOCK_SLOTS, BLOCKS, CMD_AT,
    CMD_LEN, EVENT_LABEL_AT, EVENT_LABEL_LEN, EVENT_TEXT_LEN, EVENTS, GROWTH_BYTE, KEEPS_AT,
    LABEL_AT, LABEL_LEN, LIVENESS_FIRST_BYTE, OUTSIDER_CMD_AT, liveness_byte, path_of,
};
use super::mapped_file::{Block, MappedFile};
use super::outsider::{OutsiderRecord, WRITE_LOCK, read_outsider};
use super::trust::Authority;
use super::waker::Waker;
use crate::commit_stats::CommitStats;
use crate::mailbox::{self, RequestId};
use crate::printable::printable;
use crate::running_statement::{self, Shown};
use crate::sys::descriptor::Descriptor;
use crate::sys::file;
use crate::sys::map::Mapping;
use crate::sys::process::{self, Identity};
use crate::sys::{clock, futex};
use crate::turnstile::{Memory, SLOTS, SlotIndex, Word};

/// How many slots one attempt to occupy a slot tries.
const CANDIDATES_MAX: usize = 8;
/// How often a queue file that is replaced meanwhile is tried again.
const OCCUPY_TRIES: u32 = 4;
/// How often another place for an event is tried if another process has claimed the first one.
const CLAIMS_MAX: u32 = 4;
/// How often the lock of a process that lengthens the file is tried: half of the tries at once, half
/// with pauses, because that process may have lost its processor.
const GROWTH_TRIES: u32 = 40;
/// Each of these pauses.
const GROWTH_PAUSE: Duration = Duration::from_micros(500);

/// Why a process has no slot.
#[derive(Debug)]
pub(crate) enum NoQueueFile {
    /// What stands there is not a queue file of this version and boot. The next holder of
    /// the lock builds it again.
    Invalid,
    /// Its owner is not trusted, or too many users may write it. It is neither used nor
    /// replaced.
    NotTrusted,
    /// Every slot is occupied, or the file is replaced again and again.
    Full,
    /// Every slot is occupied, and another process makes more at this moment.
    Growing,
    /// It cannot be created, opened or mapped here.
    Unavailable,
}

impl From<io::Error> for NoQueueFile {
    fn from(_error: io::Error) -> Self {
        Self::Unavailable
    }
}

/// What a slot keeps between two requests that it offers.
#[derive(Debug, Default)]
pub(super) struct Offering {
    /// A request whose byte we still have locked.
    pub(super) locked: Option<RequestId>,
    /// When the file was last changed, in nanoseconds since 1970, when we looked. `None` if we have
    /// not, if a later change would not show, or if a combiner has seen one.
    pub(super) changed: Option<i128>,
}

/// For how long the answer of a look at the path holds, in nanoseconds. On Windows a look opens the file,
/// which is expensive.
const LOOK_AGE: Option<u64> = if cfg!(windows) {
    Some(500_000_000)
} else {
    None
};

/// A process's slot, and its mapping of the queue file.
#[derive(Debug)]
pub(crate) struct Slot {
    file: Arc<MappedFile>,
    /// The head of the file, at hand: the turnstile is there.
    head: Arc<Mapping>,
    /// The block of this slot.
    block: Block,
    /// The lock on this open file proves that we live. It is not the file that is mapped,
    /// or a forked child's inherited mapping would keep the lock.
    liveness: Arc<Descriptor>,
    /// When the file was created, in nanoseconds. Inode numbers are reused; together with
    /// this, no other file has the same identity.
    born: u64,
    index: SlotIndex,
    /// Whether the slot is claimed. Until then it may be another process's.
    is_claimed: bool,
    can_spin: bool,
    /// Whether only this user may write the file. Otherwise no request is left in it, and
    /// none is taken from it.
    is_private: bool,
    /// Makes request ids that no other process makes.
    seed: [u64; 2],
    ids: AtomicU64,
    /// What remains between two requests.
    pub(super) offering: Mutex<Offering>,
    /// Whether this process still uses the file.
    is_attached: Arc<AtomicBool>,
    /// Held by the thread that makes an entry of a database.
    making: Mutex<()>,
    /// When the path was last looked at and named this file: coarse clock, nanoseconds.
    looked_at: AtomicU64,
}

impl Slot {
    /// Occupies a slot in the queue file of a lock file, which is built if it is missing.
    pub(crate) fn occupy(
        lock_file: &Path,
        model: Option<&Path>,
        identity: &Identity,
        label: Option<&str>,
    ) -> Result<Self, NoQueueFile> {
        let path = path_of(lock_file);
        let authority = Authority::of(lock_file, model);
        for _ in 0..OCCUPY_TRIES {
            let file = match file::open_existing(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    build(&path, &authority)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some(mut slot) = Self::map(&path, file, &authority, identity.pid)? else {
                continue;
            };
            slot.index = slot.claim()?;
            let block = slot.file.block(slot.index);
            slot.block = block.ok_or(NoQueueFile::Unavailable)?.clone();
            slot.is_claimed = true;
            crate::failpoint!("claimed");
            if slot.is_current() {
                slot.initialize(identity, label);
                return Ok(slot);
            }
        }
        Err(NoQueueFile::Full)
    }

    /// Maps an open queue file; `None` if the path names another one by now.
    fn map(
        path: &Path,
        file: File,
        authority: &Authority,
        pid: u32,
    ) -> Result<Option<Self>, NoQueueFile> {
        if authority.fault_of(&file::ownership(&file)?).is_some() {
            return Err(NoQueueFile::NotTrusted);
        }
        let facts = file::facts(&file)?;
        let header = header::first_bytes(&file)?;
        if header::fault_in(&header, facts.len).is_some() {
            return Err(NoQueueFile::Invalid);
        }
        let mapped = MappedFile::new(path, facts.id, &file, header::blocks_of(&header))?;
        let is_private = file::is_private(&file)?;
        let born = file::born(&file)?;
        drop(file);
        let liveness = Arc::new(Descriptor::open(|| file::open_existing(path))?);
        if file::facts(&liveness)?.id != facts.id {
            return Ok(None);
        }
        let first = SlotIndex::new(0).ok_or(NoQueueFile::Full)?;
        let block = mapped.block(first).ok_or(NoQueueFile::Invalid)?.clone();
        let slot = Self {
            head: Arc::clone(mapped.head()),
            file: Arc::new(mapped),
            block,
            liveness,
            born,
            index: first,
            is_claimed: false,
            can_spin: process::has_several_processors(),
            is_private,
            seed: seed(pid),
            ids: AtomicU64::new(0),
            offering: Mutex::default(),
            is_attached: Arc::new(AtomicBool::new(true)),
            making: Mutex::default(),
            looked_at: AtomicU64::new(0),
        };
        if !slot.is_valid() {
            return Err(NoQueueFile::Invalid);
        }
        Ok(Some(slot))
    }

    /// Claims a free slot; more are made if there is none.
    fn claim(&self) -> Result<SlotIndex, NoQueueFile> {
        // Often enough for the longest file. The number of slots may be garbage that changes.
        for _ in 0..BLOCKS {
            let slots = self.file.slots();
            if let Some(slot) = self.claim_among(slots)? {
                return Ok(slot);
            }
            self.grow(slots)?;
        }
        Err(NoQueueFile::Full)
    }

    /// Claims a free slot among the first ones. The kernel hands them out: each is a lock on one
    /// byte.
    fn claim_among(&self, slots: usize) -> io::Result<Option<SlotIndex>> {
        // A hint, which may be garbage.
        let begin = self.u64(AT_ROTOR).fetch_add(1, SeqCst);
        let begin = usize::try_from(begin % slots.max(1) as u64).unwrap_or(0);
        let slots = (begin..slots).chain(0..begin).filter_map(SlotIndex::new);
        let (unused, used): (Vec<_>, Vec<_>) = slots.partition(|&slot| !self.is_marked(slot));
        // Only a few: if a thousand processes crowd a full file, asking for each slot would
        // keep the kernel busy with nothing else. The process polls, and asks again later.
        let few = |slots: Vec<SlotIndex>| slots.into_iter().take(CANDIDATES_MAX);
        for slot in few(unused).chain(few(used)) {
            if file::try_lock_byte(&self.liveness, liveness_byte(slot))? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Makes more slots than these, unless another process has done so within some milliseconds.
    fn grow(&self, slots: usize) -> Result<(), NoQueueFile> {
        if slots / BLOCK_SLOTS >= BLOCKS {
            return Err(NoQueueFile::Full);
        }
        for tries in 0..GROWTH_TRIES {
            if self.file.slots() > slots {
                return Ok(());
            }
            if file::try_lock_byte(&self.liveness, GROWTH_BYTE)? {
                let grown = self.lengthen(slots);
                // If that fails, the lock ends with the descriptor.
                let _ = file::unlock_byte(&self.liveness, GROWTH_BYTE);
                return Ok(grown?);
            }
            if tries < GROWTH_TRIES / 2 {
                thread::yield_now();
            } else {
                thread::sleep(GROWTH_PAUSE);
            }
        }
        Err(NoQueueFile::Growing)
    }

    /// Lengthens a file that has these slots. The caller has the lock for it.
    fn lengthen(&self, slots: usize) -> io::Result<()> {
        if self.file.slots() > slots {
            return Ok(());
        }
        let blocks = slots / BLOCK_SLOTS;
        let blocks = (blocks + (blocks / 2).max(1)).min(BLOCKS);
        file::allocate(&self.liveness, layout::length(blocks))?;
        crate::failpoint!("lengthened");
        self.file.publish(blocks);
        Ok(())
    }

    /// Clears what a former occupant left in the slot, and describes this process there.
    fn initialize(&self, identity: &Identity, label: Option<&str>) {
        self.clear_bits(Word::Queue(self.index.group()), self.index.bit());
        self.mark(true);
        // A request of a former occupant that died must not be executed because we wait.
        self.own_mailbox().clear();
        let at = layout::occupant(self.index);
        self.own(at + 8).store(identity.start.unwrap_or(0), SeqCst);
        self.own(at + 16).store(identity.pidns.unwrap_or(0), SeqCst);
        self.note_kept(false);
        let text = self.block.u64s(at + CMD_AT, CMD_LEN);
        write_text(text, &identity.cmd);
        self.set_label(label);
        self.own(at).store(identity.pid.into(), SeqCst);
    }

    /// Whether a slot is said to have an occupant, alive or dead.
    fn is_marked(&self, slot: SlotIndex) -> bool {
        self.u64(layout::occupied(slot)).load(SeqCst) & slot.bit() != 0
    }

    /// Says whether our slot has an occupant.
    fn mark(&self, is_occupied: bool) {
        let word = self.u64(layout::occupied(self.index));
        if is_occupied {
            word.fetch_or(self.index.bit(), SeqCst);
        } else {
            word.fetch_and(!self.index.bit(), SeqCst);
        }
    }

    pub(crate) fn index(&self) -> SlotIndex {
        self.index
    }

    /// Returns the block of our slot.
    pub(super) fn own_block(&self) -> &Block {
        &self.block
    }

    /// Returns the block of a slot, if there is such a slot.
    pub(super) fn block(&self, slot: SlotIndex) -> Option<&Block> {
        if slot == self.index {
            return Some(&self.block);
        }
        self.file.block(slot)
    }

    /// Makes all pages of the file writable that there are, if they are not yet.
    pub(super) fn make_writable(&self) {
        self.file.make_writable();
    }

    /// Returns the open file with our locks.
    pub(super) fn liveness(&self) -> &Arc<Descriptor> {
        &self.liveness
    }

    pub(super) fn is_private(&self) -> bool {
        self.is_private
    }

    /// Returns device, inode and time of creation of the file.
    pub(super) fn file_identity(&self) -> [u64; 3] {
        let id = self.file.id();
        [id.dev, id.ino, self.born]
    }

    /// Whether other processes have a slot here, waiting or not.
    pub(crate) fn is_shared(&self) -> bool {
        let is_locked = |first, end| {
            let length = end - first;
            length > 0 && file::are_bytes_locked(&self.liveness, first, length).unwrap_or(true)
        };
        let own = liveness_byte(self.index);
        let end = LIVENESS_FIRST_BYTE + i64::try_from(SLOTS).unwrap_or(0);
        is_locked(LIVENESS_FIRST_BYTE, own) || is_locked(own + 1, end)
    }

    fn is_valid(&self) -> bool {
        header::is_valid(|at| self.u64(at).load(SeqCst))
    }

    /// Whether this is the file that the other processes use: the path names it, and it is
    /// valid.
    pub(crate) fn is_current(&self) -> bool {
        let now = clock::coarse();
        let age = now.saturating_sub(self.looked_at.load(Relaxed));
        if LOOK_AGE.is_some_and(|holds| age < holds) {
            return self.is_valid();
        }
        let is_current = self.is_at_its_path();
        self.looked_at
            .store(if is_current { now } else { 0 }, Relaxed);
        is_current
    }

    fn is_at_its_path(&self) -> bool {
        let own_blocks = layout::block(self.index) + 1;
        let is_whole = file::facts_of_path(self.file.path()).is_ok_and(|facts| {
            facts.id == self.file.id() && layout::blocks_in(facts.len) >= own_blocks
        });
        if !is_whole || !self.is_valid() {
            return false;
        }
        if self.is_claimed {
            self.file.publish(own_blocks);
        }
        true
    }

    /// Replaces the label in the slot.
    pub(crate) fn set_label(&self, label: Option<&str>) {
        let at = layout::occupant(self.index) + LABEL_AT;
        write_text(self.block.u64s(at, LABEL_LEN), label.unwrap_or(""));
    }

    /// Returns the pid of the present or last occupant of a slot; zero if there is none.
    pub(crate) fn pid(&self, slot: SlotIndex) -> u64 {
        let at = layout::occupant(slot);
        self.block(slot)
            .map_or(0, |block| block.u64(at).load(SeqCst))
    }

    /// Notes whether this process keeps the lock between two holds. It costs a nanosecond: a process
    /// that ends finds all of its stores done.
    pub(crate) fn note_kept(&self, is_kept: bool) {
        let at = layout::occupant(self.index) + KEEPS_AT;
        self.own(at).store(is_kept.into(), Relaxed);
    }

    /// Whether the present or last occupant of a slot noted that it keeps the lock between two holds.
    pub(crate) fn is_kept(&self, slot: SlotIndex) -> bool {
        let at = layout::occupant(slot) + KEEPS_AT;
        self.block(slot)
            .is_some_and(|block| block.u64(at).load(SeqCst) == 1)
    }

    /// Returns a handle that wakes the thread that sleeps in this slot.
    pub(crate) fn waker(&self) -> Waker {
        Waker::new(&self.block, self.index)
    }

    /// Returns what the processes that use a database share, whose entry is made if there is none.
    /// `None` if that cannot be done now.
    pub(crate) fn database_words(&self, device: u64, inode: u64) -> Option<DatabaseWords> {
        let databases = Databases {
            mapping: self.file.head(),
            is_attached: &self.is_attached,
        };
        // Nothing panics with it, and it guards no data.
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let found = databases.find_or_make(&self.liveness, device, inode);
        drop(making);
        found
    }

    /// Returns a random id that no other call returns.
    pub(crate) fn unique_id(&self) -> RequestId {
        let number = self.ids.fetch_add(1, SeqCst);
        let first = mailbox::mix(self.seed[0] ^ number);
        RequestId([first, mailbox::mix(self.seed[1] ^ first)])
    }

    // ---- what the file records -------------------------------------------------

    /// Increments a counter.
    pub(crate) fn count(&self, counter: Counter) {
        self.u64(counter.at()).fetch_add(1, SeqCst);
    }

    /// Increments a counter that only the holder increments, without a locked instruction.
    pub(crate) fn count_as_holder(&self, counter: Counter) {
        increment_alone(self.u64(counter.at()));
    }

    /// Adds a value to a histogram. Only the holder does this.
    pub(crate) fn record(&self, histogram: Histogram, value: u64) {
        increment_alone(self.u64(histogram.at(bucket(value))));
    }

    /// Counts a transaction that several writes shared.
    pub(crate) fn count_batch(&self, batch: BatchSize) {
        let add = |counter: Counter, number: u64| {
            self.u64(counter.at()).fetch_add(number, SeqCst);
        };
        add(Counter::Batches, 1);
        add(Counter::Grouped, batch.writes);
        add(Counter::RemoteRequests, batch.requests);
        add(Counter::RemoteWrites, batch.remote_writes);
        self.record(Histogram::BatchSizes, batch.writes);
    }

    /// Records an event: in the place of an earlier one that is the same, which is counted, or of
    /// the oldest one.
    pub(crate) fn record_event(&self, event: &EventRecord) {
        let number = self.u64(Counter::Events.at()).fetch_add(1, SeqCst);
        let mut event = event.clone();
        (event.count, event.first) = (1, event.at);
        let kind = |place| self.u64(layout::event(place).0 + 8).load(SeqCst);
        let kept = |place| {
            let is_of_kind = kind(place) == event.kind;
            is_of_kind.then(|| read_event(place, |at| self.u64(at).load(SeqCst)))?
        };
        let same = (0..EVENTS).find_map(|place| {
            let (number, earlier) = kept(place).filter(|(_, earlier)| event.is_same(earlier))?;
            let at = self.u64(layout::event(place).0);
            // Another process may be writing it: then this is an event of its own.
            let claimed = at.compare_exchange(number, 0, SeqCst, SeqCst);
            claimed.ok().map(|_| (place, earlier))
        });
        let place = match same {
            Some((place, earlier)) => {
                event.merge(&earlier);
                place
            }
            None => self.claim_place(number, event.kind),
        };
        self.write_event(place, number, &event);
    }

    /// Claims a place for an event of this kind with this number.
    fn claim_place(&self, number: u64, kind: u64) -> usize {
        let words = |place| {
            let (at, _) = layout::event(place);
            [at, at + 8].map(|at| self.u64(at))
        };
        let mut place = 0;
        for _ in 0..CLAIMS_MAX {
            let kinds = std::array::from_fn::<_, EVENTS, _>(|place| {
                let [number, kind] = words(place).map(|word| word.load(SeqCst));
                (number, kind)
            });
            place = place_for(number, &kinds);
            let [number_in, kind_in] = words(place);
            // Another process may have claimed it meanwhile. One that is unused has no kind yet, and
            // one that is being written has no number.
            let claimed = match kinds[place] {
                (0, 0) => kind_in.compare_exchange(0, kind, SeqCst, SeqCst),
                (found, _) => number_in.compare_exchange(found, 0, SeqCst, SeqCst),
            };
            if claimed.is_ok() {
                break;
            }
        }
        place
    }

    fn write_event(&self, place: usize, number: u64, event: &EventRecord) {
        let (at, texts) = layout::event(place);
        // Zero while it is being written.
        self.u64(at).store(0, SeqCst);
        let facts = [event.kind, event.at, event.pid, event.other, event.amount];
        for (place, fact) in facts.into_iter().enumerate() {
            self.u64(at + 8 + place * 8).store(fact, SeqCst);
        }
        self.write_text(at + EVENT_LABEL_AT, EVENT_LABEL_LEN, &event.label);
        self.write_text(texts, EVENT_TEXT_LEN, &event.statement);
        self.write_text(texts + EVENT_TEXT_LEN, EVENT_TEXT_LEN, &event.call_site);
        // The counter may be garbage.
        let number = number.wrapping_add(1);
        let count = layout::event_count(place);
        self.u64(count)
            .store(event_count(number, event.count), SeqCst);
        self.u64(count + 8).store(event.first, SeqCst);
        self.u64(at).store(number, SeqCst);
    }

    /// Leaves word of a process in the way for those that do not read the kernel's tables.
    pub(crate) fn note_outsider(&self, found: &OutsiderRecord) {
        self.clear_outsider();
        let facts = [
            found.pid.into(),
            found.start.unwrap_or(0),
            found.pidns.unwrap_or(0),
            found.lock,
        ];
        for (place, fact) in facts.into_iter().enumerate() {
            self.u64(AT_OUTSIDER + 8 + place * 8).store(fact, SeqCst);
        }
        self.write_text(OUTSIDER_CMD_AT, CMD_LEN, &found.cmd);
        self.u64(AT_OUTSIDER).store(found.at, SeqCst);
    }

    /// Says that no such process is in the way any more.
    pub(crate) fn clear_outsider(&self) {
        self.u64(AT_OUTSIDER).store(0, SeqCst);
    }

    /// Returns the process that was found in the way, if it may still be.
    pub(crate) fn outsider(&self) -> Option<OutsiderRecord> {
        let found = read_outsider(|at| self.u64(at).load(SeqCst))?;
        found.is_recent(clock::monotonic()).then_some(found)
    }

    /// Whether a process with the lock of the lock file was noted, which has released it since.
    pub(crate) fn has_outsider_with_write_lock(&self) -> bool {
        self.u64(AT_OUTSIDER).load(Relaxed) != 0
            && self.u64(AT_OUTSIDER + 32).load(Relaxed) == WRITE_LOCK
    }

    /// Returns what the processes that share this file know of their commits.
    pub(crate) fn commit_stats(&self) -> CommitStats<'_> {
        CommitStats::new(self.u64(AT_COMMIT_TIME), self.u64(AT_BATCH_SIZE))
    }

    // ---- what the holder runs --------------------------------------------------

    pub(crate) fn note_statement(&self, sql: &str) {
        running_statement::store(self.statement(), sql);
    }

    pub(crate) fn show_call_site(&self, place: &Location<'_>) {
        running_statement::store_place(self.statement(), place);
    }

    pub(crate) fn clear_statement(&self) {
        running_statement::clear(self.statement());
    }

    /// Returns what was noted last in this hold.
    pub(crate) fn noted(&self) -> Option<Shown> {
        let words = self.statement();
        running_statement::read(|number| words[number].load(SeqCst))
    }

    fn statement(&self) -> &[AtomicU64] {
        let at = layout::statement(self.index);
        self.block.u64s(at, running_statement::LENGTH)
    }

    // ---- words -----------------------------------------------------------------

    /// Writes a text into the head.
    fn write_text(&self, at: usize, length: usize, text: &str) {
        let words = &self.head.u64s()[at / 8..(at + length) / 8];
        write_text(words, text);
    }

    /// Returns a word of the head.
    fn u64(&self, at: usize) -> &AtomicU64 {
        &self.head.u64s()[at / 8]
    }

    /// Returns a word of our block.
    fn own(&self, at: usize) -> &AtomicU64 {
        self.block.u64(at)
    }

    /// Returns a word of the turnstile; `None` for one of a slot that there is not.
    fn word(&self, word: Word) -> Option<&AtomicU64> {
        if let Some(at) = layout::head_word(word) {
            return Some(self.u64(at));
        }
        let (slot, at) = layout::slot_word(word)?;
        self.block(slot).map(|block| block.u64(at))
    }

    /// Returns how often a slot was woken, and whether its occupant sleeps.
    fn futex(&self, slot: SlotIndex) -> Option<(&AtomicU32, &AtomicU32)> {
        let block = self.block(slot)?;
        Some(block.futex(layout::record(slot)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // In a forked child the slot and the descriptor are the parent's.
        if self.is_claimed && self.liveness.is_ours() {
            self.is_attached.store(false, SeqCst);
            self.own(layout::occupant(self.index)).store(0, SeqCst);
            self.mark(false);
        }
    }
}

/// A slot that there is not reads as zeros, and nothing is stored there: then it is overdue, and its
/// bit in the queue is cleared.
impl Memory for Slot {
    fn groups(&self) -> usize {
        SLOTS / 64
    }

    fn load(&self, word: Word) -> u64 {
        self.word(word).map_or(0, |word| word.load(SeqCst))
    }

    fn store(&self, word: Word, value: u64) {
        if let Some(word) = self.word(word) {
            word.store(value, SeqCst);
        }
    }

    fn compare_exchange(&self, word: Word, old: u64, new: u64) -> Result<(), u64> {
        let word = self.word(word).ok_or(0_u64)?;
        word.compare_exchange(old, new, SeqCst, SeqCst).map(|_| ())
    }

    fn increment(&self, word: Word) -> u64 {
        let word = self.word(word);
        word.map_or(0, |word| word.fetch_add(1, SeqCst).wrapping_add(1))
    }

    fn set_bits(&self, word: Word, bits: u64) {
        if let Some(word) = self.word(word) {
            word.fetch_or(bits, SeqCst);
        }
    }

    fn clear_bits(&self, word: Word, bits: u64) {
        if let Some(word) = self.word(word) {
            word.fetch_and(!bits, SeqCst);
        }
    }

    fn wakes(&self, slot: SlotIndex) -> u32 {
        self.futex(slot).map_or(0, |(wakes, _)| wakes.load(SeqCst))
    }

    fn wake(&self, slot: SlotIndex) {
        let Some((wakes, sleeping)) = self.futex(slot) else {
            return;
        };
        wakes.fetch_add(1, SeqCst);
        if sleeping.load(SeqCst) != 0 {
            futex::wake(wakes);
        }
    }

    fn sleep(&self, slot: SlotIndex, wakes: u32, pause: Duration) {
        let Some((word, sleeping)) = self.futex(slot) else {
            // It is our own in any case.
            return thread::sleep(pause);
        };
        sleeping.store(1, SeqCst);
        // The kernel compares the word again, so a wake-up in between is not lost.
        futex::wait(word, wakes, pause);
        sleeping.store(0, SeqCst);
    }

    fn lives(&self, slot: SlotIndex) -> bool {
        // The kernel does not show a process its own lock. A slot that cannot be asked
        // about is taken to live, which costs a pause.
        let byte = liveness_byte(slot);
        let is_locked = || file::are_bytes_locked(&self.liveness, byte, 1).unwrap_or(true);
        slot == self.index || (self.file.has(slot) && is_locked())
    }

    fn now(&self) -> u64 {
        clock::monotonic()
    }

    fn coarse_now(&self) -> u64 {
        clock::coarse()
    }

    fn can_spin(&self) -> bool {
        self.can_spin
    }

    fn spin(&self) {
        // The holder may have this processor.
        std::thread::yield_now();
    }
}

/// Fills words with a text, and what is left of them with zeros.
fn write_text(words: &[AtomicU64], text: &str) {
    let text = printable(text, words.len() * 8);
    let mut bytes = text.bytes();
    for word in words {
        let mut next = [0; 8];
        for (to, from) in next.iter_mut().zip(&mut bytes) {
            *to = from;
        }
        word.store(u64::from_ne_bytes(next), SeqCst);
    }
}

/// Increments a word that no other processor writes meanwhile.
fn increment_alone(word: &AtomicU64) {
    word.store(word.load(Relaxed).wrapping_add(1), Relaxed);
}

/// Returns a random seed. A forked child occupies a slot of its own, with another seed.
fn seed(pid: u32) -> [u64; 2] {
    let random = || RandomState::new().build_hasher().finish();
    let moment = clock::monotonic() ^ u64::from(pid) << 40;
    [random() ^ moment, mailbox::mix(random() ^ moment)]
}
