//! Other platforms: there are no forks, or nobody can be told of them.

/// A function that does not unwind.
type Handler = extern "C" fn();

/// Refuses: without it, a child could use what its parent has open.
pub(crate) fn watch_forks(_before: Handler, _in_parent: Handler, _in_child: Handler) -> bool {
    false
}
