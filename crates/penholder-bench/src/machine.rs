//! A description of the machine: figures mean little without it.

use std::fs;
use std::path::Path;

use crate::peer::python;

/// The hardware and software on which figures depend.
pub(crate) struct Machine {
    pub(crate) hardware: String,
    pub(crate) software: String,
}

impl Machine {
    pub(crate) fn here(directory: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let hardware = format!(
            "{}, {cores} {}, Linux {}, {}",
            processor(),
            if cores == 1 { "core" } else { "cores" },
            kernel.trim(),
            file_system(directory)
        );
        let sqlite = rusqlite::version();
        let python = python::version().unwrap_or_else(|why| why);
        Self {
            hardware,
            software: format!("SQLite {sqlite}, {python}"),
        }
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let named = lines.find(|(key, _)| key.trim() == "model name");
    named
        .map_or("unknown processor", |(_, name)| name.trim())
        .to_owned()
}

/// The type of the file system of a directory: that of the deepest mount point
/// above it.
fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let directory = directory.canonicalize().unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let point = Path::new(mount.split(' ').nth(4)?);
        let name = source.split(' ').next()?;
        let depth = point.components().count();
        directory.starts_with(point).then_some((depth, name))
    });
    // `max_by_key` returns the last of equals: a later mount on the same mount point
    // hides an earlier one.
    let nearest = above.max_by_key(|(depth, _)| *depth);
    nearest
        .map_or("unknown file system", |(_, name)| name)
        .to_owned()
}
