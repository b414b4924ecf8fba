//! The shared page: `db.lockq`, mapped by every process that queues.
//!
//! It is disposable. Nobody loses anything but its place in line if it is deleted,
//! truncated or filled with garbage; it is then built anew.
//!
//! Its layout, an ABI, is described in `docs/design.md` ("The page"); the offsets
//! below are those of version 2.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::mailbox::{self, Claim, Mailbox, Request, RequestId};
use crate::printable::printable;
use crate::running_statement::{self, Shown};
use crate::sys::descriptor::Descriptor;
use crate::sys::file::{self, FileId};
use crate::sys::map::Mapping;
use crate::sys::process::{self, Identity};
use crate::sys::{clock, futex};
use crate::turnstile::{self, Index, Memory, SLOTS, State, Turn, Word};

pub(crate) mod header;

/// `penhold\n`
const MAGIC: u64 = u64::from_ne_bytes(*b"penhold\n");
const VERSION: u64 = 2;

/// Byte offsets of the layout.
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 8;
const AT_SLOTS: usize = 16;
const AT_LENGTH: usize = 24;
const AT_BOOT: usize = 32;
const AT_BUILT: usize = 40;
const AT_TURNSTILE: usize = 64;
const AT_LAST_TICKET: usize = 128;
const AT_ROTOR: usize = 136;
const AT_COMMIT: usize = 144;
const AT_COMPANY: usize = 152;
const AT_LINE: usize = 192;
const AT_COUNTERS: usize = 256;
const AT_WAITS: usize = 512;
const AT_HOLDS: usize = AT_WAITS + BUCKETS * 8;
const AT_SIZES: usize = AT_HOLDS + BUCKETS * 8;
const AT_EVENTS: usize = 8192;
const AT_TICKETS: usize = AT_EVENTS + EVENTS * EVENT_LEN;
const AT_WAITING: usize = AT_TICKETS + SLOTS * 8;
const AT_PEOPLE: usize = AT_WAITING + SLOTS * WAITING_LEN;
const AT_STATEMENTS: usize = (AT_PEOPLE + SLOTS * PERSON_LEN).next_multiple_of(4096);
const AT_DETAILS: usize = AT_STATEMENTS + SLOTS * running_statement::LENGTH;
const AT_MAILBOXES: usize = AT_DETAILS + EVENTS * DETAIL_LEN;
/// Length of the page.
pub(crate) const LENGTH: usize = AT_MAILBOXES + SLOTS * mailbox::LENGTH;

const WAITING_LEN: usize = 64;
const PERSON_LEN: usize = 256;
const CMD_AT: usize = 32;
const CMD_LEN: usize = 128;
const LABEL_AT: usize = CMD_AT + CMD_LEN;
const LABEL_LEN: usize = 64;
/// Words of a histogram.
pub(crate) const BUCKETS: usize = 256;
/// Events kept.
pub(crate) const EVENTS: usize = 64;
const EVENT_LEN: usize = 128;
const EVENT_LABEL_AT: usize = 48;
const EVENT_LABEL_LEN: usize = EVENT_LEN - EVENT_LABEL_AT;
/// Of an event: its statement and its call site.
const DETAIL_LEN: usize = 256;
const DETAIL_TEXT_LEN: usize = DETAIL_LEN / 2;
/// The byte of the file that the first slot locks.
const FIRST_BYTE: i64 = 1 << 62;
/// How many slots are tried at one attempt to sit down.
const CLAIMS: usize = 8;
/// How often a page that somebody replaces meanwhile is tried again.
const TRIES: u32 = 4;

/// The page's path: the lock file's with a `q` behind.
pub(crate) fn path_of(lock_file: &Path) -> PathBuf {
    let mut name = OsString::from(lock_file);
    name.push("q");
    name.into()
}

/// A count that only goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    Acquisitions,
    Contended,
    Timeouts,
    Recoveries,
    Foreign,
    PassedOver,
    Events,
    /// Transactions that served several.
    Batches,
    /// Writes in them.
    Grouped,
    /// Requests of other processes that were carried out.
    Carried,
    /// Writes in those.
    CarriedWrites,
}

