//! Proves that `penholder top` shows who holds and who waits, on a terminal and on a
//! pipe, and gives the terminal back on every way out.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;
mod terminal;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use peer::Peer;
use site::{Site, is_root};
use terminal::Terminal;

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

fn top(site: &Site) -> Command {
    site.command(["top", "x.db", "--interval", "50ms"])
}

/// On a terminal, where it shows something; `None` if none can be had, which is said.
fn shown(site: &Site) -> Option<Terminal> {
    let top = Terminal::start(&top(site))?;
    top.until("its keys", |shown| shown.contains("q quit"));
    Some(top)
}

/// Somebody in line, with a label.
fn waits(site: &Site, label: &str) -> Peer {
    let args = ["exec", "x.db", INSERT, "--timeout", "60s", "--label", label];
    let waiter = Peer::spawn(site.command(args));
    peer::until("it is in line", || {
        let status = site.status();
        let mut queue = status["queue"].as_array().unwrap().iter();
        queue.any(|place| place["pid"] == waiter.pid())
    });
    waiter
}

/// The row that begins with these words.
fn row<'a>(shown: &'a str, begin: &str) -> Option<&'a str> {
    shown
        .lines()
        .find(|line| line.trim_start().starts_with(begin))
}

#[test]
fn the_holder_and_the_line_are_shown_live() {
    let site = Site::with_table();
    let Some(mut top) = shown(&site) else {
        return;
    };
    assert!(top.is_taken_over() && top.is_raw() && !top.shows_cursor());
    top.until("nobody", |shown| shown.contains("free, 0 in line"));
    let mut holder = site.hold(&["--label", "nightly"]);
    let begin = format!("pen {}", holder.pid());
    top.until("the holder", |shown| {
        let row = row(shown, &begin).unwrap_or_default();
        row.contains(" nightly ") && row.contains(" penholder run x.db")
    });
    top.until("its hold", |shown| shown.contains("held, 0 in line"));
    let mut waiter = waits(&site, "patient");
    let begin = format!("1   {}", waiter.pid());
    top.until("the waiter", |shown| {
        row(shown, &begin).is_some_and(|row| row.contains(" patient ") && row.contains(" 59."))
    });
    top.until("the line", |shown| shown.contains("held, 1 in line"));
    holder.stop();
    top.until("the stop", |shown| {
        row(shown, "pen ").is_some_and(|row| row.contains(" STOPPED "))
    });
    holder.signal("CONT");
    holder.tell("go");
    assert!(holder.ended().success() && waiter.ended().success());
    top.until("nobody again", |shown| shown.contains("free, 0 in line"));
    top.until("what was counted", |shown| {
        shown.contains(" 1 waited for, 0 timeouts")
    });
    top.types("q");
    assert_eq!(top.ended().code(), Some(0));
    top.assert_given_back();
}

#[test]
fn what_happens_is_shown() {
    let site = Site::with_table();
    let Some(top) = shown(&site) else {
        return;
    };
    let _holder = site.hold(&[]);
    let hasty = [
        "exec",
        "x.db",
        INSERT,
        "--timeout",
        "20ms",
        "--label",
        "hasty",
    ];
    site.run(hasty).failed(75);
    top.until("the event", |shown| {
        shown.contains(" (hasty) gave up after ")
    });
    let log = fs::metadata(site.at("x.db-wal")).map_or(0, |log| log.len());
    assert!(
        log == 0 || top.shows().contains("log (-wal) "),
        "{}",
        top.shows()
    );
}

#[test]
fn how_busy_it_is_is_drawn() {
    let site = Site::with_table();
    let Some(top) = shown(&site) else {
        return;
    };
    let args = ["stress", "y.db", "--processes", "4", "--writes", "20000"];
    let mut stress = Peer::spawn(site.command(args));
    top.until("bars", |shown| {
        shown.contains('█') && !shown.contains("taken 0/s")
    });
    stress.kill();
}

