//! Proves that what penholder says in typical situations is what was approved:
//! the texts that people read and search for.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;
mod snapshot;

use site::{Done, Site};
use snapshot::{assert_approved, numberless, steady};

/// What a command said, with its exit code.
fn shown(site: &Site, done: &Done) -> String {
    let text = format!(
        "exit code {}\n--- standard output\n{}--- standard error\n{}",
        done.code.unwrap(),
        done.out,
        done.err
    );
    steady(&text, &site.folder())
}

#[track_caller]
fn assert_shown(name: &str, site: &Site, args: &[&str]) {
    assert_approved(name, &shown(site, &site.run(args)));
}

#[test]
fn status() {
    let site = Site::with_table();
    assert_shown("status-free", &site, &["status", "x.db"]);
    let holder = site.hold(&["--label", "nightly"]);
    holder.signal("STOP");
    peer::until("the stop", || site.status()["holder"]["state"] == "stopped");
    assert_shown("status-stopped", &site, &["status", "x.db"]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    assert_shown(
        "timeout",
        &site,
        &["exec", "x.db", "--timeout", "20ms", sql],
    );
    assert_shown("run-timeout", &site, &["run", "x.db", "-n", "--", "true"]);
    holder.signal("CONT");
}

#[test]
fn top() {
    let site = Site::with_table();
    let top = ["top", "x.db", "--interval", "50ms", "--once"];
    assert_shown("top-free", &site, &top);
    let _holder = site.hold(&["--label", "nightly"]);
    let insert = "INSERT INTO entry VALUES (1, 1)";
    let patient = ["exec", "x.db", insert, "--timeout", "60s"];
    let _waiter = peer::Peer::spawn(site.command(patient));
    peer::until("it is in line", || {
        site.status()["queue"].as_array().unwrap().len() == 1
    });
    let text = shown(&site, &site.run(top));
    let lines = text.lines().map(|line| match line.contains("in line") {
        true => numberless(line).replace("N s", "Nms").replace("Ns", "Nms") + "\n",
        false => line.to_owned() + "\n",
    });
    assert_approved("top-held", &lines.collect::<String>());
}

#[test]
fn history() {
    let site = Site::with_table();
    let nothing = site.run(["history", "x.db"]);
    assert_approved("history-nothing", &shown(&site, &nothing));
    let holder = site.hold(&["--label", "nightly"]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    let hasty = ["exec", "x.db", "--timeout", "20ms", "--label", "hasty", sql];
    site.run(hasty).failed(75);
    drop(holder);
    let done = site.run(["history", "x.db", "--kind", "timeout"]);
    assert_approved("history", &numberless(&shown(&site, &done)));
}

#[test]
fn a_holder_without_a_record() {
    if !peer::has("flock") {
        return;
    }
    let site = Site::with_table();
    let mut command = site.program("flock");
    command.args(["db.lock", "sh", "-c", "echo held; read line"]);
    let plain = peer::Peer::spawn(command);
    plain.expect("held");
    assert_shown(
        "timeout-no-record",
        &site,
        &["checkpoint", "x.db", "--timeout", "1.5ms"],
    );
}

#[test]
fn a_stranger_inside_sqlite() {
    let site = Site::with_table();
    let Some(_stranger) = site.outsider() else {
        return;
    };
    let sql = "INSERT INTO entry VALUES (1, 1)";
    assert_shown("busy", &site, &["exec", "x.db", "--timeout", "20ms", sql]);
}

#[test]
fn sql() {
    let site = Site::with_table();
    let returning = "INSERT INTO entry VALUES (?1, ?2) RETURNING key, value";
    assert_shown(
        "exec",
        &site,
        &["exec", "x.db", returning, "1", "two words"],
    );
    let insert = "INSERT INTO entry VALUES (2, NULL)";
    assert_shown("exec-nothing-returned", &site, &["exec", "x.db", insert]);
    let select = "SELECT * FROM entry";
    assert_shown("query-csv", &site, &["query", "x.db", select]);
    assert_shown("query-json", &site, &["query", "x.db", select, "--json"]);
    assert_shown("query-table", &site, &["query", "x.db", select, "--table"]);
    assert_shown(
        "sql-error",
        &site,
        &["exec", "x.db", "INSERT INTO entry VALUE (1)"],
    );
    assert_shown("query-writes", &site, &["query", "x.db", insert]);
    let script = "INSERT INTO entry VALUES (3, 3); INSERT INTO nowhere VALUES (1)";
    assert_shown("script-error", &site, &["exec", "x.db", script]);
}

#[test]
fn import() {
    let site = Site::with_table();
    site.exec("CREATE TABLE part(id INTEGER PRIMARY KEY, name TEXT)");
    let write = |name: &str, text: &str| std::fs::write(site.at(name), text).unwrap();
    write("good.csv", "id,name\n1,bolt\n2,nut\n");
    write("refused.csv", "id,name\n3,screw\n2,nut\n4,washer\n");
    write("malformed.csv", "id,name\n5,bolt\n6\n");
    write("malformed.jsonl", "{\"id\": 7}\n{\"id\": 8, \"size\": 1}\n");
    let assert_steady = |name: &str, args: &[&str]| {
        let done = shown(&site, &site.run(args));
        let lines = done
            .lines()
            .map(|line| match line.contains("imported into") {
                true => numberless(line) + "\n",
                false => line.to_owned() + "\n",
            });
        let text = lines.collect::<String>().replace(", N a second", "");
        assert_approved(name, &text);
    };
    assert_steady("import", &["import", "x.db", "part", "good.csv"]);
    assert_steady("import-refused", &["import", "x.db", "part", "refused.csv"]);
    let malformed = ["import", "x.db", "part", "malformed.csv"];
    assert_steady("import-malformed", &malformed);
    let malformed = ["import", "x.db", "part", "malformed.jsonl"];
    assert_steady("import-malformed-json", &malformed);
    assert_steady("import-no-table", &["import", "x.db", "parts", "good.csv"]);
    assert_steady("import-no-format", &["import", "x.db", "part", "-"]);
    let again = ["import", "x.db", "part", "good.csv", "--atomic"];
    assert_steady("import-atomic", &again);
}

#[test]
fn maintenance() {
    let site = Site::with_table();
    assert_shown("checkpoint", &site, &["checkpoint", "x.db"]);
    assert_shown("vacuum", &site, &["vacuum", "x.db"]);
    assert_shown("backup", &site, &["backup", "x.db", "copy.db"]);
    assert_shown("backup-exists", &site, &["backup", "x.db", "copy.db"]);
}

#[test]
fn stress() {
    let site = Site::with_table();
    assert_shown("stress-refused", &site, &["stress", "x.db"]);
    let done = site.run(["stress", "new.db", "--processes", "2", "--writes", "5"]);
    // Whether a time is in µs, ms or s is chance.
    let unitless = |line: &str| line.replace("N ms", "N µs").replace("N s", "N µs");
    let text = numberless(&shown(&site, &done));
    let lines = text.lines().map(|line| match line.contains("longest") {
        true => unitless(line) + "\n",
        false => line.to_owned() + "\n",
    });
    assert_approved("stress", &lines.collect::<String>());
}

/// Without the lines that differ between machines.
#[test]
fn doctor() {
    let site = Site::with_table();
    let machine = |line: &&str| !line.contains("disk space") && !line.contains("SQLite version");
    let approve = |name: &str, args: &[&str]| {
        let shown = shown(&site, &site.run(args));
        let lines: Vec<&str> = shown.split('\n').filter(machine).collect();
        assert_approved(name, &lines.join("\n"));
    };
    approve("doctor-sound", &["doctor", "x.db", "--integrity"]);
    std::fs::hard_link(site.at("x.db"), site.at("second.db")).unwrap();
    std::fs::write(site.at("db.lockq"), "nonsense").unwrap();
    std::os::unix::fs::symlink("elsewhere", site.at("x.db-journal")).unwrap();
    approve("doctor-sick", &["doctor", "x.db"]);
    assert_shown("doctor-missing", &site, &["doctor", "missing.db"]);
}

#[test]
fn mistakes() {
    let site = Site::with_table();
    std::fs::write(site.at("letter.txt"), "Dear reader").unwrap();
    assert_shown("no-folder", &site, &["exec", "nowhere/x.db", "SELECT 1"]);
    assert_shown("no-database", &site, &["query", "letter.txt", "SELECT 1"]);
    assert_shown("in-memory", &site, &["exec", ":memory:", "SELECT 1"]);
    assert_shown(
        "no-unit",
        &site,
        &["exec", "x.db", "SELECT 1", "--timeout", "5"],
    );
    assert_shown("no-command", &site, &["run", "x.db"]);
    assert_shown(
        "not-found",
        &site,
        &["run", "x.db", "--", "no-such-program"],
    );
}

#[test]
fn every_approved_text_is_used() {
    let site = Site::new();
    let sources = ["help.rs", "outputs.rs"].map(|name| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        std::fs::read_to_string(folder.join(name)).unwrap()
    });
    drop(site);
    for name in snapshot::names() {
        let command = name.strip_prefix("help-").unwrap_or(&name);
        let used = |word: &str| {
            sources
                .iter()
                .any(|text| text.contains(&format!("\"{word}\"")))
        };
        assert!(used(&name) || used(command), "{name}.txt is left over");
    }
}
