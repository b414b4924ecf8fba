//! What macOS says of this process and of other processes.

use std::path::PathBuf;
use std::thread;

use super::process_table::own_pidns as the_pidns;
use super::{libproc, sysctl};
pub(crate) use crate::sys::unix::process::*;

/// Returns whether this process may run on several processors.
pub(crate) fn has_several_processors() -> bool {
    thread::available_parallelism().is_ok_and(|processors| processors.get() > 1)
}

/// Returns a number that differs between boots of the machine; zero if there is none.
pub(crate) fn boot() -> u64 {
    boot_once_read(read_boot)
}

fn read_boot() -> u64 {
    let id = sysctl::text(c"kern.bootsessionuuid").unwrap_or_default();
    let id: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    let (first, second) = id.split_at(id.len() / 2);
    let half = |text| u64::from_str_radix(text, 16).unwrap_or(0);
    half(first) ^ half(second)
}

/// Returns the pid namespace of this process.
pub(crate) fn own_pidns() -> Option<u64> {
    the_pidns()
}

/// Returns `true`: there is only one.
pub(crate) fn is_in_first_pidns() -> bool {
    true
}

/// Returns the pid namespace of a process, that of all.
pub(crate) fn pidns(_pid: u32) -> Option<u64> {
    the_pidns()
}

/// Returns the command line of a process, if it may be read.
pub(crate) fn cmd(pid: u32) -> Option<String> {
    parse_arguments(&sysctl::arguments(pid)?)
}

/// Parses the number of arguments, the path of the program with zeros after it, and the arguments,
/// each with a zero at its end.
fn parse_arguments(bytes: &[u8]) -> Option<String> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let path_end = rest.iter().position(|&byte| byte == 0)?;
    let words = &rest[path_end..];
    let first = words.iter().position(|&byte| byte != 0)?;
    let words = words[first..].split(|&byte| byte == 0).take(count);
    Some(join(words))
}

/// Returns the program that a process runs. Its libraries are not known.
pub(crate) fn code_files(pid: u32) -> Vec<PathBuf> {
    libproc::program(pid).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let mut bytes = 2_i32.to_ne_bytes().to_vec();
        bytes.extend_from_slice(b"/bin/ls\0\0\0\0/bin/ls\0-l x\0HOME=/\0");
        assert_eq!(parse_arguments(&bytes).as_deref(), Some("ls -l x"));
        assert_eq!(parse_arguments(b"\0\0"), None);
        assert_eq!(parse_arguments(b"\0\0\0\0no end"), None);
    }
}
