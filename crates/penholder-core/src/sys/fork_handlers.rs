//! What to call around a fork.

/// What to call around a fork. All three run on the forking thread.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "some platforms have no forks")]
pub(crate) struct Handlers {
    pub(crate) before: fn(),
    pub(crate) in_parent: fn(),
    pub(crate) in_child: fn(),
}
