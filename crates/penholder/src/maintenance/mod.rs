//! Checkpoint, vacuum and migration under the write lock; backup without it.

mod backup;

pub use backup::Checkpoint;
