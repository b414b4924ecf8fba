//! The queue file `db.lockq`, which any process may have filled with garbage: it is looked at,
//! waited in, and the lock taken, within bounded time.
//!
//! The first byte chooses what happens (see `Plan`). The others are the file itself, or
//! changes of a valid one: a place in words (2 bytes), how many words (1 byte), the words.
#![no_main]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use penholder_core::{CommitWatch, Deadline, LOCK_FILE_NAME, Locker, QueuePolicy, Status};
use tempfile::TempDir;

/// The id of a batch.
const BATCH: [u64; 2] = [2, 3];
const FINGERPRINT: u64 = 5;
/// The most slots of a queue file, events that it keeps, words of a database, bytes of a text.
const SLOTS: usize = 512;
const EVENTS: usize = 64;
const DATABASE_WORDS: usize = 64;
const TEXT_MAX: usize = 160;
/// Nobody else has the lock, so a wait ends as soon as the kernel is asked again.
const PROMPT: Duration = Duration::from_secs(5);
/// How long to wait while another descriptor has the lock.
const SHORT: Duration = Duration::from_millis(3);

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else {
        return;
    };
    let plan = Plan {
        is_replaced: kind & 1 != 0,
        while_attached: kind & 2 != 0,
        while_held: kind & 4 != 0,
        has_outsider: kind & 8 != 0,
        is_fifo: kind & 16 != 0,
    };
    plan.run(bytes);
});

struct Plan {
    /// The bytes are the whole file, padded with zeros to its length, or cut.
    is_replaced: bool,
    /// The file changes while this process uses it.
    while_attached: bool,
    /// It changes while this process holds the lock.
    while_held: bool,
    /// Meanwhile a process that does not queue has the lock.
    has_outsider: bool,
    is_fifo: bool,
}

impl Plan {
    fn run(&self, bytes: &[u8]) {
        let locker = self.locker();
        let queue_file = locker.queue_file();
        let _ = fs::remove_file(&queue_file);
        locker.acquire(PROMPT).unwrap().release().unwrap();
        let locker = if self.while_attached {
            locker
        } else {
            drop(locker);
            self.locker()
        };
        if self.is_replaced && !self.while_attached {
            replace(&queue_file, bytes);
        } else {
            change(&queue_file, bytes);
        }
        look(&locker);
        // Slow, because it reads the kernel's tables.
        let status = locker.status().unwrap();
        assert_bounded(&status);
        assert!(!format!("{status:?}").is_empty());
        if self.has_outsider {
            wait_in_vain(&locker);
        }

        let before = Instant::now();
        let mut guard = locker.acquire(PROMPT).unwrap();
        if self.while_held {
            change(&queue_file, bytes);
            look(&locker);
        }
        let mut requests = guard.requests(FINGERPRINT);
        assert!(requests.len() < SLOTS);
        if let Some(combining) = guard.begin_combining(&mut requests) {
            let all: Vec<_> = requests.iter().collect();
            let claimed = guard.claim(&all, 1, BATCH, &combining);
            for (request, is_claimed) in requests.iter().zip(claimed) {
                let _ = is_claimed && guard.reply(request, BATCH, b"done");
            }
            drop(combining);
            guard.acknowledge(&all, BATCH, FINGERPRINT);
            guard.set_combining_slice(FINGERPRINT, Duration::from_secs(1));
        }
        assert!(guard.count_requests() <= SLOTS && guard.count_waiters() <= SLOTS);
        if let Some(words) = guard.database_words(&DIRECTORY.path().join(LOCK_FILE_NAME)) {
            words.touch();
            assert_eq!(words.as_ref().len(), DATABASE_WORDS);
            let _ = words.is_current();
            words.note_commit();
        }
        self.wait_for_a_commit();
        guard.note_statement("UPDATE t SET n = 1");
        guard.set_call_site(std::panic::Location::caller());
        guard.release().unwrap();
        locker.acquire(PROMPT).unwrap().release_fair().unwrap();
        assert!(before.elapsed() < PROMPT);
        look(&locker);
    }

    fn wait_for_a_commit(&self) {
        let lock_file = DIRECTORY.path().join(LOCK_FILE_NAME);
        // The file may be garbage, or the database missing.
        let Ok(mut watch) = CommitWatch::new(&lock_file, &lock_file) else {
            return;
        };
        let begun = Instant::now();
        if let Ok(token) = watch.token() {
            let _ = watch.wait(token, &Deadline::after(Duration::from_micros(50)));
        }
        assert!(begun.elapsed() < PROMPT);
    }

    fn locker(&self) -> Locker {
        let locker = Locker::in_directory(DIRECTORY.path()).unwrap();
        locker.with(|options| {
            if self.is_fifo {
                options.policy = QueuePolicy::Fifo;
            }
        })
    }
}

/// Puts another file in the place of the queue file.
fn replace(queue_file: &PathBuf, bytes: &[u8]) {
    let length = fs::metadata(queue_file).unwrap().len();
    let other = queue_file.with_extension("other");
    fs::write(&other, bytes).unwrap();
    if !bytes.len().is_multiple_of(2) {
        let file = OpenOptions::new().write(true).open(&other).unwrap();
        file.set_len(length).unwrap();
    }
    fs::rename(&other, queue_file).unwrap();
}

/// Overwrites some words of the queue file.
fn change(queue_file: &PathBuf, mut bytes: &[u8]) {
    let Ok(file) = OpenOptions::new().write(true).open(queue_file) else {
        return;
    };
    let length = file.metadata().unwrap().len();
    while let Some((&[low, high, words], rest)) = bytes.split_first_chunk() {
        let (written, rest) = rest.split_at(rest.len().min(usize::from(words) * 8));
        let at = u64::from(u16::from_le_bytes([low, high])) * 8;
        // The file keeps its length: one that is cut off kills the processes that map it.
        let room = usize::try_from(length.saturating_sub(at)).unwrap();
        file.write_all_at(&written[..written.len().min(room)], at)
            .unwrap();
        bytes = rest;
    }
}

/// Waits for the lock while a descriptor that does not queue has it.
fn wait_in_vain(locker: &Locker) {
    let outsider = File::open(locker.lock_file()).unwrap();
    outsider.lock().unwrap();
    let before = Instant::now();
    let error = locker.acquire(SHORT).unwrap_err();
    assert!(before.elapsed() < PROMPT);
    assert!(error.is_timeout(), "{error}");
    assert!(!error.to_string().is_empty());
}

/// Looks at the queue file in every way.
fn look(locker: &Locker) {
    let _ = locker.queue_file_header().unwrap();
    let snapshot = locker.snapshot().unwrap();
    assert_bounded(&snapshot.status);
    let later = locker.snapshot().unwrap();
    let since = later.events_since(&snapshot);
    assert!(since.events.len() <= EVENTS);
    let _ = (later.counted_since(&snapshot), later.waits_since(&snapshot));
    let _ = (later.holds_since(&snapshot), later.built());
}

fn assert_bounded(status: &Status) {
    assert!(status.queue.len() <= SLOTS && status.events.len() <= EVENTS);
    for waiter in &status.queue {
        assert_printable(&[&waiter.cmd, &waiter.label]);
    }
    for event in &status.events {
        assert_printable(&[&event.label, &event.statement, &event.call_site]);
    }
    if let Some(holder) = &status.holder {
        assert_printable(&[&holder.cmd, &holder.label, &holder.statement]);
    }
}

fn assert_printable(texts: &[&Option<String>]) {
    for text in texts.iter().copied().flatten() {
        assert!(text.len() <= TEXT_MAX, "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
