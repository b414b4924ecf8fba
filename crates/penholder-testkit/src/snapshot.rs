//! Texts compared with their last approved versions.
//!
//! A test that finds another text shows the difference. `PENHOLDER_BLESS=1 cargo test`
//! approves the text that the test finds. A text that differs on Windows has another file, in the
//! directory `windows`.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory of a crate's approved texts, one `.txt` file each.
#[derive(Debug, Clone, Copy)]
pub struct Snapshots {
    directory: &'static str,
}

impl Snapshots {
    /// Uses a directory, by an absolute path:
    /// `concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots")`.
    pub const fn new(directory: &'static str) -> Self {
        Self { directory }
    }

    /// Asserts that a text is the approved one of this name.
    #[track_caller]
    pub fn assert_approved(&self, name: &str, actual: &str) {
        let path = self.path(name);
        let approved = fs::read_to_string(&path).unwrap_or_default();
        if approved == actual {
            return;
        }
        if std::env::var_os("PENHOLDER_BLESS").is_some_and(|value| value == "1") {
            let path = if cfg!(windows) {
                self.path_on_windows(name)
            } else {
                path
            };
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, actual).unwrap();
            return;
        }
        panic!(
            "{} differs (- approved, + found):\n{}\nPENHOLDER_BLESS=1 approves what was found",
            path.display(),
            difference(&approved, actual)
        );
    }

    /// Returns the names of all approved texts, sorted.
    pub fn names(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| {
            let path = entry.path();
            path.file_stem().unwrap().to_string_lossy().into_owned()
        };
        let entries = fs::read_dir(self.directory).unwrap().map(Result::unwrap);
        let texts = entries.filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = texts.map(name).collect();
        names.sort();
        names
    }

    fn path(&self, name: &str) -> PathBuf {
        let on_windows = self.path_on_windows(name);
        match cfg!(windows) && on_windows.exists() {
            true => on_windows,
            false => Path::new(self.directory).join(format!("{name}.txt")),
        }
    }

    fn path_on_windows(&self, name: &str) -> PathBuf {
        let directory = Path::new(self.directory).join("windows");
        directory.join(format!("{name}.txt"))
    }
}

/// Returns the lines from the first to the last that differ, with up to two equal lines
/// before and after them.
fn difference(approved: &str, found: &str) -> String {
    let approved: Vec<&str> = approved.split('\n').collect();
    let found: Vec<&str> = found.split('\n').collect();
    let pairs = approved.iter().zip(&found);
    let same_start = pairs.take_while(|(one, other)| one == other).count();
    let pairs = approved[same_start..].iter().rev();
    let pairs = pairs.zip(found[same_start..].iter().rev());
    let same_end = pairs.take_while(|(one, other)| one == other).count();
    let before = &approved[same_start.saturating_sub(2)..same_start];
    let removed = &approved[same_start..approved.len() - same_end];
    let added = &found[same_start..found.len() - same_end];
    let after = approved[approved.len() - same_end..].iter().take(2);
    let marked = |mark: &'static str| move |line: &&str| format!("{mark} {line}");
    let mut lines: Vec<String> = before.iter().map(marked(" ")).collect();
    lines.extend(removed.iter().map(marked("-")));
    lines.extend(added.iter().map(marked("+")));
    lines.extend(after.map(marked(" ")));
    lines.join("\n")
}

/// Replaces what differs from run to run: the directory, process ids, times, and whether
/// a process is on a processor at that moment.
pub fn normalize(text: &str, directory: &Path) -> String {
    let text = text.replace(&*directory.to_string_lossy(), "DIRECTORY");
    let text = match cfg!(windows) {
        true => text
            .replace(r"DIRECTORY\", "DIRECTORY/")
            .replace("`penholder.exe ", "`penholder ")
            // The second is Wine's.
            .replace(
                "The file exists. (os error 80)",
                "File exists (os error 17)",
            )
            .replace("File exists. (os error 80)", "File exists (os error 17)")
            .replace(
                "cmd /c echo held& set /p line=& echo released",
                "sh -c echo held; read line; echo released",
            ),
        false => text,
    };
    let text = replaced(&text, "pid:", "PID", |c| !c.is_ascii_digit());
    let text = replaced(&text, " since ", "TIME", |c| c == ' ');
    let text = replaced(&text, ", held ", "TIME", |c| c == ',' || c == ')');
    let text = text.replace("running, ", "sleeping, ");
    let text = text.replace("running) ", "sleeping) ");
    let measured = |line: &str| {
        ["  waits ", "  holds ", "  lately ", "  WAL "]
            .iter()
            .any(|mark| line.starts_with(mark))
    };
    let lines = text.split('\n').map(|line| match measured(line) {
        true => mask_numbers(line).replace("µs", "ms"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces every number by `N`.
pub fn mask_numbers(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c| !is_digit(c) && c != '.');
        out.push_str(before);
        out.push('N');
        rest = &number[end.unwrap_or(number.len())..];
    }
    out + rest
}

/// Replaces the text between each `mark` and the next `end` after it.
fn replaced(text: &str, mark: &str, by: &str, end: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.find(&end).unwrap_or(part.len());
        out.push_str(mark);
        out.push_str(by);
        out.push_str(&part[rest..]);
    }
    out
}
