//! The turnstile under thousands of schedules, each step of them chosen.
//!
//! The shared memory and the kernel's lock are replaced by ones at whose every use
//! `shuttle` may run another member: at random, or by priority with a few changes
//! (PCT). It is a search, not a proof: what is said below holds in every schedule
//! that was tried, with three or four members, and memory that is sequentially
//! consistent, as [`Memory`] demands.
//!
//! | scenario | pauses that end by themselves | what it shows |
//! | --- | --- | --- |
//! | [`everybody_is_served`] | any, at any moment | never two inside; all are served, by either policy and by both at once |
//! | [`fifo_needs_no_pause`] | none | no wake-up is lost: nobody is stuck, though only calls end a sleep |
//! | [`slices_need_only_the_pause_before_a_kept_lock`] | of the first in line, while the word is `Kept` | the same by slices: only a lock that is kept and not retaken is not announced by a call |
//! | [`a_deadline_at_any_moment`] | of members with a deadline | who gives up, even at the hand-over, passes on what it got: patient members, whom only calls wake, are served, and in the end the lock is there for a polite newcomer |
//! | [`a_death_at_any_step`] | any | the others are served; in the end no dead one is in a newcomer's way |
//! | [`a_stop_at_any_step`] | any | the others are all served without it; it is served when it goes on |
//! | [`garbage_at_any_step`] | any | with random words in the page still never two inside, and all are served |
//! | [`fifo_keeps_order`] | none | who is served next after a release came no later than anybody who was in line when that release began |
//!
//! Everywhere the clock jumps: by nothing, by less and by more than each of the
//! turnstile's bounds. `PENHOLDER_SCHEDULES=100` tries a hundred times as many,
//! and others; a failure prints its schedule, for `shuttle::replay`.

use std::cell::{Cell, RefCell};
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};

use super::*;

/// As many as the model has; the words of others are nowhere.
const SEATS: usize = 4;
const NOBODY: usize = usize::MAX;
const NEVER: u64 = u64::MAX;
/// Most steps of one schedule: what takes longer does not end.
const STEPS_MAX: usize = 200_000;
/// How much of a story that ends badly is printed.
const STORY_MAX: usize = 200;

// ---- the world -------------------------------------------------------------

/// The page, the kernel and the clock.
struct World {
    /// Used before each use of a word: there another member may run, and nowhere
    /// else, so the words themselves can be ordinary ones.
    point: shuttle::sync::atomic::AtomicBool,
    turnstile: AtomicU64,
    last_ticket: AtomicU64,
    line: AtomicU64,
    tickets: [AtomicU64; SEATS],
    since: [AtomicU64; SEATS],
    until: [AtomicU64; SEATS],
    called: [AtomicU64; SEATS],
    /// How often each was called.
    calls: Mutex<[u32; SEATS]>,
    /// Rings at each call, and when the lock is kept.
    bell: Condvar,
    /// Who has the kernel's lock.
    owner: AtomicUsize,
    /// Who is in the critical section.
    inside: AtomicUsize,
    dead: [AtomicBool; SEATS],
    clock: AtomicU64,
    can_spin: bool,
    /// How many members are through, for those who are stopped until then.
    through: Mutex<usize>,
    goes_on: Condvar,
    /// The lowest ticket in line when the last release began.
    promised: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        STORY.with_borrow_mut(Vec::clear);
        let words = || std::array::from_fn(|_| AtomicU64::new(0));
        Arc::new(Self {
            point: shuttle::sync::atomic::AtomicBool::new(false),
            turnstile: AtomicU64::new(0),
            last_ticket: AtomicU64::new(0),
            line: AtomicU64::new(0),
            tickets: words(),
            since: words(),
            until: words(),
            called: words(),
            calls: Mutex::new([0; SEATS]),
            bell: Condvar::new(),
            owner: AtomicUsize::new(NOBODY),
            inside: AtomicUsize::new(NOBODY),
            dead: std::array::from_fn(|_| AtomicBool::new(false)),
            clock: AtomicU64::new(1_000_000_000),
            can_spin: thread_rng().gen_bool(0.5),
            through: Mutex::new(0),
            goes_on: Condvar::new(),
            promised: AtomicU64::new(NEVER),
        })
    }

    fn point(&self) {
        self.point.load(SeqCst);
    }

    fn word(&self, word: Word) -> Option<&AtomicU64> {
        match word {
            Word::Turnstile => Some(&self.turnstile),
            Word::LastTicket => Some(&self.last_ticket),
            Word::Line(group) => (group == 0).then_some(&self.line),
            Word::Ticket(slot) => self.tickets.get(slot.number()),
            Word::Since(slot) => self.since.get(slot.number()),
            Word::Until(slot) => self.until.get(slot.number()),
            Word::Called(slot) => self.called.get(slot.number()),
        }
    }

    fn turn(&self) -> Turn {
        Turn(self.turnstile.load(SeqCst))
    }

    /// The lowest ticket in line, at one moment.
    fn lowest_ticket(&self) -> Option<u64> {
        let line = self.line.load(SeqCst);
        (0..SEATS)
            .filter(|seat| line >> seat & 1 == 1)
            .map(|seat| self.tickets[seat].load(SeqCst))
            .min()
    }

    fn is_through(&self) {
        *self.through.lock().unwrap() += 1;
        self.goes_on.notify_all();
    }
}