impl Counter {
    fn at(self) -> usize {
        AT_COUNTERS + self as usize * 8
    }
}

/// A histogram of durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Histogram {
    Waits,
    Holds,
    /// Not a duration: writes in a batch.
    Sizes,
}

impl Histogram {
    fn at(self, bucket: usize) -> usize {
        let start = match self {
            Self::Waits => AT_WAITS,
            Self::Holds => AT_HOLDS,
            Self::Sizes => AT_SIZES,
        };
        start + bucket % BUCKETS * 8
    }
}

/// The bucket of a histogram that counts a duration.
pub(crate) fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(4);
    let highest = nanos.ilog2();
    let next_two = nanos >> (highest - 2) & 3;
    highest as usize * 4 + usize::try_from(next_two).unwrap_or(0)
}

/// The shortest duration that a bucket counts, in nanoseconds.
pub(crate) fn bucket_starts(bucket: usize) -> u64 {
    let (highest, next_two) = (bucket / 4, bucket as u64 % 4);
    if highest < 2 {
        return 0;
    }
    (4 + next_two) << (highest - 2)
}

/// Something that happened and is kept for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: u64,
    /// Wall clock, nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) pid: u64,
    pub(crate) other: u64,
    pub(crate) nanos: u64,
    pub(crate) label: String,
    pub(crate) statement: String,
    pub(crate) call_site: String,
}

/// Why a process has no page.
#[derive(Debug)]
pub(crate) enum NoPage {
    /// What stands there is no page of this version and boot: it is built anew by
    /// whoever has the lock.
    Invalid,
    /// Every slot is taken, or somebody replaces it again and again.
    Full,
    /// It cannot be created, opened or mapped here.
    Unavailable,
}

impl From<io::Error> for NoPage {
    fn from(_error: io::Error) -> Self {
        Self::Unavailable
    }
}

/// A process's place in the page: the mapping and a slot of its own.
#[derive(Debug)]
pub(crate) struct Seat {
    mapping: Arc<Mapping>,
    /// On this open file stands the lock that says that we live: not the file
    /// that is mapped, or a forked child's inherited mapping would keep it.
    living: Descriptor,
    id: FileId,
    /// When the file was made, in nanoseconds: with it, no other file has this identity,
    /// whereas a number of a file is given again.
    born: u64,
    path: PathBuf,
    slot: Index,
    can_spin: bool,
    /// Whether nobody but this user may write the page: else no request is left in
    /// it, and none taken.
    is_private: bool,
    /// Makes request ids that nobody else makes.
    seed: [u64; 2],
    requests: AtomicU64,
}

