//! Working under an ancestor's hold.
//!
//! `penholder run DB -- CMD` holds the lock while CMD runs. A process inside CMD that
//! uses penholder must not wait for its own ancestor: the ancestor sets an environment
//! variable that names the lock file and the chain of processes that hold it, the
//! outermost first. It is believed only while the kernel says that the outermost process
//! still holds the lock, and that this process descends from it: every process of the same
//! user can find out what the variable would be.
//!
//! Several processes inside CMD exclude one another by a lock on one byte of the hold
//! file (`hold_file`), far past its end: byte `LEVEL_FIRST_BYTE + level`, where the level is the number of
//! ancestors below the outermost. So a `penholder run` inside a `penholder run` takes the
//! byte of level 0, and the processes inside it take that of level 1.
//!
//! Where the kernel does not tell which process holds a lock, the processes that lend their holds lock
//! further bytes (`lender`).
//!
//! The variable's value is `DEV-INO=PID@START/PID@START…` for each lock file, separated
//! by `;`.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::hold_file;
use crate::lender;
use crate::lineage::{Lineage, ProcessId};
use crate::sys::file::{self, FileId};
use crate::sys::locks::{self, TableName};
use crate::sys::process;

/// The name of the environment variable.
pub(crate) const VARIABLE: &str = "PENHOLDER_HOLD";
/// The byte that a process directly under the outermost holder locks.
const LEVEL_FIRST_BYTE: i64 = 1 << 62;
/// The longest chain that is believed: how many processes can hold a lock, one under the
/// other.
pub(crate) const DEPTH_MAX: usize = 256;

/// The ancestors that hold one lock file for this process, the outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ancestors {
    pub(crate) file: FileId,
    pub(crate) chain: Vec<ProcessId>,
}

/// How many ancestors below the outermost holder a process works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(usize);

impl Level {
    /// Whether a process of this level would make the chain longer than a child believes.
    pub(crate) fn is_too_deep(self) -> bool {
        // The ancestors, from the outermost to that of this level, and the process itself.
        self.0 + 2 > DEPTH_MAX
    }

    /// Returns the byte that a process of this level locks.
    pub(crate) fn byte(self) -> i64 {
        LEVEL_FIRST_BYTE + i64::try_from(self.0).unwrap_or(0)
    }

    /// Returns whether a process holds the byte of a deeper level.
    ///
    /// # Errors
    ///
    /// Those of `fcntl(2)`.
    pub(crate) fn is_busy_below(self, file: &File) -> io::Result<bool> {
        let (first, length) = (self.byte() + 1, Self(DEPTH_MAX).byte() - LEVEL_FIRST_BYTE);
        file::are_bytes_locked(file, first, length)
    }
}

impl Ancestors {
    /// Reads the environment variable of this process.
    pub(crate) fn of_this_process() -> Vec<Self> {
        std::env::var(VARIABLE)
            .map(|text| parse(&text))
            .unwrap_or_default()
    }

    /// Returns the level at which this process works, if the outermost process is alive,
    /// an ancestor, and holds the lock. One in between that has died or released its byte,
    /// or is no ancestor, does not count.
    pub(crate) fn level(&self, path: &Path, name: &TableName, lineage: &Lineage) -> Option<Level> {
        let (&outermost, between) = self.chain.split_first()?;
        let is_ancestor = |one: ProcessId| one.is_alive() && lineage.includes(one, outermost);
        if !is_ancestor(outermost) || !outermost.holds_flock(path, name) {
            return None;
        }
        if between.is_empty() {
            return Some(Level(0));
        }
        if !locks::TELL_WHO_HOLDS {
            let lends = |&level: &usize| {
                let one = between[level - 1];
                is_ancestor(one) && lender::lends(one, path)
            };
            let level = (1..=between.len()).rev().find(lends);
            return Some(Level(level.unwrap_or(0)));
        }
        let path = hold_file::path_of(path);
        // None before a process has worked under a hold.
        let name = locks::table_name(&path);
        let level = name.and_then(|name| {
            (1..=between.len()).rev().find(|&level| {
                let one = between[level - 1];
                is_ancestor(one) && one.holds_byte(&path, &name, Level(level - 1).byte())
            })
        });
        Some(Level(level.unwrap_or(0)))
    }

