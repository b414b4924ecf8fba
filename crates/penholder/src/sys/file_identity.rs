//! Which file it is.

use std::time::SystemTime;

/// Which file it is: two names of one file have the same, and two files never have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    /// The file system `ReFS` has 128 bits.
    pub(crate) inode: u128,
}

/// Which file it is, and when it was created: the number of a file that has no name and is not
/// open any more is used again for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BornFile {
    pub(crate) id: FileId,
    /// `None` if the file system does not tell.
    pub(crate) born: Option<SystemTime>,
}

impl BornFile {
    /// Returns whether both are the same file, also if one of them may be gone.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let is_born_later = self
            .born
            .zip(other.born)
            .is_some_and(|(one, two)| one != two);
        self.id == other.id && !is_born_later
    }
}
