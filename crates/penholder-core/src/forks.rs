//! What happens to attachments and descriptors when this process forks.

use std::cell::RefCell;
use std::io;
use std::sync::MutexGuard;

use crate::attachment::{self, Entry};
use crate::keeper;
use crate::sys::descriptor;
use crate::sys::fork;

/// Makes forked children distinguishable from their parents from now on.
pub(crate) fn watch() -> io::Result<()> {
    fork::install(&fork::Handlers {
        before,
        in_parent,
        in_child,
    })
}

/// What the forking thread holds across the fork.
type Held = (
    MutexGuard<'static, Vec<Entry>>,
    descriptor::DescriptorsGuard,
);

thread_local! {
    static ACROSS_FORK: RefCell<Option<Held>> = const { RefCell::new(None) };
}

fn before() {
    // If the thread is exiting, its thread-local is destroyed already. Its child then only
    // keeps the descriptors open.
    let _ = ACROSS_FORK.try_with(|held| {
        let entries = attachment::lock_entries();
        attachment::end_leases(&entries);
        *held.borrow_mut() = Some((entries, descriptor::lock()));
    });
}

fn in_parent() {
    let _ = ACROSS_FORK.try_with(|held| held.borrow_mut().take());
}

/// The child does not hold what its parent holds: it closes the descriptors without
/// unlocking, and forgets the attachments. It attaches again on first use.
fn in_child() {
    let _ = ACROSS_FORK.try_with(|held| {
        if let Some((mut entries, mut descriptors)) = held.borrow_mut().take() {
            descriptors.close_inherited();
            attachment::forget(&mut entries);
            keeper::forget();
        }
    });
}
