//! Users and groups, as far as the files of this machine name them.
//!
//! The C library could ask more sources (directories on the network), but that may take
//! minutes, and a wait for the lock has a deadline.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// How much of a file is read, in bytes.
const READ_MAX: u64 = 4 << 20;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Returns the user that this process acts as.
pub(crate) fn effective() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the name of a user, if `/etc/passwd` has one.
pub(crate) fn name_of(user: u32) -> Option<String> {
    find_user(lines(USERS)?, user).map(|entry| entry.name)
}

/// Returns whether a user is a member of a group, by `/etc/passwd` and `/etc/group`. `false`
/// if they do not say so: then it cannot be told.
pub(crate) fn is_member(user: u32, group: u32) -> bool {
    let Some(entry) = lines(USERS).and_then(|lines| find_user(lines, user)) else {
        return false;
    };
    entry.group == group || lines(GROUPS).is_some_and(|lines| has_member(lines, group, &entry.name))
}

/// A line of `/etc/passwd`.
struct Entry {
    name: String,
    /// The primary group.
    group: u32,
}

/// Finds the line `name:password:user:group:…` of a user; the first one counts.
fn find_user(lines: impl Iterator<Item = String>, user: u32) -> Option<Entry> {
    lines.into_iter().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        (id == user).then(|| Entry {
            name: name.to_owned(),
            group,
        })
    })
}

/// Whether a line `name:password:group:member,member…` of the group names the user.
fn has_member(lines: impl Iterator<Item = String>, group: u32, name: &str) -> bool {
    lines.into_iter().any(|line| {
        let mut fields = line.split(':').skip(2);
        let id = fields.next().and_then(|id| id.parse::<u32>().ok());
        let mut members = fields.next().unwrap_or_default().split(',');
        id == Some(group) && members.any(|member| member.trim() == name)
    })
}

fn lines(path: &str) -> Option<impl Iterator<Item = String>> {
    let file = File::open(path).ok()?;
    Some(lines_of(BufReader::new(file.take(READ_MAX))))
}

/// The name of a person may be in another encoding than UTF-8.
fn lines_of(file: impl BufRead) -> impl Iterator<Item = String> {
    let lines = file.split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> impl Iterator<Item = String> + '_ {
        text.lines().map(str::to_owned)
    }

    #[test]
    fn users_and_members_are_found() {
        let users = "# a comment\nroot:x:0:0:root:/root:/bin/sh\n:x:7:7::\nann:x:1000:100:Ann\n\
                     ann2:x:1000:5:\nbob:x:one:100\nshort:x:9\n";
        let found = |user| find_user(of(users), user).map(|entry| (entry.name, entry.group));
        assert_eq!(found(0), Some(("root".to_owned(), 0)));
        assert_eq!(found(1000), Some(("ann".to_owned(), 100)));
        for unknown in [7, 9, 1, u32::MAX] {
            assert_eq!(found(unknown), None);
        }
        let groups = "root:x:0:\nstaff:x:50:bob, ann\nother:x:51:annie,\nstaff:x:50:eve\n";
        for (group, name, expected) in [
            (50, "ann", true),
            (50, "bob", true),
            (50, "eve", true),
            (50, "annie", false),
            (51, "ann", false),
            (0, "root", false),
            (50, "", false),
            (52, "ann", false),
        ] {
            assert_eq!(has_member(of(groups), group, name), expected, "{name}");
        }
    }

    #[test]
    fn a_line_that_is_not_utf8_hides_no_other() {
        let users = b"jos:x:1000:100:Jos\xe9\nann:x:1001:100:Ann\n";
        let found = find_user(lines_of(&users[..]), 1001);
        assert_eq!(found.map(|entry| entry.name).as_deref(), Some("ann"));
    }
}
