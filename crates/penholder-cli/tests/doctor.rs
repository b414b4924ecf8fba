//! Proves that `penholder doctor` finds each kind of problem in a real situation, and
//! that an examination changes nothing.
#![cfg(test)]

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use penholder::rusqlite::Connection;
#[cfg(unix)]
use penholder_testkit::command_fixture::run_command;
use penholder_testkit::command_fixture::{
    CommandFixture, CommandOutput, PROMPT, field_names, parse_json,
};
use penholder_testkit::peer::Peer;
use penholder_testkit::{raw_file, requirement, wait};
use serde_json::{Value, json};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Every check of a sound database without `--integrity`.
const CHECKS: [&str; 18] = [
    "batch-table",
    "busy-timeout",
    "clock",
    "database",
    "disk-space",
    "file-system",
    "hard-links",
    "holder",
    "journal",
    "journal-mode",
    "leases",
    "mounts",
    "permissions",
    "queue-file",
    "sqlite-version",
    "synchronous",
    "unlocked-writers",
    "wal",
];

/// The output of `doctor --json`.
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    #[track_caller]
    fn of(output: &CommandOutput) -> Self {
        assert_eq!(output.stderr, "", "{output:?}");
        let json = parse_json(&output.stdout);
        assert_eq!(
            field_names(&json),
            ["database", "findings", "lock_file", "worst"]
        );
        let worst = ["ok", "info", "warning", "error"]
            .iter()
            .rposition(|&severity| {
                json["findings"]
                    .to_string()
                    .contains(&severity_field(severity))
            });
        let code = output.code.unwrap();
        assert_eq!(code, [0, 0, 3, 4][worst.unwrap()], "{json}");
        Self { code, json }
    }

    /// Returns the findings of one check, each as severity and text.
    fn of_check(&self, check: &str) -> Vec<(&str, &str)> {
        let findings = self.json["findings"].as_array().unwrap().iter();
        findings
            .filter(|finding| finding["check"] == check)
            .map(|finding| {
                let severity = finding["severity"].as_str().unwrap();
                let next = &finding["next"];
                assert_eq!(next.is_null(), severity == "ok", "{finding}");
                assert!(finding["why"].as_str().unwrap().len() > 20, "{finding}");
                (severity, finding["finding"].as_str().unwrap())
            })
            .collect()
    }

    /// Asserts that a check found something of this severity with these words.
    #[track_caller]
    fn assert_found(&self, check: &str, severity: &str, words: &str) {
        let found = self.of_check(check);
        let matches = |one: &(&str, &str)| one.0 == severity && one.1.contains(words);
        assert!(
            found.iter().any(matches),
            "{check}, {severity}, {words}: {}",
            self.json
        );
    }

    #[track_caller]
    fn assert_ok(&self, check: &str) {
        let found = self.of_check(check);
        assert!(!found.is_empty(), "{check}: {}", self.json);
        assert!(found.iter().all(|one| one.0 == "ok"), "{check}: {found:?}");
    }
}

fn severity_field(severity: &str) -> String {
    format!("\"severity\":\"{severity}\"")
}

#[track_caller]
fn examine(fixture: &CommandFixture) -> Report {
    examine_with(fixture, &[])
}

#[track_caller]
fn examine_with(fixture: &CommandFixture, options: &[&str]) -> Report {
    let args = ["doctor", "x.db", "--json"].into_iter();
    Report::of(&fixture.run(args.chain(options.iter().copied())))
}

/// Starts the `sqlite3` shell on the database and leaves it idle.
///
/// Returns `None`, and reports a skipped test, if it is not installed.
fn shell(fixture: &CommandFixture, options: &[&str]) -> Option<Peer> {
    requirement::has_program("sqlite3").then(|| {
        let mut command = fixture.program("sqlite3");
        command.arg("-batch").args(options).arg("x.db");
        let mut shell = Peer::spawn(command);
        ask(&mut shell, "SELECT count(*) * 0 FROM sqlite_schema;", "0");
        shell
    })
}

/// Runs SQL in the shell and asserts its answer.
fn ask(shell: &mut Peer, sql: &str, answer: &str) {
    shell.send(sql);
    shell.expect(answer);
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Creates a database with plain SQLite, in its default journal mode.
fn create_with_plain_sqlite(fixture: &CommandFixture) -> Connection {
    let connection = Connection::open(fixture.join("x.db")).unwrap();
    connection
        .execute_batch("CREATE TABLE entry(key, value)")
        .unwrap();
    connection
}

#[test]
fn a_sound_database_has_no_problems() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let report = examine(&fixture);
    assert_eq!((report.code, &report.json["worst"]), (0, &json!("ok")));
    assert_eq!(report.json["database"], json!(fixture.join("x.db")));
    assert_eq!(report.json["lock_file"], json!(fixture.join("db.lock")));
    let mut checks: Vec<&str> = Vec::new();
    for finding in report.json["findings"].as_array().unwrap() {
        let names = ["check", "finding", "next", "severity", "why"];
        assert_eq!(field_names(finding), names);
        checks.push(finding["check"].as_str().unwrap());
    }
    checks.sort_unstable();
    assert_eq!(checks, CHECKS);
    checks.iter().for_each(|check| report.assert_ok(check));
    let text = fixture.run(["doctor", "x.db"]).expect_quiet_success();
    assert!(text.ends_with("nothing is wrong\n"), "{text}");
}