impl Seat {
    /// Takes a slot in the page beside the lock file, which is built if there is
    /// none.
    pub(crate) fn take(
        lock_file: &Path,
        model: Option<&Path>,
        identity: &Identity,
        label: Option<&str>,
    ) -> Result<Self, NoPage> {
        let path = path_of(lock_file);
        for _ in 0..TRIES {
            let file = match file::open_existing(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    build(&path, model)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let facts = file::facts(&file)?;
            if !file.metadata()?.is_file() || facts.len < LENGTH as u64 {
                return Err(NoPage::Invalid);
            }
            let mapping = Mapping::of(&file, LENGTH)?;
            let is_private = file::is_private(&file)?;
            let born = born(&file)?;
            drop(file);
            let living = Descriptor::open(|| file::open_existing(&path))?;
            if file::facts(&living)?.id != facts.id {
                // Replaced between the two.
                continue;
            }
            let mut seat = Self {
                mapping: Arc::new(mapping),
                living,
                id: facts.id,
                born,
                path: path.clone(),
                slot: Index::new(0).ok_or(NoPage::Full)?,
                can_spin: thread::available_parallelism().is_ok_and(|n| n.get() > 1),
                is_private,
                seed: seed(identity.pid),
                requests: AtomicU64::new(0),
            };
            if !seat.is_valid() {
                return Err(NoPage::Invalid);
            }
            seat.slot = seat.claim()?;
            crate::failpoint!("claimed");
            if seat.is_current() {
                seat.introduce(identity, label);
                return Ok(seat);
            }
        }
        Err(NoPage::Full)
    }

    pub(crate) fn slot(&self) -> Index {
        self.slot
    }

    /// Whether other processes sit here, waiting or not.
    pub(crate) fn is_shared(&self) -> bool {
        let locked = |first, end| {
            first < end && file::are_bytes_locked(&self.living, first, end - first).unwrap_or(true)
        };
        let own = byte(self.slot);
        let end = FIRST_BYTE + i64::try_from(SLOTS).unwrap_or(0);
        locked(FIRST_BYTE, own) || locked(own + 1, end)
    }

    fn is_valid(&self) -> bool {
        is_valid(|at| self.u64(at).load(SeqCst))
    }

    /// Whether this is the page that the others use: the path names it, and it
    /// is still one.
    pub(crate) fn is_current(&self) -> bool {
        file::facts_of_path(&self.path).is_ok_and(|facts| facts.id == self.id) && self.is_valid()
    }

    /// The kernel hands out the slots: one lock on one byte each.
    fn claim(&self) -> Result<Index, NoPage> {
        // What stands there may be garbage; it is a hint.
        let begin = self.u64(AT_ROTOR).fetch_add(1, SeqCst);
        let begin = usize::try_from(begin % SLOTS as u64).unwrap_or(0);
        let slots = (begin..SLOTS).chain(0..begin).filter_map(Index::new);
        let unused = |slot: &Index| self.u64(person(*slot)).load(SeqCst) == 0;
        let (unused, used): (Vec<_>, Vec<_>) = slots.partition(unused);
        // A few only: where a thousand processes crowd a full page, asking for each
        // slot would keep the kernel busy with nothing else. We poll, and ask again.
        let few = |slots: Vec<Index>| slots.into_iter().take(CLAIMS);
        for slot in few(unused).chain(few(used)) {
            if file::try_lock_byte(&self.living, byte(slot))? {
                return Ok(slot);
            }
        }
        Err(NoPage::Full)
    }

    /// Says who sits here, for people.
    fn introduce(&self, identity: &Identity, label: Option<&str>) {
        self.clear_bits(
            Word::Line(self.slot.number() / 64),
            1 << (self.slot.number() % 64),
        );
        // A request of whoever sat here before, and died, is not to be carried out long
        // after that because we are in line.
        self.own_mailbox().clear();
        let at = person(self.slot);
        self.u64(at + 8).store(identity.start.unwrap_or(0), SeqCst);
        self.u64(at + 16).store(identity.pidns.unwrap_or(0), SeqCst);
        self.write_text(at + CMD_AT, CMD_LEN, &identity.cmd);
        self.write_text(at + LABEL_AT, LABEL_LEN, label.unwrap_or(""));
        self.u64(at).store(identity.pid.into(), SeqCst);
    }

    /// Says for what this process waits or works from now on.
    pub(crate) fn set_label(&self, label: Option<&str>) {
        self.write_text(person(self.slot) + LABEL_AT, LABEL_LEN, label.unwrap_or(""));
    }

    /// The pid of whoever sits, or sat, in a slot.
    pub(crate) fn pid(&self, slot: Index) -> u64 {
        self.u64(person(slot)).load(SeqCst)
    }

    /// Counts up; only the holder counts acquisitions.
    pub(crate) fn count(&self, counter: Counter) {
        self.u64(counter.at()).fetch_add(1, SeqCst);
    }

    /// Counts up what only the holder counts: no other processor is in the way.
    pub(crate) fn count_as_holder(&self, counter: Counter) {
        bump(self.u64(counter.at()));
    }

    /// Notes a duration; only the holder does.
    pub(crate) fn note(&self, histogram: Histogram, nanos: u64) {
        bump(self.u64(histogram.at(bucket(nanos))));
    }

    /// Keeps an event; the oldest is forgotten.
    pub(crate) fn tell(&self, event: &Entry) {
        let number = self.u64(Counter::Events.at()).fetch_add(1, SeqCst);
        let place = usize::try_from(number % EVENTS as u64).unwrap_or(0);
        let (at, detail) = (
            AT_EVENTS + place * EVENT_LEN,
            AT_DETAILS + place * DETAIL_LEN,
        );
        // Zero while it is being written.
        self.u64(at).store(0, SeqCst);
        let facts = [event.kind, event.at, event.pid, event.other, event.nanos];
        for (place, fact) in facts.into_iter().enumerate() {
            self.u64(at + 8 + place * 8).store(fact, SeqCst);
        }
        self.write_text(at + EVENT_LABEL_AT, EVENT_LABEL_LEN, &event.label);
        self.write_text(detail, DETAIL_TEXT_LEN, &event.statement);
        self.write_text(detail + DETAIL_TEXT_LEN, DETAIL_TEXT_LEN, &event.call_site);
        // What stands there may be garbage.
        self.u64(at).store(number.wrapping_add(1), SeqCst);
    }

    // ---- what is run ---------------------------------------------------------

    pub(crate) fn note_statement(&self, sql: &str) {
        running_statement::store(self.statement(), sql);
    }

    pub(crate) fn note_place(&self, place: &Location<'_>) {
        running_statement::store_place(self.statement(), place);
    }

    pub(crate) fn forget_statement(&self) {
        running_statement::clear(self.statement());
    }

    /// What was noted last in this hold.
    pub(crate) fn noted(&self) -> Option<Shown> {
        let words = self.statement();
        running_statement::read(|number| words[number].load(SeqCst))
    }

    fn statement(&self) -> &[AtomicU64] {
        let at = statement_of(self.slot) / 8;
        &self.mapping.u64s()[at..at + running_statement::LENGTH / 8]
    }

    // ---- requests ----------------------------------------------------------

    fn mailbox(&self, slot: Index) -> Mailbox<'_> {
        let at = (AT_MAILBOXES + slot.number() * mailbox::LENGTH) / 8;
        Mailbox::new(&self.mapping.u64s()[at..at + mailbox::LENGTH / 8])
    }