#[test]
fn keys_select_show_and_pause() {
    let site = Site::with_table();
    let holder = site.hold(&["--label", "nightly"]);
    let waiter = waits(&site, "patient");
    let Some(mut top) = shown(&site) else {
        return;
    };
    top.types("d");
    let pid = format!("pid      {}", holder.pid());
    top.until("the holder's detail", |shown| {
        shown.contains(&pid)
            && shown.contains("holds the lock")
            && shown.contains("sh -c echo held; read line;")
    });
    top.types("\x1b[B");
    let pid = format!("pid      {}", waiter.pid());
    top.until("the waiter's detail", |shown| {
        shown.contains(&pid) && shown.contains("is number 1 in line")
    });
    // The last one stays selected.
    top.types("j\x1b[A\x1b[A");
    top.until("the first again", |shown| shown.contains("holds the lock"));
    top.types("j");
    top.until("the waiter's again", |shown| {
        shown.contains("is number 1 in line")
    });
    drop(waiter);
    top.until("its end", |shown| {
        shown.contains("neither holds the lock nor waits")
    });
    let waiter = waits(&site, "next");
    top.types("\x1b");
    top.until("no detail", |shown| !shown.contains("holds the lock"));
    top.until("the next", |shown| shown.contains("held, 1 in line"));
    top.types("p");
    top.until("the pause", |shown| shown.contains("PAUSED"));
    drop(waiter);
    peer::until("it is gone", || {
        site.status()["queue"].as_array().unwrap().is_empty()
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(top.shows().contains("held, 1 in line"), "{}", top.shows());
    top.types(" ");
    top.until("what became of it", |shown| {
        shown.contains("held, 0 in line")
    });
}

#[test]
fn any_size_will_do() {
    let site = Site::with_table();
    let _holder = site.hold(&["--label", "nightly"]);
    let _waiter = waits(&site, "patient");
    let Some(mut top) = shown(&site) else {
        return;
    };
    top.types("d");
    for size in [(1, 1), (2, 80), (24, 2), (5, 20), (60, 200), (1000, 1000)] {
        top.resizes(size);
        std::thread::sleep(Duration::from_millis(150));
    }
    top.types("d");
    top.resizes((40, 120));
    top.until("all of it", |shown| {
        let wide = shown.lines().any(|line| line.chars().count() > 110);
        wide && shown.lines().count() == 40 && shown.contains("held, 1 in line")
    });
    top.resizes((24, 80));
    top.until("as before", |shown| {
        shown.lines().count() == 24 && shown.contains("held, 1 in line")
    });
    top.types("q");
    assert_eq!(top.ended().code(), Some(0));
    top.assert_given_back();
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    let site = Site::with_table();
    for keys in ["q", "\x1b", "\x03"] {
        let Some(mut top) = shown(&site) else {
            return;
        };
        top.types(keys);
        assert_eq!(top.ended().code(), Some(0), "{keys:?}");
        top.assert_given_back();
    }
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3)] {
        let mut top = shown(&site).unwrap();
        top.signal(signal);
        assert_eq!(top.ended().signal(), Some(number));
        top.assert_given_back();
    }
}

#[test]
fn keys_are_heard_past_another_standard_input() {
    let site = Site::with_table();
    let mut command = site.program("sh");
    command.args(["-c", "exec \"$PENHOLDER\" top x.db </dev/null"]);
    let Some(mut top) = Terminal::start(&command) else {
        return;
    };
    top.until("its keys", |shown| shown.contains("q quit"));
    top.types("q");
    assert_eq!(top.ended().code(), Some(0));
    top.assert_given_back();
}

#[test]
fn it_ends_with_its_window() {
    let site = Site::with_table();
    let Some(mut top) = shown(&site) else {
        return;
    };
    top.hangs_up();
    // By the signal, or because it could not draw any more, whichever it saw first.
    let status = top.ended();
    assert!(
        status.signal() == Some(1) || status.code() == Some(1),
        "{status:?}"
    );
}

#[test]
fn a_terminal_that_takes_nothing_more_keeps_it_from_nothing() {
    let site = Site::with_table();
    let _holder = site.hold(&[]);
    let Some(mut top) = shown(&site) else {
        return;
    };
    top.reads_no_more();
    // Each new size draws all anew: so many kilobytes later it waits in its `write`.
    for rows in 0..60 {
        top.resizes((100 + rows, 200));
        std::thread::sleep(Duration::from_millis(60));
    }
    top.signal("TERM");
    assert_eq!(top.ended().signal(), Some(15));
    assert!(!top.is_raw());
}

#[test]
fn no_color_is_respected() {
    let site = Site::with_table();
    let holder = site.hold(&[]);
    holder.stop();
    for (value, wanted) in [("", true), ("1", false)] {
        let mut command = top(&site);
        command.env("NO_COLOR", value);
        let Some(mut top) = Terminal::start(&command) else {
            return;
        };
        top.until("the stop", |shown| shown.contains("STOPPED"));
        top.types("q");
        assert_eq!(top.ended().code(), Some(0));
        let written = top.written();
        // The stopped one is red, and what is black on white.
        assert_eq!(written.contains("38;5;1"), wanted, "{written:?}");
    }
}

#[test]
fn a_lock_file_that_cannot_be_read_is_said_and_outlived() {
    let site = Site::with_table();
    let Some(top) = shown(&site) else {
        return;
    };
    fs::rename(site.at("db.lock"), site.at("away")).unwrap();
    std::os::unix::fs::symlink("away", site.at("db.lock")).unwrap();
    top.until("the trouble", |shown| shown.contains("open lock file: "));
    fs::remove_file(site.at("db.lock")).unwrap();
    fs::rename(site.at("away"), site.at("db.lock")).unwrap();
    top.until("the end of it", |shown| !shown.contains("open lock file: "));
}

