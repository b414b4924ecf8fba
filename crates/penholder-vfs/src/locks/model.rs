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

use std::collections::{HashSet, VecDeque};

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
    /// Returns the world after a step of a connection; `None` if SQLite would not take it there.
    fn after(&self, me: usize, step: Step) -> Option<Self> {
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
                let bits = range.set();
                let is_held = (sqlite.shared | sqlite.exclusive) & bits != 0;
                // SQLite holds at most one read mark at a time.
                let marks = bits & (PARKABLE | READ0_BIT);
                let has_mark = mode == Mode::Shared && marks != 0 && sqlite.shared != 0;
                if is_held || has_mark {
                    return None;
                }
                let code = locks.lock(range, mode, below);
                if code == OK {
                    match mode {
                        Mode::Shared => sqlite.shared |= bits,
                        Mode::Exclusive => sqlite.exclusive |= bits,
                    }
                }
            }
            Step::Unlock(range, mode) => {
                let bits = range.set();
                let held = match mode {
                    Mode::Shared => &mut sqlite.shared,
                    Mode::Exclusive => &mut sqlite.exclusive,
                };
                if *held & bits != bits {
                    return None;
                }
                *held &= !bits;
                assert_eq!(locks.unlock(range, mode, below), OK);
            }
        }
        Some(next)
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
    fn check_marks_can_be_moved(&self) {
        let is_alone = self.table.shared[1] | self.table.exclusive[1] == 0;
        let sqlite = &self.sqlite[0];
        if !is_alone || sqlite.shared | sqlite.exclusive != 0 {
            return;
        }
        let mut world = self.clone();
        let range = Range::new(4, 1).unwrap();
        let moved = (0..=DENIALS).any(|_| {
            let (locks, table) = (&mut world.locks[0], &mut world.table);
            locks.lock(range, Mode::Exclusive, &mut Client { table, me: 0 }) == OK
        });
        assert!(moved, "{self:?}");
    }
}

/// Visits every state that can be reached with these connections taking steps.
fn explore(leases: [bool; 2]) -> usize {
    let steps = steps();
    let mut seen = HashSet::from([World::default()]);
    let mut open = VecDeque::from([World::default()]);
    while let Some(world) = open.pop_front() {
        for me in 0..2 {
            for &step in &steps {
                let is_of_lease = matches!(step, Step::Begin | Step::End);
                if is_of_lease && !leases[me] {
                    continue;
                }
                let Some(next) = world.after(me, step) else {
                    continue;
                };
                if seen.contains(&next) {
                    continue;
                }
                next.check();
                next.check_marks_can_be_moved();
                seen.insert(next.clone());
                open.push_back(next);
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
