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

/// Returns the text of the last error on this thread; `None` if there was none.
pub fn last_error() -> Option<String> {
    LAST.try_with(|last| last.borrow().clone()).ok().flatten()
}
