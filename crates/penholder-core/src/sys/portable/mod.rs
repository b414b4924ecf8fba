//! What platforms without forks share: it needs nothing but `std`.

pub(crate) mod descriptor;
pub(crate) mod fork;
pub(crate) mod parking;
