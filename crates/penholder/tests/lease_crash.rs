//! After `kill -9` at any step of a lease and at any other moment, with plain SQLite writers,
//! readers and checkpointers in the mix, every acknowledged write is in the database once, and
//! the next writer goes on at once.
//!
//! `PENHOLDER_KILLS` sets how many processes are killed.
#![cfg(test)]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use penholder::Database;
use penholder_core::failpoint;
use penholder_testkit::database_fixture::{self, DatabaseFixture};
use penholder_testkit::numbered_writes::{self, Kind};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::wait;

/// The steps of a lease, and how often one may be passed before the kill.
const STEPS: [(&str, usize); 10] = [
    ("lease_begun", 5),
    ("lease_kept", 50),
    ("lease_resumed", 50),
    ("lease_ending", 5),
    ("lease_released", 5),
    ("lease_over", 5),
    ("checkpointing_under_lock", 1),
    ("checkpointed_under_lock", 1),
    ("checkpointing", 1),
    ("checkpointed", 1),
];
/// How long it may take until any process has reached its step.
const DEATH_LIMIT: Duration = Duration::from_secs(2);

#[test]
fn peer() {
    peer::run_role(&[numbered_writes::ROLE]);
}

fn kills() -> usize {
    let kills = std::env::var("PENHOLDER_KILLS").ok();
    kills.map_or(100, |kills| kills.parse().unwrap())
}

fn random_below(bound: usize) -> usize {
    // The value only has to differ between calls.
    let value = RandomState::new().hash_one(bound) % bound as u64;
    usize::try_from(value).unwrap()
}

/// A process that uses the database, and the step at which it dies.
struct Member {
    kind: Kind,
    peer: Peer,
    step: Option<&'static str>,
}

/// The processes that use one database, and those that died.
struct Crowd {
    members: Vec<Member>,
    started: i64,
    steps: usize,
    deaths: BTreeMap<&'static str, usize>,
    db: Database,
    fixture: DatabaseFixture,
}

impl Crowd {
    /// Starts this number of writers, and the others that belong to the mix.
    fn start(writers: usize) -> Self {
        let fixture = DatabaseFixture::new();
        let db = database_fixture::open(&fixture.path());
        numbered_writes::create_tables(&db);
        let mut crowd = Self {
            members: Vec::new(),
            started: 0,
            steps: 0,
            deaths: BTreeMap::new(),
            db,
            fixture,
        };
        for number in 0..writers {
            crowd.add(match number % 8 {
                3 => Kind::Threads,
                5 => Kind::Durable,
                7 => Kind::Polling,
                _ => Kind::Writer,
            });
        }
        for kind in [
            Kind::Plain,
            Kind::Plain,
            Kind::Python,
            Kind::Reader,
            Kind::Reader,
            Kind::Checkpointer,
        ] {
            if numbered_writes::is_possible(kind) {
                crowd.add(kind);
            }
        }
        crowd
    }

    /// Starts one. Those that take leases die at the next step in turn.
    fn add(&mut self, kind: Kind) {
        // Threads have numbers of their own.
        self.started += 10;
        let mut command = numbered_writes::command(kind, &self.fixture.path(), self.started);
        command.env(failpoint::ALL_QUICK, "1");
        let takes_leases = matches!(kind, Kind::Writer | Kind::Threads | Kind::Durable);
        let step = takes_leases.then(|| {
            let (step, passes) = STEPS[self.steps % STEPS.len()];
            self.steps += 1;
            let fault = format!("{step} KILL {}", 1 + random_below(passes));
            command.env(failpoint::VARIABLE, fault);
            step
        });
        let peer = Peer::spawn(command);
        self.members.push(Member { kind, peer, step });
    }

    /// Waits until one has died at its step; `false` if none does for long.
    fn await_death(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < DEATH_LIMIT {
            let is_dead = |one: &Member| !peer::is_alive(one.peer.pid());
            if let Some(dead) = self.members.iter().position(is_dead) {
                let Member {
                    kind,
                    mut peer,
                    step,
                } = self.members.swap_remove(dead);
                let status = peer.wait();
                assert!(peer::was_killed(status), "a {kind:?} has failed: {status}");
                self.note_death(step.unwrap(), kind);
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Kills one at random.
    fn kill_one(&mut self) {
        let victim = random_below(self.members.len());
        let Member {
            kind,
            mut peer,
            step,
        } = self.members.swap_remove(victim);
        // It may have died at its step just now.
        let is_alive = peer::is_alive(peer.pid());
        assert!(is_alive || step.is_some(), "a {kind:?} has failed");
        peer.kill();
        self.note_death("at random", kind);
    }

    fn note_death(&mut self, at: &'static str, kind: Kind) {
        *self.deaths.entry(at).or_default() += 1;
        self.assert_progress();
        self.add(kind);
    }

    /// Waits until something new is committed.
    fn assert_progress(&self) {
        let count = || numbered_writes::count(&self.db);
        let before = count();
        let ((), took) = wait::timed(|| wait::until("the next writer", || count() > before));
        assert!(took < database_fixture::PROMPT, "{took:?}");
    }

    /// Lets all end by themselves, and checks what is there.
    fn finish(mut self) {
        numbered_writes::finish(&self.fixture.path());
        for Member { kind, peer, step } in &mut self.members {
            let status = peer.wait();
            let is_killed = peer::was_killed(status) && step.is_some();
            assert!(status.success() || is_killed, "a {kind:?} has failed");
        }
        drop(self.db);
        let writes = numbered_writes::check(&self.fixture.path());
        eprintln!("{writes} writes; died: {:?}", self.deaths);
    }
}

/// Kills processes, half of them at a step.
fn run(writers: usize, kills: usize) {
    let mut crowd = Crowd::start(writers);
    crowd.assert_progress();
    for kill in 0..kills {
        if kill % 2 == 1 || !crowd.await_death() {
            crowd.kill_one();
        }
    }
    let is_of_lease = |step: &&&str| step.starts_with("lease");
    let died_at = crowd.deaths.keys().filter(is_of_lease).count();
    assert!(kills < 5 * STEPS.len() || died_at > 3, "{:?}", crowd.deaths);
    crowd.finish();
}

#[test]
fn eight_writers_lose_nothing() {
    run(8, kills() * 7 / 10);
}

#[test]
fn many_writers_lose_nothing() {
    // Wine's server runs out of descriptors with more.
    let writers = if cfg!(windows) { 12 } else { 32 };
    run(writers, kills() * 3 / 10);
}
