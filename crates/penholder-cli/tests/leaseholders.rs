//! Programs without a lease write next to eight processes that take leases one after the other:
//! each makes progress all the time, and none fails.
#![cfg(test)]
#![cfg(unix)] // a shell, and its scripts

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use penholder::OpenOptions;
use penholder_core::failpoint;
use penholder_testkit::command_fixture::CommandFixture;
use penholder_testkit::numbered_writes::{self, Kind};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::{database_fixture, requirement};

const LEASEHOLDERS: i64 = 8;
/// How long it is watched, in seconds.
const SECONDS: usize = 6;

#[test]
fn peer() {
    peer::run_role(&[numbered_writes::ROLE, ("poll", poll)]);
}

/// Writes through a handle that does not queue.
fn poll(args: &[OsString]) {
    let options = OpenOptions::new().timeout(Duration::from_secs(20));
    let db = options.queue(false).open(&args[0]).unwrap();
    let over = db.path().with_file_name("over");
    while !over.exists() {
        database_fixture::insert(&db, "poll").unwrap();
        peer::send("wrote");
        thread::sleep(Duration::from_millis(1));
    }
}

/// An outsider, and how often it was served in each second.
struct Outsider {
    name: &'static str,
    peer: Peer,
    served: [usize; SECONDS],
}

const PYTHON: &str = "
import os, sqlite3, time
connection = sqlite3.connect('x.db', timeout=20, isolation_level=None)
connection.execute('PRAGMA wal_autocheckpoint=0')
while not os.path.exists('over'):
    connection.execute(\"INSERT INTO entry VALUES ('python')\")
    print('wrote', flush=True)
    time.sleep(0.005)
os._exit(0)
";

/// Returns a shell that runs a command until the test is over, and fails when it does.
fn repeat(fixture: &CommandFixture, command: &str) -> Command {
    let mut shell = fixture.program("sh");
    let script = format!("while [ ! -e over ]; do {command} || exit 1; echo served; done");
    shell.args(["-c", &script]);
    shell
}

fn start_all(fixture: &CommandFixture) -> Vec<Outsider> {
    let mut python = fixture.program("python3");
    python.args(["-c", PYTHON]);
    let insert = "sqlite3 x.db '.timeout 20000' \"INSERT INTO entry VALUES ('shell')\"";
    let all = [
        ("sqlite3", Some("sqlite3"), repeat(fixture, insert)),
        ("python", Some("python3"), python),
        (
            "flock",
            Some("flock"),
            repeat(fixture, "flock db.lock true"),
        ),
        ("poll", None, Peer::command("poll", [fixture.join("x.db")])),
        (
            "run",
            None,
            repeat(fixture, "\"$PENHOLDER\" run --timeout 20s x.db -- true"),
        ),
    ];
    let is_possible = |program: Option<&str>| program.is_none_or(requirement::has_program);
    all.into_iter()
        .filter(|(_, program, _)| is_possible(*program))
        .map(|(name, _, command)| Outsider {
            name,
            peer: Peer::spawn(command),
            served: [0; SECONDS],
        })
        .collect()
}

fn start_leaseholder(path: &Path, number: i64) -> Peer {
    let mut command = numbered_writes::command(Kind::Writer, path, number);
    command.env(failpoint::ALL_QUICK, "1");
    Peer::spawn(command)
}

#[test]
fn programs_without_leases_make_progress_all_the_time() {
    let fixture = CommandFixture::new(env!("CARGO_BIN_EXE_penholder"));
    let path = fixture.join("x.db");
    let db = database_fixture::open(&path);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    numbered_writes::create_tables(&db);
    let leaseholders: Vec<Peer> = (1..=LEASEHOLDERS)
        .map(|number| start_leaseholder(&path, number))
        .collect();
    let mut outsiders = start_all(&fixture);
    // All of them are at work then.
    outsiders.iter().for_each(|one| drop(one.peer.read_line()));
    let begun = Instant::now();
    for second in 0..SECONDS {
        let ends = begun + Duration::from_secs(1) * u32::try_from(second + 1).unwrap();
        while Instant::now() < ends {
            for one in &mut outsiders {
                while one.peer.read_line_within(Duration::ZERO).is_some() {
                    one.served[second] += 1;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    numbered_writes::finish(&path);
    for Outsider { name, served, .. } in &outsiders {
        eprintln!("{name}: {served:?} in each second");
    }
    for Outsider { name, peer, served } in &mut outsiders {
        // On a loaded machine one second may be too short to start a program.
        let is_stuck = served.windows(2).any(|two| two == [0, 0]);
        assert!(!is_stuck, "{name} made no progress: {served:?}");
        assert!(peer.wait().success(), "{name} has failed");
    }
    for mut peer in leaseholders {
        assert!(peer.wait().success());
    }
    drop(db);
    if requirement::has_program("python3") {
        let found = fixture.run(["doctor", "x.db", "--json"]).stdout;
        assert!(
            found.contains("programs without the lock wrote in "),
            "{found}"
        );
        let events = fixture.run(["history", "x.db", "--kind", "outsider-wrote"]);
        let text = " left SQLite's lock alone for ";
        assert!(events.stdout.contains(text), "{events:?}");
    }
    let writes = numbered_writes::check(&path);
    eprintln!("{writes} writes of {LEASEHOLDERS} leaseholders");
    assert!(fs::metadata(fixture.join("db.lock")).is_ok());
}