    pub(crate) fn own_mailbox(&self) -> Mailbox<'_> {
        self.mailbox(self.slot)
    }

    /// Leaves a request, if it may be left here and fits.
    pub(crate) fn offer(&self, kind: u64, request: &[u8]) -> Option<RequestId> {
        if !self.is_private || request.len() > mailbox::REQUEST_MAX {
            return None;
        }
        let id = self.unique();
        let kind = self.kind_at(self.slot, kind);
        self.own_mailbox().offer(id, kind, request);
        Some(id)
    }

    /// What was left in one place is not to be taken from another: neither from a copy
    /// of the page, nor from another slot.
    fn kind_at(&self, slot: Index, kind: u64) -> u64 {
        let place = [self.id.dev, self.id.ino, self.born, slot.number() as u64];
        let mix = |kind: u64, word| mailbox::mix(kind.rotate_left(23) ^ word);
        place.into_iter().fold(kind, mix)
    }

    /// A random number that no other call returns.
    pub(crate) fn unique(&self) -> RequestId {
        let number = self.requests.fetch_add(1, SeqCst);
        let first = mailbox::mix(self.seed[0] ^ number);
        RequestId([first, mailbox::mix(self.seed[1] ^ first)])
    }

    /// How many in line have left a request, or so.
    pub(crate) fn count_requests(&self) -> usize {
        if !self.is_private {
            return 0;
        }
        turnstile::in_line(self)
            .filter(|&slot| self.mailbox(slot).is_used())
            .count()
    }

    /// The requests of this kind, first come first.
    pub(crate) fn requests(&self, kind: u64) -> Vec<Request> {
        if !self.is_private {
            return Vec::new();
        }
        let mut slots: Vec<Index> = turnstile::in_line(self)
            .filter(|&slot| slot != self.slot)
            .collect();
        slots.sort_by_key(|&slot| self.load(Word::Ticket(slot)));
        let read = |slot: Index| {
            let (id, bytes, claimed) = self.mailbox(slot).read(self.kind_at(slot, kind))?;
            let pid = u32::try_from(self.pid(slot)).unwrap_or(0);
            Some(Request {
                slot,
                id,
                bytes,
                claimed,
                pid,
            })
        };
        slots.into_iter().filter_map(read).collect()
    }

    pub(crate) fn claim_request(&self, request: &Request, claim: Claim) -> bool {
        self.mailbox(request.slot).claim(request.id, claim)
    }

    pub(crate) fn reply(&self, request: &Request, reply: &[u8]) -> bool {
        self.mailbox(request.slot).reply(request.id, reply)
    }

    pub(crate) fn refuse(&self, request: &Request) {
        self.mailbox(request.slot).refuse(request.id);
    }

    /// Tells those whose requests were committed; they are not in line any more.
    pub(crate) fn acknowledge(&self, requests: &[Request]) {
        for request in requests {
            let slot = request.slot;
            // Before it is told, or it could be given the lock that it does not want.
            self.clear_bits(Word::Line(slot.number() / 64), 1 << (slot.number() % 64));
            if self.mailbox(slot).acknowledge(request.id) {
                crate::failpoint!("acknowledged");
            }
        }
        for request in requests {
            self.call(request.slot);
        }
        // Those before it are gone: it probes from now on.
        turnstile::wake_first(self);
    }

    /// A handle for taking the request back from another thread.
    pub(crate) fn withdrawal(&self, id: RequestId) -> Withdrawal {
        Withdrawal {
            mapping: Arc::clone(&self.mapping),
            slot: self.slot,
            id,
        }
    }

    /// A smoothed length of a commit in nanoseconds, and how many shared the last
    /// one: hints.
    pub(crate) fn pace(&self) -> (u64, u64) {
        (
            self.u64(AT_COMMIT).load(SeqCst),
            self.u64(AT_COMPANY).load(SeqCst),
        )
    }

    pub(crate) fn set_pace(&self, commit: u64, company: u64) {
        self.u64(AT_COMMIT).store(commit, SeqCst);
        self.u64(AT_COMPANY).store(company, SeqCst);
    }

    /// Counts a transaction that served several.
    pub(crate) fn count_batch(&self, batch: BatchSize) {
        let add = |counter: Counter, number: u64| {
            self.u64(counter.at()).fetch_add(number, SeqCst);
        };
        add(Counter::Batches, 1);
        add(Counter::Grouped, batch.writes);
        add(Counter::Carried, batch.requests);
        add(Counter::CarriedWrites, batch.carried);
        self.note(Histogram::Sizes, batch.writes);
    }

    fn write_text(&self, at: usize, length: usize, text: &str) {
        let text = printable(text, length);
        let mut bytes = text.bytes();
        for place in (0..length).step_by(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(&mut bytes) {
                *to = from;
            }
            self.u64(at + place).store(u64::from_ne_bytes(word), SeqCst);
        }
    }

    /// The word at a byte offset of the layout.
    fn u64(&self, at: usize) -> &AtomicU64 {
        &self.mapping.u64s()[at / 8]
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        self.u64(match word {
            Word::Turnstile => AT_TURNSTILE,
            Word::LastTicket => AT_LAST_TICKET,
            Word::Line(group) => AT_LINE + group % (SLOTS / 64) * 8,
            Word::Ticket(slot) => AT_TICKETS + slot.number() * 8,
            Word::Since(slot) => waiting(slot) + 8,
            Word::Until(slot) => waiting(slot) + 16,
            Word::Called(slot) => waiting(slot) + 24,
        })
    }

    /// How often a slot was called, and whether somebody sleeps there.
    fn bell(&self, slot: Index) -> (&AtomicU32, &AtomicU32) {
        let at = waiting(slot) / 4;
        let words = self.mapping.u32s();
        (&words[at], &words[at + 1])
    }

    /// For another thread of this process, to wake the one that sleeps here.
    pub(crate) fn alarm(&self) -> Alarm {
        Alarm {
            mapping: Arc::clone(&self.mapping),
            slot: self.slot,
        }
    }
}

