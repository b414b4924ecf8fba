#![expect(unsafe_code, reason = "rustix does not wrap sched_setscheduler")]
//! Threads of this process.

/// Has the calling thread never take a processor from another one when it wakes up. If the system
/// refuses, it may.
pub(crate) fn wait_for_processor() {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives for the call, which concerns the calling thread only.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
}