#[cfg(unix)]
#[test]
fn the_table_fits_its_width() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::hard_link(fixture.join("x.db"), fixture.join("second.db")).unwrap();
    set_mode(&fixture.join("db.lock"), 0o600);
    let output = fixture.run(["doctor", "x.db", "--timeout", "0ms"]);
    assert_eq!((output.code, &*output.stderr), (Some(3), ""));
    let table = output.stdout.lines().skip(2);
    let longest = table.map(|line| line.chars().count()).max();
    assert!(longest.unwrap() <= 80, "{}", output.stdout);
    for words in ["warning", "why: ", "do: ", "0 errors, 3 warnings\n"] {
        assert!(output.stdout.contains(words), "{words}: {}", output.stdout);
    }
    let script = "\"$PENHOLDER\" doctor x.db --timeout 0ms || true";
    if let Some(shown) = fixture.run_on_terminal(script, &[("TERM", "xterm")]) {
        assert_eq!(shown.replace("\r\n", "\n"), output.stdout);
    }
}

/// A command that the table breaks into lines is there in one, too.
#[cfg(unix)]
#[test]
fn each_command_can_be_pasted() {
    use std::ffi::OsStr;

    let fixture = CommandFixture::new(PENHOLDER);
    let directory = fixture.join("a directory whose name does not fit into a cell\n\u{1b}[7m");
    fs::create_dir(&directory).unwrap();
    let db = directory.join("x.db");
    let create = [
        OsStr::new("exec"),
        OsStr::new("-q"),
        db.as_os_str(),
        OsStr::new("CREATE TABLE t(a)"),
    ];
    fixture.run(create).expect_quiet_success();
    set_mode(&directory.join("db.lock"), 0o600);
    let examined = || fixture.run([OsStr::new("doctor"), db.as_os_str()]).stdout;
    let text = examined();
    let command = text.lines().find(|line| line.starts_with("  chmod "));
    let command = command.unwrap_or_else(|| panic!("{text}"));
    let fixed = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(fixed.success(), "{command}");
    assert!(examined().ends_with("nothing is wrong\n"), "{}", examined());
}

#[cfg(unix)]
#[test]
fn a_closed_output_causes_no_panic() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let output =
        fixture.run_script("\"$PENHOLDER\" doctor x.db | true; \"$PENHOLDER\" doctor x.db >&-");
    assert!(!output.stderr.contains("panic"), "{output:?}");
}

#[test]
fn a_path_without_a_database_is_an_error() {
    let fixture = CommandFixture::new(PENHOLDER);
    fs::write(fixture.join("letter.txt"), "Dear reader").unwrap();
    fs::create_dir(fixture.join("directory")).unwrap();
    for (name, words) in [
        ("missing.db", "there is no such database"),
        ("directory", "a directory"),
        ("letter.txt", "not a database"),
    ] {
        for format in [&[][..], &["--json"]] {
            let args = ["doctor", name].into_iter();
            let message = fixture
                .run(args.chain(format.iter().copied()))
                .expect_failure(1);
            assert!(message.contains(words), "{message}");
        }
    }
    assert_eq!(
        fixture.file_names(),
        ["directory", "letter.txt"],
        "nothing is created"
    );
}

#[test]
fn another_journal_mode_is_found() {
    let fixture = CommandFixture::new(PENHOLDER);
    drop(create_with_plain_sqlite(&fixture));
    let report = examine(&fixture);
    report.assert_found("journal-mode", "warning", "DELETE, not WAL");
    assert_eq!(fixture.file_names(), ["x.db"], "nothing is created");
}

#[test]
fn a_busy_timeout_of_zero_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let report = examine_with(&fixture, &["--timeout", "0ms"]);
    report.assert_found("busy-timeout", "warning", "waits 0 ms");
    let report = examine_with(&fixture, &["--timeout", "2.5s"]);
    assert_eq!(report.of_check("busy-timeout")[0].0, "ok");
    assert!(report.of_check("busy-timeout")[0].1.contains("2500 ms"));
}

