//! Proves that a signal ends every wait of every command at once, with the exit code of 128
//! and its number and a message, and that what it ended has written nothing.
#![cfg(test)]
#![cfg(unix)] // signals

use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, PROMPT, wait_for_exit};
use penholder_testkit::{peer, plain_sqlite, requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const SIGNALS: [(&str, i32); 3] = [("TERM", 143), ("INT", 130), ("HUP", 129)];

/// A command that runs, and the file that its messages go to.
struct Running<'a> {
    fixture: &'a CommandFixture,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl<'a> Running<'a> {
    fn start(fixture: &'a CommandFixture, mut command: Command) -> Self {
        let messages = fs::File::create(fixture.join("messages")).unwrap();
        let output = fs::File::create(fixture.join("output")).unwrap();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(messages)
            .spawn()
            .unwrap();
        Self {
            fixture,
            stdin: child.stdin.take(),
            child,
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is in the queue of the lock.
    #[track_caller]
    fn wait_until_queued(&mut self, label: &str) {
        wait::until("it waits for the lock", || {
            let ended = self.child.try_wait().unwrap();
            let messages = self.fixture.read("messages");
            assert!(ended.is_none(), "it has ended: {ended:?}: {messages}");
            let status = self.fixture.status();
            let queue = status["queue"].as_array().unwrap();
            queue
                .iter()
                .any(|waiter| waiter["cmd"].as_str().unwrap().contains(label))
        });
    }

    /// Sends a signal to it, or to this process below it, and asserts how it ends.
    #[track_caller]
    fn assert_ended_by(mut self, pid: u32, (name, code): (&str, i32)) -> String {
        peer::signal(pid, name);
        let (status, took) = wait::timed(|| wait_for_exit(&mut self.child, wait::LIMIT));
        let messages = self.fixture.read("messages");
        assert_eq!(status.code(), Some(code), "{name}: {status:?}, {messages}");
        assert!(took < PROMPT, "{name}: {took:?}");
        messages
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fixture() -> CommandFixture {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("rows.csv"), "key,value\n1,2\n").unwrap();
    fixture
}

/// Each waits for the lock for a minute.
const WAITING: [&[&str]; 7] = [
    &["exec", "x.db", "DELETE FROM entry", "--timeout", "60s"],
    &[
        "exec",
        "x.db",
        "INSERT INTO entry VALUES (?1, 1)",
        "1",
        "--timeout",
        "60s",
    ],
    &["import", "x.db", "entry", "rows.csv", "--timeout", "60s"],
    &[
        "import",
        "x.db",
        "entry",
        "rows.csv",
        "--atomic",
        "--timeout",
        "60s",
    ],
    &["run", "x.db", "-w", "60", "--", "touch", "started"],
    &["checkpoint", "x.db", "--timeout", "60s"],
    &["vacuum", "x.db", "--timeout", "60s"],
];

#[test]
fn a_wait_for_the_lock_ends_at_a_signal() {
    let fixture = fixture();
    fixture.exec("INSERT INTO entry VALUES (0, 0)");
    let _holder = fixture.hold_lock(&[]);
    for args in WAITING {
        for signal in SIGNALS {
            let mut running = Running::start(&fixture, fixture.command(args));
            running.wait_until_queued(args[0]);
            let pid = running.pid();
            let messages = running.assert_ended_by(pid, signal);
            let number = signal.1 - 128;
            let ended = format!("ended by signal {number}");
            assert!(messages.contains(&ended), "{args:?}: {messages}");
            assert!(messages.starts_with("penholder: "), "{args:?}: {messages}");
        }
    }
    assert_eq!(fixture.count_entries(), 1);
    assert!(!fixture.join("started").exists());
}

#[test]
fn the_message_says_what_an_interruption_means() {
    let fixture = fixture();
    let _holder = fixture.hold_lock(&[]);
    for (args, message) in [
        (0, "exec: x.db: ended by signal 15: nothing was written\n"),
        (
            2,
            "import: rows.csv: ended by signal 15\n  nothing was imported\n  try again\n",
        ),
        (
            4,
            "run: x.db: ended by signal 15: the command was not started\n",
        ),
        (6, "vacuum: x.db: ended by signal 15\n"),
    ] {
        let mut running = Running::start(&fixture, fixture.command(WAITING[args]));
        running.wait_until_queued(WAITING[args][0]);
        let pid = running.pid();
        let messages = running.assert_ended_by(pid, SIGNALS[0]);
        let messages = messages.trim_start_matches("penholder: ");
        assert_eq!(messages.lines().last(), message.lines().last());
        assert!(messages.ends_with(message), "{messages}");
    }
}

/// A program that does not use penholder has SQLite's own lock.
#[test]
fn a_wait_for_sqlites_own_lock_ends_at_a_signal() {
    let fixture = fixture();
    let Some(_outsider) = fixture.outsider() else {
        return;
    };
    for args in WAITING.into_iter().filter(|args| args[0] != "run") {
        // Without a wait it would end by itself.
        if args[0] == "checkpoint" {
            continue;
        }
        for signal in [SIGNALS[0], SIGNALS[2]] {
            let running = Running::start(&fixture, fixture.command(args));
            let pid = running.pid();
            wait::until("it has the lock, and waits for SQLite's", || {
                fixture.status()["holder"]["pid"] == pid
            });
            std::thread::sleep(Duration::from_millis(50));
            running.assert_ended_by(pid, signal);
        }
    }
    assert_eq!(fixture.count_entries(), 0);
    assert!(fixture.is_lock_free());
}

/// A database that is not in WAL mode yet: each command switches it, and an outsider is in
/// the way of the switch, and of readers too.
#[test]
fn a_wait_for_the_switch_to_wal_ends_at_a_signal() {
    let fixture = CommandFixture::new(PENHOLDER);
    let path = fixture.join("x.db");
    plain_sqlite::open(&path)
        .execute_batch("CREATE TABLE entry(key, value)")
        .unwrap();
    let Some(mut outsider) = plain_sqlite::shell(&path) else {
        return;
    };
    outsider.send("BEGIN EXCLUSIVE; SELECT 'writes';");
    outsider.expect("writes");
    for args in [
        &["exec", "x.db", "DELETE FROM entry", "--timeout", "60s"][..],
        &["query", "x.db", "SELECT * FROM entry", "--timeout", "60s"],
        &["backup", "x.db", "copy.db", "--timeout", "60s"],
        &["stress", "x.db", "--force", "--timeout", "60s"],
        &["doctor", "x.db", "--timeout", "60s"],
    ] {
        let mut running = Running::start(&fixture, fixture.command(args));
        std::thread::sleep(Duration::from_millis(300));
        if running.child.try_wait().unwrap().is_some() {
            // Some have nothing to wait for here.
            assert!(["doctor", "stress"].contains(&args[0]), "{args:?}");
            continue;
        }
        let pid = running.pid();
        running.assert_ended_by(pid, SIGNALS[0]);
    }
    assert!(fixture.read("copy.db").is_empty());
}

#[test]
fn reading_standard_input_ends_at_a_signal() {
    let fixture = fixture();
    for args in [
        &["exec", "x.db", "-"][..],
        &["import", "x.db", "entry", "-", "--format", "csv"],
    ] {
        for signal in SIGNALS {
            let mut running = Running::start(&fixture, fixture.command(args));
            let input = running.stdin.as_mut().unwrap();
            input.write_all(b"INSERT INTO entry VALUES").unwrap();
            let pid = running.pid();
            wait_until_it_sleeps(pid);
            let messages = running.assert_ended_by(pid, signal);
            assert!(messages.contains("nothing was "), "{messages}");
        }
    }
    assert_eq!(fixture.count_entries(), 0);
}

/// Waits until a process sleeps, and has a thread for signals.
fn wait_until_it_sleeps(pid: u32) {
    wait::until("it sleeps", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        threads >= 2 && stat.contains(") S ")
    });
    std::thread::sleep(Duration::from_millis(50));
}

/// Runs for hours.
const LONG: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                    SELECT i FROM n WHERE i < 0";

#[test]
fn a_long_statement_ends_at_a_signal_and_leaves_nothing() {
    let fixture = fixture();
    let insert =
        format!("INSERT INTO entry VALUES (1, 1); INSERT INTO entry SELECT i, i FROM ({LONG})");
    for signal in SIGNALS {
        let running = Running::start(&fixture, fixture.command(["exec", "x.db", &insert]));
        let pid = running.pid();
        wait::until("it writes", || fixture.status()["holder"]["pid"] == pid);
        std::thread::sleep(Duration::from_millis(100));
        let messages = running.assert_ended_by(pid, signal);
        assert!(messages.contains("is rolled back"), "{messages}");
        assert!(fixture.is_lock_free());
        assert_eq!(fixture.count_entries(), 0);

        let running = Running::start(&fixture, fixture.command(["query", "x.db", LONG]));
        let pid = running.pid();
        std::thread::sleep(Duration::from_millis(100));
        running.assert_ended_by(pid, signal);
    }
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
}

#[test]
fn commands_that_look_end_at_a_signal() {
    let fixture = fixture();
    for args in [
        &["top", "x.db", "--interval", "60s"][..],
        &["history", "x.db", "--follow"],
    ] {
        for signal in SIGNALS {
            let running = Running::start(&fixture, fixture.command(args));
            let pid = running.pid();
            wait_until_it_sleeps(pid);
            let messages = running.assert_ended_by(pid, signal);
            assert!(messages.contains("ended by signal"), "{messages}");
        }
    }
}

/// Standard error is a full pipe that no process reads.
#[test]
fn a_message_that_cannot_be_written_is_not_waited_for() {
    let fixture = fixture();
    let _holder = fixture.hold_lock(&[]);
    let (_reader, mut messages) = std::io::pipe().unwrap();
    messages.write_all(&[b'.'; 65_536]).unwrap();
    let mut command = fixture.command(WAITING[0]);
    let mut child = command.stderr(messages).spawn().unwrap();
    wait_until_it_sleeps(child.id());
    peer::signal(child.id(), "TERM");
    assert_eq!(wait_for_exit(&mut child, PROMPT).code(), Some(143));
}

#[test]
fn an_interrupted_backup_leaves_no_file() {
    let fixture = fixture();
    fixture.exec("INSERT INTO entry VALUES (1, zeroblob(100000000))");
    let names = fixture.file_names();
    let is_copy = |name: &String| name.starts_with(".penholder-backup-");
    let running = Running::start(&fixture, fixture.command(["backup", "x.db", "copy.db"]));
    let pid = running.pid();
    wait::until("it copies", || fixture.file_names().iter().any(is_copy));
    let messages = running.assert_ended_by(pid, SIGNALS[0]);
    assert!(messages.contains("no copy was made"), "{messages}");
    let expected = [&names[..], &["messages".to_owned(), "output".to_owned()]].concat();
    let mut left = fixture.file_names();
    left.retain(|name| !expected.contains(name) && !name.starts_with("x.db-"));
    assert_eq!(left, Vec::<String>::new());
}

/// While it converts a backup to another page size.
#[test]
fn an_interrupted_restore_leaves_no_file() {
    let fixture = fixture();
    let temporary = fixture.join("temporary");
    fs::create_dir(&temporary).unwrap();
    let sql = "PRAGMA page_size = 1024; CREATE TABLE entry(key, value); \
               INSERT INTO entry VALUES (1, zeroblob(100000000))";
    plain_sqlite::open(&fixture.join("backup.db"))
        .execute_batch(sql)
        .unwrap();
    let mut command = fixture.command(["restore", "x.db", "backup.db"]);
    command.env("TMPDIR", &temporary);
    let running = Running::start(&fixture, command);
    let pid = running.pid();
    let left = || fs::read_dir(&temporary).unwrap().count();
    wait::until("it converts", || left() > 0);
    // Time to begin with the file.
    thread::sleep(Duration::from_millis(50));
    running.assert_ended_by(pid, SIGNALS[0]);
    assert_eq!(left(), 0);
}

/// As the first process of a container, where the kernel discards a signal that nothing
/// handles.
#[test]
fn a_wait_of_process_1_ends_at_a_signal() {
    if !requirement::has_pid_namespaces() {
        return;
    }
    let fixture = fixture();
    let _holder = fixture.hold_lock(&[]);
    let contained = ["--pid", "--fork", "--kill-child", "--mount-proc", PENHOLDER];
    for args in WAITING {
        for signal in SIGNALS {
            let mut command = fixture.program("unshare");
            command.args(contained).args(args);
            let mut running = Running::start(&fixture, command);
            running.wait_until_queued(args[0]);
            let unshare = running.pid();
            let children = format!("/proc/{unshare}/task/{unshare}/children");
            let pid = fs::read_to_string(children).unwrap();
            let pid = pid.trim().parse().unwrap();
            // The queue may still show the one before, which is gone.
            wait_until_it_sleeps(pid);
            running.assert_ended_by(pid, signal);
        }
    }
    assert!(!fixture.join("started").exists());
}

#[test]
fn ignored_signals_stay_ignored_while_waiting() {
    let fixture = fixture();
    let mut holder = fixture.hold_lock(&[]);
    let script = "trap '' HUP INT; exec \"$PENHOLDER\" exec x.db --timeout 60s \
                  'INSERT INTO entry VALUES (1, 1)'";
    let mut command = fixture.program("sh");
    command.args(["-c", script]);
    let mut running = Running::start(&fixture, command);
    running.wait_until_queued("exec");
    for name in ["HUP", "INT"] {
        peer::signal(running.pid(), name);
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(running.child.try_wait().unwrap().is_none());
    holder.send("go");
    let status = wait_for_exit(&mut running.child, wait::LIMIT);
    assert_eq!(status.code(), Some(0));
    assert_eq!(fixture.count_entries(), 1);
}

#[test]
fn a_wait_ends_at_a_signal_although_no_thread_can_start() {
    let fixture = fixture();
    let mut holder = fixture.hold_lock(&[]);
    for args in [WAITING[0], WAITING[2], WAITING[3], WAITING[5]] {
        for signal in SIGNALS {
            let Some(mut command) = fixture.command_with_threads(61_001, 1) else {
                return;
            };
            command.args(args);
            let mut running = Running::start(&fixture, command);
            running.wait_until_queued(args[0]);
            let pid = running.pid();
            let messages = running.assert_ended_by(pid, signal);
            assert!(!messages.contains("ended"), "{messages}");
        }
    }
    assert_eq!(fixture.count_entries(), 0);
    // Without a signal it does its work.
    let mut command = fixture.command_with_threads(61_001, 1).unwrap();
    command.args(WAITING[2]);
    let mut running = Running::start(&fixture, command);
    running.wait_until_queued("import");
    holder.send("go");
    let status = wait_for_exit(&mut running.child, wait::LIMIT);
    assert_eq!(status.code(), Some(0), "{}", fixture.read("messages"));
    assert_eq!(fixture.count_entries(), 1);
}
