//! Steps of the protocols at which a test kills or stops its process: those of
//! `penholder-core`, which are nothing without its feature `failpoints`.

macro_rules! failpoint {
    ($name:literal) => {
        penholder_core::failpoint::reached($name);
    };
}

#[cfg(test)]
pub(crate) use penholder_core::failpoint::VARIABLE;