// ---- the story -------------------------------------------------------------

/// What happened; printed if it ends badly.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "printed only")]
enum Event {
    Sets(Word, u64),
    Turns(State, Option<Index>),
    Joins(u64),
    Removes(u64),
    Locks(bool),
    Unlocks,
    Calls(usize),
    Sleeps(Duration),
    Wakes,
    Dies,
    Stops,
}

std::thread_local! {
    // All members of a schedule run on the test's own thread.
    static STORY: RefCell<Vec<(usize, Event)>> = const { RefCell::new(Vec::new()) };
}

fn print_story() {
    STORY.with_borrow(|story| {
        let skipped = story.len().saturating_sub(STORY_MAX);
        for (seat, event) in &story[skipped..] {
            println!("{seat}: {event:?}");
        }
    });
}

// ---- a member --------------------------------------------------------------

/// Which sleeps end without a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pauses {
    Any,
    /// Of the first in line, while the lock is kept.
    BeforeKept,
    Never,
}

/// What becomes of a member, after so many steps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Dies(u32),
    Dead,
    /// Stops, if it has not the kernel's lock, until so many others are through.
    Stops(u32, usize),
}

/// The lock was not released: its member died.
#[derive(Debug)]
struct Killed;

/// A member's view of the world.
struct Seat {
    world: Arc<World>,
    slot: Index,
    pauses: Pauses,
    fate: Cell<Fate>,
}

impl Seat {
    fn new(world: &Arc<World>, seat: usize, pauses: Pauses) -> Self {
        Self {
            world: Arc::clone(world),
            slot: Index::new(seat).unwrap(),
            pauses,
            fate: Cell::new(Fate::Lives),
        }
    }

    fn tell(&self, event: Event) {
        STORY.with_borrow_mut(|story| story.push((self.slot.number(), event)));
    }

    fn has_kernel(&self) -> bool {
        self.world.owner.load(SeqCst) == self.slot.number()
    }

    fn is_dead(&self) -> bool {
        self.fate.get() == Fate::Dead
    }

    /// One step; `false` if this member is dead, and does nothing any more.
    fn step(&self) -> bool {
        self.world.point();
        if thread_rng().gen_ratio(1, 64) {
            self.lose_the_processor();
        }
        match self.fate.get() {
            Fate::Lives => {}
            Fate::Dead => return false,
            Fate::Dies(0) => {
                self.die();
                return false;
            }
            Fate::Dies(steps) => self.fate.set(Fate::Dies(steps - 1)),
            Fate::Stops(0, others) if !self.has_kernel() => {
                self.fate.set(Fate::Lives);
                self.stop(others);
            }
            Fate::Stops(steps, others) => {
                self.fate.set(Fate::Stops(steps.saturating_sub(1), others));
            }
        }
        true
    }

