//! A node whose disk is full ends itself, and the others go on. Needs root, for a small file system.
#![cfg(test)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use penholder::{Store, Value};
use penholder_testkit::requirement;
use support::{TestCluster, until};

/// A small file system in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it, or says why that cannot be done.
    fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: this test needs to mount a file system");
            return None;
        }
        Some(Self(path.to_owned()))
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_full_disk_ends_and_the_others_go_on() {
    if !requirement::is_root() {
        return;
    }
    let mut cluster = TestCluster::new(3, &[]);
    let Some(disk) = SmallDisk::mount(&cluster.file("node-3"), "60m") else {
        return;
    };
    for id in 1..=3 {
        cluster.start(id);
    }
    let client = cluster.client().await;
    client
        .execute(
            "CREATE TABLE entry(number INTEGER PRIMARY KEY, bytes BLOB)",
            (),
        )
        .await
        .unwrap();
    cluster.wait_for_voters();
    let mut written = 0;
    while !cluster.has_ended(3) {
        assert!(written < 400, "the node goes on with a full disk");
        let insert = "INSERT INTO entry VALUES (?1, ?2)";
        client
            .execute(insert, (written, vec![7_u8; 300_000]))
            .await
            .unwrap();
        written += 1;
    }
    // Two of three are a majority.
    client
        .execute("INSERT INTO entry VALUES (-1, NULL)", ())
        .await
        .unwrap();

    // The log that it could not write may be unusable, and it gets all from the others.
    disk.grow("2g");
    for entry in fs::read_dir(cluster.file("node-3")).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    cluster.start(3);
    let sql = "SELECT count(*), sum(number), sum(length(bytes)) FROM entry";
    let same = cluster.same_on_all(sql).await;
    assert_eq!(same[0][0], Value::from(written + 1));
    until("all nodes vote again", || {
        let statuses = cluster.statuses();
        let answered = statuses
            .iter()
            .filter(|status| status["leader"].is_u64())
            .count();
        (answered == 3).then_some(())
    });
    drop(cluster);
    drop(disk);
}