#[test]
fn an_exclusively_locked_database_is_found() {
    let fixture = CommandFixture::new(PENHOLDER);
    let connection = create_with_plain_sqlite(&fixture);
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let report = examine_with(&fixture, &["--timeout", "20ms"]);
    report.assert_found("database", "error", "database busy after 20ms");
}

#[test]
fn a_network_file_system_is_found() {
    if !requirement::has_program("bindfs") {
        return;
    }
    let fixture = CommandFixture::new(PENHOLDER);
    for name in ["real", "mounted"] {
        fs::create_dir(fixture.join(name)).unwrap();
    }
    let mounted = fixture.program("bindfs").args(["real", "mounted"]).status();
    if !mounted.unwrap().success() {
        requirement::skip("to mount FUSE, which is not allowed here");
        return;
    }
    let db = "mounted/x.db";
    let allowed = "--allow-network-fs";
    let created = fixture.run(["exec", db, allowed, "CREATE TABLE t(a)"]);
    let refused = fixture.run(["doctor", db, "--json"]);
    let lenient = fixture.run(["doctor", db, "--json", allowed]);
    let _ = fixture.program("umount").arg("mounted").status();
    created.expect_success();
    let refused = Report::of(&refused);
    refused.assert_found("file-system", "error", "network file system (fuse");
    assert!(refused.of_check("database").is_empty(), "it is not opened");
    Report::of(&lenient).assert_found("file-system", "warning", ", allowed");
}

#[cfg(unix)]
#[test]
fn wrong_permissions_are_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.run(["doctor", "x.db"]).expect_success();
    let permissions = fs::metadata(fixture.join("x.db")).unwrap().permissions();
    for name in ["x.db-wal", "x.db-shm", "db.lock", "db.lockq"] {
        set_mode(&fixture.join(name), 0o400);
        let report = examine(&fixture);
        let words = format!("{name} has mode 0400, the database 0");
        report.assert_found("permissions", "warning", &words);
        fs::set_permissions(fixture.join(name), permissions.clone()).unwrap();
        examine(&fixture).assert_ok("permissions");
    }
    set_mode(&fixture.join("x.db"), 0o666);
    let report = examine(&fixture);
    report.assert_found("permissions", "warning", "all users may write the database");
    set_mode(&fixture.join("x.db"), 0o444);
    let report = examine(&fixture);
    report.assert_found(
        "permissions",
        "warning",
        "no user may write the database (mode 0444",
    );
    fs::set_permissions(fixture.join("x.db"), permissions).unwrap();
    set_mode(&fixture.directory(), 0o777);
    let report = examine(&fixture);
    report.assert_found(
        "permissions",
        "warning",
        "all users may write the directory",
    );
    set_mode(&fixture.directory(), 0o1777);
    // The sticky bit keeps other users from replacing the files.
    examine(&fixture).assert_ok("permissions");
    set_mode(&fixture.directory(), 0o700);
}

#[cfg(unix)]
#[test]
fn owners_that_differ_are_found() {
    if !requirement::is_root() {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.run(["doctor", "x.db"]).expect_success();
    for name in ["x.db-wal", "x.db-shm", "db.lock", "db.lockq"] {
        chown(fixture.join(name), Some(12_345), None).unwrap();
        let words = format!("{name} belongs to user 12345 and group 0, the database to user 0");
        examine(&fixture).assert_found("permissions", "warning", &words);
        chown(fixture.join(name), Some(0), None).unwrap();
    }
    examine(&fixture).assert_ok("permissions");
}

#[test]
fn a_link_or_directory_in_place_of_a_sidecar_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("other"), "").unwrap();
    for name in ["x.db-wal", "x.db-shm", "db.lock", "db.lockq"] {
        let _ = fs::remove_file(fixture.join(name));
        if !raw_file::link(Path::new("other"), &fixture.join(name)) {
            return;
        }
        let report = examine(&fixture);
        let words = format!("{name} is a symbolic link");
        report.assert_found("permissions", "error", &words);
        fs::remove_file(fixture.join(name)).unwrap();
        fs::create_dir(fixture.join(name)).unwrap();
        let report = examine(&fixture);
        report.assert_found(
            "permissions",
            "error",
            &format!("{name} is not a regular file"),
        );
        fs::remove_dir(fixture.join(name)).unwrap();
    }
    fs::create_dir(fixture.join("db.lock")).unwrap();
    examine(&fixture).assert_found("holder", "error", "not a regular file");
}

