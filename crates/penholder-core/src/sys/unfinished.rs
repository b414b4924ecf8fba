//! The names of files that are not complete yet, or not used any more.

/// How the name of a queue file begins before it is complete, and on Windows after it was replaced, where
/// a file without a name cannot be. It is left by a process that is killed at that moment, and nothing
/// uses it.
pub const UNFINISHED_QUEUE_FILE: &str = ".penholder-unfinished-";
