//! The queue against a model, in any order of calls.
//!
//! Each call changes the queue under its mutex, so a sequence of calls stands for every schedule
//! of the threads that make them. The model knows where each waiter must be; afterwards all that
//! still wait must be served, so no turn and no wake-up is lost.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{FairQueue, Waiter, Wake};
use crate::deadline::Deadline;

/// How many waiters there are.
const WAITERS: usize = 5;

/// What one thread does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Join(usize),
    /// Looks whether its wait is over, before or after its deadline.
    Look(usize, bool),
    Abandon(usize),
    /// The owner puts itself at the front.
    Rejoin,
    ClaimFirst,
    ClaimOwn,
    /// The owner finishes what it claimed first.
    Finish,
    /// The owner puts all that it claimed back, in their order.
    PutBack,
    Give,
}

fn step() -> impl Strategy<Value = Step> {
    let waiter = 0..WAITERS;
    prop_oneof![
        4 => waiter.clone().prop_map(Step::Join),
        6 => (waiter.clone(), any::<bool>()).prop_map(|(one, late)| Step::Look(one, late)),
        1 => waiter.prop_map(Step::Abandon),
        2 => Just(Step::Rejoin),
        3 => Just(Step::ClaimFirst),
        1 => Just(Step::ClaimOwn),
        2 => Just(Step::Finish),
        1 => Just(Step::PutBack),
        2 => Just(Step::Give),
    ]
}

/// Where a waiter must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Queued,
    Granted,
    /// Its thread has the turn.
    Owning,
    /// Its thread has the turn, and it is in the queue.
    Rejoined,
    Claimed,
    Finished,
    /// It left, or its wait is over.
    Gone,
}

struct Model {
    queue: FairQueue<(), usize>,
    waiters: Vec<Arc<Waiter<usize>>>,
    places: [Place; WAITERS],
    order: VecDeque<usize>,
    claimed: VecDeque<usize>,
    abandoned: BTreeSet<usize>,
    owner: Option<usize>,
}

impl Model {
    fn new() -> Self {
        // Of other threads, as far as the queue can tell.
        let waiter = |number| thread::spawn(move || Waiter::of_this_thread(number));
        let waiters = (0..WAITERS).map(|number| waiter(number).join().unwrap());
        Self {
            queue: FairQueue::new(()),
            waiters: waiters.collect(),
            places: [Place::Outside; WAITERS],
            order: VecDeque::new(),
            claimed: VecDeque::new(),
            abandoned: BTreeSet::new(),
            owner: None,
        }
    }

