//! Death and standstill of a process at every step of the protocol: nobody else
//! is held up, nobody is inside with another, and whoever stopped goes on.

#![cfg(test)]

mod peer;
mod stage;

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use peer::Peer;
use penholder_core::failpoint;
use penholder_lock::WriteLocker;
use stage::{Actor, Counter, LONG, lock_file};

/// How many count beside the one that something happens to.
const OTHERS: usize = 3;
/// What "at once" may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);
/// For whom waiting often ends in vain.
const SHORT: Duration = Duration::from_millis(1);

#[test]
fn peer() {
    peer::play(&[stage::OBEY, ("toil", toil)]);
}

/// How the one toils that something happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Patient,
    /// It begins before the others.
    Alone,
    /// It gives up soon.
    Hasty,
    /// It spoils the page now and then.
    Spoiling,
}

/// Counts under the lock until all is over, and how often it was there.
fn toil(args: &[OsString]) {
    let folder = Path::new(&args[0]);
    let way = args[1].to_str().unwrap();
    let locker = WriteLocker::new(folder).unwrap();
    let counter = Counter::of(folder);
    let timeout = if way == "Hasty" { SHORT } else { LONG };
    let (mut mine, mut tries) = (0, 0_u32);
    peer::say("ready");
    peer::hear("go");
    // The end of the pipe ends the process.
    thread::spawn(|| peer::hear("never said"));
    while !folder.join("over").exists() {
        tries += 1;
        if way == "Spoiling" && tries.is_multiple_of(50) {
            spoil(folder);
        }
        match locker.acquire(timeout) {
            Ok(guard) => {
                counter.add_one();
                mine += 1;
                // One write, so that it is whole for whoever reads it.
                write_tally(folder, mine);
                guard.release().unwrap();
            }
            Err(error) => assert!(error.is_timeout() && timeout == SHORT, "{error}"),
        }
    }
    peer::say("done");
}

/// Makes it a page of no known version.
fn spoil(folder: &Path) {
    let page = OpenOptions::new().write(true).open(folder.join("db.lockq"));
    if let Ok(page) = page {
        page.write_all_at(&[0xFF; 8], 8).unwrap();
    }
}

fn tally_of(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("by-{pid}"))
}

fn write_tally(folder: &Path, count: u64) {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(tally_of(folder, std::process::id()))
        .unwrap();
    file.write_all_at(&count.to_ne_bytes(), 0).unwrap();
}

/// How often this one was inside.
fn tally(folder: &Path, peer: &Peer) -> u64 {
    let bytes = fs::read(tally_of(folder, peer.pid())).unwrap_or_default();
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

/// One that something happens to, and others, all counting.
struct Scene {
    victim: Peer,
    others: Vec<Peer>,
    counter: Counter,
    /// Goes last, when nobody is in it any more.
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(point: &str, signal: &str, time: u32, way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let counter = Counter::new(folder.path());
        let how = format!("{way:?}");
        let mut victim = Peer::command("toil", [folder.path().as_os_str(), how.as_ref()]);
        victim.env(failpoint::VARIABLE, format!("{point} {signal} {time}"));
        let start = |_| Peer::start("toil", [folder.path().as_os_str(), "Patient".as_ref()]);
        let mut scene = Self {
            victim: Peer::spawn(victim),
            others: (0..OTHERS).map(start).collect(),
            folder,
            counter,
        };
        for peer in scene.others.iter().chain([&scene.victim]) {
            peer.expect("ready");
        }
        scene.victim.tell("go");
        if way == Way::Alone {
            let inside = || tally(scene.folder.path(), &scene.victim) >= time.into();
            peer::until("it was inside", inside);
        }
        for other in &mut scene.others {
            other.tell("go");
        }
        scene
    }

    fn stands(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.victim.pid()));
        let stat = stat.unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    }

    /// Each of the others gets in again and again.
    fn others_go_on(&self) {
        let inside = |peer| tally(self.folder.path(), peer);
        let before: Vec<u64> = self.others.iter().map(inside).collect();
        for (other, before) in self.others.iter().zip(before) {
            peer::until("each of the others goes on", || {
                inside(other) >= before + 20
            });
        }
    }

    fn victim_goes_on(&self) {
        let before = tally(self.folder.path(), &self.victim);
        peer::until("it is served when it wakes", || {
            tally(self.folder.path(), &self.victim) > before + 2
        });
    }

    /// All that are left come to an end, and everything is as it should be.
    fn ends(self, survives: bool) {
        let folder = self.folder.path();
        fs::write(folder.join("over"), "").unwrap();
        for other in &self.others {
            other.expect("done");
        }
        if survives {
            self.victim.expect("done");
        }
        let all = self.others.iter().chain([&self.victim]);
        let sum: u64 = all.map(|peer| tally(folder, peer)).sum();
        assert_eq!(self.counter.read(), sum, "two were inside at once");
        let locker = WriteLocker::new(folder).unwrap();
        assert_eq!(locker.holder().unwrap(), None);
        assert_eq!(locker.status().unwrap().queue, []);
        let mut newcomer = Actor::start(&lock_file(folder));
        let begun = Instant::now();
        newcomer.takes();
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        newcomer.releases();
    }
}

