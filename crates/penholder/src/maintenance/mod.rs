//! Checkpoint, vacuum, migration and restore under the write lock; backup without it.

mod backup;
mod checkpoint;
mod migrate;
mod restore;
mod vacuum;

pub use checkpoint::Checkpoint;
pub use migrate::Migrated;
#[cfg(feature = "tokio")]
pub(crate) use {checkpoint::run_checkpoint, migrate::Migration, vacuum::run_vacuum};
