//! Group commit within a process: many threads and tasks, one transaction.
//!
//! Writers queue, and the first one leads: it takes the write lock, runs the queued writes in
//! the order in which they came, commits once, and tells each writer how its write went. Then
//! the next one leads. (`LevelDB`'s writer queue, `DBImpl::Write`, is the model.) The queue is
//! `penholder_core::fair_queue`; its table says what becomes of a waiting write.
//!
//! | file | what |
//! | --- | --- |
//! | `work` | what a writer wants done, and what it comes to |
//! | `pending_write` | a write in the queue, and in the hands of the leader |
//! | `queue` | the writers of one process, the lead |
//! | `budget` | how far one batch may grow |
//! | `isolation` | how the writes of one transaction are kept apart |
//! | `batch` | one transaction for the queued writes |
//! | `submit` | queuing a write of a thread and waiting for its result |
//! | `closure` | running a closure that borrows from its caller's stack, with the proof |

mod batch;
mod budget;
mod closure;
mod isolation;
mod pending_write;
mod queue;
mod submit;
mod work;

pub(crate) use batch::run_queued;
pub(crate) use budget::Budget;
pub(crate) use closure::run_closure;
#[cfg(feature = "tokio")]
pub(crate) use closure::{closure_outcome, run_once};
pub(crate) use isolation::{Caution, Isolation};
pub(crate) use pending_write::{ClaimedWrite, Member, PendingWrite};
pub(crate) use queue::{Group, GroupContext, Lead};
pub(crate) use submit::{Begun, Submission, run_data};
pub(crate) use work::{Work, WriteResult, only};