    /// Returns the chain for the children of a process that works at `level`.
    pub(crate) fn chain_below(&self, level: Level, own: ProcessId) -> Vec<ProcessId> {
        let mut chain: Vec<_> = self.chain.iter().take(level.0 + 1).copied().collect();
        chain.push(own);
        chain
    }
}

impl ProcessId {
    fn is_alive(self) -> bool {
        process::lives(self.pid, self.start)
    }

    fn holds_flock(self, path: &Path, name: &TableName) -> bool {
        if !locks::TELL_WHO_HOLDS {
            return lender::lends(self, path);
        }
        locks::holds_flock(self.pid, path, name).unwrap_or_else(|| {
            // Its descriptors are hidden: ask which process took the lock.
            let taker = Some(self.pid);
            locks::flock_on(name) == locks::Seen::Held { taker }
        })
    }

    fn holds_byte(self, path: &Path, name: &TableName, byte: i64) -> bool {
        let byte = u64::try_from(byte).unwrap_or(0);
        locks::holds_byte(self.pid, path, name, byte) == Some(true)
    }
}

/// Formats the variable's value for a child: `ancestors`, with those of `file` replaced.
pub(crate) fn value(ancestors: &[Ancestors], file: FileId, chain: &[ProcessId]) -> String {
    let own = Ancestors {
        file,
        chain: chain.to_vec(),
    };
    let others = ancestors.iter().filter(|one| one.file != file);
    let parts: Vec<String> = others.chain([&own]).map(format).collect();
    parts.join(";")
}

fn format(ancestors: &Ancestors) -> String {
    let chain: Vec<_> = ancestors
        .chain
        .iter()
        .map(|one| format!("{}@{}", one.pid, one.start))
        .collect();
    format!(
        "{}-{}={}",
        ancestors.file.dev,
        ancestors.file.ino,
        chain.join("/")
    )
}

/// Parses the variable's value; a part that is not valid is left out.
pub(crate) fn parse(text: &str) -> Vec<Ancestors> {
    text.split(';').filter_map(parse_one).collect()
}

fn parse_one(text: &str) -> Option<Ancestors> {
    let (file, chain) = text.split_once('=')?;
    let (dev, ino) = file.split_once('-')?;
    let chain: Option<Vec<_>> = chain
        .split('/')
        .map(|one| {
            let (pid, start) = one.split_once('@')?;
            Some(ProcessId {
                pid: pid.parse().ok()?,
                start: start.parse().ok()?,
            })
        })
        .collect();
    let file = FileId {
        dev: dev.parse().ok()?,
        ino: ino.parse().ok()?,
    };
    chain
        .filter(|chain| chain.len() <= DEPTH_MAX)
        .map(|chain| Ancestors { file, chain })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the deepest holder gives its child is believed, and one more holder is refused.
    #[test]
    fn the_deepest_chain_is_believed() {
        let file = FileId { dev: 1, ino: 2 };
        let id = ProcessId { pid: 1, start: 2 };
        let chain = vec![id; DEPTH_MAX - 1];
        let ancestors = Ancestors { file, chain };
        let level = Level(DEPTH_MAX - 2);
        assert!(!level.is_too_deep() && Level(DEPTH_MAX - 1).is_too_deep());
        let below = ancestors.chain_below(level, id);
        assert_eq!(below.len(), DEPTH_MAX);
        assert_eq!(parse(&value(&[], file, &below))[0].chain, below);
        let more = vec![id; DEPTH_MAX + 1];
        assert_eq!(parse(&value(&[], file, &more)), []);
    }

    #[test]
    fn formatted_value_parses_to_the_same_ancestors() {
        let one = FileId { dev: 65024, ino: 9 };
        let other = FileId { dev: 1, ino: 2 };
        let id = |pid| ProcessId { pid, start: 5 };
        let first = value(&[], one, &[id(10)]);
        assert_eq!(first, "65024-9=10@5");
        let both = value(&parse(&first), other, &[id(11), id(12)]);
        assert_eq!(
            parse(&both),
            [
                Ancestors {
                    file: one,
                    chain: vec![id(10)]
                },
                Ancestors {
                    file: other,
                    chain: vec![id(11), id(12)]
                },
            ]
        );
        assert_eq!(parse("x=1@1;65024-9=1@;;=;1-1=1@2"), parse("1-1=1@2"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
