//! The platform layer, and the only platform switch. It imports nothing from the
//! rest of the crate.
//!
//! Every platform directory has the same modules with the same signatures:
//!
//! | module | purpose |
//! | --- | --- |
//! | `clock` | the clock that all processes share |
//! | `descriptor` | open files that a forked child must close |
//! | `file` | the lock file: open, identity, kernel locks |
//! | `filesystem` | whether a directory is on a network file system |
//! | `fork` | what happens in a forked child |
//! | `futex` | sleep on a shared word until woken |
//! | `locks` | which process holds a lock, from the kernel's tables, without taking it |
//! | `map` | a file as shared memory |
//! | `mounts` | whether a file is mounted by itself |
//! | `openers` | which processes have files open |
//! | `parking` | parking threads of this process, and waking many of them at once |
//! | `process` | this process, and whether another one is alive |
//! | `user` | this user, names of users, members of groups |
//! | `signal` | what failpoints of tests do to their process |
//!
//! The parts that Unix systems share are built on three more modules of a platform: `process_table` and
//! `process_files` (the processes, and what they have open), and `advice` (what the kernel is told of mapped
//! memory).
//!
//! `unix` has what all Unix systems share, `bsd` what macOS does in another way than Linux. A platform
//! directory takes from both what it does not do in its own way. `macos_rules` is a double of macOS on
//! Linux, which runs `bsd`: `RUSTFLAGS='--cfg penholder_macos_rules'` selects it.
//!
//! `portable` needs nothing but `std`. `unsupported` compiles for every target, and each of its operations returns an
//! error that says so. `RUSTFLAGS='--cfg penholder_unsupported'` selects it on
//! Linux too, for the test of these errors.

#![cfg_attr(
    any(
        not(any(target_os = "linux", target_os = "macos", windows)),
        penholder_unsupported
    ),
    allow(
        dead_code,
        reason = "the unsupported platform constructs none of the answers"
    )
)]

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32"))]
compile_error!(
    "penholder needs file offsets of 64 bits, for locks that no text ever reaches: use a musl target on \
     32-bit systems"
);

pub(crate) mod file_change;
mod file_facts;
mod file_id;
mod fork_handlers;
mod identity;
mod lock_seen;
mod open_file;
pub(crate) mod ownership;
pub(crate) mod process_state;
#[cfg(feature = "failpoints")]
mod test_signal;
pub(crate) mod unfinished;

// Which platform this is. `macos_rules` is built on Linux, from parts of Linux and of macOS.
#[cfg(all(
    any(target_os = "macos", penholder_macos_rules),
    not(penholder_unsupported)
))]
mod bsd;
#[cfg(all(target_os = "linux", not(penholder_unsupported)))]
mod linux;
#[cfg(all(target_os = "macos", not(penholder_unsupported)))]
mod macos;
#[cfg(all(target_os = "linux", penholder_macos_rules, not(penholder_unsupported)))]
mod macos_rules;
#[cfg(any(not(target_os = "linux"), penholder_unsupported, penholder_macos_rules))]
mod portable;
#[cfg(all(
    any(target_os = "linux", target_os = "macos"),
    not(penholder_unsupported)
))]
mod unix;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos", windows)),
    penholder_unsupported
))]
mod unsupported;
#[cfg(all(windows, not(penholder_unsupported)))]
mod windows;

#[cfg(all(
    target_os = "linux",
    not(any(penholder_unsupported, penholder_macos_rules))
))]
use linux as platform;
#[cfg(all(target_os = "macos", not(penholder_unsupported)))]
use macos as platform;
#[cfg(all(target_os = "linux", penholder_macos_rules, not(penholder_unsupported)))]
use macos_rules as platform;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos", windows)),
    penholder_unsupported
))]
use unsupported as platform;
#[cfg(all(windows, not(penholder_unsupported)))]
use windows as platform;

#[cfg(all(
    any(target_os = "linux", target_os = "macos"),
    not(penholder_unsupported)
))]
use platform::{advice, process_files, process_table};
pub(crate) use platform::{
    clock, descriptor, file, filesystem, fork, futex, locks, map, mounts, openers, parking,
    process, user,
};

#[cfg(feature = "failpoints")]
pub(crate) use platform::signal;
