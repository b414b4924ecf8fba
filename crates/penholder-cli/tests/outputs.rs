//! Proves that penholder prints the approved texts in typical situations: users read
//! them and search for them.
#![cfg(test)]

use std::fs;

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput};
use penholder_testkit::peer::Peer;
use penholder_testkit::snapshot::{Snapshots, mask_numbers, normalize};
use penholder_testkit::{requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");
/// The approved texts.
const SNAPSHOTS: Snapshots =
    Snapshots::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));

/// Returns the exit code and the output of a command as one text.
fn describe(fixture: &CommandFixture, output: &CommandOutput) -> String {
    let text = format!(
        "exit code {}\n--- standard output\n{}--- standard error\n{}",
        output.code.unwrap(),
        output.stdout,
        output.stderr
    );
    normalize(&text, &fixture.directory())
}

#[track_caller]
fn assert_output(name: &str, fixture: &CommandFixture, args: &[&str]) {
    SNAPSHOTS.assert_approved(name, &describe(fixture, &fixture.run(args)));
}

#[test]
fn status() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    assert_output("status-free", &fixture, &["status", "x.db"]);
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    holder.signal("STOP");
    wait::until("the holder is stopped", || {
        fixture.status()["holder"]["state"] == "stopped"
    });
    assert_output("status-stopped", &fixture, &["status", "x.db"]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    assert_output(
        "timeout",
        &fixture,
        &["exec", "x.db", "--timeout", "20ms", sql],
    );
    assert_output(
        "run-timeout",
        &fixture,
        &["run", "x.db", "-w", "0", "--", "true"],
    );
    holder.signal("CONT");
}

#[test]
fn top() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let top = ["top", "x.db", "--interval", "50ms", "--once"];
    assert_output("top-free", &fixture, &top);
    let _holder = fixture.hold_lock(&["--label", "nightly"]);
    let insert = "INSERT INTO entry VALUES (1, 1)";
    let long_wait = ["exec", "x.db", insert, "--timeout", "60s"];
    let _waiter = Peer::spawn(fixture.command(long_wait));
    wait::until("it is in the queue", || {
        fixture.status()["queue"].as_array().unwrap().len() == 1
    });
    let text = describe(&fixture, &fixture.run(top));
    let lines = text.lines().map(|line| match line.contains("waiter 1") {
        true => {
            mask_numbers(line)
                .replace("N s", "Nms")
                .replace("Ns", "Nms")
                + "\n"
        }
        false => line.to_owned() + "\n",
    });
    SNAPSHOTS.assert_approved("top-held", &lines.collect::<String>());
}

#[test]
fn history() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let output = fixture.run(["history", "x.db"]);
    SNAPSHOTS.assert_approved("history-nothing", &describe(&fixture, &output));
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    let short_wait = ["exec", "x.db", "--timeout", "20ms", "--label", "hasty", sql];
    fixture.run(short_wait).expect_failure(75);
    drop(holder);
    let output = fixture.run(["history", "x.db", "--kind", "timeout"]);
    SNAPSHOTS.assert_approved("history", &mask_numbers(&describe(&fixture, &output)));
}

#[test]
fn a_holder_without_a_record() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("flock");
    command.args(["db.lock", "sh", "-c", "echo held; read line"]);
    let flock = Peer::spawn(command);
    flock.expect("held");
    assert_output(
        "timeout-no-record",
        &fixture,
        &["checkpoint", "x.db", "--timeout", "1.5ms"],
    );
}

#[test]
fn an_outsider_inside_sqlite() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(_outsider) = fixture.outsider() else {
        return;
    };
    let sql = "INSERT INTO entry VALUES (1, 1)";
    assert_output(
        "busy",
        &fixture,
        &["exec", "x.db", "--timeout", "20ms", sql],
    );
}

#[test]
fn sql() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let returning = "INSERT INTO entry VALUES (?1, ?2) RETURNING key, value";
    assert_output(
        "exec",
        &fixture,
        &["exec", "x.db", returning, "1", "two words"],
    );
    let insert = "INSERT INTO entry VALUES (2, NULL)";
    assert_output("exec-nothing-returned", &fixture, &["exec", "x.db", insert]);
    let select = "SELECT * FROM entry";
    assert_output("query-csv", &fixture, &["query", "x.db", select]);
    assert_output("query-json", &fixture, &["query", "x.db", select, "--json"]);
    assert_output(
        "query-table",
        &fixture,
        &["query", "x.db", select, "--table"],
    );
    assert_output(
        "sql-error",
        &fixture,
        &["exec", "x.db", "INSERT INTO entry VALUE (1)"],
    );
    assert_output("query-writes", &fixture, &["query", "x.db", insert]);
    let script = "INSERT INTO entry VALUES (3, 3); INSERT INTO nowhere VALUES (1)";
    assert_output("script-error", &fixture, &["exec", "x.db", script]);
}