    fn has_turn(&self) -> bool {
        self.owner.is_some() || self.places.contains(&Place::Granted)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join(one) if self.places[one] == Place::Outside => {
                let is_free = !self.has_turn();
                self.queue.join(&self.waiters[one]).unwrap();
                if is_free {
                    self.places[one] = Place::Granted;
                } else {
                    self.places[one] = Place::Queued;
                    self.order.push_back(one);
                }
            }
            Step::Look(one, is_late) => self.look(one, is_late),
            Step::Abandon(one) => self.abandon(one),
            Step::Rejoin => self.rejoin(),
            Step::ClaimFirst if self.owner.is_some() => {
                let claimed = self.queue.claim_first(|&number| Some(number));
                let claimed = claimed.map(|(_, number)| number);
                assert_eq!(claimed, self.order.pop_front());
                self.note_claimed(claimed);
            }
            Step::ClaimOwn => {
                let Some(owner) = self.owner else { return };
                let is_queued = self.order.contains(&owner);
                assert_eq!(self.queue.claim(&self.waiters[owner]), is_queued);
                if is_queued {
                    self.order.retain(|&one| one != owner);
                    self.note_claimed(Some(owner));
                }
            }
            Step::Finish if self.owner.is_some() => {
                if let Some(one) = self.claimed.pop_front() {
                    self.waiters[one].finish();
                    self.places[one] = Place::Finished;
                }
            }
            Step::PutBack if self.owner.is_some() => self.put_back(),
            Step::Give => self.give(),
            _ => {}
        }
        assert_eq!(self.queue.len(), self.order.len());
        assert!(
            self.order.is_empty() || self.has_turn(),
            "nobody serves the queue"
        );
    }

    fn note_claimed(&mut self, claimed: Option<usize>) {
        if let Some(one) = claimed {
            self.places[one] = Place::Claimed;
            self.claimed.push_back(one);
        }
    }

    fn look(&mut self, one: usize, is_late: bool) {
        let is_waiting = matches!(
            self.places[one],
            Place::Queued | Place::Granted | Place::Claimed | Place::Finished
        );
        // The owner does not look while it stands in the queue itself.
        let is_serving = self.owner == Some(one) && self.places[one] == Place::Queued;
        if !is_waiting || is_serving || self.abandoned.contains(&one) {
            return;
        }
        let time = if is_late {
            Duration::ZERO
        } else {
            Duration::from_secs(60)
        };
        let found = self.queue.look(&self.waiters[one], &Deadline::after(time));
        match self.places[one] {
            Place::Granted => {
                assert_eq!(found, Ok(Wake::Granted(())));
                self.places[one] = Place::Owning;
                self.owner = Some(one);
            }
            Place::Finished => {
                assert_eq!(found, Ok(Wake::Finished));
                self.places[one] = Place::Gone;
            }
            Place::Queued if is_late => {
                assert!(matches!(found, Ok(Wake::TimedOut { .. })), "{found:?}");
                self.places[one] = Place::Gone;
                self.order.retain(|&other| other != one);
            }
            _ => assert!(found.is_err(), "{found:?}"),
        }
    }

    fn abandon(&mut self, one: usize) {
        // A thread that has the turn does not drop its future.
        let is_waiting = matches!(
            self.places[one],
            Place::Queued | Place::Granted | Place::Claimed
        );
        if !is_waiting || self.owner == Some(one) {
            return;
        }
        self.abandoned.insert(one);
        let has_left = self.queue.abandon(&self.waiters[one]);
        match self.places[one] {
            Place::Queued => {
                assert!(has_left);
                self.order.retain(|&other| other != one);
                self.places[one] = Place::Gone;
            }
            Place::Granted => {
                assert!(has_left);
                self.places[one] = Place::Gone;
                self.grant_next();
            }
            _ => assert!(!has_left, "the owner has it"),
        }
    }

    fn rejoin(&mut self) {
        let Some(owner) = self.owner else { return };
        if self.places[owner] == Place::Owning {
            assert!(self.queue.rejoin(&self.waiters[owner]));
            self.places[owner] = Place::Rejoined;
            self.order.push_front(owner);
        }
    }

    fn put_back(&mut self) {
        while let Some(one) = self.claimed.pop_back() {
            self.queue.put_back(Arc::clone(&self.waiters[one]), |_| {});
            if self.abandoned.contains(&one) {
                self.places[one] = Place::Gone;
            } else {
                self.places[one] = Place::Queued;
                self.order.push_front(one);
            }
        }
    }

    fn give(&mut self) {
        let Some(owner) = self.owner else { return };
        // What it has in its hands ends first, as with `ClaimedWrite`.
        self.put_back();
        self.owner = None;
        self.queue.give(());
        match self.places[owner] {
            Place::Owning => self.places[owner] = Place::Gone,
            Place::Rejoined => self.places[owner] = Place::Queued,
            _ => {}
        }
        self.grant_next();
    }

    fn grant_next(&mut self) {
        if let Some(next) = self.order.pop_front() {
            self.places[next] = Place::Granted;
        }
    }

    /// Serves all that still wait: each that has the turn passes it on.
    fn drain(&mut self) {
        for _ in 0..4 * WAITERS {
            for one in 0..WAITERS {
                self.look(one, false);
                if self.owner == Some(one) {
                    while !self.claimed.is_empty() {
                        self.take(Step::Finish);
                    }
                    self.take(Step::Give);
                }
            }
            if let Some(owner) = self.owner {
                self.look(owner, false);
            }
        }
        let is_over =
            |place: &Place| matches!(place, Place::Outside | Place::Gone | Place::Finished);
        assert!(self.places.iter().all(is_over), "{:?}", self.places);
        assert_eq!(self.queue.try_take(), Ok(Some(())), "the turn was lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_waiter_and_no_turn_is_lost(steps in vec(step(), 0..60)) {
        let mut model = Model::new();
        steps.into_iter().for_each(|step| model.take(step));
        model.drain();
    }
}
