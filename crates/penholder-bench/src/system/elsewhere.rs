//! Systems without a bare futex and without a way to pin a process to a CPU.

use std::error::Error;
use std::fs::File;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;

/// Fails.
pub(crate) fn two_cpus() -> Result<(usize, usize), Box<dyn Error>> {
    Err("this benchmark pins processes to CPUs, which only Linux does".into())
}

/// Fails.
pub(crate) fn pin(_cpu: usize) -> Result<(), Box<dyn Error>> {
    two_cpus().map(drop)
}

/// Fails.
pub(crate) fn wait(
    _word: &AtomicU32,
    _seen: u32,
    _longest: Duration,
) -> Result<(), Box<dyn Error>> {
    Err("the bare futex is only on Linux".into())
}

/// Fails.
pub(crate) fn wake(_word: &AtomicU32) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

/// Does nothing: a child whose parent has ended reads the end of its input.
pub(crate) fn end_with_parent() -> Result<(), Box<dyn Error>> {
    Ok(())
}

/// Asks for what penholder asks for each time that it takes the lock.
pub(crate) fn ask_for_facts(file: &File) -> Result<(), Box<dyn Error>> {
    file.metadata()?;
    Ok(())
}
