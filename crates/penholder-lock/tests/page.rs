//! The page under attack: whatever is done to it while processes count under the
//! lock, no two are inside at once, all come to an end, and those that come
//! afterwards queue again. And what happens where there can be none.
#![cfg(test)]
#![allow(unsafe_code, reason = "a lock on one byte has no safe wrapper")]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{PageState, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, wait};
use proptest::prelude::*;

const LENGTH: usize = 192_512;
/// How long one that comes afterwards may wait on a busy machine.
const PROMPTLY: Duration = Duration::from_secs(5);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        lock_fixture::COUNT_ROLE,
        ("toil", toil),
        ("come_and_go", come_and_go),
    ]);
}

/// Is inside as often as it can until all is over.
fn toil(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    let mut times = 0;
    peer::send("ready");
    peer::expect("go");
    // The end of the pipe ends the process.
    thread::spawn(|| peer::expect("never said"));
    while !directory.join("over").exists() {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
        times += 1;
    }
    peer::send(&times.to_string());
}

/// The same without counting, until it is over: for a lock file that is deleted,
/// whose holder may go on beside the one of the next.
fn come_and_go(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    let mut times = 0;
    peer::send("ready");
    peer::expect("go");
    // The end of the pipe ends the process.
    thread::spawn(|| peer::expect("never said"));
    while !directory.join("over").exists() {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
        times += 1;
    }
    peer::send(&times.to_string());
}

/// A linear congruence is random enough.
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

fn page_of(directory: &Path) -> PathBuf {
    directory.join("db.lockq")
}

fn open(page: &Path) -> Option<File> {
    OpenOptions::new().read(true).write(true).open(page).ok()
}

fn poke(page: &Path, at: u64, bytes: &[u8]) {
    if let Some(page) = open(page) {
        page.write_all_at(bytes, at).unwrap();
    }
}

/// Does this to the page again and again for a while, with pauses, while six
/// processes do as their role says; returns how often they were inside.
fn attack(
    directory: &Path,
    role: &str,
    time: Duration,
    pause: Duration,
    mut spoil: impl FnMut(&Path),
) -> u64 {
    let mut peers: Vec<Peer> = (0..6).map(|_| Peer::start(role, [directory])).collect();
    for peer in &peers {
        peer.expect("ready");
    }
    for peer in &mut peers {
        peer.send("go");
    }
    let begun = Instant::now();
    while begun.elapsed() < time {
        spoil(&page_of(directory));
        thread::sleep(pause);
    }
    fs::write(directory.join("over"), "").unwrap();
    let times: Vec<u64> = peers
        .iter()
        .map(|peer| peer.read_line().parse().unwrap())
        .collect();
    for peer in &mut peers {
        assert!(peer.wait().success());
    }
    eprintln!("inside {times:?}");
    times.iter().sum()
}

/// Those that come now are served soon, and queue.
fn all_is_well(directory: &Path) {
    let path = lock_file(directory);
    let mut holder = LockPeer::start(&path);
    let begun = Instant::now();
    holder.acquire();
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    assert_eq!(
        WriteLocker::at(&path).unwrap().status().unwrap().page,
        PageState::InUse
    );
    let mut waiter = LockPeer::start(&path);
    waiter.enqueue(&path, LONG_TIMEOUT);
    let begun = Instant::now();
    holder.release();
    waiter.peer.expect("held");
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
}

fn survives(what: &str, spoil: impl FnMut(&Path)) {
    eprintln!("{what}");
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let time = Duration::from_millis(600);
    let pause = Duration::from_millis(30);
    let times = attack(directory.path(), "toil", time, pause, spoil);
    assert_eq!(counter.read(), times, "two were inside at once");
    all_is_well(directory.path());
}

#[test]
fn a_page_that_is_deleted_or_replaced_is_built_anew() {
    survives("deleted", |page| {
        let _ = fs::remove_file(page);
    });
    let mut random = Random::new();
    survives("replaced by garbage", |page| {
        let other = page.with_extension("other");
        fs::write(&other, random.bytes(LENGTH)).unwrap();
        fs::rename(&other, page).unwrap();
    });
    survives("replaced by something short", |page| {
        let other = page.with_extension("other");
        fs::write(&other, "penhold\n").unwrap();
        fs::rename(&other, page).unwrap();
    });
    survives("replaced by a copy", |page| {
        if let Ok(copy) = fs::read(page) {
            let other = page.with_extension("other");
            fs::write(&other, copy).unwrap();
            fs::rename(&other, page).unwrap();
        }
    });
}

#[test]
fn a_page_of_another_kind_is_built_anew() {
    let fields = [
        ("magic", 0),
        ("version", 8),
        ("slots", 16),
        ("length", 24),
        ("boot", 32),
    ];
    for (what, at) in fields {
        survives(what, |page| poke(page, at, &2_u64.to_ne_bytes()));
    }
}

