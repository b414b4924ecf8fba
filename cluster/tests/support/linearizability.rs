//! Whether a history of registers is linearizable: whether each operation can have taken effect at one
//! moment between its begin and its end, so that all together did what a single register does.
//!
//! The search is that of Wing and Gong: choose as the next operation one that begun before every other
//! that is left has ended, apply it, and go back if nothing fits any more. As Lowe proposed, each set of
//! operations with the value that they lead to is looked at once. Registers do not depend on each other, so
//! each is looked at by itself. An operation whose outcome is not known has no end, so it is put off until
//! another one tells that it took effect: otherwise each of them would double the number of sets.

use std::collections::{BTreeMap, HashSet};

/// What was done with a register. Every register is 0 at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It had this value.
    Read(i64),
    Write(i64),
    /// It was set to `new` if it was `old`, and this is whether it was; `None` if that is not known.
    CompareAndSet {
        old: i64,
        new: i64,
        was_set: Option<bool>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub register: i64,
    pub action: Action,
    pub begin: u64,
    /// `None` if its outcome is not known: it may take effect at any time after its begin, or never.
    pub end: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains the operations up to this one, the first in the order of their ends.
    Refused(Operation),
    /// It takes too long to find out.
    Undecided,
}

/// How many operations the search tries at most in each register.
const STEPS: usize = 1_000_000;

/// Checks a history.
pub fn check(history: &[Operation]) -> Verdict {
    let mut registers: BTreeMap<i64, Vec<Operation>> = BTreeMap::new();
    for &operation in history {
        registers
            .entry(operation.register)
            .or_default()
            .push(operation);
    }
    for mut operations in registers.into_values() {
        operations.sort_by_key(|operation| operation.begin);
        match Search::new(&operations).run() {
            Verdict::Linearizable => {}
            verdict => return verdict,
        }
    }
    Verdict::Linearizable
}

impl Action {
    /// Returns the value afterwards; `None` if it cannot take effect now.
    fn apply(self, value: i64) -> Option<i64> {
        match self {
            Self::Read(read) => (read == value).then_some(value),
            Self::Write(new) => Some(new),
            Self::CompareAndSet { old, new, was_set } => match was_set {
                Some(false) => (old != value).then_some(value),
                _ => (old == value).then_some(new),
            },
        }
    }

    /// Returns whether it can take effect at a value, and not at the one before.
    fn tells(self, before: i64, after: i64) -> bool {
        self.apply(before).is_none() && self.apply(after).is_some()
    }
}

/// The search through one register.
struct Search<'a> {
    /// In the order of their begins.
    operations: &'a [Operation],
    /// Which of them have taken effect, as bits, and the value that they lead to.
    done: Vec<u64>,
    value: i64,
    /// How many are left whose outcome is known.
    left: usize,
    seen: HashSet<(Vec<u64>, i64)>,
    steps: usize,
}

/// One operation that was chosen, and what else could be.
struct Choice {
    chosen: usize,
    value_before: i64,
    others: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let is_known = |operation: &&Operation| operation.end.is_some();
        Self {
            operations,
            done: vec![0; operations.len().div_ceil(64)],
            value: 0,
            left: operations.iter().filter(is_known).count(),
            seen: HashSet::new(),
            steps: 0,
        }
    }

    fn run(mut self) -> Verdict {
        let mut path: Vec<Choice> = Vec::new();
        let mut fewest_left = (self.left, self.first_left());
        let mut others = self.candidates();
        while self.left > 0 {
            if self.steps > STEPS {
                return Verdict::Undecided;
            }
            match self.choose(&mut others) {
                Some(choice) => {
                    path.push(choice);
                    if self.left < fewest_left.0 {
                        fewest_left = (self.left, self.first_left());
                    }
                    others = self.candidates();
                }
                None => match path.pop() {
                    Some(choice) => others = self.undo(choice),
                    None => {
                        return fewest_left
                            .1
                            .map_or(Verdict::Linearizable, Verdict::Refused);
                    }
                },
            }
        }
        Verdict::Linearizable
    }

    /// Applies the first of these that leads to something new.
    fn choose(&mut self, others: &mut Vec<usize>) -> Option<Choice> {
        while let Some(chosen) = others.pop() {
            self.steps += 1;
            let operation = &self.operations[chosen];
            let Some(value) = operation.action.apply(self.value) else {
                continue;
            };
            if operation.end.is_none() && !self.is_told(chosen, value) {
                continue;
            }
            self.flip(chosen);
            if !self.seen.insert((self.done.clone(), value)) {
                self.flip(chosen);
                continue;
            }
            self.left -= usize::from(operation.end.is_some());
            let value_before = std::mem::replace(&mut self.value, value);
            let others = std::mem::take(others);
            return Some(Choice {
                chosen,
                value_before,
                others,
            });
        }
        None
    }

    fn undo(&mut self, choice: Choice) -> Vec<usize> {
        self.flip(choice.chosen);
        self.value = choice.value_before;
        self.left += usize::from(self.operations[choice.chosen].end.is_some());
        choice.others
    }

    /// Returns what can be the next operation; the one that ends first is the last.
    fn candidates(&self) -> Vec<usize> {
        let mut first_end = u64::MAX;
        let mut found = Vec::new();
        for (place, operation) in self.operations.iter().enumerate() {
            if operation.begin > first_end {
                break;
            }
            if !self.is_done(place) {
                first_end = first_end.min(end_of(operation));
                found.push(place);
            }
        }
        found.retain(|&place| self.operations[place].begin <= first_end);
        found.sort_by_key(|&place| std::cmp::Reverse(end_of(&self.operations[place])));
        found
    }

    /// Returns whether another operation tells next that this one took effect, and led to a value. If none does,
    /// it could as well do so later, or never.
    fn is_told(&self, chosen: usize, value: i64) -> bool {
        let others = self
            .candidates()
            .into_iter()
            .filter(|&place| place != chosen);
        let mut actions = others.map(|place| self.operations[place].action);
        actions.any(|action| action.tells(self.value, value))
    }

    /// Returns the operation that ends first of those that are left.
    fn first_left(&self) -> Option<Operation> {
        let left = (0..self.operations.len()).filter(|&place| !self.is_done(place));
        let left = left.map(|place| self.operations[place]);
        left.filter(|operation| operation.end.is_some())
            .min_by_key(end_of)
    }

    fn is_done(&self, place: usize) -> bool {
        self.done[place / 64] & (1 << (place % 64)) != 0
    }

    fn flip(&mut self, place: usize) {
        self.done[place / 64] ^= 1 << (place % 64);
    }
}

fn end_of(operation: &Operation) -> u64 {
    operation.end.unwrap_or(u64::MAX)
}
