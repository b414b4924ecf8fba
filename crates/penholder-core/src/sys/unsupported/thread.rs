//! Threads of this process.

pub(crate) fn wait_for_processor() {}