    /// For longer than others try something again, whatever we hold.
    fn lose_the_processor(&self) {
        for _ in 0..thread_rng().gen_range(0..80) {
            thread::yield_now();
        }
    }

    /// The kernel clears up after a dead process in no particular order.
    fn die(&self) {
        let slot = self.slot.number();
        self.fate.set(Fate::Dead);
        self.tell(Event::Dies);
        if self.world.inside.load(SeqCst) == slot {
            self.world.inside.store(NOBODY, SeqCst);
        }
        let releases_first = thread_rng().gen_bool(0.5);
        self.world.dead[slot].store(!releases_first, SeqCst);
        if self.has_kernel() {
            self.world.point();
            self.world.owner.store(NOBODY, SeqCst);
        }
        self.world.point();
        self.world.dead[slot].store(true, SeqCst);
    }

    fn stop(&self, others: usize) {
        self.tell(Event::Stops);
        let mut through = self.world.through.lock().unwrap();
        while *through < others {
            through = self.world.goes_on.wait(through).unwrap();
        }
    }

    /// Whether this sleep can end by itself now.
    fn can_pause(&self, pause: Duration) -> bool {
        match self.pauses {
            Pauses::Any => true,
            Pauses::BeforeKept => pause < PATIENCE && self.world.turn().state() == State::Kept,
            Pauses::Never => false,
        }
    }

    fn critical_section(&self) {
        let (slot, inside) = (self.slot.number(), &self.world.inside);
        assert_eq!(inside.swap(slot, SeqCst), NOBODY, "two inside");
        for _ in 0..thread_rng().gen_range(0..3) {
            if !self.step() {
                return;
            }
            assert_eq!(inside.load(SeqCst), slot, "two inside");
            assert!(self.has_kernel(), "inside without the kernel's lock");
        }
        inside.store(NOBODY, SeqCst);
    }
}

impl Memory for Seat {
    fn groups(&self) -> usize {
        1
    }

    // A dead member sees zeros, and its changes are lost; the kernel's lock then
    // ends what it does.
    fn load(&self, word: Word) -> u64 {
        let word = self.step().then(|| self.world.word(word)).flatten();
        word.map_or(0, |word| word.load(SeqCst))
    }

    fn store(&self, of: Word, value: u64) {
        if let (true, Some(word)) = (self.step(), self.world.word(of)) {
            self.tell(Event::Sets(of, value));
            word.store(value, SeqCst);
        }
    }

    fn exchange(&self, word: Word, old: u64, new: u64) -> Result<(), u64> {
        if !self.step() {
            return Ok(());
        }
        let of = self.world.word(word).unwrap();
        of.compare_exchange(old, new, SeqCst, SeqCst)?;
        self.tell(Event::Turns(Turn(new).state(), Turn(new).slot()));
        if word == Word::Turnstile && Turn(new).state() == State::Kept {
            // Those who may pause before it look again.
            let _calls = self.world.calls.lock().unwrap();
            self.world.bell.notify_all();
        }
        Ok(())
    }

    fn count_up(&self, word: Word) -> u64 {
        if !self.step() {
            return 0;
        }
        let word = self.world.word(word).unwrap();
        word.fetch_add(1, SeqCst).wrapping_add(1)
    }

    fn set_bits(&self, word: Word, bits: u64) {
        if let (true, Some(word)) = (self.step(), self.world.word(word)) {
            self.tell(Event::Joins(bits));
            word.fetch_or(bits, SeqCst);
        }
    }

    fn clear_bits(&self, word: Word, bits: u64) {
        if let (true, Some(word)) = (self.step(), self.world.word(word)) {
            self.tell(Event::Removes(bits));
            word.fetch_and(!bits, SeqCst);
        }
    }

    fn calls(&self, slot: Index) -> u32 {
        if !self.step() {
            return 0;
        }
        self.world.calls.lock().unwrap()[slot.number()]
    }