fn dies_at(point: &str, times: &[u32], way: Way) {
    for &time in times {
        eprintln!("dies at {point}, time {time}");
        let mut scene = Scene::new(point, "KILL", time, way);
        assert_eq!(scene.victim.ended().signal(), Some(9));
        scene.others_go_on();
        scene.ends(false);
    }
}

/// Not while it holds: it is passed over, and served when it goes on.
fn stands_at(point: &str, time: u32, way: Way) {
    eprintln!("stands at {point}");
    let scene = Scene::new(point, "STOP", time, way);
    peer::until("it stands", || scene.stands());
    scene.others_go_on();
    scene.victim.signal("CONT");
    scene.victim_goes_on();
    scene.others_go_on();
    scene.ends(true);
}

/// While it holds: nobody takes that from it.
fn stands_inside_at(point: &str, time: u32, way: Way) {
    eprintln!("stands inside at {point}");
    let scene = Scene::new(point, "STOP", time, way);
    peer::until("it stands", || scene.stands());
    let before = scene.counter.read();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(scene.counter.read(), before, "the lock was stolen");
    scene.victim.signal("CONT");
    scene.victim_goes_on();
    scene.others_go_on();
    scene.ends(true);
}

#[test]
fn dies_while_it_takes_the_lock() {
    for point in ["flocked", "held", "published", "leaving", "left"] {
        dies_at(point, &[1, 7], Way::Patient);
    }
}

#[test]
fn dies_while_it_waits() {
    for point in ["ticket", "queued", "woken"] {
        dies_at(point, &[1, 7], Way::Patient);
    }
    for point in ["leaving", "gave_up"] {
        dies_at(point, &[1, 7], Way::Hasty);
    }
}

#[test]
fn dies_while_it_gives_the_lock_back() {
    for point in ["unlocked", "passed", "unlocked_to_keep", "kept"] {
        dies_at(point, &[1, 7], Way::Patient);
    }
    dies_at("unlocked_alone", &[1, 7], Way::Alone);
}

#[test]
fn dies_while_it_sits_down_or_mends_the_page() {
    for point in ["claimed", "rebuilding", "built"] {
        dies_at(point, &[1, 2], Way::Spoiling);
    }
}

#[test]
fn stands_while_it_waits() {
    for point in ["ticket", "queued", "woken"] {
        stands_at(point, 5, Way::Patient);
    }
    stands_at("gave_up", 5, Way::Hasty);
    stands_at("claimed", 1, Way::Patient);
}

#[test]
fn stands_while_it_gives_the_lock_back() {
    for point in ["unlocked", "passed", "unlocked_to_keep", "kept"] {
        stands_at(point, 5, Way::Patient);
    }
    stands_at("unlocked_alone", 7, Way::Alone);
}

#[test]
fn nothing_is_stolen_from_one_that_stands_inside() {
    for point in ["flocked", "held", "published", "left"] {
        stands_inside_at(point, 5, Way::Patient);
    }
    for point in ["rebuilding", "built"] {
        stands_inside_at(point, 1, Way::Spoiling);
    }
}
