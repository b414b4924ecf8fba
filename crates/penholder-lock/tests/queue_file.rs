//! Damage to the queue file never leads to two holders or a hang, and processes that
//! come later queue again. The lock also works where there is no queue file.
#![cfg(test)]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{QueueFileFault, QueueFileState, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, queue_file as layout, raw_file, wait};
use proptest::prelude::*;

/// The length of a queue file for some processes.
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
const LENGTH: usize = layout::length(1) as usize;
/// The longest wait of a process that comes after the damage, on a busy machine.
const PROMPT: Duration = Duration::from_secs(5);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        lock_fixture::COUNT_ROLE,
        ("count_until_stopped", count_until_stopped),
        ("acquire_until_stopped", acquire_until_stopped),
    ]);
}

/// Increments the counter as often as possible until the test stops it.
fn count_until_stopped(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    let mut times = 0;
    peer::send("ready");
    peer::expect("go");
    // If the pipe closes, the process ends.
    thread::spawn(|| peer::expect("never sent"));
    while !directory.join("stop").exists() {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
        times += 1;
    }
    peer::send(&times.to_string());
}

/// Acquires and releases without counting. If the lock file is deleted, its holder and
/// the holder of the next lock file are in the critical section at the same time.
fn acquire_until_stopped(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    let mut times = 0;
    peer::send("ready");
    peer::expect("go");
    // If the pipe closes, the process ends.
    thread::spawn(|| peer::expect("never sent"));
    while !directory.join("stop").exists() {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
        times += 1;
    }
    peer::send(&times.to_string());
}

/// A linear congruential generator is random enough.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(u64::from(std::process::id()))
    }

    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).flat_map(|_| self.next().to_ne_bytes());
        words.take(length).collect()
    }
}

fn queue_file(directory: &Path) -> PathBuf {
    directory.join("db.lockq")
}

fn open(queue_file: &Path) -> Option<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(queue_file)
        .ok()
}

fn overwrite(queue_file: &Path, offset: u64, bytes: &[u8]) {
    if let Some(file) = open(queue_file) {
        raw_file::write_at(&file, bytes, offset).unwrap();
    }
}

/// Damages the queue file repeatedly while six processes run the role.
///
/// Returns how often these processes acquired the lock.
fn damage_repeatedly(
    directory: &Path,
    role: &str,
    time: Duration,
    pause: Duration,
    mut damage: impl FnMut(&Path),
) -> u64 {
    let mut peers: Vec<Peer> = (0..6).map(|_| Peer::start(role, [directory])).collect();
    for peer in &peers {
        peer.expect("ready");
    }
    for peer in &mut peers {
        peer.send("go");
    }
    let start = Instant::now();
    while start.elapsed() < time {
        damage(&queue_file(directory));
        thread::sleep(pause);
    }
    fs::write(directory.join("stop"), "").unwrap();
    let times: Vec<u64> = peers
        .iter()
        .map(|peer| peer.read_line().parse().unwrap())
        .collect();
    for peer in &mut peers {
        assert!(peer.wait().success());
    }
    eprintln!("acquisitions: {times:?}");
    times.iter().sum()
}

/// Asserts that new processes acquire the lock soon, and queue.
fn assert_works(directory: &Path) {
    let path = lock_file(directory);
    let mut holder = LockPeer::start(&path);
    let start = Instant::now();
    holder.acquire();
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    assert_eq!(
        WriteLocker::at(&path).unwrap().status().unwrap().queue_file,
        QueueFileState::InUse
    );
    let mut waiter = LockPeer::start(&path);
    waiter.enqueue(&path, LONG_TIMEOUT);
    let start = Instant::now();
    holder.release();
    waiter.peer.expect("held");
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
}

/// Asserts that repeated damage leads to no two holders and to no lasting harm.
fn assert_survives(what: &str, damage: impl FnMut(&Path)) {
    eprintln!("{what}");
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let time = Duration::from_millis(600);
    let pause = Duration::from_millis(30);
    let times = damage_repeatedly(directory.path(), "count_until_stopped", time, pause, damage);
    assert_eq!(
        counter.read(),
        times,
        "two processes were in the critical section at once"
    );
    assert_works(directory.path());
}

