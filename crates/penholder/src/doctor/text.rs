//! Names, sizes and lists as text for people.

use std::fmt;
use std::path::Path;

use penholder_core::shown_name;

/// Returns the name of a file without its directory, with control characters escaped.
pub(super) fn name_of(path: &Path) -> String {
    shown_name(path).to_string()
}

/// Formats a number of bytes: `180 bytes`, `4.2 kB`, `32 MB`.
pub(super) fn size(bytes: u64) -> String {
    let unit = |unit: u64, name| match bytes / unit {
        whole @ 0..10 => format!("{whole}.{} {name}", bytes % unit * 10 / unit),
        whole => format!("{whole} {name}"),
    };
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => unit(1_000, "kB"),
        1_000_000..1_000_000_000 => unit(1_000_000, "MB"),
        _ => unit(1_000_000_000, "GB"),
    }
}

/// Lists the first few, and says how many more there are.
pub(super) fn listed(all: &[impl fmt::Display]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    if all.len() > SHOWN {
        text.push(format!("{} more", all.len() - SHOWN));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_read_well() {
        for (bytes, text) in [
            (7, "7 bytes"),
            (4_200, "4.2 kB"),
            (32_000_000, "32 MB"),
            (1_000_000_000, "1.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(listed(&[1, 2]), "1, 2");
        assert_eq!(listed(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5, 2 more");
        assert_eq!(name_of(Path::new("/a/b\n\x1b.db")), "b\\n\\u{1b}.db");
    }
}
