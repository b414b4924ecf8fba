//! Containers: a holder in another pid namespace is named from outside, and one
//! outside is seen from inside. Needs root, to make the namespaces.
#![cfg(test)]

mod peer;
mod stage;

use std::fs;
use std::path::Path;

use stage::{Actor, lock_file};

#[test]
fn peer() {
    peer::play(&[stage::OBEY]);
}

const CONTAINER: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn can_contain() -> bool {
    stage::are_root() && stage::is_first_pid_namespace() && peer::has("unshare")
}

/// An actor that is the first process of a namespace of its own.
fn inside(path: &Path) -> Actor {
    Actor::spawn(stage::under(&CONTAINER, &Actor::command(path, &[])))
}

/// Out here, the pid of the one process that `unshare` started.
fn pid_out_here(unshare: u32) -> u32 {
    let children = format!("/proc/{unshare}/task/{unshare}/children");
    fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn a_holder_inside_is_named_from_outside() {
    if !can_contain() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut contained = inside(&path);
    contained.takes();
    assert!(peer::text(&path).starts_with("pid:1\n"), "its pid in there");
    let pid = pid_out_here(contained.pid());
    let mut outside = Actor::start(&path);
    outside.is_kept_out_by(pid);
    let seen = outside.looks();
    assert_eq!(seen, format!("Held pid:{pid} Sleeping recorded:true"));
    peer::signal(pid, "STOP");
    peer::until("it is seen stopped", || {
        outside.looks().contains(" Stopped ")
    });

    // Killed in there, it is gone out here, whatever its record says.
    contained.peer.kill();
    outside.takes();
    outside.releases();
    assert_eq!(outside.looks(), "Free");
}

#[test]
fn a_holder_outside_is_seen_from_inside() {
    if !can_contain() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut outside = Actor::holding(&path);
    let mut contained = inside(&path);
    contained.is_kept_out_by(outside.pid());
    let there = format!("Held pid:{} OtherNamespace recorded:true", outside.pid());
    assert_eq!(contained.looks(), there);
    outside.releases();
    assert_eq!(contained.looks(), "Free");
    contained.takes();
    assert_eq!(contained.looks().split(' ').nth(1), Some("pid:1"));
}

#[test]
fn two_containers_exclude_one_another() {
    if !can_contain() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let [mut one, mut other] = [(); 2].map(|()| inside(&path));
    one.takes();
    // Both are the first process in there: the pid alone would say "you".
    other.is_kept_out_by(1);
    assert_eq!(other.looks(), "Held pid:1 OtherNamespace recorded:true");
    one.releases();
    other.takes();
}

/// In a container as elsewhere: the taker is gone, the shell (`sleep` by then)
/// holds on. Ends with the first process in there, which is the actor.
const IDIOM: &str = r#"
mkfifo fifo
( flock 9; read pid rest </proc/self/stat; echo $pid >fifo; exec sleep 60 ) 9>db.lock &
read pid <fifo
echo $pid >pid
exec "$@"
"#;

#[test]
fn a_shell_that_had_flock_take_the_lock_is_named_inside() {
    if !can_contain() || !peer::has("flock") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let actor = Actor::command(&lock_file(folder.path()), &[]);
    let actor = stage::under(&["sh", "-c", IDIOM, "sh"], &actor);
    let mut command = stage::under(&CONTAINER, &actor);
    command.current_dir(folder.path());
    let mut contained = Actor::spawn(command);
    let pid = peer::text(&folder.path().join("pid"));
    contained.is_kept_out_by(pid.trim().parse().unwrap());
}

/// The same pid in each namespace, and no way to look into the other: whether a
/// waiter lives is the kernel's word, by its lock on the page.
#[test]
fn containers_queue_with_everybody_else() {
    if !can_contain() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut outside = Actor::holding(&path);
    let locker = penholder_lock::WriteLocker::at(&path).unwrap();
    let queue = || locker.status().unwrap().queue;
    let [mut first, mut second] = [(); 2].map(|()| inside(&path));
    for (place, contained) in [&mut first, &mut second].into_iter().enumerate() {
        contained.peer.tell("take 60000");
        peer::until("it stands in line", || queue().len() == place + 1);
    }
    let states = queue().into_iter().map(|waiter| (waiter.pid, waiter.state));
    let elsewhere = penholder_lock::ProcessState::OtherNamespace;
    assert_eq!(states.collect::<Vec<_>>(), [(1, elsewhere); 2]);
    // The first is killed where it stands: the second is served.
    first.peer.kill();
    outside.releases();
    second.peer.expect("held");
    let counters = locker.status().unwrap().counters;
    assert_eq!((counters.contended, counters.timeouts), (1, 0));
    second.releases();
    outside.takes();
}
