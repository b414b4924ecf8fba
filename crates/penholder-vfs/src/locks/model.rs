//! All states that two connections can reach, one or both with a lease, calling what SQLite
//! calls in any order.
//!
//! | what is checked, in each state | why |
//! | --- | --- |
//! | what SQLite holds, is held | exclusion is the kernel's |
//! | what one connection holds exclusively, the other does not hold | so does SQLite rely on it |
//! | READ0, CKPT and RECOVER are never parked | checkpoints, recovery, restart of the WAL |
//! | after the end of a lease nothing is parked | another writer can begin |
//! | a connection that is alone moves a read mark after at most five attempts | no endless loop |
//!
//! Of states that are the same but for the numbers of the two read marks, or of two connections
//! that may both have a lease, one is visited.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use super::*;

/// The locks below, for two connections: what each has shared and exclusively.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Table {
    shared: [Set; 2],
    exclusive: [Set; 2],
}

struct Client<'a> {
    table: &'a mut Table,
    me: usize,
}

impl Below for Client<'_> {
    fn lock(&mut self, range: Range, mode: Mode) -> Code {
        let (bits, other, table) = (range.set(), 1 - self.me, &mut *self.table);
        let is_busy = match mode {
            Mode::Shared => table.exclusive[other] & bits != 0,
            Mode::Exclusive => (table.exclusive[other] | table.shared[other]) & bits != 0,
        };
        assert_eq!(table.exclusive[self.me] & bits, 0, "locked twice");
        if is_busy {
            return BUSY;
        }
        match mode {
            Mode::Shared => table.shared[self.me] |= bits,
            Mode::Exclusive => {
                assert_eq!(table.shared[self.me] & bits, 0, "shared, then exclusively");
                table.exclusive[self.me] |= bits;
            }
        }
        OK
    }

    fn unlock(&mut self, range: Range, mode: Mode) -> Code {
        let (bits, table) = (range.set(), &mut *self.table);
        let held = match mode {
            Mode::Shared => &mut table.shared[self.me],
            Mode::Exclusive => &mut table.exclusive[self.me],
        };
        assert_eq!(*held & bits, bits, "only what is held is unlocked");
        *held &= !bits;
        OK
    }
}

/// What SQLite holds of one connection: the locks that it may release.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Sqlite {
    shared: Set,
    exclusive: Set,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct World {
    table: Table,
    locks: [ShmLocks; 2],
    sqlite: [Sqlite; 2],
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Lock(Range, Mode),
    Unlock(Range, Mode),
    Begin,
    End,
}

/// What SQLite calls, with two of the four parkable marks: the others are like them.
fn steps() -> Vec<Step> {
    let range = |first, count| Range::new(first, count).unwrap();
    let mut ranges = vec![
        (range(0, 1), Mode::Exclusive),
        (range(1, 1), Mode::Exclusive),
        (range(2, 1), Mode::Shared),
        (range(1, 2), Mode::Exclusive),
        (range(4, 4), Mode::Exclusive),
        (range(3, 1), Mode::Exclusive),
    ];
    ranges.extend([3, 4, 5].map(|mark| (range(mark, 1), Mode::Shared)));
    ranges.extend([4, 5].map(|mark| (range(mark, 1), Mode::Exclusive)));
    let mut steps = vec![Step::Begin, Step::End];
    for (range, mode) in ranges {
        steps.extend([Step::Lock(range, mode), Step::Unlock(range, mode)]);
    }
    steps
}

impl World {
    /// Returns whether SQLite would take this step there.
    fn may_take(&self, me: usize, step: Step) -> bool {
        let sqlite = &self.sqlite[me];
        match step {
            Step::Begin | Step::End => true,
            Step::Lock(range, mode) => {
                let bits = range.set();
                let is_held = (sqlite.shared | sqlite.exclusive) & bits != 0;
                // SQLite holds at most one read mark at a time.
                let marks = bits & (PARKABLE | READ0_BIT);
                let has_mark = mode == Mode::Shared && marks != 0 && sqlite.shared != 0;
                !is_held && !has_mark
            }
            Step::Unlock(range, Mode::Shared) => range.set() & !sqlite.shared == 0,
            Step::Unlock(range, Mode::Exclusive) => range.set() & !sqlite.exclusive == 0,
        }
    }

    /// Returns the world after a step of a connection that it may take.
    fn after(&self, me: usize, step: Step) -> Self {
        let mut next = self.clone();
        let World {
            table,
            locks,
            sqlite,
        } = &mut next;
        let (below, locks, sqlite) = (&mut Client { table, me }, &mut locks[me], &mut sqlite[me]);
        match step {
            Step::Begin => locks.begin(),
            Step::End => {
                locks.end(below);
                assert!(!locks.is_parked());
            }
            Step::Lock(range, mode) => {
                if locks.lock(range, mode, below) == OK {
                    match mode {
                        Mode::Shared => sqlite.shared |= range.set(),
                        Mode::Exclusive => sqlite.exclusive |= range.set(),
                    }
                }
            }
            Step::Unlock(range, mode) => {
                match mode {
                    Mode::Shared => sqlite.shared &= !range.set(),
                    Mode::Exclusive => sqlite.exclusive &= !range.set(),
                }
                assert_eq!(locks.unlock(range, mode, below), OK);
            }
        }
        next
    }