#[test]
fn a_page_filled_with_garbage_is_built_anew() {
    let mut random = Random::new();
    survives("all of it", |page| poke(page, 0, &random.bytes(LENGTH)));
    survives("all but its header", |page| {
        poke(page, 64, &random.bytes(LENGTH - 64));
    });
    survives("every bit set but its header's", |page| {
        poke(page, 64, &[0xFF; LENGTH - 64]);
    });
    survives("emptied", |page| poke(page, 64, &[0; LENGTH - 64]));
}

/// Words that look right, where they hurt.
fn plausible(random: &mut Random) -> (u64, u64) {
    let slot = random.below(16);
    let at = match random.below(10) {
        0..3 => 64,
        3 => 128,
        4 => 136,
        5 => 192 + random.below(8) * 8,
        6 => 256 + random.below(7) * 8,
        7 => 16_384 + slot * 8,
        8 => 20_480 + slot * 64 + random.below(3) * 8,
        _ => 53_248 + slot * 256,
    };
    let small = random.below(1 << 20);
    let word = match random.below(6) {
        // A state, a slot, a sequence.
        0..3 => random.below(4) | random.below(16) << 2 | small << 18,
        3 => 0,
        4 => u64::MAX,
        _ => small,
    };
    (at, word)
}

#[test]
fn random_writes_into_the_page_harm_nobody() {
    let seconds = std::env::var("PENHOLDER_FUZZ_SECONDS").ok();
    let time = seconds.map_or(Duration::from_millis(1500), |seconds| {
        Duration::from_secs(seconds.parse().unwrap())
    });
    let mut random = Random::new();
    for wild in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let counter = Counter::new(directory.path());
        let pause = Duration::from_micros(20);
        let times = attack(directory.path(), "toil", time, pause, |page| {
            let (at, word) = if wild {
                (random.below(LENGTH as u64 / 8) * 8, random.next())
            } else {
                plausible(&mut random)
            };
            poke(page, at, &word.to_ne_bytes());
        });
        assert_eq!(counter.read(), times, "two were inside at once");
        assert!(times > 0);
        all_is_well(directory.path());
    }
}

/// Touching what is gone of a mapped file ends a process, and no more than that.
#[test]
fn a_truncated_page_costs_at_most_those_who_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for length in [0, 4096] {
        let path = lock_file(directory);
        let mut holder = LockPeer::holding(&path);
        let mut waiters = [(); 2].map(|()| LockPeer::start(&path));
        for waiter in &mut waiters {
            waiter.enqueue(&path, LONG_TIMEOUT);
        }
        let page = open(&page_of(directory)).unwrap();
        page.set_len(length).unwrap();
        let mut newcomer = LockPeer::start(&path);
        newcomer.start_acquire(LONG_TIMEOUT);
        // Whether it lives or dies of it, it does not keep the lock.
        holder.peer.send("release");
        newcomer.peer.expect("held");
        newcomer.release();
        drop((holder, waiters));
        all_is_well(directory);
    }
}

/// Not counted, but nobody hangs; and counted again afterwards.
#[test]
fn a_deleted_lock_file_holds_up_nobody_in_line() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let second = Duration::from_secs(1);
    let pause = Duration::from_millis(20);
    attack(directory, "come_and_go", second, pause, |_| {
        let _ = fs::remove_file(lock_file(directory));
    });
    fs::remove_file(directory.join("over")).unwrap();
    let counter = Counter::new(directory);
    let times = attack(directory, "toil", second / 3, pause, |_| {});
    assert_eq!(counter.read(), times);
    all_is_well(directory);
}

/// Takes slots of the page for as long as the file is open.
fn occupy(page: &File, slots: std::ops::Range<i64>) {
    let mut lock = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap(),
        l_start: (1 << 62) + slots.start,
        l_len: slots.end - slots.start,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and `lock` is ours and all it touches.
    let done = unsafe { libc::fcntl(page.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    assert_eq!(done, 0);
}

#[test]
fn whoever_finds_no_slot_gets_in_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let counter = Counter::new(directory);
    let path = lock_file(directory);
    LockPeer::holding(&path).release();
    let page = open(&page_of(directory)).unwrap();
    // Two are left.
    occupy(&page, 1..511);
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
    assert!(counted.acquisitions < 800, "some had no slot");
}

#[test]
fn without_a_page_all_get_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let polls = || LockPeer::spawn(LockPeer::command(&path, &["queue-file=no"]));
    let mut one = polls();
    one.acquire();
    assert!(!page_of(directory.path()).exists());
    let locker = WriteLocker::at(&path).unwrap();
    assert_eq!(locker.status().unwrap().page, PageState::None);
    let mut other = polls();
    other.assert_blocked_by(one.pid());
    // Beside those that queue, and past them at a release.
    let mut queues = LockPeer::start(&path);
    queues.enqueue(&path, LONG_TIMEOUT);
    assert_eq!(locker.status().unwrap().page, PageState::InUse);
    one.release();
    queues.peer.expect("held");
    other.assert_blocked_by(queues.pid());
    other.start_acquire(LONG_TIMEOUT);
    queues.release();
    other.peer.expect("held");
    queues.assert_blocked_by(other.pid());
}

