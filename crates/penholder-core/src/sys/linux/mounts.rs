//! The mounts that this process sees, and files that are mounted by themselves.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The device of the file system, as `major:minor`.
    device: String,
    /// Which directory or file of the file system is mounted.
    root: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
    /// The type of the file system.
    pub(super) kind: String,
}

/// Returns the mounts that this process sees, in the order in which they were mounted.
pub(super) fn table() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// Returns the mount that a path is on: the one with the longest mount point above it, and of
/// several at one point the last, which covers the others.
pub(super) fn above<'a>(table: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = table.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.as_os_str().len())
}

/// Returns whether a file is mounted by itself over another file, so that the files next to it
/// are not those next to it in its own directory. A file that is mounted on itself has the same
/// neighbours, and does not count.
///
/// # Errors
///
/// Those of `statx(2)`, also if the file is missing.
pub(crate) fn is_file_mount(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = statx(CWD, path, flags, StatxFlags::empty())?;
    let flag = StatxAttributes::MOUNT_ROOT;
    // Since Linux 5.8; before, only the table tells.
    let known = stat.stx_attributes_mask.contains(flag);
    let is_root = stat.stx_attributes.contains(flag);
    if known && !is_root {
        return Ok(false);
    }
    let table = table().unwrap_or_default();
    Ok(match is_on_another(&table, path) {
        Some(on_another) => on_another,
        None => is_root,
    })
}

/// Returns whether what is mounted at `path` is another file than the one below it; `None` if
/// the table does not tell.
fn is_on_another(table: &[Mount], path: &Path) -> Option<bool> {
    let own = table.iter().rfind(|mount| mount.point == path)?;
    let parent = path.parent()?;
    let Some(directory) = above(table, parent) else {
        return Some(true);
    };
    let inside = path.strip_prefix(&directory.point).ok()?;
    let covered = directory.root.join(inside);
    Some(own.device != directory.device || own.root != covered)
}

fn parse(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|&byte| byte == b'\n');
    lines.filter_map(parse_line).collect()
}

/// Parses a line such as `40 22 0:35 /root /mnt/point rw shared:1 - ext4 /dev/vda rw`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = text(fields.nth(2)?);
    let root = unescaped(fields.next()?);
    let point = unescaped(fields.next()?);
    let kind = text(fields.skip_while(|field| *field != b"-").nth(1)?);
    Some(Mount {
        device,
        root,
        point,
        kind,
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// The kernel writes a space, a tab, a line end and a backslash as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(octal);
        bytes.push(octal.unwrap_or(first));
        rest = &after[if octal.is_some() { 3 } else { 0 }..];
    }
    OsString::from_vec(bytes).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        40 22 0:35 / /mnt/far rw - fuse.sshfs me@far: rw\n\
        41 22 254:0 /host/app.db /c1/app.db rw master:1 - ext4 /dev/vda rw\n\
        42 22 254:0 /c1/own.db /c1/own.db rw - ext4 /dev/vda rw\n\
        43 22 254:0 /c1/a.db /c1/b.db rw - ext4 /dev/vda rw\n\
        44 22 254:1 /vol/data /with\\040space rw - xfs /dev/vdb rw\n\
        45 44 254:1 /vol/data/x.db /with\\040space/x.db rw - xfs /dev/vdb rw\n\
        46 44 254:1 /vol/data/y.db//deleted /with\\040space/y.db rw - xfs /dev/vdb rw\n\
        47 22 254:1 /c1/z.db /c1/z.db rw - xfs /dev/vdb rw\n";

    #[test]
    fn a_mount_is_parsed_with_its_escapes() {
        let table = parse(TABLE.as_bytes());
        assert_eq!(table.len(), 9);
        let mount = above(&table, Path::new("/with space/x")).unwrap();
        assert_eq!(mount.root, Path::new("/vol/data"));
        assert_eq!(
            (mount.kind.as_str(), mount.device.as_str()),
            ("xfs", "254:1")
        );
        assert_eq!(unescaped(br"/a\134\011b\9"), Path::new("/a\\\tb\\9"));
        assert!(parse(b"\n22 1 254:0 / /\nx - y\n").is_empty());
    }

    #[test]
    fn the_mount_with_the_longest_point_is_the_one_above() {
        let table = parse(TABLE.as_bytes());
        let kind = |path| above(&table, Path::new(path)).map(|mount| mount.kind.as_str());
        assert_eq!(kind("/mnt/far/x"), Some("fuse.sshfs"));
        assert_eq!(kind("/mnt/farther"), Some("ext4"));
    }

    #[test]
    fn a_file_mounted_on_itself_is_not_on_another() {
        let table = parse(TABLE.as_bytes());
        for (path, on_another) in [
            ("/c1/app.db", Some(true)),
            ("/c1/own.db", Some(false)),
            ("/c1/b.db", Some(true)),
            ("/with space/x.db", Some(false)),
            ("/with space/y.db", Some(true)),
            ("/c1/z.db", Some(true)),
            ("/c1/not-mounted.db", None),
            ("/", None),
        ] {
            assert_eq!(is_on_another(&table, Path::new(path)), on_another, "{path}");
        }
        assert_eq!(
            is_on_another(&table[2..], Path::new("/c1/own.db")),
            Some(true)
        );
    }

    #[test]
    fn an_ordinary_file_is_no_mount() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        assert!(is_file_mount(&path).is_err());
        fs::write(&path, "").unwrap();
        assert!(!is_file_mount(&path).unwrap());
        assert!(!is_on_another(&table().unwrap(), &path).unwrap_or(false));
    }
}
