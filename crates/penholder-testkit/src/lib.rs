//! Test support for the crates of this workspace. It is not published.
//!
//! | module | what a test gets from it |
//! | --- | --- |
//! | [`peer`] | helper processes: the test binary, started again in a role |
//! | [`wait`] | bounded waits and measured times |
//! | [`requirement`] | what a test needs from the machine, and a visible skip without it |
//! | [`lock_fixture`] | processes that take the lock on command, a counter that shows overlaps |
//!
//! Unit tests inside `penholder-lock` and `penholder` must not pass this crate's types
//! to the crate under test: a unit test is compiled into a second copy of its crate,
//! and the types of the two copies differ.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed assumption of a test ends the test with a panic"
)]

pub mod lock_fixture;
pub mod peer;
pub mod requirement;
pub mod wait;
