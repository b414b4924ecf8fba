//! Locking a mutex of this crate.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use penholder_core::Deadline;

/// The pause between two attempts to lock a mutex that another thread holds while it waits.
const PAUSE: Duration = Duration::from_millis(1);

/// Locks a mutex that nothing panics with, so that what it guards is whole even if a panic
/// elsewhere poisoned it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a mutex that other threads hold while they wait for something; `None` if the deadline
/// passes before.
pub(crate) fn lock_until<'a, T>(
    mutex: &'a Mutex<T>,
    deadline: &Deadline,
) -> Option<MutexGuard<'a, T>> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if deadline.is_over() => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE.min(deadline.remaining())),
        }
    }
}