    fn call(&self, slot: Index) {
        if slot.number() < SEATS && self.step() {
            let mut calls = self.world.calls.lock().unwrap();
            self.tell(Event::Calls(slot.number()));
            calls[slot.number()] += 1;
            self.world.bell.notify_all();
        }
    }

    fn sleep(&self, slot: Index, seen: u32, pause: Duration) {
        if !self.step() {
            return;
        }
        let mut moments = thread_rng().gen_range(1..6);
        let mut calls = self.world.calls.lock().unwrap();
        self.tell(Event::Sleeps(pause));
        while calls[slot.number()] == seen {
            if !self.can_pause(pause) {
                calls = self.world.bell.wait(calls).unwrap();
                continue;
            }
            if moments == 0 {
                self.tell(Event::Wakes);
                self.world.clock.fetch_add(nanos(pause), SeqCst);
                return;
            }
            moments -= 1;
            drop(calls);
            thread::yield_now();
            calls = self.world.calls.lock().unwrap();
        }
    }

    fn lives(&self, slot: Index) -> bool {
        self.step();
        let dead = self.world.dead.get(slot.number());
        slot == self.slot || dead.is_some_and(|dead| !dead.load(SeqCst))
    }

    fn now(&self) -> u64 {
        const JUMPS: [u64; 6] = [0, 100, 5_000, 50_000, 700_000, 3_000_000];
        let jump = JUMPS[thread_rng().gen_range(0..JUMPS.len())];
        self.world.clock.fetch_add(jump, SeqCst) + jump
    }

    fn about_now(&self) -> u64 {
        // Behind by up to a tick.
        self.now()
            .saturating_sub(thread_rng().gen_range(0..4_000_000))
    }

    fn can_spin(&self) -> bool {
        self.world.can_spin
    }

    fn relax(&self) {
        // Spinning is no promise that another one runs.
        self.step();
    }
}

/// The kernel's lock, as a member takes it.
struct Lock<'a>(&'a Seat);

impl Kernel for Lock<'_> {
    type Error = Killed;

    fn try_lock(&mut self, _now: u64) -> Result<bool, Killed> {
        if !self.0.step() {
            return Err(Killed);
        }
        let (slot, owner) = (self.0.slot.number(), &self.0.world.owner);
        let locked = owner.compare_exchange(NOBODY, slot, SeqCst, SeqCst).is_ok();
        self.0.tell(Event::Locks(locked));
        Ok(locked)
    }

    fn unlock(&mut self, _at_rest: bool) -> Result<(), Killed> {
        if !self.0.step() {
            return Err(Killed);
        }
        assert!(self.0.has_kernel(), "released by somebody else");
        self.0.tell(Event::Unlocks);
        self.0.world.owner.store(NOBODY, SeqCst);
        Ok(())
    }

    fn met_foreigner(&mut self) {}
}

// ---- what members do -------------------------------------------------------

/// What a member does, and how often.
#[derive(Clone, Copy)]
struct Plan {
    policy: Policy,
    times: usize,
    /// Tries first, as a locker does; otherwise only waits in line.
    tries: bool,
    /// How long it waits at most.
    until: Option<u64>,
    fate: Fate,
    pauses: Pauses,
}

impl Plan {
    fn new(policy: Policy, pauses: Pauses) -> Self {
        Self {
            policy,
            times: 2,
            tries: true,
            until: None,
            fate: Fate::Lives,
            pauses,
        }
    }

    fn start(self, world: &Arc<World>, seat: usize) -> JoinHandle<()> {
        let seat = Seat::new(world, seat, self.pauses);
        thread::spawn(move || self.run(&seat))
    }

    fn run(self, seat: &Seat) {
        seat.fate.set(self.fate);
        let mut member = Member::new(seat.slot);
        for _ in 0..self.times {
            // Who gives up comes again.
            if self.serve(seat, &mut member).is_err() || seat.is_dead() {
                return;
            }
        }
        // Otherwise it lives on, and wants nothing any more.
        if thread_rng().gen_bool(0.5) {
            member.leave(seat);
        }
        seat.world.is_through();
    }

