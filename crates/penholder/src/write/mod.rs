//! One write from the call to the acknowledgement: lock, work, commit, release.
//!
//! | step | if it fails, or if the process dies here |
//! | --- | --- |
//! | take the write lock | nothing happened |
//! | `BEGIN IMMEDIATE` | nothing happened; busy means a writer without the lock |
//! | run | rolled back, by us or by the next process that opens the database |
//! | `COMMIT` | done, or rolled back; never half |
//! | release | the write is committed; the kernel releases the lock of a dead process |
//! | acknowledge | the caller never learns of a committed write |
//!
//! | file | what |
//! | --- | --- |
//! | `resources` | what a process keeps for its writes; what one write needs to know |
//! | `turn` | the lock, and what was seen when it was taken |
//! | `session` | the write lock and the writing connection, together |
//! | `transaction` | what a closure writes in |

mod resources;
mod session;
mod transaction;
mod turn;

pub(crate) use resources::{CallSite, WriteContext, WriteResources};
pub(crate) use session::{Session, say_which_failed};
pub use transaction::Transaction;
pub(crate) use turn::WriteTurn;