/// Wakes the thread of this process that sleeps in its slot.
#[derive(Debug)]
pub(crate) struct Alarm {
    mapping: Arc<Mapping>,
    slot: Index,
}

impl Alarm {
    pub(crate) fn ring(&self) {
        ring(&self.mapping, self.slot);
    }
}

fn ring(mapping: &Mapping, slot: Index) {
    let calls = &mapping.u32s()[waiting(slot) / 4];
    calls.fetch_add(1, SeqCst);
    futex::wake(calls);
}

/// Takes a request back from another thread than the one that waits.
#[derive(Debug)]
pub struct Withdrawal {
    mapping: Arc<Mapping>,
    slot: Index,
    id: RequestId,
}

impl Withdrawal {
    /// Takes it back, if nobody has claimed it, and ends the wait for it; says whether
    /// it is taken back now.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        let at = (AT_MAILBOXES + self.slot.number() * mailbox::LENGTH) / 8;
        let mailbox = Mailbox::new(&self.mapping.u64s()[at..at + mailbox::LENGTH / 8]);
        let withdrawn = mailbox.withdraw(self.id);
        if withdrawn {
            ring(&self.mapping, self.slot);
        }
        withdrawn
    }
}

/// How much one transaction served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchSize {
    /// Writes, those of other processes included.
    pub writes: u64,
    /// Requests of other processes.
    pub requests: u64,
    /// Writes in those.
    pub carried: u64,
}

