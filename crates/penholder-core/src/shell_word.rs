//! Words of a shell, so that a command in a message can be pasted.

mod posix;
mod windows;

use std::ffi::OsStr;
use std::path::Path;

/// Returns a word as a shell reads it, in quotes if it needs that. What a terminal would not show as
/// it is stands in a `printf` that every shell has. Only a word that ends in a line end, which no
/// shell keeps there, needs the `$'…'` of bash, zsh and ksh.
///
/// On Windows it is a word for PowerShell, and for `cmd` too unless it has signs that only
/// PowerShell can quote (`"`, `%`, `$`, a backtick, and what a terminal would not show).
///
/// On Unix:
///
/// ```
/// # #[cfg(unix)] {
/// use penholder_core::shell_word;
///
/// assert_eq!(shell_word("/srv/app.db"), "/srv/app.db");
/// assert_eq!(shell_word("my app.db"), "'my app.db'");
/// assert_eq!(shell_word("two\nlines"), r#""$(printf %b 'two\0012lines')""#);
/// # }
/// ```
#[must_use]
pub fn shell_word(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_encoded_bytes();
    if cfg!(windows) {
        windows::word(&String::from_utf8_lossy(bytes))
    } else {
        posix::word(bytes)
    }
}

/// As [`shell_word`], for a path: one that looks like an option does not look so.
///
/// ```
/// use std::path::Path;
/// use penholder_core::shell_path;
///
/// # #[cfg(unix)]
/// assert_eq!(shell_path(Path::new("-n.db")), "./-n.db");
/// assert_eq!(shell_path(Path::new("app.db")), "app.db");
/// ```
#[must_use]
pub fn shell_path(path: &Path) -> String {
    if path.as_os_str().as_encoded_bytes().starts_with(b"-") {
        return shell_word(Path::new(".").join(path));
    }
    shell_word(path)
}
