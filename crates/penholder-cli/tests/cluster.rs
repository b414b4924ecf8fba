//! Proves that what is for a cluster is done by the program `penholder-cluster`, as it was asked for.
#![cfg(test)]

use penholder_testkit::command_fixture::CommandFixture;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

#[test]
fn without_that_program_the_message_says_how_to_get_it() {
    let fixture = CommandFixture::new(PENHOLDER);
    for words in [
        &["cluster", "init", "here"][..],
        &["serve", "here/node-1.toml"],
        &["query", "cluster:here/client.toml", "SELECT 1", "--stale"],
    ] {
        let mut command = fixture.command(words);
        command.env("PATH", fixture.join("nothing"));
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(127), "{error}");
        assert!(error.contains("cargo install --path ."), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn that_program_gets_the_words_and_returns_the_code() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    let fixture = CommandFixture::new(PENHOLDER);
    let directory = fixture.join("bin");
    fs::create_dir(&directory).unwrap();
    let program = directory.join("penholder-cluster");
    fs::write(
        &program,
        "#!/bin/sh\nfor word; do echo \"$word\"; done; exit 7\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.to_str().unwrap());
    for words in [
        &["cluster", "--help"][..],
        &[
            "exec",
            "cluster://a:1",
            "DELETE FROM \"t\"",
            "--timeout",
            "1",
        ],
        &["serve", "a b.toml"],
    ] {
        let output = fixture.command(words).env("PATH", &path).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            words.join("\n") + "\n"
        );
    }
}

#[test]
fn a_file_of_that_name_is_no_cluster() {
    let fixture = CommandFixture::new(PENHOLDER);
    let after_options = ["query", "--json", "cluster:a", "SELECT 1"];
    let error = fixture.run(after_options).expect_failure(2);
    assert!(error.contains("before the options"), "{error}");
    if cfg!(unix) {
        fixture
            .run(["exec", "./cluster:a", "CREATE TABLE t(a)"])
            .expect_success();
    }
    // A value is no address.
    fixture
        .run(["exec", "x.db", "CREATE TABLE t(a)"])
        .expect_success();
    fixture
        .run(["exec", "x.db", "INSERT INTO t VALUES (?1)", "cluster:a"])
        .expect_success();
}