/// Random, and another one in a forked child: it takes a seat of its own.
fn seed(pid: u32) -> [u64; 2] {
    use std::hash::{BuildHasher, Hasher};
    let random = || {
        std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish()
    };
    let moment = clock::monotonic() ^ u64::from(pid) << 40;
    [random() ^ moment, mailbox::mix(random() ^ moment)]
}

impl Drop for Seat {
    fn drop(&mut self) {
        // In a forked child the slot is the parent's, and so is the descriptor.
        if self.living.is_ours() {
            self.u64(person(self.slot)).store(0, SeqCst);
        }
    }
}

impl Memory for Seat {
    fn groups(&self) -> usize {
        SLOTS / 64
    }

    fn load(&self, word: Word) -> u64 {
        self.word(word).load(SeqCst)
    }

    fn store(&self, word: Word, value: u64) {
        self.word(word).store(value, SeqCst);
    }

    fn exchange(&self, word: Word, old: u64, new: u64) -> Result<(), u64> {
        let exchanged = self.word(word).compare_exchange(old, new, SeqCst, SeqCst);
        exchanged.map(|_| ())
    }

    fn count_up(&self, word: Word) -> u64 {
        self.word(word).fetch_add(1, SeqCst).wrapping_add(1)
    }

    fn set_bits(&self, word: Word, bits: u64) {
        self.word(word).fetch_or(bits, SeqCst);
    }

    fn clear_bits(&self, word: Word, bits: u64) {
        self.word(word).fetch_and(!bits, SeqCst);
    }

    fn calls(&self, slot: Index) -> u32 {
        self.bell(slot).0.load(SeqCst)
    }

    fn call(&self, slot: Index) {
        let (calls, sleeping) = self.bell(slot);
        calls.fetch_add(1, SeqCst);
        if sleeping.load(SeqCst) != 0 {
            futex::wake(calls);
        }
    }

    fn sleep(&self, slot: Index, calls: u32, pause: Duration) {
        let (word, sleeping) = self.bell(slot);
        sleeping.store(1, SeqCst);
        // The kernel compares again: a call in between is not lost.
        futex::wait(word, calls, pause);
        sleeping.store(0, SeqCst);
    }

