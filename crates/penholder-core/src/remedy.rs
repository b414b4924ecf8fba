//! Commands of the system that a message advises, so that they can be pasted on each platform. On
//! Windows they are the same in PowerShell and `cmd`.

use std::path::Path;

use crate::shell_word::shell_word;

/// Who may see and change what belongs to any user.
pub const SUPERUSER: &str = if cfg!(windows) {
    "an administrator"
} else {
    "root"
};

/// Returns the command that ends a process at once, with its code quotes.
///
/// ```
/// # #[cfg(unix)]
/// assert_eq!(penholder_core::remedy::end_process(7), "`kill -9 7`");
/// # #[cfg(windows)]
/// # assert_eq!(penholder_core::remedy::end_process(7), "`taskkill /F /PID 7`");
/// ```
#[must_use]
pub fn end_process(pid: u32) -> String {
    match cfg!(windows) {
        true => format!("`taskkill /F /PID {pid}`"),
        false => format!("`kill -9 {pid}`"),
    }
}

/// Returns what to do about a process that is stopped.
///
/// ```
/// # #[cfg(unix)]
/// assert_eq!(
///     penholder_core::remedy::continue_or_end(7),
///     "continue it (`kill -CONT 7`) or end it (`kill -9 7`)"
/// );
/// ```
#[must_use]
pub fn continue_or_end(pid: u32) -> String {
    let end = end_process(pid);
    match cfg!(windows) {
        // No command of Windows resumes a process.
        true => format!("resume it (in the Resource Monitor, `resmon`) or end it ({end})"),
        false => format!("continue it (`kill -CONT {pid}`) or end it ({end})"),
    }
}

/// Returns the command that ends processes so that they lose what they have not yet saved.
#[must_use]
pub fn violent_end() -> &'static str {
    match cfg!(windows) {
        true => "`taskkill /F`",
        false => "`kill -9`",
    }
}

/// The command that finds all names (hard links) of a file, whose path follows it.
pub const LIST_NAMES: &str = if cfg!(windows) {
    "fsutil hardlink list"
} else {
    "find / -xdev -samefile"
};

/// Returns the command that gives files, which are words of a shell, the owner and the group of the
/// database. Of a link the link itself: another user may have put it there meanwhile.
#[must_use]
pub fn own_as(database: &Path, [user, group]: [u32; 2], files: &str) -> String {
    if cfg!(target_os = "linux") {
        let database = shell_word(database);
        return format!("`chown -h --reference={database} {files}`");
    }
    format!("`chown -h {user}:{group} {files}`")
}

/// Returns the command that gives files, which are words of a shell, the mode of the database.
#[must_use]
pub fn permit_as(database: &Path, mode: u32, files: &str) -> String {
    if cfg!(target_os = "linux") {
        let database = shell_word(database);
        return format!("`chmod --reference={database} {files}`");
    }
    format!("`chmod {:o} {files}`", mode & 0o777)
}

/// Returns the command that removes a file.
///
/// ```
/// # #[cfg(unix)]
/// assert_eq!(
///     penholder_core::remedy::remove_file("my app.db".as_ref()),
///     "`rm -f -- 'my app.db'`"
/// );
/// ```
#[must_use]
pub fn remove_file(path: &Path) -> String {
    let file = shell_word(path);
    match cfg!(windows) {
        // What PowerShell calls `del` takes brackets for a pattern.
        true => format!("`cmd /c del {file}`"),
        false => format!("`rm -f -- {file}`"),
    }
}

/// Returns the command that removes a file, or a directory with all that is in it.
#[must_use]
pub fn remove_all(path: &Path) -> String {
    let word = shell_word(path);
    match cfg!(windows) {
        true if path.is_dir() => format!("`cmd /c rmdir /s /q {word}`"),
        true => remove_file(path),
        false => format!("`rm -r {word}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text, for the platform it is compiled for.
    #[test]
    fn commands_are_those_of_the_platform() {
        let file = Path::new("my [app].db");
        let texts = [
            continue_or_end(7),
            violent_end().to_owned(),
            remove_file(file),
            remove_all(Path::new(".")),
            own_as(file, [1, 2], "db.lock db.lockq"),
            permit_as(file, 0o100_640, "db.lock"),
        ];
        let (own, permit) = match cfg!(target_os = "linux") {
            true => (
                "`chown -h --reference='my [app].db' db.lock db.lockq`",
                "`chmod --reference='my [app].db' db.lock`",
            ),
            false => ("`chown -h 1:2 db.lock db.lockq`", "`chmod 640 db.lock`"),
        };
        let expected = match cfg!(windows) {
            true => [
                "resume it (in the Resource Monitor, `resmon`) or end it (`taskkill /F /PID 7`)",
                "`taskkill /F`",
                "`cmd /c del \"my [app].db\"`",
                "`cmd /c rmdir /s /q .`",
                own,
                permit,
            ],
            false => [
                "continue it (`kill -CONT 7`) or end it (`kill -9 7`)",
                "`kill -9`",
                "`rm -f -- 'my [app].db'`",
                "`rm -r .`",
                own,
                permit,
            ],
        };
        assert_eq!(texts, expected);
    }
}
