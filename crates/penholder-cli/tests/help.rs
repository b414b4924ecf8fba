//! Proves that the help, the version and the completions are the approved ones, and that
//! colours are used only on terminals.
#![cfg(test)]

use penholder_testkit::command_fixture::{CommandFixture, run_command};
use penholder_testkit::snapshot::Snapshots;
use penholder_testkit::{requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");
/// The approved texts.
const SNAPSHOTS: Snapshots =
    Snapshots::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));

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
    let fixture = CommandFixture::new(PENHOLDER);
    let help = fixture.run(["--help"]).expect_quiet_success();
    SNAPSHOTS.assert_approved("help", &help);
    SNAPSHOTS.assert_approved("help-short", &fixture.run(["-h"]).expect_quiet_success());
    assert_eq!(fixture.run(["help"]).expect_quiet_success(), help);
}

#[test]
fn the_help_of_each_command_is_as_approved() {
    let fixture = CommandFixture::new(PENHOLDER);
    for command in COMMANDS {
        let help = fixture.run([command, "--help"]).expect_quiet_success();
        SNAPSHOTS.assert_approved(&format!("help-{command}"), &help);
        assert_eq!(fixture.run(["help", command]).expect_quiet_success(), help);
    }
}

#[test]
fn the_help_fits_its_width() {
    let fixture = CommandFixture::new(PENHOLDER);
    for command in COMMANDS {
        let help = fixture.run([command, "--help"]).expect_quiet_success();
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest.unwrap() <= 80, "{help}");
    }
}

#[test]
fn no_arguments_print_the_help_as_a_usage_error() {
    let fixture = CommandFixture::new(PENHOLDER);
    let none: [&str; 0] = [];
    let output = fixture.run(none);
    assert_eq!(output.code, Some(2));
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr, fixture.run(["-h"]).expect_quiet_success());
}

#[test]
fn the_version_names_sqlite() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sqlite = fixture.query("SELECT sqlite_version()").remove(0);
    let own = env!("CARGO_PKG_VERSION");
    let expected = format!("penholder {own} (SQLite {sqlite})\n");
    for flag in ["--version", "-V"] {
        assert_eq!(fixture.run([flag]).expect_quiet_success(), expected);
    }
}

#[test]
fn colours_stay_on_terminals() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for args in [
        &["--help"][..],
        &["exec"],
        &["exec", "x.db", "SELEC"],
        &["nonsense"],
    ] {
        let output = fixture.run(args);
        assert!(
            !(output.stdout + &output.stderr).contains('\x1b'),
            "{args:?}"
        );
    }
    let coloured = "\"$PENHOLDER\" --help";
    if let Some(text) = fixture.run_on_terminal(coloured, &[("TERM", "xterm")]) {
        assert!(text.contains('\x1b'), "{text}");
    }
}

#[test]
fn no_color_is_respected() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let env = [("TERM", "xterm"), ("NO_COLOR", "1")];
    for script in [
        "\"$PENHOLDER\" --help",
        "\"$PENHOLDER\" exec --help",
        "\"$PENHOLDER\" nonsense || true",
        "\"$PENHOLDER\" exec x.db SELEC || true",
        "\"$PENHOLDER\" status x.db",
        "\"$PENHOLDER\" query x.db 'SELECT 1'",
    ] {
        let Some(text) = fixture.run_on_terminal(script, &env) else {
            return;
        };
        assert!(!text.is_empty() && !text.contains('\x1b'), "{text:?}");
    }
}

#[test]
fn completions_know_every_command() {
    let fixture = CommandFixture::new(PENHOLDER);
    for shell in SHELLS {
        let script = fixture.run(["completions", shell]).expect_quiet_success();
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let message = fixture.run(["completions", "tcsh"]).expect_failure(2);
    assert!(message.contains("bash, elvish, fish, powershell, zsh"));
}

#[test]
fn completions_do_not_offer_what_the_help_hides() {
    let fixture = CommandFixture::new(PENHOLDER);
    for shell in SHELLS {
        let script = fixture.run(["completions", shell]).expect_quiet_success();
        assert!(!script.contains("stress-worker"), "{shell}");
    }
}

#[test]
fn completions_are_scripts_that_the_shells_understand() {
    let fixture = CommandFixture::new(PENHOLDER);
    for shell in ["bash", "zsh", "fish"] {
        if !requirement::has_program(shell) {
            continue;
        }
        let script = fixture.run(["completions", shell]).expect_quiet_success();
        std::fs::write(fixture.join("script"), script).unwrap();
        let mut check = fixture.program(shell);
        run_command(check.args(["-n", "script"]), b"", wait::LIMIT).expect_quiet_success();
    }
    if requirement::has_program("bash") {
        let ask = "source <(\"$PENHOLDER\" completions bash); COMP_WORDS=(penholder che); \
                   COMP_CWORD=1; _penholder penholder che penholder; echo \"${COMPREPLY[@]}\"";
        let mut bash = fixture.program("bash");
        let offered = run_command(bash.args(["-c", ask]), b"", wait::LIMIT).expect_quiet_success();
        assert_eq!(offered, "checkpoint\n");
    }
}
