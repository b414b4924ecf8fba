//! The queue file `db.lockq`: shared memory of all processes that queue for a lock.
//!
//! The file is disposable. If it is deleted, truncated or filled with garbage, waiters
//! lose their place in the queue and nothing else; the next holder builds it again.
//!
//! | file | what |
//! | --- | --- |
//! | `layout` | where each word stands: an ABI, described in `docs/design.md`, "The queue file" |
//! | `mapped_file` | the head and the blocks of slots that this process has mapped |
//! | `slot` | this process's slot: the turnstile's memory, and what others read of us |
//! | `requests` | remote requests in the mailboxes of the slots |
//! | `waker` | waking a thread of this process that sleeps in its slot |
//! | `database` | what the processes that use a database share |
//! | `commit_count` | counting commits, and waking the processes that wait for one |
//! | `head` | the head of the file, for a process without a slot |
//! | `build` | building the file, and building it again |
//! | `header`, `fault` | the beginning of the file; why a file is not used |
//! | `trust` | whose queue file a process uses |
//! | `examination` | what one process examines on behalf of those that open the database at the same time |
//! | `counter`, `histogram`, `event`, `outsider`, `text` | what the file records |
//! | `snapshot` | the file as it was at one moment, for readers that only look |

mod build;
mod commit_count;
mod counter;
mod database;
mod event;
mod examination;
mod fault;
mod head;
mod header;
mod histogram;
mod layout;
mod mapped_file;
mod outsider;
mod requests;
mod slot;
mod snapshot;
mod text;
mod trust;
mod waker;

pub(crate) use build::rebuild;
pub use counter::BatchSize;
pub(crate) use counter::Counter;
pub(crate) use database::SeenFiles;
pub use database::{DatabaseWord, DatabaseWords};
pub(crate) use event::EventRecord;
pub use examination::Examined;
pub(crate) use examination::examine_once;
pub use fault::QueueFileFault;
pub(crate) use head::{NoHead, QueueFileHead};
pub use header::QueueFileHeader;
pub(crate) use histogram::{BUCKETS, Histogram, bucket_starts};
pub(crate) use layout::path_of;
pub(crate) use outsider::{OutsiderRecord, WRITE_LOCK};
pub use requests::{Combining, Withdrawal};
pub(crate) use requests::{OfferedRequest, SettledRequest};
pub(crate) use slot::{NoQueueFile, Slot};
pub(crate) use snapshot::{Occupant, QueueFileReading, QueueFileSnapshot};
pub(crate) use waker::Waker;

#[cfg(test)]
pub(crate) use histogram::bucket;
