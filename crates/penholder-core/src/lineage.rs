//! The processes that this one descends from, as the kernel tells.
//!
//! A process whose parent ends gets another one: the nearest ancestor that adopts orphans
//! (`PR_SET_CHILD_SUBREAPER`, which `penholder run` does), or process 1. It stays a
//! descendant of those above its former parent that it was once proven to descend from.

use std::sync::{Mutex, PoisonError};

use crate::sys::process;

/// Identifies a process until the machine restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    /// As `/proc` shows it.
    pub(crate) pid: u32,
    /// In clock ticks since boot.
    pub(crate) start: u64,
}

impl ProcessId {
    /// Returns that of this process. Without `/proc` it has no start, and no process will
    /// believe it.
    pub(crate) fn own() -> Self {
        let (pid, start) = process::own_id().unwrap_or((std::process::id(), 0));
        Self { pid, start }
    }
}

/// Processes that were proven to be ancestors of this one.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    proven: Mutex<Vec<ProcessId>>,
}

impl Lineage {
    /// Returns whether this process descends from another one, or was once proven to.
    /// What was not proven is read, up to `outermost`.
    pub(crate) fn includes(&self, ancestor: ProcessId, outermost: ProcessId) -> bool {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.contains(&ancestor) {
            return true;
        }
        let found = process::own_ancestors((outermost.pid, outermost.start));
        for (pid, start) in found {
            let one = ProcessId { pid, start };
            if !proven.contains(&one) {
                proven.push(one);
            }
        }
        proven.contains(&ancestor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_an_ancestor_and_this_process_is_none() {
        let lineage = Lineage::default();
        let own = ProcessId::own();
        let (pid, start) = process::own_ancestors((0, 0))[0];
        let parent = ProcessId { pid, start };
        assert!(lineage.includes(parent, parent));
        let other = ProcessId {
            start: start + 1,
            ..parent
        };
        for stranger in [own, other, ProcessId { pid: 0, start: 0 }] {
            assert!(!lineage.includes(stranger, stranger), "{stranger:?}");
        }
        // What is proven stays so, wherever the reading ends.
        assert!(lineage.includes(parent, own));
    }
}