#[test]
fn a_queue_file_that_is_deleted_or_replaced_is_rebuilt() {
    assert_survives("deleted", |queue_file| {
        if queue_file.exists() {
            raw_file::remove(queue_file);
        }
    });
    let mut random = Random::new();
    assert_survives("replaced by garbage", |queue_file| {
        let other = queue_file.with_extension("other");
        fs::write(&other, random.bytes(LENGTH)).unwrap();
        raw_file::replace(queue_file, &other);
    });
    assert_survives("replaced by a short file", |queue_file| {
        let other = queue_file.with_extension("other");
        fs::write(&other, "penhold\n").unwrap();
        raw_file::replace(queue_file, &other);
    });
    assert_survives("replaced by a copy", |queue_file| {
        if let Ok(copy) = fs::read(queue_file) {
            let other = queue_file.with_extension("other");
            fs::write(&other, copy).unwrap();
            raw_file::replace(queue_file, &other);
        }
    });
}

#[test]
fn a_queue_file_with_an_unknown_header_is_rebuilt() {
    let fields = [
        ("magic", 0),
        ("version", 8),
        ("slots", 16),
        ("length", 24),
        ("boot", 32),
    ];
    for (what, offset) in fields {
        assert_survives(what, |queue_file| {
            overwrite(queue_file, offset, &2_u64.to_ne_bytes());
        });
    }
}

#[test]
fn a_queue_file_filled_with_garbage_is_rebuilt() {
    let mut random = Random::new();
    assert_survives("the whole file", |queue_file| {
        overwrite(queue_file, 0, &random.bytes(LENGTH));
    });
    assert_survives("all except the header", |queue_file| {
        overwrite(queue_file, 64, &random.bytes(LENGTH - 64));
    });
    assert_survives("every bit set except in the header", |queue_file| {
        overwrite(queue_file, 64, &[0xFF; LENGTH - 64]);
    });
    assert_survives("emptied", |queue_file| {
        overwrite(queue_file, 64, &[0; LENGTH - 64]);
    });
}

/// Returns an offset where a word matters, and a word that looks valid.
fn plausible(random: &mut Random) -> (u64, u64) {
    let slot = random.below(8);
    let offset = match random.below(12) {
        0..3 => 64,
        3 => 128,
        4 => 136,
        5 => 192 + random.below(8) * 8,
        6 => 256 + random.below(7) * 8,
        7 => layout::ticket(slot),
        8 => layout::record(slot) + random.below(3) * 8,
        // How many slots there are, and how long the file is.
        9 => return (16, random.below(70) * 8),
        10 => return (24, layout::length(random.below(70))),
        _ => layout::pid(slot),
    };
    let small = random.below(1 << 20);
    let word = match random.below(6) {
        // A state, a slot, of which there are eight, and a sequence number.
        0..3 => random.below(4) | random.below(16) << 2 | small << 18,
        3 => 0,
        4 => u64::MAX,
        _ => small,
    };
    (offset, word)
}

#[test]
fn random_writes_into_the_queue_file_harm_no_process() {
    let seconds = std::env::var("PENHOLDER_FUZZ_SECONDS").ok();
    let time = seconds.map_or(Duration::from_millis(1500), |seconds| {
        Duration::from_secs(seconds.parse().unwrap())
    });
    let mut random = Random::new();
    for anywhere in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let counter = Counter::new(directory.path());
        let pause = Duration::from_micros(20);
        let times = damage_repeatedly(
            directory.path(),
            "count_until_stopped",
            time,
            pause,
            |queue_file| {
                let (offset, word) = if anywhere {
                    (random.below(LENGTH as u64 / 8) * 8, random.next())
                } else {
                    plausible(&mut random)
                };
                overwrite(queue_file, offset, &word.to_ne_bytes());
            },
        );
        assert_eq!(
            counter.read(),
            times,
            "two processes were in the critical section at once"
        );
        assert!(times > 0);
        assert_works(directory.path());
    }
}