    /// Takes the lock, works, and gives it back; says whether it got it.
    fn serve(self, seat: &Seat, member: &mut Member) -> Result<bool, Killed> {
        if !self.take(seat, member)? {
            return Ok(false);
        }
        if seat.is_dead() {
            return Err(Killed);
        }
        seat.critical_section();
        member.ends(seat);
        let more = || thread_rng().gen_bool(0.3);
        let promised = seat.world.lowest_ticket();
        seat.world.promised.store(promised.unwrap_or(NEVER), SeqCst);
        member.release(seat, &mut Lock(seat), self.policy, more)?;
        Ok(true)
    }

    /// As a locker does.
    fn take(self, seat: &Seat, member: &mut Member) -> Result<bool, Killed> {
        let mut kernel = Lock(seat);
        let begun = member.begins(seat);
        if self.tries && member.try_take(seat, &mut kernel, begun, false)?.is_some() {
            return Ok(true);
        }
        let left = self.until.map(|most| thread_rng().gen_range(0..=most));
        let patience = Patience {
            until: left.map_or(NEVER, |left| seat.now() + left),
            is_cancelled: &|| false,
            is_outdated: &|| false,
        };
        match member.wait(seat, &mut kernel, &patience)? {
            Waited::Taken(_) => Ok(true),
            Waited::TimedOut { .. } if self.until.is_some() => Ok(false),
            otherwise => panic!("waited until {otherwise:?}"),
        }
    }
}

/// Somebody who was not there takes the lock at once, politely, and then again as
/// one who may wait; only if all the others are gone.
fn newcomer_takes(world: &Arc<World>, seat: usize) {
    let seat = Seat::new(world, seat, Pauses::Never);
    let (mut member, mut kernel) = (Member::new(seat.slot), Lock(&seat));
    let begun = member.begins(&seat);
    let taken = member.try_take(&seat, &mut kernel, begun, true);
    assert!(taken.unwrap().is_some(), "the lock is lost");
    seat.critical_section();
    member.ends(&seat);
    member
        .release(&seat, &mut kernel, Policy::Fifo, || false)
        .unwrap();
    let plan = Plan {
        tries: false,
        ..Plan::new(Policy::Fifo, Pauses::Never)
    };
    plan.run(&seat);
}

// ---- schedules -------------------------------------------------------------

/// Tries a scenario with so many schedules, half of them random, half of them PCT.
fn check(schedules: usize, scenario: fn()) {
    let asked = env::var("PENHOLDER_SCHEDULES").ok();
    let factor = asked.and_then(|factor| factor.parse().ok()).unwrap_or(1);
    // The usual ones are always the same, so that no change is blamed for the
    // bug of another.
    let seed = 0x7075_7368 + factor as u64;
    let half = schedules * factor / 2;
    run(RandomScheduler::new_from_seed(seed, half), scenario);
    run(PctScheduler::new_from_seed(seed, 3, half), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    let runner = Runner::new(scheduler, config);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| runner.run(scenario)));
    if let Err(why) = ended {
        print_story();
        panic::resume_unwind(why);
    }
}

fn all(members: impl IntoIterator<Item = JoinHandle<()>>) {
    for member in members.into_iter().collect::<Vec<_>>() {
        member.join().unwrap();
    }
}

/// Three or four.
fn crowd() -> std::ops::Range<usize> {
    0..thread_rng().gen_range(SEATS - 1..=SEATS)
}

fn any_policy() -> Policy {
    if thread_rng().gen_bool(0.5) {
        Policy::Fifo
    } else {
        Policy::Slices
    }
}

// ---- scenarios -------------------------------------------------------------

#[test]
fn everybody_is_served() {
    check(1000, || {
        let world = World::new();
        all(crowd().map(|seat| Plan::new(any_policy(), Pauses::Any).start(&world, seat)));
    });
}

#[test]
fn fifo_needs_no_pause() {
    check(2000, || {
        let world = World::new();
        all(crowd().map(|seat| Plan::new(Policy::Fifo, Pauses::Never).start(&world, seat)));
    });
}

