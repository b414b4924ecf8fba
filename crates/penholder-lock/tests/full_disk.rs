//! Where no byte can be written the lock works all the same: only the record
//! is missing, and the kernel's tables name the holder instead.
#![cfg(test)]

mod peer;
mod stage;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use stage::{Actor, lock_file};

#[test]
fn peer() {
    peer::play(&[stage::OBEY, ("fill", fill)]);
}

fn holds_without_a_record(actor: &mut Actor, path: &Path) {
    actor.takes();
    assert_eq!(peer::text(path).trim(), "");
    let mut other = Actor::start(path);
    other.is_kept_out_by(actor.pid());
    assert!(other.looks().ends_with(" recorded:false"));
    // It is free all the same, but whoever asks is told that something failed.
    let told = actor.ask("release");
    assert!(
        told.starts_with("empty the record of the write lock: "),
        "{told}"
    );
    assert_eq!(other.looks(), "Free");
    other.takes();
    // Not killed while it holds, which would leave a record.
    other.ask("release");
}

/// A process that may write no file, whether the lock file is there or not.
#[test]
fn a_process_that_may_write_no_file_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let command = stage::under(
        &["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"],
        &Actor::command(&path, &[]),
    );
    let mut actor = Actor::spawn(command);
    for _ in 0..2 {
        holds_without_a_record(&mut actor, &path);
    }
    // A record of somebody who was killed is not taken for its own.
    let mut killed = Actor::holding(&path);
    killed.peer.kill();
    assert!(peer::text(&path).starts_with(&format!("pid:{}\n", killed.pid())));
    actor.takes();
    Actor::start(&path).is_kept_out_by(actor.pid());
}

/// In a mount namespace of its own, which goes with it: fills a disk.
fn fill(args: &[OsString]) {
    let folder = Path::new(&args[0]);
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "full"])
        .arg(folder)
        .status();
    assert!(mounted.unwrap().success(), "mount");
    let filling = folder.join("filling");
    let mut file = File::create(&filling).unwrap();
    let error = (0..1000).find_map(|_| file.write_all(&[b'x'; 512]).err());
    assert_eq!(error.unwrap().kind(), ErrorKind::StorageFull);

    let path = lock_file(folder);
    let mut actor = Actor::start(&path);
    holds_without_a_record(&mut actor, &path);
    // With room again there are records again.
    fs::remove_file(&filling).unwrap();
    drop(file);
    actor.takes();
    assert!(peer::text(&path).starts_with(&format!("pid:{}\ntime:", actor.pid())));
    actor.releases();
    peer::say("done");
}

#[test]
fn on_a_full_disk_the_lock_is_held() {
    if !stage::are_root() || !peer::has("unshare") || !peer::has("mount") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let command = peer::Peer::command("fill", [folder.path()]);
    let wrapper = ["unshare", "--mount", "--propagation", "private"];
    peer::Peer::spawn(stage::under(&wrapper, &command)).expect("done");
}
