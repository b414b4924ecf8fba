//! Proves that the help, the version and the completions are the approved ones, that each
//! command has a man page, and that colours are used only on terminals.
#![cfg(test)]

use penholder_testkit::command_fixture::{CommandFixture, run_command};
use penholder_testkit::snapshot::Snapshots;
use penholder_testkit::{requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");
/// The approved texts.
const SNAPSHOTS: Snapshots =
    Snapshots::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));

const COMMANDS: [&str; 15] = [
    "stress",
    "exec",
    "query",
    "import",
    "status",
    "doctor",
    "history",
    "top",
    "run",
    "wait",
    "checkpoint",
    "backup",
    "restore",
    "vacuum",
    "completions",
];
/// Another program prints their help.
const OF_CLUSTERS: [&str; 2] = ["cluster", "serve"];
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
        // A line of a paragraph that is too long leaves its last word alone.
        let lines: Vec<&str> = help.lines().collect();
        let alone = lines.windows(2).find(|pair| {
            let [word, next] = pair else { return false };
            let is_text = |line: &str| line.starts_with(|c: char| !c.is_whitespace());
            is_text(word) && is_text(next) && !word.contains(' ')
        });
        assert_eq!(alone, None, "{help}");
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

#[test]
fn each_command_has_a_man_page() {
    let fixture = CommandFixture::new(PENHOLDER);
    // The directory is made, and written into again.
    for _ in 0..2 {
        let nothing = fixture.run(["man", "share/man"]).expect_quiet_success();
        assert_eq!(nothing, "");
    }
    let read = |name: &str| std::fs::read_to_string(fixture.join("share/man").join(name)).unwrap();
    let program = read("penholder.1");
    for section in [
        "NAME",
        "SYNOPSIS",
        "SUBCOMMANDS",
        "EXAMPLES",
        "\"EXIT STATUS\"",
    ] {
        assert!(
            program.contains(&format!(".SH {section}\n")),
            "{section}: {program}"
        );
    }
    for command in COMMANDS {
        let page = read(&format!("penholder-{command}.1"));
        assert!(
            page.contains(&format!("\\fBpenholder {command}\\fR")),
            "{page}"
        );
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"SEE ALSO\""] {
            assert!(
                page.contains(&format!(".SH {section}\n")),
                "{section}: {page}"
            );
        }
        assert!(
            program.contains(&format!("penholder\\-{command}(1)")),
            "{command}"
        );
    }
    // What the help hides has none. Those of clusters have one here, and their options in the help of
    // penholder-cluster.
    let pages = std::fs::read_dir(fixture.join("share/man"))
        .unwrap()
        .count();
    assert_eq!(pages, COMMANDS.len() + OF_CLUSTERS.len() + 1);
}

#[test]
fn man_pages_are_text_that_a_formatter_understands() {
    if !requirement::has_program("man") {
        return;
    }
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.run(["man", "."]).expect_quiet_success();
    for page in ["penholder.1", "penholder-import.1", "penholder-top.1"] {
        let mut man = fixture.program("man");
        man.args(["--warnings", "--local-file", page])
            .env("MANWIDTH", "80");
        let shown = run_command(&mut man, b"", wait::LIMIT).expect_quiet_success();
        assert!(shown.contains("SYNOPSIS"), "{shown}");
    }
}

#[test]
fn man_pages_that_cannot_be_written_are_an_error() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let message = fixture.run(["man", "x.db"]).expect_failure(1);
    assert!(message.starts_with("penholder: man: x.db: "), "{message}");
}