#[test]
fn slices_need_only_the_pause_before_a_kept_lock() {
    check(2000, || {
        let world = World::new();
        all(crowd().map(|seat| Plan::new(any_policy(), Pauses::BeforeKept).start(&world, seat)));
    });
}

#[test]
fn a_deadline_at_any_moment() {
    check(2000, || {
        let world = World::new();
        all((0..SEATS).map(|seat| {
            let patient = Plan::new(any_policy(), Pauses::BeforeKept);
            let hasty = Plan {
                until: Some(3_000_000),
                ..Plan::new(any_policy(), Pauses::Any)
            };
            (if seat < 2 { patient } else { hasty }).start(&world, seat)
        }));
        newcomer_takes(&world, 0);
    });
}

#[test]
fn a_death_at_any_step() {
    check(2000, || {
        let world = World::new();
        all((0..SEATS - 1).map(|seat| {
            let mut plan = Plan::new(any_policy(), Pauses::Any);
            if seat < 2 {
                plan.fate = Fate::Dies(thread_rng().gen_range(0..150));
            }
            plan.start(&world, seat)
        }));
        newcomer_takes(&world, SEATS - 1);
    });
}

#[test]
fn a_stop_at_any_step() {
    check(2000, || {
        let world = World::new();
        all((0..SEATS - 1).map(|seat| {
            let mut plan = Plan::new(any_policy(), Pauses::Any);
            if seat == 0 {
                plan.fate = Fate::Stops(thread_rng().gen_range(0..150), SEATS - 2);
            }
            plan.start(&world, seat)
        }));
        newcomer_takes(&world, SEATS - 1);
    });
}

#[test]
fn garbage_at_any_step() {
    check(1000, || {
        let world = World::new();
        let vandal = Seat::new(&world, SEATS - 1, Pauses::Any);
        let vandal = thread::spawn(move || {
            for _ in 0..thread_rng().gen_range(1..20) {
                vandal.store(any_word(), any_value());
            }
        });
        all((0..SEATS - 1)
            .map(|seat| Plan::new(any_policy(), Pauses::Any).start(&world, seat))
            .chain([vandal]));
    });
}

fn any_word() -> Word {
    let slot = Index::new(thread_rng().gen_range(0..SEATS)).unwrap();
    let words = [
        Word::Turnstile,
        Word::LastTicket,
        Word::Line(0),
        Word::Ticket(slot),
        Word::Since(slot),
        Word::Until(slot),
        Word::Called(slot),
    ];
    words[thread_rng().gen_range(0..words.len())]
}

/// Small, large, or anything.
fn any_value() -> u64 {
    let mut random = thread_rng();
    match random.gen_range(0..4) {
        0 => random.gen_range(0..64),
        1 => NEVER - random.gen_range(0..4),
        _ => random.gen_range(0..=NEVER),
    }
}

#[test]
fn fifo_keeps_order() {
    check(2000, || {
        let world = World::new();
        all((0..SEATS).map(|seat| {
            let plan = Plan {
                tries: false,
                ..Plan::new(Policy::Fifo, Pauses::Never)
            };
            let seat = Seat::new(&world, seat, plan.pauses);
            thread::spawn(move || serve_in_order(plan, &seat))
        }));
    });
}

fn serve_in_order(plan: Plan, seat: &Seat) {
    let mut member = Member::new(seat.slot);
    for _ in 0..plan.times {
        assert!(plan.take(seat, &mut member).unwrap());
        let promised = seat.world.promised.load(SeqCst);
        let ours = seat.world.tickets[seat.slot.number()].load(SeqCst);
        assert!(ours <= promised, "{ours} before {promised}");
        seat.critical_section();
        member.ends(seat);
        let promised = seat.world.lowest_ticket();
        seat.world.promised.store(promised.unwrap_or(NEVER), SeqCst);
        member
            .release(seat, &mut Lock(seat), plan.policy, || false)
            .unwrap();
    }
}
