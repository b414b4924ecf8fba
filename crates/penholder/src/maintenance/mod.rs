//! Checkpoint, vacuum and migration under the write lock; backup without it.

mod backup;
mod checkpoint;
mod migrate;
mod vacuum;

pub use checkpoint::Checkpoint;