#[test]
fn import() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("CREATE TABLE part(id INTEGER PRIMARY KEY, name TEXT)");
    let write = |name: &str, text: &str| std::fs::write(fixture.join(name), text).unwrap();
    write("good.csv", "id,name\n1,bolt\n2,nut\n");
    write("refused.csv", "id,name\n3,screw\n2,nut\n4,washer\n");
    write("malformed.csv", "id,name\n5,bolt\n6\n");
    write("malformed.jsonl", "{\"id\": 7}\n{\"id\": 8, \"size\": 1}\n");
    let assert_import = |name: &str, args: &[&str]| {
        let text = describe(&fixture, &fixture.run(args));
        let lines = text
            .lines()
            .map(|line| match line.contains("imported into") {
                true => mask_numbers(line) + "\n",
                false => line.to_owned() + "\n",
            });
        let text = lines.collect::<String>().replace(", N per second", "");
        SNAPSHOTS.assert_approved(name, &text);
    };
    assert_import("import", &["import", "x.db", "part", "good.csv"]);
    assert_import("import-refused", &["import", "x.db", "part", "refused.csv"]);
    let malformed = ["import", "x.db", "part", "malformed.csv"];
    assert_import("import-malformed", &malformed);
    let malformed = ["import", "x.db", "part", "malformed.jsonl"];
    assert_import("import-malformed-json", &malformed);
    assert_import("import-no-table", &["import", "x.db", "parts", "good.csv"]);
    assert_import("import-no-format", &["import", "x.db", "part", "-"]);
    let again = ["import", "x.db", "part", "good.csv", "--atomic"];
    assert_import("import-atomic", &again);
}

#[test]
fn maintenance() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    assert_output("checkpoint", &fixture, &["checkpoint", "x.db"]);
    assert_output("vacuum", &fixture, &["vacuum", "x.db"]);
    assert_output("backup", &fixture, &["backup", "x.db", "copy.db"]);
    assert_output("backup-exists", &fixture, &["backup", "x.db", "copy.db"]);
    assert_output("restore", &fixture, &["restore", "x.db", "copy.db"]);
    assert_output("restore-itself", &fixture, &["restore", "x.db", "x.db"]);
}

#[test]
fn stress() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    assert_output("stress-refused", &fixture, &["stress", "x.db"]);
    fs::write(fixture.join("y.db-plain"), "").unwrap();
    let args = ["stress", "y.db", "--beside", "sqlite"];
    assert_output("stress-beside-exists", &fixture, &args);
    let args = ["stress", "new.db", "--processes", "2", "--writes", "5"];
    let beside = args.into_iter().chain(["--beside", "sqlite"]);
    assert_report("stress", &fixture, &fixture.run(args));
    assert_report("stress-beside", &fixture, &fixture.run(beside));
}

/// Ignores the numbers and their units.
fn assert_report(name: &str, fixture: &CommandFixture, output: &CommandOutput) {
    // The unit of a time, µs, ms or s, differs from run to run.
    let unitless = |line: &str| line.replace("N ms", "N µs").replace("N s", "N µs");
    let text = mask_numbers(&describe(fixture, output));
    let lines = text.lines().map(|line| match line.contains("longest") {
        true => unitless(line) + "\n",
        false => line.to_owned() + "\n",
    });
    SNAPSHOTS.assert_approved(name, &lines.collect::<String>());
}

/// Ignores the lines that differ between machines. Some name users and commands of Unix.
#[cfg(unix)]
#[test]
fn doctor() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let is_same_everywhere =
        |line: &&str| !line.contains("disk space") && !line.contains("SQLite version");
    let approve = |name: &str, args: &[&str]| {
        let text = describe(&fixture, &fixture.run(args));
        let lines: Vec<&str> = text.split('\n').filter(is_same_everywhere).collect();
        SNAPSHOTS.assert_approved(name, &lines.join("\n"));
    };
    approve("doctor-sound", &["doctor", "x.db", "--integrity"]);
    std::fs::hard_link(fixture.join("x.db"), fixture.join("second.db")).unwrap();
    std::fs::write(fixture.join("db.lockq"), "nonsense").unwrap();
    std::os::unix::fs::symlink("elsewhere", fixture.join("x.db-journal")).unwrap();
    approve("doctor-sick", &["doctor", "x.db"]);
    assert_output("doctor-missing", &fixture, &["doctor", "missing.db"]);
}

#[test]
fn mistakes() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    std::fs::write(fixture.join("letter.txt"), "Dear reader").unwrap();
    assert_output(
        "no-directory",
        &fixture,
        &["exec", "nowhere/x.db", "SELECT 1"],
    );
    assert_output(
        "no-database",
        &fixture,
        &["query", "letter.txt", "SELECT 1"],
    );
    assert_output("in-memory", &fixture, &["exec", ":memory:", "SELECT 1"]);
    assert_output(
        "no-time",
        &fixture,
        &["exec", "x.db", "SELECT 1", "--timeout", "soon"],
    );
    assert_output("no-command", &fixture, &["run", "x.db"]);
    assert_output(
        "not-found",
        &fixture,
        &["run", "x.db", "--", "no-such-program"],
    );
}

#[test]
fn every_approved_text_is_used() {
    let fixture = CommandFixture::new(PENHOLDER);
    let sources = ["help.rs", "outputs.rs"].map(|name| {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        std::fs::read_to_string(directory.join(name)).unwrap()
    });
    drop(fixture);
    for name in SNAPSHOTS.names() {
        let command = name.strip_prefix("help-").unwrap_or(&name);
        let used = |word: &str| {
            sources
                .iter()
                .any(|text| text.contains(&format!("\"{word}\"")))
        };
        assert!(used(&name) || used(command), "{name}.txt is not used");
    }
}
