//! File systems on which a lock on this machine does not hold on another.

use std::io;
use std::path::Path;

use rustix::fs::statfs;

/// File systems that other machines may write, or that are refused as on Linux: what is behind FUSE
/// cannot be seen. Some of them may call themselves local.
const SHARED: &[&str] = &[
    "nfs", "smbfs", "afpfs", "webdav", "ftp", "cifs", "macfuse", "osxfuse", "fuse", "virtiofs",
    "vmhgfs", "prl_fs", "acfs", "lustre",
];

/// Returns the name of the network (or other shared) file system that `path` is on,
/// or `None` on a local one.
///
/// # Errors
///
/// Those of `statfs(2)`.
pub(crate) fn network(path: &Path) -> io::Result<Option<String>> {
    let found = statfs(path)?;
    let name = found.f_fstypename.iter().take_while(|&&byte| byte != 0);
    let name: Vec<u8> = name.map(|byte| byte.cast_unsigned()).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    let is_local = found.f_flags & libc::MNT_LOCAL.cast_unsigned() != 0;
    Ok((!is_local || is_shared(&name)).then_some(name))
}

fn is_shared(name: &str) -> bool {
    SHARED.iter().any(|shared| name.starts_with(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_recognised_by_their_name() {
        for shared in ["nfs", "smbfs", "macfuse", "osxfuse", "fuse-t"] {
            assert!(is_shared(shared), "{shared}");
        }
        for local in ["apfs", "hfs", "exfat", "msdos", "tmpfs", "devfs"] {
            assert!(!is_shared(local), "{local}");
        }
    }
}