    fn lives(&self, slot: Index) -> bool {
        // One's own lock is no obstacle to oneself, so the kernel does not show it.
        // What cannot be asked is taken to live: that costs a pause.
        slot == self.slot || file::are_bytes_locked(&self.living, byte(slot), 1).unwrap_or(true)
    }

    fn now(&self) -> u64 {
        clock::monotonic()
    }

    fn about_now(&self) -> u64 {
        clock::coarse()
    }

    fn can_spin(&self) -> bool {
        self.can_spin
    }

    fn relax(&self) {
        std::hint::spin_loop();
    }
}

fn bump(word: &AtomicU64) {
    use std::sync::atomic::Ordering::Relaxed;
    word.store(word.load(Relaxed).wrapping_add(1), Relaxed);
}

/// Zero where the file system does not say.
fn born(file: &fs::File) -> io::Result<u64> {
    let born = file.metadata()?.created().ok();
    let since = born.and_then(|born| born.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0)))
}

fn waiting(slot: Index) -> usize {
    AT_WAITING + slot.number() * WAITING_LEN
}

fn person(slot: Index) -> usize {
    AT_PEOPLE + slot.number() * PERSON_LEN
}

fn statement_of(slot: Index) -> usize {
    AT_STATEMENTS + slot.number() * running_statement::LENGTH
}

fn byte(slot: Index) -> i64 {
    FIRST_BYTE + i64::from(u16::try_from(slot.number()).unwrap_or(u16::MAX))
}

/// Builds a page and gives it its name, unless another process was first.
fn build(path: &Path, model: Option<&Path>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let file = file::create_unnamed(folder, model)?;
    file::allocate(&file, LENGTH)?;
    let mut header = [0; AT_BUILT + 8];
    let fields = [
        (AT_MAGIC, MAGIC),
        (AT_VERSION, VERSION),
        (AT_SLOTS, SLOTS as u64),
        (AT_LENGTH, LENGTH as u64),
        (AT_BOOT, process::boot()),
        (
            AT_BUILT,
            clock::monotonic().saturating_add(clock::wall_offset()),
        ),
    ];
    for (at, value) in fields {
        header[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    file::write_at_start(&file, &header)?;
    match file::name(&file, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        named => named,
    }
}

/// Puts a new page in the place of one that is none. Only under the lock, so that
/// of many who find it broken one builds.
pub(crate) fn rebuild(lock_file: &Path, model: Option<&Path>) -> io::Result<()> {
    let path = path_of(lock_file);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    crate::failpoint!("rebuilding");
    build(&path, model)
}

/// A page as it was at one moment, more or less: only for looking.
#[derive(Debug)]
pub(crate) struct Snapshot {
    words: Vec<u64>,
}

/// What a slot says of whoever waits in it; anybody may have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) pid: u32,
    pub(crate) start: Option<u64>,
    pub(crate) pidns: Option<u64>,
    pub(crate) cmd: String,
    pub(crate) label: String,
    /// What it ran last under the lock.
    pub(crate) statement: Option<String>,
    pub(crate) ticket: u64,
    /// Monotonic, in nanoseconds.
    pub(crate) since: u64,
    pub(crate) until: u64,
}

/// What stands where the page should be.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    NoPage,
    Page(Snapshot),
}