/// Runs penholder as a user without rights, in a directory that all users may enter.
///
/// Returns `None`, and reports a skipped test, if that is not possible here.
#[cfg(unix)]
fn run_without_rights(fixture: &CommandFixture, args: &[&str]) -> Option<CommandOutput> {
    if !requirement::is_root() || !requirement::has_program("setpriv") {
        return None;
    }
    set_mode(&fixture.directory(), 0o755);
    // Other users may have no access to the directory of the build.
    fs::copy(PENHOLDER, fixture.join("penholder")).unwrap();
    let mut command = fixture.program("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg("./penholder").args(args);
    Some(run_command(&mut command, b"", wait::LIMIT))
}

#[cfg(unix)]
#[test]
fn missing_rights_of_this_user_are_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    set_mode(&fixture.join("x.db"), 0o600);
    let args = ["doctor", "x.db", "--json"];
    let Some(output) = run_without_rights(&fixture, &args) else {
        return;
    };
    let report = Report::of(&output);
    report.assert_found("database", "error", "this user may not read it");
    report.assert_found(
        "permissions",
        "error",
        "may not read the database (mode 0600, user 0",
    );
    report.assert_found(
        "permissions",
        "warning",
        "may not write the directory (mode 0755",
    );
    set_mode(&fixture.join("x.db"), 0o644);
    fixture.run(["doctor", "x.db"]);
    let report = Report::of(&run_without_rights(&fixture, &args).unwrap());
    report.assert_found(
        "permissions",
        "warning",
        "this user may not write the database",
    );
    report.assert_found("unlocked-writers", "ok", "root sees more");
    let Some(writer) = fixture.outsider() else {
        return;
    };
    let report = Report::of(&run_without_rights(&fixture, &args).unwrap());
    let words = format!("pid:{} (`sqlite3 ", writer.pid());
    report.assert_found("unlocked-writers", "info", &words);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_found() {
    if !requirement::is_root()
        || !requirement::has_program("unshare")
        || !requirement::has_program("mount")
    {
        return;
    }
    let fixture = CommandFixture::new(PENHOLDER);
    for (size, severity) in [("8m", "error"), ("40m", "warning"), ("200m", "ok")] {
        let script = format!(
            "mount -t tmpfs -o size={size} small . && cd \"$PWD\" && \
             \"$PENHOLDER\" exec x.db 'CREATE TABLE t(a)' 2>/dev/null && \
             \"$PENHOLDER\" doctor x.db --json"
        );
        let mut command = fixture.program("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let report = Report::of(&run_command(&mut command, b"", wait::LIMIT));
        report.assert_found("disk-space", severity, " free");
    }
    let script = "mount -t tmpfs -o size=200m,nr_inodes=8 small . && cd \"$PWD\" && \
                  \"$PENHOLDER\" exec x.db 'CREATE TABLE t(a)' 2>/dev/null && \
                  \"$PENHOLDER\" query x.db 'SELECT 1' >/dev/null && \
                  (i=0; while : 2>/dev/null >\"f$i\"; do i=$((i+1)); done) 2>/dev/null; \
                  \"$PENHOLDER\" doctor x.db --json";
    let mut command = fixture.program("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    let report = Report::of(&run_command(&mut command, b"", wait::LIMIT));
    report.assert_found("disk-space", "error", "no file can be created");
}

#[test]
fn a_second_name_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::hard_link(fixture.join("x.db"), fixture.join("second.db")).unwrap();
    examine(&fixture).assert_found("hard-links", "warning", "the file has 2 names");
    if requirement::has_program("sqlite3") {
        let mut command = fixture.program("sqlite3");
        command.args(["-batch", "second.db"]);
        let mut other = Peer::spawn(command);
        ask(&mut other, "SELECT count(*) FROM sqlite_schema;", "1");
        let words = format!("not attached to the lock: pid:{}", other.pid());
        let report = examine(&fixture);
        report.assert_found("unlocked-writers", "warning", &words);
        let words = "has the same file open as \"";
        report.assert_found("hard-links", "error", words);
    }
    fs::remove_file(fixture.join("second.db")).unwrap();
    if !raw_file::link(Path::new("x.db"), &fixture.join("link.db")) {
        return;
    }
    examine(&fixture).assert_ok("hard-links");
}

/// A database that is being created is open; one whose process was killed is left behind.
#[test]
fn a_creation_that_was_killed_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let endless = "CREATE TABLE t(a); INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL \
                   SELECT 1 FROM n) SELECT count(*) FROM n";
    let mut endless = Peer::spawn(fixture.command(["exec", "new.db", endless]));
    wait::until("it is created", || left_of_creations(&fixture) > 0);
    // Not penholder's, whatever its name.
    fs::write(fixture.join(".penholder-notes"), "").unwrap();
    assert_eq!(examine(&fixture).of_check("leftovers"), []);
    endless.kill();
    let report = examine(&fixture);
    report.assert_found("leftovers", "info", "is unfinished, and no process uses it");
    let findings = report.json["findings"].as_array().unwrap();
    let found = findings.iter().find(|one| one["check"] == "leftovers");
    let next = found.unwrap()["next"].as_str().unwrap();
    let command = next.split('`').nth(1).unwrap();
    if cfg!(windows) {
        return;
    }
    let removed = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(removed.success() && left_of_creations(&fixture) == 0);
    assert_eq!(examine(&fixture).of_check("leftovers"), []);
}

fn left_of_creations(fixture: &CommandFixture) -> usize {
    let names = fixture.file_names().into_iter();
    names
        .filter(|name| name.starts_with(".penholder-create-"))
        .count()
}

#[test]
fn a_journal_left_behind_is_found() {
    let fixture = CommandFixture::new(PENHOLDER);
    drop(create_with_plain_sqlite(&fixture));
    let Some(mut writer) = shell(&fixture, &[]) else {
        return;
    };
    // This is more than fits into its cache, so a part is written before the commit.
    let sql = "PRAGMA cache_size=2; BEGIN; \
               INSERT INTO entry SELECT value, randomblob(2000) FROM generate_series(1, 500); \
               SELECT 'written';";
    ask(&mut writer, sql, "written");
    let report = examine_with(&fixture, &["--timeout", "20ms"]);
    let words = format!("x.db-journal is in use by pid:{}", writer.pid());
    report.assert_found("journal", "info", &words);
    writer.kill();
    let report = examine(&fixture);
    report.assert_found(
        "journal",
        "error",
        "x.db-journal is hot: a transaction was interrupted",
    );
    report.assert_found("database", "error", "a transaction was interrupted");
    assert!(
        fixture.join("x.db-journal").exists(),
        "an examination rolls nothing back"
    );
    let next = report.json["findings"].to_string();
    assert!(next.contains("never delete it by hand"), "{next}");
    assert_eq!(fixture.count_entries(), 0, "plain SQLite rolls it back");
    examine(&fixture).assert_ok("journal");
}

#[test]
fn a_journal_next_to_a_wal_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let connection = Connection::open(fixture.join("x.db")).unwrap();
    connection
        .execute_batch("INSERT INTO entry VALUES (1, 1)")
        .unwrap();
    let magic = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    fs::write(
        fixture.join("x.db-journal"),
        [&magic[..], &[0; 504]].concat(),
    )
    .unwrap();
    let report = examine(&fixture);
    report.assert_found("journal", "error", "one of them is from another database");
    fs::write(fixture.join("x.db-journal"), [0; 512]).unwrap();
    let report = examine(&fixture);
    assert_eq!(report.of_check("journal")[0].0, "ok");
}