/// A process is killed if it touches a part of a mapped file that is gone. Windows refuses to truncate
/// it.
#[cfg(unix)]
#[test]
fn a_truncated_queue_file_ends_at_most_the_processes_that_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for length in [0, 4096] {
        let path = lock_file(directory);
        let mut holder = LockPeer::holding(&path);
        let mut waiters = [(); 2].map(|()| LockPeer::start(&path));
        for waiter in &mut waiters {
            waiter.enqueue(&path, LONG_TIMEOUT);
        }
        let file = open(&queue_file(directory)).unwrap();
        file.set_len(length).unwrap();
        let mut newcomer = LockPeer::start(&path);
        newcomer.start_acquire(LONG_TIMEOUT);
        // The holder may be killed by it, but it does not keep the lock.
        holder.peer.send("release");
        newcomer.peer.expect("held");
        newcomer.release();
        drop((holder, waiters));
        assert_works(directory);
    }
}

/// The critical section is counted only after the last deletion.
#[test]
fn a_deleted_lock_file_delays_no_waiter() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let second = Duration::from_secs(1);
    let pause = Duration::from_millis(20);
    damage_repeatedly(directory, "acquire_until_stopped", second, pause, |_| {
        let _ = fs::remove_file(lock_file(directory));
    });
    fs::remove_file(directory.join("stop")).unwrap();
    let counter = Counter::new(directory);
    let times = damage_repeatedly(directory, "count_until_stopped", second / 3, pause, |_| {});
    assert_eq!(counter.read(), times);
    assert_works(directory);
}

/// Claims slots of the queue file for as long as the file is open.
fn occupy(queue_file: &File, slots: std::ops::Range<i64>) {
    let first = 1 << 62;
    assert!(raw_file::try_lock(
        queue_file,
        first + slots.start,
        slots.end - slots.start
    ));
}

#[test]
fn a_process_that_finds_no_slot_acquires_the_lock_too() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let counter = Counter::new(directory);
    let path = lock_file(directory);
    LockPeer::holding(&path).release();
    let file = open(&queue_file(directory)).unwrap();
    // Two slots are left.
    occupy(&file, 1..511);
    let mut peers: Vec<Peer> = (0..8)
        .map(|_| {
            Peer::start(
                lock_fixture::COUNT_ROLE.0,
                [directory.as_os_str(), "100".as_ref()],
            )
        })
        .collect();
    lock_fixture::run_together(&mut peers);
    assert_eq!(counter.read(), 800);
    let counted = WriteLocker::at(&path).unwrap().status().unwrap().counters;
    eprintln!("{counted:?}");
    assert!(counted.acquisitions < 800, "some processes had no slot");
}

#[test]
fn without_a_queue_file_all_processes_acquire_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let start_polling = || LockPeer::spawn(LockPeer::command(&path, &["queue-file=no"]));
    let mut one = start_polling();
    one.acquire();
    assert!(!queue_file(directory.path()).exists());
    let locker = WriteLocker::at(&path).unwrap();
    assert_eq!(locker.status().unwrap().queue_file, QueueFileState::None);
    let mut other = start_polling();
    other.assert_blocked_by(one.pid());
    // Together with processes that queue, and ahead of them at a release.
    let mut queued = LockPeer::start(&path);
    queued.enqueue(&path, LONG_TIMEOUT);
    assert_eq!(locker.status().unwrap().queue_file, QueueFileState::InUse);
    one.release();
    queued.peer.expect("held");
    other.assert_blocked_by(queued.pid());
    other.start_acquire(LONG_TIMEOUT);
    queued.release();
    other.peer.expect("held");
    queued.assert_blocked_by(other.pid());
}

/// Only a file is replaced.
#[test]
fn with_a_directory_in_place_of_the_queue_file_all_processes_acquire_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    fs::create_dir(queue_file(directory.path())).unwrap();
    let args = [directory.path().as_os_str(), "50".as_ref()];
    let mut peers: Vec<Peer> = (0..4)
        .map(|_| Peer::start(lock_fixture::COUNT_ROLE.0, args))
        .collect();
    lock_fixture::run_together(&mut peers);
    assert_eq!(counter.read(), 200);
    let status = WriteLocker::new(directory.path())
        .unwrap()
        .status()
        .unwrap();
    assert_eq!(status.queue_file, QueueFileState::Unusable);
    assert!(queue_file(directory.path()).is_dir());
}

