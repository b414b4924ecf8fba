//! Proves that the help, the version and the completions are what was approved,
//! and that colours stay on terminals.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;
mod snapshot;

use peer::PATIENCE;
use site::{Site, finish};
use snapshot::assert_approved;

const COMMANDS: [&str; 13] = [
    "stress",
    "exec",
    "query",
    "import",
    "status",
    "doctor",
    "history",
    "top",
    "run",
    "checkpoint",
    "backup",
    "vacuum",
    "completions",
];
const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

#[test]
fn the_help_is_as_approved() {
    let site = Site::new();
    let help = site.run(["--help"]).quiet();
    assert_approved("help", &help);
    assert_approved("help-short", &site.run(["-h"]).quiet());
    assert_eq!(site.run(["help"]).quiet(), help);
}

#[test]
fn the_help_of_each_command_is_as_approved() {
    let site = Site::new();
    for command in COMMANDS {
        let help = site.run([command, "--help"]).quiet();
        assert_approved(&format!("help-{command}"), &help);
        assert_eq!(site.run(["help", command]).quiet(), help);
    }
}

#[test]
fn the_help_fits_its_width() {
    let site = Site::new();
    for command in COMMANDS {
        let help = site.run([command, "--help"]).quiet();
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest.unwrap() <= 80, "{help}");
    }
}

#[test]
fn nothing_asked_for_gets_the_help_as_a_usage_error() {
    let site = Site::new();
    let none: [&str; 0] = [];
    let done = site.run(none);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.out, "");
    assert_eq!(done.err, site.run(["-h"]).quiet());
}

#[test]
fn the_version_names_sqlite() {
    let site = Site::with_table();
    let sqlite = site.query("SELECT sqlite_version()").remove(0);
    let own = env!("CARGO_PKG_VERSION");
    let expected = format!("penholder {own} (SQLite {sqlite})\n");
    for flag in ["--version", "-V"] {
        assert_eq!(site.run([flag]).quiet(), expected);
    }
}

#[test]
fn colours_stay_on_terminals() {
    let site = Site::with_table();
    for args in [
        &["--help"][..],
        &["exec"],
        &["exec", "x.db", "SELEC"],
        &["nonsense"],
    ] {
        let done = site.run(args);
        assert!(!(done.out + &done.err).contains('\x1b'), "{args:?}");
    }
    let coloured = "\"$PENHOLDER\" --help";
    if let Some(shown) = site.terminal(coloured, &[("TERM", "xterm")]) {
        assert!(shown.contains('\x1b'), "{shown}");
    }
}

#[test]
fn no_color_is_respected() {
    let site = Site::with_table();
    let bare = [("TERM", "xterm"), ("NO_COLOR", "1")];
    for script in [
        "\"$PENHOLDER\" --help",
        "\"$PENHOLDER\" exec --help",
        "\"$PENHOLDER\" nonsense || true",
        "\"$PENHOLDER\" exec x.db SELEC || true",
        "\"$PENHOLDER\" status x.db",
        "\"$PENHOLDER\" query x.db 'SELECT 1'",
    ] {
        let Some(shown) = site.terminal(script, &bare) else {
            return;
        };
        assert!(!shown.is_empty() && !shown.contains('\x1b'), "{shown:?}");
    }
}

#[test]
fn completions_know_every_command() {
    let site = Site::new();
    for shell in SHELLS {
        let script = site.run(["completions", shell]).quiet();
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let message = site.run(["completions", "tcsh"]).failed(2);
    assert!(message.contains("bash, elvish, fish, powershell, zsh"));
}

#[test]
fn completions_do_not_offer_what_the_help_hides() {
    let site = Site::new();
    for shell in SHELLS {
        let script = site.run(["completions", shell]).quiet();
        assert!(!script.contains("stress-worker"), "{shell}");
    }
}

#[test]
fn completions_are_scripts_that_the_shells_understand() {
    let site = Site::new();
    for shell in ["bash", "zsh", "fish"] {
        if !peer::has(shell) {
            continue;
        }
        let script = site.run(["completions", shell]).quiet();
        std::fs::write(site.at("script"), script).unwrap();
        let mut check = site.program(shell);
        finish(check.args(["-n", "script"]), b"", PATIENCE).quiet();
    }
    if peer::has("bash") {
        let ask = "source <(\"$PENHOLDER\" completions bash); COMP_WORDS=(penholder che); \
                   COMP_CWORD=1; _penholder penholder che penholder; echo \"${COMPREPLY[@]}\"";
        let mut bash = site.program("bash");
        let offered = finish(bash.args(["-c", ask]), b"", PATIENCE).quiet();
        assert_eq!(offered, "checkpoint\n");
    }
}
