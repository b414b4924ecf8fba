//! File systems on which a lock on this machine does not hold on another.

use std::io;
use std::path::Path;

use rustix::fs::statfs;

use super::mounts;

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
    let table = mounts::table().unwrap_or_default();
    let precise = mounts::above(&table, path)
        .map(|mount| &mount.kind)
        .filter(|kind| kind.starts_with("fuse") || *kind == "virtiofs");
    Ok(Some(precise.cloned().unwrap_or_else(|| name.to_owned())))
}

fn name_of(kind: u32) -> Option<&'static str> {
    SHARED
        .iter()
        .find(|(magic, _)| *magic == kind)
        .map(|(_, name)| *name)
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
}
