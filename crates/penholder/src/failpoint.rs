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
#[path = "../../penholder-lock/src/failpoint/plan.rs"]
mod plan;

#[cfg(test)]
pub(crate) use plan::{VARIABLE, reached};