#[test]
fn a_process_that_finds_no_slot_leaves_all_slots_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    LockPeer::holding(&path).release();
    let file = open(&queue_file(directory.path())).unwrap();
    occupy(&file, 0..512);
    let pid = 4_194_305_u64.to_ne_bytes();
    raw_file::write_at(&file, &pid, layout::pid(0)).unwrap();
    LockPeer::start(&path).acquire();
    let mut found = [0; 8];
    raw_file::read_at(&file, &mut found, layout::pid(0)).unwrap();
    assert_eq!(found, pid);
}

/// A pipe in its place is nobody's queue file, and stays.
/// It is somebody's data, whatever its name.
#[test]
fn a_database_in_place_of_the_queue_file_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    for length in [100, LENGTH * 40] {
        let mut content = b"SQLite format 3\0".to_vec();
        content.resize(length, 7);
        fs::write(locker.queue_file(), &content).unwrap();
        for _ in 0..2 {
            locker.acquire(LONG_TIMEOUT).unwrap().release().unwrap();
        }
        assert!(
            fs::read(locker.queue_file()).unwrap() == content,
            "it was changed"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_the_queue_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;

    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let pipe = queue_file(directory.path());
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success(), "mkfifo");
    let mut lock_peer = LockPeer::start(&path);
    for _ in 0..2 {
        lock_peer.acquire();
        lock_peer.release();
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let status = WriteLocker::at(&path).unwrap().status().unwrap();
    assert_eq!(status.queue_file_fault, Some(QueueFileFault::NotAFile));
}

/// Builds a queue file of another version, as long as it says.
fn build_other_version(path: &Path, version: u64, length: usize) {
    drop(LockPeer::holding(path));
    let queue_file = path.with_extension("lockq");
    let mut bytes = fs::read(&queue_file).unwrap();
    bytes.resize(length, 0);
    bytes[8..16].copy_from_slice(&version.to_ne_bytes());
    bytes[24..32].copy_from_slice(&(length as u64).to_ne_bytes());
    let other = queue_file.with_extension("other");
    fs::write(&other, bytes).unwrap();
    raw_file::replace(&queue_file, &other);
}

/// Otherwise two versions would replace each other's file in turns.
#[test]
fn a_queue_file_of_another_version_is_replaced_only_if_no_process_uses_it() {
    for (version, length) in [(2, LENGTH), (4, 8_000_000)] {
        let directory = tempfile::tempdir().unwrap();
        let path = lock_file(directory.path());
        let queue_file = queue_file(directory.path());
        build_other_version(&path, version, length);
        let before = fs::read(&queue_file).unwrap();
        let ino = raw_file::number(&queue_file);
        let user = open(&queue_file).unwrap();
        occupy(&user, 700..701);

        let mut lock_peer = LockPeer::start(&path);
        for _ in 0..3 {
            lock_peer.acquire();
            lock_peer.release();
            thread::sleep(Duration::from_millis(110));
        }
        assert_eq!(raw_file::number(&queue_file), ino);
        assert!(fs::read(&queue_file).unwrap() == before, "it was written");
        let locker = WriteLocker::at(&path).unwrap();
        let fault = locker.status().unwrap().queue_file_fault;
        assert_eq!(fault, Some(QueueFileFault::OtherVersion(version)));

        drop(user);
        thread::sleep(Duration::from_millis(110));
        lock_peer.acquire();
        assert_eq!(locker.status().unwrap().queue_file, QueueFileState::InUse);
    }
}

/// A process that found the queue file damaged checks again before it builds a new one.
#[test]
fn a_queue_file_that_another_process_has_rebuilt_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let queue_file = queue_file(directory.path());
    for _ in 0..5 {
        let mut holder = LockPeer::holding(&path);
        overwrite(&queue_file, 8, &[0xFF; 8]);
        let mut waiters = [(); 2].map(|()| LockPeer::start(&path));
        for waiter in &mut waiters {
            waiter.start_acquire(LONG_TIMEOUT);
        }
        // Both find it damaged, and poll.
        thread::sleep(Duration::from_millis(30));
        holder.release();
        let [one, other] = &mut waiters;
        let first_is_one = one
            .peer
            .read_line_within(Duration::from_millis(200))
            .is_some();
        let (first, second) = if first_is_one {
            (one, other)
        } else {
            other.peer.expect("held");
            (other, one)
        };
        let rebuilt = raw_file::number(&queue_file);
        first.release();
        second.peer.expect("held");
        assert_eq!(raw_file::number(&queue_file), rebuilt);
    }
}

