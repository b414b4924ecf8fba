//! The processes, as `/proc/<pid>/stat` shows them.

use std::fs;

use crate::sys::process_state::ProcessState;
use crate::sys::unix::stat::Stat;

/// Reads `/proc/<pid>/stat`; `None` if there is no such process, or it is hidden.
pub(in crate::sys) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the line of this process, with the pids of the namespace that `/proc` shows.
pub(in crate::sys) fn own_stat() -> Option<Stat> {
    parse_stat(&fs::read("/proc/self/stat").ok()?)
}

/// Parses the line. Its second field is the program's name in parentheses, which may
/// contain spaces and parentheses: the other fields follow the *last* one.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (pid, _) = text.split_once(' ')?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // `start` is field 22, `parent` field 4.
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        pid: pid.parse().ok()?,
        state: state_of(state),
        parent,
        start,
    })
}

fn state_of(letter: char) -> ProcessState {
    match letter {
        'R' => ProcessState::Running,
        'T' | 't' => ProcessState::Stopped,
        'Z' | 'X' | 'x' => ProcessState::Gone,
        _ => ProcessState::Sleeping,
    }
}

/// Returns the pid namespace of this process.
pub(crate) fn own_pidns() -> Option<u64> {
    pidns_of("self")
}

/// Returns the pid namespace of a process by its name in `/proc`, if it may be read.
pub(super) fn pidns_of(process: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{process}/ns/pid")).ok()?;
    let text = link.to_str()?;
    text.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// Lists every process that `/proc` shows.
pub(in crate::sys) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_parentheses_is_parsed() {
        let line = b"7 (a) b) T 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 991 5 6";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.state), (7, ProcessState::Stopped));
        assert_eq!((stat.parent, stat.start), (1, 991));
        assert!(parse_stat(b"garbage").is_none());
    }
}
