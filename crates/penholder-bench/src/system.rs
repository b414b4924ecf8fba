//! What a benchmark asks of Linux. On other systems the benchmarks that need it end with an error; all
//! figures are from Linux.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{ask_for_facts, end_with_parent, pin, two_cpus, wait, wake};

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{ask_for_facts, end_with_parent, pin, two_cpus, wait, wake};