/// The ticket counter, or a waiter's own ticket, is garbage. No waiter is starved.
#[test]
fn forged_tickets_let_no_process_overtake() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let queue_file = queue_file(directory.path());
    for own_ticket in [false, true] {
        let mut holder = LockPeer::holding(&path);
        overwrite(&queue_file, 128, &1_000_000_u64.to_ne_bytes());
        let fifo = || LockPeer::spawn(LockPeer::command(&path, &["policy=fifo"]));
        let [mut first, mut second] = [fifo(), fifo()];
        first.enqueue(&path, LONG_TIMEOUT);
        if !own_ticket {
            overwrite(&queue_file, 128, &0_u64.to_ne_bytes());
        }
        second.enqueue(&path, LONG_TIMEOUT);
        if own_ticket {
            let bytes = fs::read(&queue_file).unwrap();
            let pid = |slot: &u64| {
                let offset = usize::try_from(layout::pid(*slot)).unwrap();
                u64::from_ne_bytes(bytes[offset..offset + 8].try_into().unwrap())
            };
            let slot = (0..8).find(|slot| pid(slot) == u64::from(first.pid()));
            let ticket = layout::ticket(slot.unwrap());
            overwrite(&queue_file, ticket, &u64::MAX.to_ne_bytes());
            // The waiter corrects its ticket when it wakes.
            let file = open(&queue_file).unwrap();
            wait::until("the waiter has corrected its ticket", || {
                let mut word = [0; 8];
                raw_file::read_at(&file, &mut word, ticket).unwrap();
                u64::from_ne_bytes(word) != u64::MAX
            });
        }
        holder.release();
        first.peer.expect("held");
        first.release();
        second.peer.expect("held");
    }
}

/// A process never takes a forged word for its own, which would make it skip the record.
#[test]
fn a_forged_word_does_not_suppress_the_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    LockPeer::holding(&path).release();
    for state in 0..4_u64 {
        let mut lock_peer = LockPeer::start(&path);
        let file = open(&queue_file(directory.path())).unwrap();
        let mut rotor = [0; 8];
        raw_file::read_at(&file, &mut rotor, 136).unwrap();
        let next = u64::from_ne_bytes(rotor) % layout::BLOCK_SLOTS;
        raw_file::write_at(&file, &(state | next << 2 | 1 << 18).to_ne_bytes(), 64).unwrap();
        lock_peer.acquire();
        let text = lock_fixture::record_text(&path);
        assert!(
            text.starts_with(&format!("pid:{}\n", lock_peer.pid())),
            "{state}: {text}"
        );
        lock_peer.release();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Reading the status ends with any bytes in the queue file.
    #[test]
    fn status_of_any_bytes_ends(
        seed: u64,
        header: bool,
        sparse in 0..64_u64,
        length in 0..2 * LENGTH,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let locker = WriteLocker::new(directory.path()).unwrap();
        let path = queue_file(directory.path());
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
        let valid = fs::read(&path).unwrap();
        let mut random = Random(seed);
        let mut bytes = if header { valid.clone() } else { random.bytes(length) };
        if header {
            for word in bytes[64..].chunks_exact_mut(8) {
                if random.below(sparse + 1) == 0 {
                    let shift = random.below(64);
                    word.copy_from_slice(&(random.next() >> shift).to_ne_bytes());
                }
            }
        }
        // Not truncated: this process has it mapped.
        let other = path.with_extension("other");
        fs::write(&other, bytes).unwrap();
        raw_file::replace(&path, &other);
        let start = Instant::now();
        let status = locker.status().unwrap();
        prop_assert!(start.elapsed() < PROMPT);
        prop_assert_eq!(status.queue_file == QueueFileState::InUse, header);
        prop_assert!(status.queue.len() <= 512 && status.events.len() <= 64);
        let shown = format!("{status:?}").len()
            + status.queue.iter().map(|waiter| waiter.to_string().len()).sum::<usize>()
            + status.events.iter().map(|event| event.to_string().len()).sum::<usize>();
        prop_assert!(shown < 1 << 20);
        // The queue file is then used or rebuilt.
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
}
