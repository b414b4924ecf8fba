//! Processes kept on one processor each: where a process runs decides what it
//! costs to wake it.

use std::error::Error;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two different processors, if this process may run on two.
pub(crate) fn two() -> Result<(usize, usize), Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let first = cpus.next().ok_or("no processor")?;
    let second = cpus.next().unwrap_or(first);
    Ok((first, second))
}

/// Keeps this process, which has one thread so far, on one processor.
pub(crate) fn pin(cpu: usize) -> Result<(), Box<dyn Error>> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}
