//! Names of files. Windows has more than one for each, and takes some for something else.
//!
//! | name | what Windows does | what is done here |
//! | --- | --- | --- |
//! | `X.DB`, `PROGRA~1\x.db`, a junction, a drive of `subst` | finds the same file | the name that the file system has is used |
//! | `\\?\C:\x.db` | takes it as it is | written as `C:\x.db`, which SQLite takes for a local path |
//! | `\\server\share\x.db` | goes over the network | refused, as all network file systems are, in another place |
//! | `NUL`, `aux.db` | opens a device, before Windows 11 with any extension | refused |
//! | `x.db:stream` | opens another stream of the file `x.db` | refused |
//! | `x.db.`, `x.db ` | opens `x.db` | refused |
//! | `\\.\C:`, `\\?\Volume{…}\x.db` | opens a device, or a volume without a letter | refused |

use std::os::windows::ffi::OsStrExt;
use std::path::{Component, Path, Prefix};

use crate::sys::name::{NameRefusal, PathLimit};

/// `MAX_PATH` without the zero at the end. SQLite does not ask for more.
pub(crate) const PATH_LIMIT: PathLimit = PathLimit {
    longest: 259,
    unit: "characters",
    next: "move it to a directory with a shorter path",
};

/// What the names of devices begin with, up to the first dot.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// Those of devices that have a number.
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// What to do about a name that is no good.
const GIVE_FILE: &str = "give the path of a file on a local disk";
const RENAME: &str = "choose another name";

/// Returns the length of a path, as Windows limits it.
pub(crate) fn path_length(path: &Path) -> usize {
    path.as_os_str().encode_wide().count()
}

/// Returns why no database can have this path.
pub(crate) fn refuse_name(path: &Path) -> Option<NameRefusal> {
    let refuse = |why: String, next| Some(NameRefusal { why, next });
    if path.to_str().is_none() {
        return refuse("its path is not valid Unicode".to_owned(), RENAME);
    }
    for component in path.components() {
        let name = match component {
            Component::Prefix(prefix) if is_device(prefix.kind()) => {
                let why = "it names a device, or a volume without a letter".to_owned();
                return refuse(why, GIVE_FILE);
            }
            Component::Normal(name) => name.to_string_lossy(),
            _ => continue,
        };
        if name.contains(':') {
            let why = format!("{name:?} names an alternate data stream");
            return refuse(why, "give the path of a file of its own, without a colon");
        }
        if is_reserved(&name) {
            let why = format!("{name:?} is a name that Windows reserves for a device");
            return refuse(why, RENAME);
        }
        if name.ends_with(['.', ' ']) {
            let why = format!("{name:?} ends in a dot or a space, which Windows leaves out");
            return refuse(why, "give the name without it");
        }
    }
    None
}

fn is_device(prefix: Prefix<'_>) -> bool {
    matches!(prefix, Prefix::DeviceNS(_) | Prefix::Verbatim(_))
}

/// Returns whether a name stands for a device in every directory.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(' ').to_uppercase();
    let is_numbered = |device: &str| {
        let mut number = stem.strip_prefix(device).unwrap_or_default().chars();
        number.next().is_some_and(is_device_digit) && number.next().is_none()
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.into_iter().any(is_numbered)
}

/// Superscript digits count too.
fn is_device_digit(digit: char) -> bool {
    matches!(digit, '1'..='9' | '¹' | '²' | '³')
}

/// A file is found under each mixture of capitals and small letters, and under a short name.
pub(crate) const HAS_OTHER_SPELLINGS: bool = true;

/// Returns whether two paths in one spelling are the same to the file system, also of files that
/// do not exist yet.
pub(crate) fn is_same_name(one: &Path, other: &Path) -> bool {
    let upper = |path: &Path| path.to_string_lossy().to_uppercase();
    one == other || upper(one) == upper(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> Option<String> {
        refuse_name(Path::new(path)).map(|refusal| refusal.why)
    }

    #[test]
    fn names_of_devices_are_refused() {
        for name in [
            "NUL",
            "nul",
            "con",
            "aux.db",
            r"C:\data\Aux.db",
            "COM1",
            "lpt9.txt",
            "prn .db",
            "com¹",
            r"C:\aux\x.db",
            "CONIN$",
            r"\\.\C:",
            r"\\.\pipe\x",
            r"\\?\Volume{0000-11}\x.db",
            r"\\?\GLOBALROOT\x",
        ] {
            assert!(
                refusal(name).is_some_and(|why| why.contains("device")),
                "{name}"
            );
        }
        for name in [
            "x.db",
            "null.db",
            "console",
            "com10",
            "com",
            "lpt",
            r"C:\data\x.db",
            r"..\x.db",
            r".\x.db",
            "C:x.db",
            r"\\?\C:\x.db",
            r"\\server\share\x.db",
            "aux-1.db",
            "x.aux",
        ] {
            assert_eq!(refusal(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_windows_reads_otherwise_are_refused() {
        for (name, why) in [
            ("x.db:stream", "alternate data stream"),
            (r"C:\data\x.db::$DATA", "alternate data stream"),
            (r"C:\a:b\x.db", "alternate data stream"),
            ("x.db.", "ends in a dot"),
            ("x.db ", "ends in a dot or a space"),
            (r"\\?\C:\data.\x.db", "ends in a dot"),
        ] {
            assert!(
                refusal(name).is_some_and(|found| found.contains(why)),
                "{name}"
            );
        }
    }
}
