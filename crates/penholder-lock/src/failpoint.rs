//! Named steps of the protocol at which a test kills or stops its process.
//!
//! In a real build there is nothing of them.

/// A step: nothing, or in the unit tests [`reached`].
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(test)]
        $crate::failpoint::reached($name);
    };
}

#[cfg(test)]
mod plan;

#[cfg(test)]
pub(crate) use plan::{VARIABLE, reached};
