//! Why this thread could last not open a database or take the write lock: SQLite's methods return
//! only a number.

use std::cell::RefCell;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

pub(crate) fn set(text: String) {
    // A thread that ends has no thread-locals any more.
    let _ = LAST.try_with(|last| *last.borrow_mut() = Some(text));
}

/// Forgets the last error: what fails next may be SQLite's own error, which has no text here.
pub(crate) fn clear() {
    let _ = LAST.try_with(|last| *last.borrow_mut() = None);
}

/// Returns the text of the last error on this thread; `None` if there was none since it last began
/// to open a database.
pub fn last_error() -> Option<String> {
    LAST.try_with(|last| last.borrow().clone()).ok().flatten()
}
