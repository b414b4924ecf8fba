//! Linux.

use std::error::Error;
use std::fs::File;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::futex::{self, Flags, Timespec};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Returns two different CPUs, or the same one twice if this process may run on
/// only one.
pub(crate) fn two_cpus() -> Result<(usize, usize), Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let first = cpus.next().ok_or("this process may run on no CPU")?;
    let second = cpus.next().unwrap_or(first);
    Ok((first, second))
}

/// Pins this process to a CPU, because the cost of waking it depends on that. It must have only one
/// thread.
pub(crate) fn pin(cpu: usize) -> Result<(), Box<dyn Error>> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}

/// Sleeps while a word that processes share is `seen`.
pub(crate) fn wait(word: &AtomicU32, seen: u32, longest: Duration) -> Result<(), Box<dyn Error>> {
    let longest = Timespec::try_from(longest)?;
    match futex::wait(word, Flags::empty(), seen, Some(&longest)) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Wakes one process that sleeps on a word.
pub(crate) fn wake(word: &AtomicU32) -> Result<(), Errno> {
    futex::wake(word, Flags::empty(), 1).map(drop)
}

/// Makes the kernel kill this child process when the main thread of its parent ends.
///
/// A child whose parent has ended before this call reads the end of its input.
pub(crate) fn end_with_parent() -> Result<(), Box<dyn Error>> {
    let signal = Some(Signal::KILL);
    Ok(rustix::process::set_parent_process_death_signal(signal)?)
}

/// Asks for what penholder asks for each time that it takes the lock.
pub(crate) fn ask_for_facts(file: &File) -> Result<(), Box<dyn Error>> {
    let wanted = StatxFlags::NLINK | StatxFlags::SIZE;
    statx(file, "", AtFlags::EMPTY_PATH, wanted)?;
    Ok(())
}
