//! Which names a database may have.

/// How long the path of a file of SQLite may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathLimit {
    pub(crate) longest: usize,
    /// What the length is counted in.
    pub(crate) unit: &'static str,
    /// What to do about a longer one.
    pub(crate) next: &'static str,
}

/// Why no database can have a name, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameRefusal {
    pub(crate) why: String,
    pub(crate) next: &'static str,
}
