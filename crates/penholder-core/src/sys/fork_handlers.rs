//! What to call around a fork.

/// What to call around a fork. All three run on the forking thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handlers {
    pub(crate) before: fn(),
    pub(crate) in_parent: fn(),
    pub(crate) in_child: fn(),
}
