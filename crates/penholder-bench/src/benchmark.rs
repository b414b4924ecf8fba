//! The benchmarks, one file for each subcommand.

pub(crate) mod compare;
pub(crate) mod execute;
pub(crate) mod handoff;
pub(crate) mod import;
pub(crate) mod lock;
pub(crate) mod outsider;
pub(crate) mod readers;
pub(crate) mod scale;
pub(crate) mod threads;
pub(crate) mod waiting;
pub(crate) mod wake;
pub(crate) mod watching;
