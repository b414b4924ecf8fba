//! Pinning processes to CPUs: the cost of waking a process depends on its CPU.

use std::error::Error;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Returns two different CPUs, or the same one twice if this process may run on
/// only one.
pub(crate) fn two() -> Result<(usize, usize), Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let first = cpus.next().ok_or("this process may run on no CPU")?;
    let second = cpus.next().unwrap_or(first);
    Ok((first, second))
}

/// Pins this process to a CPU. It must have only one thread.
pub(crate) fn pin(cpu: usize) -> Result<(), Box<dyn Error>> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}