#[test]
fn a_wal_that_a_reader_keeps_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut reader) = shell(&fixture, &["-readonly"]) else {
        return;
    };
    ask(&mut reader, "BEGIN; SELECT count(*) FROM entry;", "0");
    let words = format!("held by pid:{} (`sqlite3 ", reader.pid());
    examine(&fixture).assert_found("wal", "info", &words);
    fixture.exec("INSERT INTO entry VALUES (1, randomblob(40000000))");
    let report = examine(&fixture);
    report.assert_found("wal", "warning", &words);
    report.assert_found("wal", "warning", " MB; held by");
    ask(&mut reader, "COMMIT; SELECT 'ended';", "ended");
    let report = examine(&fixture);
    report.assert_found("wal", "info", "no process reads from it for long");
    drop(reader);
}

#[test]
fn a_stopped_holder_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    let report = examine_with(&fixture, &["--timeout", "1m"]);
    report.assert_found("holder", "ok", "label: nightly");
    holder.stop();
    let report = examine_with(&fixture, &["--timeout", "1m"]);
    report.assert_found("holder", "error", ", stopped, held ");
    if cfg!(unix) {
        let next = report.json["findings"][0]["next"].as_str().unwrap();
        let command = format!("kill -CONT {}", holder.pid());
        assert!(next.contains(&command), "{next}");
    }
    holder.signal("CONT");
}

#[test]
fn a_long_hold_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    let insert = [
        "exec",
        "x.db",
        "--timeout",
        "1m",
        "INSERT INTO entry VALUES (1, 1)",
    ];
    let _waiting = Peer::spawn(fixture.command(insert));
    wait::until("a process waits", || {
        !fixture.status()["queue"].as_array().unwrap().is_empty()
    });
    wait::until("the hold is long", || {
        fixture.status()["holder"]["held_s"].as_f64().unwrap() > 0.1
    });
    let report = examine_with(&fixture, &["--timeout", "100ms"]);
    report.assert_found(
        "holder",
        "warning",
        &format!("held by pid:{}", holder.pid()),
    );
    report.assert_found("holder", "warning", ", longer than others wait; 1 wait");
}

#[test]
fn a_holder_without_a_record_is_found() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("flock");
    command.args(["db.lock", "sh", "-c", "echo held; read line"]);
    let flock = Peer::spawn(command);
    flock.expect("held");
    examine(&fixture).assert_found("holder", "info", "it left no record");
}

