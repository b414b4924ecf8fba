//! The one platform switch. Every platform offers the same modules:
//!
//! | module | what |
//! | --- | --- |
//! | `clock` | the clock that all processes share |
//! | `file` | the lock file: open, identity, kernel locks |
//! | `filesystem` | is a folder on a network file system |
//! | `fork` | what happens in a forked child |
//! | `futex` | sleep on a shared word until woken |
//! | `locks` | who holds a lock, from the kernel's tables, only by looking |
//! | `map` | a file as shared memory |
//! | `openers` | which processes have files open |
//! | `process` | who we are, and whether another process lives |

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{
    clock, descriptor, file, filesystem, fork, futex, locks, map, openers, process,
};

#[cfg(all(target_os = "linux", feature = "failpoints"))]
pub(crate) use linux::signal;

#[cfg(not(target_os = "linux"))]
compile_error!(
    "penholder-lock runs on Linux only so far: Windows and macOS each need a module beside \
     `sys/linux` with the same signatures"
);
