//! File systems on which a lock on this machine does not hold on another.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::statfs;

/// `statfs` types of file systems that other machines may write, from
/// linux/magic.h and the file systems' own sources.
const SHARED: &[(u32, &str)] = &[
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "SMB (cifs)"),
    (0xFE53_4D42, "SMB (smb3)"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE or virtiofs"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x0BD0_0BD0, "Lustre"),
    (0x1983_0326, "BeeGFS"),
    (0x4750_4653, "GPFS"),
    (0x786F_4256, "VirtualBox shared folder"),
    (0xBACB_ACBC, "VMware shared folder"),
];

/// Returns the name of the network (or other shared) file system that `path` is on,
/// or `None` on a local one.
///
/// # Errors
///
/// Those of `statfs(2)`.
pub(crate) fn network(path: &Path) -> io::Result<Option<String>> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "width and sign differ between architectures, the numbers have 32 bits on all"
    )]
    let kind = statfs(path)?.f_type as u32;
    let Some(name) = name_of(kind) else {
        return Ok(None);
    };
    // FUSE stands for many file systems; the mount table names the one.
    let precise = fs::read_to_string("/proc/self/mountinfo")
        .ok()
        .and_then(|table| kind_of_mount(&table, path))
        .filter(|kind| kind.starts_with("fuse") || kind == "virtiofs");
    Ok(Some(precise.unwrap_or_else(|| name.to_owned())))
}

fn name_of(kind: u32) -> Option<&'static str> {
    SHARED
        .iter()
        .find(|(magic, _)| *magic == kind)
        .map(|(_, name)| *name)
}

/// Finds the type of the mount with the longest mount point above `path`.
fn kind_of_mount(table: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        if path.starts_with(point.replace("\\040", " "))
            && best.is_none_or(|(len, _)| point.len() >= len)
        {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_recognised_by_their_number() {
        assert_eq!(name_of(0x6969), Some("NFS"));
        assert_eq!(name_of(0xFF53_4D42), Some("SMB (cifs)"));
        // ext4, xfs, btrfs, tmpfs, overlayfs
        for local in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630] {
            assert_eq!(name_of(local), None);
        }
    }

    #[test]
    fn the_mount_table_names_the_kind_of_fuse() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     40 22 0:35 / /mnt/far rw - fuse.sshfs me@far: rw\n";
        assert_eq!(
            kind_of_mount(table, Path::new("/mnt/far/x")).as_deref(),
            Some("fuse.sshfs")
        );
        assert_eq!(
            kind_of_mount(table, Path::new("/home")).as_deref(),
            Some("ext4")
        );
    }
}