impl Snapshot {
    /// Reads the page beside a lock file, by reading, not by mapping: a page that
    /// is truncated meanwhile harms nobody who only looks.
    pub(crate) fn read(lock_file: &Path) -> io::Result<Found> {
        let file = match file::open_to_look(&path_of(lock_file)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let meta = file.metadata()?;
        if meta.is_file() && meta.len() >= LENGTH as u64 {
            // What is asked for is nobody's to look at.
            file.take(AT_MAILBOXES as u64).read_to_end(&mut bytes)?;
        }
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)))
            .collect();
        let snapshot = Self { words };
        Ok(if bytes.len() == AT_MAILBOXES && snapshot.is_valid() {
            Found::Page(snapshot)
        } else {
            Found::NoPage
        })
    }

    fn is_valid(&self) -> bool {
        is_valid(|at| self.word(at))
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.word(counter.at())
    }

    pub(crate) fn histogram(&self, histogram: Histogram) -> Vec<u64> {
        (0..BUCKETS)
            .map(|bucket| self.word(histogram.at(bucket)))
            .collect()
    }

    /// When it was built, in nanoseconds since 1970; tells one page from the next.
    pub(crate) fn built(&self) -> u64 {
        self.word(AT_BUILT)
    }

    /// Who has the lock, as the turnstile says; somebody who died with it too.
    pub(crate) fn holder(&self) -> Option<Person> {
        let turn = Turn::of_word(self.word(AT_TURNSTILE));
        let slot = turn.slot().filter(|_| turn.state() == State::Held)?;
        self.person(slot)
    }

    /// Whether the turnstile says that nobody has the lock, and for nobody is it kept.
    pub(crate) fn is_at_rest(&self) -> bool {
        Turn::of_word(self.word(AT_TURNSTILE)).state() == State::Free
    }

    /// Those in line, first come first.
    pub(crate) fn queue(&self) -> Vec<Person> {
        let mut queue: Vec<_> = (0..SLOTS)
            .filter(|slot| self.word(AT_LINE + slot / 64 * 8) >> (slot % 64) & 1 == 1)
            .filter_map(Index::new)
            .filter_map(|slot| self.person(slot))
            .collect();
        queue.sort_by_key(|person| person.ticket);
        queue
    }

    fn person(&self, slot: Index) -> Option<Person> {
        let at = person(slot);
        Some(Person {
            pid: u32::try_from(self.word(at)).ok().filter(|&pid| pid > 0)?,
            start: Some(self.word(at + 8)).filter(|&start| start > 0),
            pidns: Some(self.word(at + 16)).filter(|&pidns| pidns > 0),
            cmd: self.text(at + CMD_AT, CMD_LEN),
            label: self.text(at + LABEL_AT, LABEL_LEN),
            statement: running_statement::read(|number| self.word(statement_of(slot) + number * 8))
                .map(|shown| shown.text),
            ticket: self.word(AT_TICKETS + slot.number() * 8),
            since: self.word(waiting(slot) + 8),
            until: self.word(waiting(slot) + 16),
        })
    }

    /// What is kept of what happened and its number, the latest first.
    pub(crate) fn events(&self) -> Vec<(u64, Entry)> {
        let mut events: Vec<_> = (0..EVENTS)
            .map(|place| {
                (
                    AT_EVENTS + place * EVENT_LEN,
                    AT_DETAILS + place * DETAIL_LEN,
                )
            })
            .filter(|&(at, _)| self.word(at) != 0)
            .map(|(at, detail)| {
                let entry = Entry {
                    kind: self.word(at + 8),
                    at: self.word(at + 16),
                    pid: self.word(at + 24),
                    other: self.word(at + 32),
                    nanos: self.word(at + 40),
                    label: self.text(at + EVENT_LABEL_AT, EVENT_LABEL_LEN),
                    statement: self.text(detail, DETAIL_TEXT_LEN),
                    call_site: self.text(detail + DETAIL_TEXT_LEN, DETAIL_TEXT_LEN),
                };
                (self.word(at), entry)
            })
            .collect();
        events.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        events
    }

    fn text(&self, at: usize, length: usize) -> String {
        let bytes: Vec<u8> = (0..length)
            .step_by(8)
            .flat_map(|place| self.word(at + place).to_ne_bytes())
            .take_while(|&byte| byte != 0)
            .collect();
        printable(&String::from_utf8_lossy(&bytes), length)
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at / 8).copied().unwrap_or(0)
    }
}

/// Whether a page begins as one of this version and boot does.
fn is_valid(word: impl Fn(usize) -> u64) -> bool {
    word(AT_MAGIC) == MAGIC
        && word(AT_VERSION) == VERSION
        && word(AT_SLOTS) == SLOTS as u64
        && word(AT_LENGTH) == LENGTH as u64
        && word(AT_BOOT) == process::boot()
}