/// Nothing that is no file is put away.
#[test]
fn where_a_folder_stands_in_the_place_of_the_page_all_get_in() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    fs::create_dir(page_of(directory.path())).unwrap();
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
    assert_eq!(status.page, PageState::Unusable);
    assert!(page_of(directory.path()).is_dir());
}

/// Whoever found it broken looks again before it builds one.
#[test]
fn a_page_that_another_has_mended_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let page = page_of(directory.path());
    for _ in 0..5 {
        let mut holder = LockPeer::holding(&path);
        poke(&page, 8, &[0xFF; 8]);
        let mut waiters = [(); 2].map(|()| LockPeer::start(&path));
        for waiter in &mut waiters {
            waiter.start_acquire(LONG_TIMEOUT);
        }
        // Both find it broken, and poll.
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
        let mended = fs::metadata(&page).unwrap().ino();
        first.release();
        second.peer.expect("held");
        assert_eq!(fs::metadata(&page).unwrap().ino(), mended);
    }
}

/// The count of tickets, or a waiter's own, is garbage: nobody is passed for good.
#[test]
fn forged_tickets_do_not_let_others_pass() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let page = page_of(directory.path());
    for own in [false, true] {
        let mut holder = LockPeer::holding(&path);
        poke(&page, 128, &1_000_000_u64.to_ne_bytes());
        let fifo = || LockPeer::spawn(LockPeer::command(&path, &["policy=fifo"]));
        let [mut first, mut second] = [fifo(), fifo()];
        first.enqueue(&path, LONG_TIMEOUT);
        if !own {
            poke(&page, 128, &0_u64.to_ne_bytes());
        }
        second.enqueue(&path, LONG_TIMEOUT);
        if own {
            let bytes = fs::read(&page).unwrap();
            let pid = |slot: &u64| {
                let at = usize::try_from(53_248 + slot * 256).unwrap();
                u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
            };
            let slot = (0..512).find(|slot| pid(slot) == u64::from(first.pid()));
            let ticket = 16_384 + slot.unwrap() * 8;
            poke(&page, ticket, &u64::MAX.to_ne_bytes());
            // It puts that right when it wakes.
            let file = open(&page).unwrap();
            wait::until("it has its ticket again", || {
                let mut word = [0; 8];
                file.read_exact_at(&mut word, ticket).unwrap();
                u64::from_ne_bytes(word) != u64::MAX
            });
        }
        holder.release();
        first.peer.expect("held");
        first.release();
        second.peer.expect("held");
    }
}

/// A stranger's word in the page is never taken for our own.
#[test]
fn a_forged_word_does_not_spare_the_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    LockPeer::holding(&path).release();
    for state in 0..4_u64 {
        let mut lock_peer = LockPeer::start(&path);
        let page = open(&page_of(directory.path())).unwrap();
        let mut rotor = [0; 8];
        page.read_exact_at(&mut rotor, 136).unwrap();
        let next = u64::from_ne_bytes(rotor) % 512;
        page.write_all_at(&(state | next << 2 | 1 << 18).to_ne_bytes(), 64)
            .unwrap();
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

    /// Whatever stands in the page, looking at it comes to an end.
    #[test]
    fn status_of_any_bytes(seed: u64, header: bool, sparse in 0..64_u64, length in 0..2 * LENGTH) {
        let directory = tempfile::tempdir().unwrap();
        let locker = WriteLocker::new(directory.path()).unwrap();
        let path = page_of(directory.path());
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
        fs::rename(&other, &path).unwrap();
        let begun = Instant::now();
        let status = locker.status().unwrap();
        prop_assert!(begun.elapsed() < PROMPTLY);
        prop_assert_eq!(status.page == PageState::InUse, header);
        prop_assert!(status.queue.len() <= 512 && status.events.len() <= 64);
        let shown = format!("{status:?}").len()
            + status.queue.iter().map(|waiter| waiter.to_string().len()).sum::<usize>()
            + status.events.iter().map(|event| event.to_string().len()).sum::<usize>();
        prop_assert!(shown < 1 << 20);
        // And the page is used, or built anew, whatever stands in it.
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
}
