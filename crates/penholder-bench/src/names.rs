//! The names of values on the command line and in reports.

use clap::ValueEnum;

/// The name by which the command line knows a value.
pub(crate) fn name<T: ValueEnum>(value: &T) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