/// Changes one word of the queue file.
fn set_word(fixture: &CommandFixture, offset: u64, word: u64) {
    let file = fs::File::options()
        .write(true)
        .open(fixture.join("db.lockq"));
    raw_file::write_at(&file.unwrap(), &word.to_ne_bytes(), offset).unwrap();
}

#[test]
fn an_invalid_queue_file_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let queue_file = fs::read(fixture.join("db.lockq")).unwrap();
    for (offset, word, words) in [
        (0, 7, "db.lockq is not a queue file"),
        (
            8,
            9,
            "db.lockq has version 9, and this program uses version ",
        ),
        (32, 7, "db.lockq was built in another boot of the machine"),
    ] {
        fs::write(fixture.join("db.lockq"), &queue_file).unwrap();
        set_word(&fixture, offset, word);
        let report = examine(&fixture);
        report.assert_found("queue-file", "warning", words);
        assert_eq!(report.of_check("queue-file").len(), 1);
    }
    fs::write(fixture.join("db.lockq"), "short").unwrap();
    examine(&fixture).assert_found("queue-file", "warning", "db.lockq is too short");
    fs::remove_file(fixture.join("db.lockq")).unwrap();
    fs::create_dir(fixture.join("db.lockq")).unwrap();
    let words = match cfg!(windows) {
        true => "db.lockq: it is a directory",
        false => "db.lockq is not a regular file",
    };
    examine(&fixture).assert_found("queue-file", "warning", words);
    fs::remove_dir(fixture.join("db.lockq")).unwrap();
    examine(&fixture).assert_found("queue-file", "ok", "no db.lockq");
    fs::write(fixture.join("db.lockq"), &queue_file[..]).unwrap();
    examine(&fixture).assert_found("queue-file", "ok", "in use");
}

#[test]
fn leases_and_their_gaps_are_found() {
    // The first entry of a database: its epoch, and what is counted.
    const ENTRY: u64 = 32_768;
    let word = |number: u64| ENTRY + 8 * number;
    let fixture = CommandFixture::with_table(PENHOLDER);
    examine(&fixture).assert_found("leases", "ok", "none so far");
    for (number, value) in [(2, 7), (22, 3), (23, 32), (32, 5)] {
        set_word(&fixture, word(number), value);
    }
    let report = examine(&fixture);
    report.assert_found("leases", "ok", "3 so far, with 10 writes each on average");
    set_word(&fixture, word(33), 2);
    let words = "programs without the lock wrote in 2 of the 5 gaps that were left to them";
    examine(&fixture).assert_found("leases", "info", words);
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

#[test]
fn a_clock_that_jumped_is_found() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const BUILT: u64 = 40;
    const EVENTS: u64 = 8192;
    let fixture = CommandFixture::with_table(PENHOLDER);
    let now = SystemTime::now();
    set_word(&fixture, BUILT, nanos(now + DAY));
    examine(&fixture).assert_found("clock", "warning", "built in the future");
    set_word(&fixture, BUILT, nanos(now - 20 * 365 * DAY));
    examine(&fixture).assert_found("clock", "warning", "older than this boot");
    set_word(&fixture, BUILT, nanos(now));
    examine(&fixture).assert_ok("clock");
    // Two timeouts: the clock was set back between them.
    for (number, time) in [(1, now - DAY), (2, now - 2 * DAY)] {
        let event = EVENTS + (number - 1) * 128;
        for (place, word) in [number, 2, nanos(time), 4242].into_iter().enumerate() {
            set_word(&fixture, event + place as u64 * 8, word);
        }
    }
    examine(&fixture).assert_found("clock", "warning", "events are out of order");
}

#[test]
fn a_hold_from_the_future_is_found() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("flock");
    command.args(["--no-fork", "db.lock", "sh", "-c", "echo held; read line"]);
    let flock = Peer::spawn(command);
    flock.expect("held");
    let record = format!("pid:{}\ntime:2999-01-01T00:00:00.000Z\n", flock.pid());
    let lock = fs::File::options()
        .write(true)
        .open(fixture.join("db.lock"));
    raw_file::write_at(&lock.unwrap(), record.as_bytes(), 0).unwrap();
    examine(&fixture).assert_found("clock", "warning", "took the lock in the future");
}