#[test]
fn on_a_pipe_it_prints_one_text() {
    let site = Site::with_table();
    let holder = site.hold(&["--label", "nightly"]);
    let waiter = waits(&site, "patient");
    for options in [&["--once"][..], &["--once", "--interval", "50ms"], &[]] {
        let text = site.run(["top", "x.db"].iter().chain(options)).quiet();
        let begin = format!("held by pid:{} since ", holder.pid());
        assert!(text.starts_with(&begin), "{text}");
        let line = format!("  1. in line: pid:{} (`penholder exec", waiter.pid());
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("  lately taken 0 times a second, "), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}

#[test]
fn on_a_terminal_it_prints_one_text_if_told() {
    let site = Site::with_table();
    for (script, term) in [("top x.db --once", "xterm"), ("top x.db", "dumb")] {
        let script = format!("\"$PENHOLDER\" {script}");
        let Some(text) = site.terminal(&script, &[("TERM", term)]) else {
            return;
        };
        assert!(
            text.starts_with("free\r\n") && !text.contains('\x1b'),
            "{text:?}"
        );
    }
}

#[test]
fn on_a_pipe_with_an_interval_it_goes_on_until_nobody_reads() {
    let site = Site::with_table();
    let script = "\"$PENHOLDER\" top x.db --interval 50ms | grep -m 3 free";
    assert_eq!(site.shell(script).quiet(), "free\nfree\nfree\n");
    let mut top = Peer::spawn(top(&site));
    top.expect("free");
    top.signal("TERM");
    assert_eq!(top.ended().signal(), Some(15));
}

#[test]
fn bad_input_is_refused() {
    let site = Site::with_table();
    for interval in ["1", "1ms", "-1s", "2h", "soon"] {
        let message = site.run(["top", "x.db", "--interval", interval]).failed(2);
        assert!(message.contains("--interval"), "{message}");
    }
    let message = Site::new().run(["top", "x.db"]).failed(1);
    assert!(
        message.contains("top: x.db: there is no such database"),
        "{message}"
    );
}

#[test]
fn looking_makes_and_changes_nothing() {
    let site = Site::with_table();
    fs::remove_file(site.at("db.lockq")).unwrap();
    let before = site.files();
    let text = site
        .run(["top", "x.db", "--once", "--interval", "50ms"])
        .quiet();
    assert!(text.contains("no queue: no process has made one"), "{text}");
    assert_eq!(site.files(), before);
}

/// To read the kernel's table of locks stalls all who lock: a pipe that nobody writes
/// stands in its place, and whoever opens it waits for ever.
#[test]
fn the_table_of_locks_is_not_read() {
    let site = Site::with_table();
    if !is_root() || !peer::has("unshare") {
        return;
    }
    let _holder = site.hold(&["--label", "nightly"]);
    let script = "mkfifo none && mount --bind none /proc/locks || { echo none; exit; }
        timeout 20 \"$PENHOLDER\" top x.db --once --interval 50ms
        timeout 1 \"$PENHOLDER\" status x.db; echo \"status: $?\"";
    let mut unshare = site.program("unshare");
    unshare.args(["--mount", "sh", "-c", script]);
    let done = site::finish(&mut unshare, b"", peer::PATIENCE);
    if done.code != Some(0) || done.out == "none\n" {
        peer::skip("mount namespaces, which are not allowed here");
        return;
    }
    assert!(done.out.contains("label: nightly"), "{done:?}");
    assert!(done.out.ends_with("status: 124\n"), "status does: {done:?}");
}

/// A program under `strace` as the kernel sees it: no lock is taken or probed, and the
/// database is not opened.
#[test]
fn nothing_is_locked_and_the_database_is_not_opened() {
    if !peer::has("strace") {
        return;
    }
    let site = Site::with_table();
    let _holder = site.hold(&[]);
    let mut strace = site.program("strace");
    strace.args(["-f", "-o", "traced", "-e", "trace=open,openat,flock,fcntl"]);
    strace.args([
        site::PENHOLDER,
        "top",
        "x.db",
        "--once",
        "--interval",
        "50ms",
    ]);
    site::finish(&mut strace, b"", peer::PATIENCE).ok();
    let traced = fs::read_to_string(site.at("traced")).unwrap();
    assert!(traced.contains("db.lockq"), "{traced}");
    for never in [
        "x.db\"",
        "x.db-wal",
        "x.db-shm",
        "flock(",
        "SETLK",
        "GETLK",
        "/proc/locks",
    ] {
        assert!(!traced.contains(never), "{never}: {traced}");
    }
}
