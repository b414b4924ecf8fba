//! What can be seen of a lock without taking it.

mod counters;
mod event;
mod holder;
mod leases;
mod lock_status;
mod openers;
mod percentiles;
mod process;
mod sizes;
mod snapshot;
mod sqlite_holder;
mod waiter;

pub use crate::sys::process_state::ProcessState;
pub use counters::Counters;
pub use event::{Event, EventKind};
pub use holder::Holder;
pub use leases::Leases;
pub use lock_status::{LockState, QueueFileState, Status};
pub use openers::{Opened, Opener, OpenerElsewhere, Openers};
pub use percentiles::Percentiles;
pub use process::{Process, ProcessIdentity};
pub use sizes::Sizes;
pub use snapshot::{EventsSince, Snapshot};
pub use sqlite_holder::{SqliteAccess, SqliteHolder, SqliteLock};
pub use waiter::Waiter;