#[test]
fn writers_without_the_lock_are_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(idle) = shell(&fixture, &[]) else {
        return;
    };
    let report = examine(&fixture);
    let words = format!("not attached to the lock: pid:{} (`sqlite3 ", idle.pid());
    report.assert_found("unlocked-writers", "warning", &words);
    drop(idle);
    examine(&fixture).assert_ok("unlocked-writers");
    let writer = fixture.outsider().unwrap();
    let words = format!(
        "pid:{} (`sqlite3 -batch x.db`, sleeping) is writing now",
        writer.pid()
    );
    wait::until("it sleeps", || {
        let report = examine(&fixture);
        report
            .of_check("unlocked-writers")
            .iter()
            .any(|one| one.1.starts_with(&words))
    });
    examine(&fixture).assert_found("unlocked-writers", "warning", &words);
    writer.stop();
    examine(&fixture).assert_found("unlocked-writers", "error", "stopped) is writing now");
}

#[test]
fn readers_and_processes_under_the_lock_are_not_outsiders() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(reader) = shell(&fixture, &["-readonly"]) else {
        return;
    };
    examine(&fixture).assert_ok("unlocked-writers");
    drop(reader);
    let assert_ok_under = |mut command: Command| {
        command.args(["sqlite3", "-batch", "x.db"]);
        let mut reader = Peer::spawn(command);
        ask(&mut reader, "SELECT count(*) FROM sqlite_schema;", "1");
        examine(&fixture).assert_ok("unlocked-writers");
        reader.close();
    };
    assert_ok_under(fixture.command(["run", "x.db", "--"]));
    if requirement::has_program("flock") {
        let mut command = fixture.program("flock");
        command.arg("db.lock");
        assert_ok_under(command);
    }
}

#[test]
fn a_child_is_under_the_lock_only_while_its_parent_holds_it() {
    if !requirement::has_program("sqlite3") || !requirement::has_program("flock") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("sh");
    let script = "exec 9>>db.lock; sqlite3 -batch x.db 9>&-";
    command.args(["-c", script]);
    let mut parent = Peer::spawn(command);
    ask(&mut parent, "SELECT count(*) FROM sqlite_schema;", "1");
    examine(&fixture).assert_found(
        "unlocked-writers",
        "warning",
        "not attached to the lock: pid:",
    );
    parent.close();
}

#[cfg(unix)]
#[test]
fn processes_that_come_and_go_are_not_outsiders() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\
        (while [ -e x.db ] && [ ! -e enough ]; do \"$PENHOLDER\" exec x.db --timeout 1m \
           'INSERT INTO entry VALUES (1, 1)' 2>/dev/null; done) &\n\
        (while [ -e x.db ] && [ ! -e enough ]; do \"$PENHOLDER\" query x.db --timeout 1m \
           'SELECT count(*) FROM entry' >/dev/null; done) &\n\
        echo busy; read line; touch enough; wait";
    let mut command = fixture.program("sh");
    command.args(["-c", script]);
    let mut busy = Peer::spawn(command);
    busy.expect("busy");
    for _ in 0..20 {
        let report = examine_with(&fixture, &["--timeout", "1m"]);
        assert_eq!(report.code, 0, "{}", report.json);
    }
    busy.send("end");
    busy.wait();
    assert!(fixture.count_entries() > 0);
}

#[test]
fn a_process_with_the_deleted_file_open_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(old) = shell(&fixture, &[]) else {
        return;
    };
    fs::copy(fixture.join("x.db"), fixture.join("new.db")).unwrap();
    fs::rename(fixture.join("new.db"), fixture.join("x.db")).unwrap();
    let words = format!("is open in pid:{} ", old.pid());
    examine(&fixture).assert_found("replaced", "error", &words);
}

#[test]
fn a_process_with_a_deleted_wal_or_index_open_is_found() {
    for suffix in ["-wal", "-shm"] {
        let fixture = CommandFixture::with_table(PENHOLDER);
        let Some(old) = shell(&fixture, &[]) else {
            return;
        };
        fs::remove_file(fixture.join(format!("x.db{suffix}"))).unwrap();
        let words = format!(
            "older x.db{suffix}, which was deleted, is open in pid:{} ",
            old.pid()
        );
        examine(&fixture).assert_found("replaced", "error", &words);
    }
}

#[test]
fn a_process_that_writes_the_wal_for_a_database_moved_aside_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(old) = shell(&fixture, &[]) else {
        return;
    };
    fs::copy(fixture.join("x.db"), fixture.join("new.db")).unwrap();
    fs::rename(fixture.join("x.db"), fixture.join("aside.db")).unwrap();
    fs::rename(fixture.join("new.db"), fixture.join("x.db")).unwrap();
    let words = format!("together with another database file, in pid:{} ", old.pid());
    examine(&fixture).assert_found("replaced", "error", &words);
}