    fn check(&self) {
        for me in 0..2 {
            let (locks, sqlite, other) = (&self.locks[me], &self.sqlite[me], 1 - me);
            let (shared, exclusive) = (self.table.shared[me], self.table.exclusive[me]);
            assert_eq!(sqlite.shared & !shared, 0);
            assert_eq!(sqlite.exclusive & !exclusive, 0);
            let theirs = &self.sqlite[other];
            assert_eq!(sqlite.exclusive & (theirs.exclusive | theirs.shared), 0);
            let parked = (shared | exclusive) & !(sqlite.shared | sqlite.exclusive);
            assert_eq!(parked & !(PARKABLE | WRITE_BIT), 0, "parked: {parked:08b}");
            assert_eq!(parked, locks.parked());
            let (believed, writes) = (locks.believed, sqlite.exclusive & WRITE_BIT);
            assert_eq!(believed & WRITE_BIT, writes);
        }
    }

    /// A connection that is alone moves a read mark after at most five attempts.
    fn check_marks_can_be_moved(&self, me: usize) {
        let is_alone = self.table.shared[1 - me] | self.table.exclusive[1 - me] == 0;
        let sqlite = &self.sqlite[me];
        if !is_alone || sqlite.shared | sqlite.exclusive != 0 {
            return;
        }
        let mut world = self.clone();
        let range = Range::new(4, 1).unwrap();
        let moved = (0..=DENIALS).any(|_| {
            let (locks, table) = (&mut world.locks[me], &mut world.table);
            locks.lock(range, Mode::Exclusive, &mut Client { table, me }) == OK
        });
        assert!(moved, "{self:?}");
    }
}

impl World {
    /// Returns the number of the state, the same for states that are the same but for names.
    fn number(&self, leases: [bool; 2]) -> u128 {
        let numbers = [[0, 1], [1, 0]].map(|order| {
            let plain = |set| set;
            self.packed(order, plain).min(self.packed(order, swapped))
        });
        if leases[0] == leases[1] {
            numbers[0].min(numbers[1])
        } else {
            numbers[0]
        }
    }

    /// Returns all that is in it, with the connections in this order.
    fn packed(&self, order: [usize; 2], renamed: impl Fn(Set) -> Set) -> u128 {
        let mut number = 0;
        for me in order {
            let (table, locks, sqlite) = (&self.table, &self.locks[me], &self.sqlite[me]);
            let sets = [
                table.shared[me],
                table.exclusive[me],
                locks.believed,
                locks.held,
                sqlite.shared,
                sqlite.exclusive,
            ];
            for set in sets {
                number = number << 8 | u128::from(renamed(set));
            }
            number = number << 8 | u128::from(locks.denied << 1 | u8::from(locks.is_leased));
        }
        number
    }
}

/// Returns the set with the first two parkable marks swapped.
fn swapped(set: Set) -> Set {
    let (one, other) = (set >> READ1 & 1, set >> (READ1 + 1) & 1);
    set & !(0b11 << READ1) | one << (READ1 + 1) | other << READ1
}

/// Hashes numbers of states: some million in a build without optimization.
#[derive(Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers");
    }

    fn write_u128(&mut self, number: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "a hash")]
        let halves = (number >> 64) as u64 ^ number as u64;
        self.0 = halves.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

/// Visits every state that can be reached with these connections taking steps.
fn explore(leases: [bool; 2]) -> usize {
    let steps = steps();
    let begin = World::default();
    let mut seen: HashSet<u128, BuildHasherDefault<Multiply>> = HashSet::default();
    seen.insert(begin.number(leases));
    let mut open = vec![begin];
    while let Some(world) = open.pop() {
        for me in 0..2 {
            for &step in &steps {
                let is_of_lease = matches!(step, Step::Begin | Step::End);
                if is_of_lease && !leases[me] || !world.may_take(me, step) {
                    continue;
                }
                let next = world.after(me, step);
                if seen.insert(next.number(leases)) {
                    next.check();
                    (0..2).for_each(|me| next.check_marks_can_be_moved(me));
                    open.push(next);
                }
            }
        }
    }
    seen.len()
}

#[test]
fn a_lease_next_to_a_connection_without_one() {
    let states = explore([true, false]);
    assert!(states > 1000, "{states}");
}

#[test]
fn two_leases() {
    let states = explore([true, true]);
    assert!(states > 1000, "{states}");
}

/// A VFS below that refuses every call.
struct Refusing;

impl Below for Refusing {
    fn lock(&mut self, _: Range, _: Mode) -> Code {
        3850
    }

    fn unlock(&mut self, _: Range, _: Mode) -> Code {
        2058
    }
}

#[test]
fn a_lock_that_fails_leaves_nothing() {
    let mut locks = ShmLocks::default();
    locks.begin();
    for range in [Range::WRITE, Range::single(READ1), Range::single(READ0)] {
        let mode = if range == Range::WRITE {
            Mode::Exclusive
        } else {
            Mode::Shared
        };
        assert_eq!(locks.lock(range, mode, &mut Refusing), 3850);
        assert_eq!((locks.held, locks.believed), (0, 0));
    }
}

#[test]
fn what_cannot_be_released_stays_held() {
    let mut table = Table::default();
    let mut locks = ShmLocks::default();
    locks.begin();
    let mut below = Client {
        table: &mut table,
        me: 0,
    };
    assert_eq!(locks.lock(Range::WRITE, Mode::Exclusive, &mut below), OK);
    assert_eq!(locks.unlock(Range::WRITE, Mode::Exclusive, &mut below), OK);
    locks.end(&mut Refusing);
    assert!(locks.is_write_parked());
    // A later end succeeds.
    locks.end(&mut below);
    assert!(!locks.is_parked());
    assert_eq!(table, Table::default());
}