#[test]
fn affected_versions_of_sqlite_are_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for program in ["sqlite3", "python3"] {
        if !requirement::has_program(program) {
            continue;
        }
        let mut command = fixture.program(program);
        let script = "import sqlite3\nc = sqlite3.connect('x.db')\nc.execute('SELECT * FROM entry')\n\
                      print(sqlite3.sqlite_version, flush=True)\ninput()";
        match program {
            "sqlite3" => command.args(["-batch", "x.db"]),
            _ => command.args(["-c", script]),
        };
        let mut other = Peer::spawn(command);
        if program == "sqlite3" {
            other.send("SELECT sqlite_version() FROM (SELECT count(*) FROM entry);");
        }
        let version = other.read_line();
        let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap());
        let number = [(); 3].map(|()| numbers.next().unwrap());
        let affected = number < [3, 51, 3] && ![[3, 44, 6], [3, 50, 7]].contains(&number);
        let severity = if affected { "warning" } else { "ok" };
        let words = format!("{version} in pid:{} (`", other.pid());
        examine(&fixture).assert_found("sqlite-version", severity, &words);
    }
    if cfg!(windows) {
        return; // the kernel does not tell which programs have a library loaded
    }
    let holder = fixture.hold_lock(&[]);
    let words = format!("{} in pid:{}", penholder::sqlite_version(), holder.pid());
    examine_with(&fixture, &["--timeout", "1m"]).assert_found("sqlite-version", "ok", &words);
}

#[cfg(unix)]
#[test]
fn a_version_that_cannot_be_determined_is_reported_as_unknown() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("sh");
    command.args(["-c", "exec 3<>x.db; echo open; read line"]);
    let unknown = Peer::spawn(command);
    unknown.expect("open");
    let words = format!("unknown in pid:{}", unknown.pid());
    examine(&fixture).assert_found("sqlite-version", "info", &words);
}

#[test]
fn corruption_is_found_when_asked_for() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sql = "INSERT INTO entry VALUES (NULL, 1); PRAGMA writable_schema=1; \
               UPDATE sqlite_schema SET sql='CREATE TABLE entry(key NOT NULL, value)'";
    let connection = Connection::open(fixture.join("x.db")).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let report = examine(&fixture);
    assert!(report.of_check("integrity").is_empty(), "not asked for");
    let report = examine_with(&fixture, &["--integrity"]);
    report.assert_found("integrity", "error", "NULL value in entry.key");
    report.assert_ok("foreign-keys");

    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("CREATE INDEX by_key ON entry(key)");
    let sql = "SELECT rootpage - 1 FROM sqlite_schema WHERE name = 'by_key'";
    let page = u64::try_from(fixture.number(sql)).unwrap();
    let file = fs::File::options().write(true).open(fixture.join("x.db"));
    raw_file::write_at(&file.unwrap(), &[0xAA; 4096], page * 4096).unwrap();
    let report = examine_with(&fixture, &["--integrity"]);
    assert_eq!(report.of_check("integrity")[0].0, "error");
    assert_eq!(report.code, 4);
}

#[test]
fn rows_that_refer_to_nothing_are_found_when_asked_for() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("CREATE TABLE owner(id INTEGER PRIMARY KEY)");
    fixture.exec("CREATE TABLE thing(owner REFERENCES owner)");
    let connection = Connection::open(fixture.join("x.db")).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys=0; INSERT INTO thing VALUES (7)")
        .unwrap();
    drop(connection);
    let report = examine_with(&fixture, &["--integrity"]);
    report.assert_ok("integrity");
    report.assert_found(
        "foreign-keys",
        "warning",
        "thing row 1 refers to no row of owner",
    );
}

#[test]
fn a_schema_that_cannot_be_checked_is_found() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("CREATE TABLE thing(owner REFERENCES entry(key))");
    let report = examine_with(&fixture, &["--integrity"]);
    report.assert_found("foreign-keys", "error", "foreign key mismatch");
}

#[test]
fn an_examination_takes_no_lock_and_does_not_wait() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    let (report, time) = wait::timed(|| examine_with(&fixture, &["--timeout", "1m"]));
    assert!(time < PROMPT, "{time:?}");
    assert_eq!(report.code, 0, "{}", report.json);
    drop(holder);
    if !requirement::has_program("flock") {
        return;
    }
    let script = "\
        (while [ -e x.db ] && [ ! -e enough ]; do \"$PENHOLDER\" doctor x.db >/dev/null || echo bad; done) &\n\
        for i in $(seq 100); do flock -n db.lock true || echo refused; done\n\
        touch enough; wait";
    assert_eq!(fixture.run_script(script).expect_quiet_success(), "");
}

#[test]
fn another_lock_file_is_examined() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--lock-file", "other.lock"]);
    let other = ["--lock-file", "other.lock", "--timeout", "1m"];
    let report = examine_with(&fixture, &other);
    report.assert_found("holder", "ok", &format!("pid:{}", holder.pid()));
    assert_eq!(report.json["lock_file"], json!(fixture.join("other.lock")));
    examine(&fixture).assert_found("holder", "ok", "free");
}
