//! The command `penholder`. `args.rs` is its whole interface; each subcommand has a
//! module of its own.

mod advised_target;
mod args;
mod caveats;
mod cluster_program;
mod doctor;
mod encoding;
mod exec;
mod failure;
mod file_kind;
mod history;
mod import;
mod interruption;
mod maintain;
mod man;
mod number;
mod output;
mod param;
mod progress;
mod query;
mod row_printer;
mod run;
mod shell_command;
mod sql_source;
mod sql_text;
mod status;
mod stress;
mod summary;
mod sys;
mod text;
mod top;
mod wait;

use std::ffi::OsString;
use std::process::{self, ExitCode};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use penholder_core::{one_line, shell_path, shown_path};

use args::{Args, Command, Target};
use failure::{FAILED, Failure, USAGE, say};
use interruption::Interruption;
use sys::signal;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let result = match cluster_program::is_asked(&words) {
        true => cluster_program::run(&words),
        false => dispatch(
            Args::try_parse()
                .unwrap_or_else(|error| end_with(&error))
                .command,
        ),
    };
    match result {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Prints the help, or what is wrong with the command line, and ends this process.
///
/// The message repeats words of the command line. So it is made again for words in which
/// nothing can drive a terminal.
fn end_with(error: &clap::Error) -> ! {
    if error.kind() == ErrorKind::InvalidUtf8 {
        say(not_utf_8());
        process::exit(USAGE.into());
    }
    let words = std::env::args_os().map(|word| one_line(word.to_string_lossy()).to_string());
    match Args::try_parse_from(words) {
        Err(harmless) => harmless.exit(),
        Ok(_) => {
            say(error.render().to_string().trim_end());
            process::exit(USAGE.into())
        }
    }
}

/// Names the words of the command line that are not UTF-8, with their bytes.
fn not_utf_8() -> String {
    let words = std::env::args_os().skip(1);
    let words = words.filter(|word| word.to_str().is_none());
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    let words = words.join(", ");
    format!(
        "the command line has words that are not UTF-8, as only paths may be: {words}: check the \
         encoding of the terminal or script; in SQL write such a text as CAST(X'FF' AS TEXT)"
    )
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    signal::survive_file_size_limit()
        .map_err(|error| Failure::new(format!("watch for signals: {error}"), FAILED))?;
    // It ends with `stress`, which has a message of its own.
    if let Command::StressWorker(args) = &command {
        return stress::worker::run(args);
    }
    refuse_cluster(&command)?;
    let interruption = Interruption::watch(subject(&command));
    match command {
        Command::Stress(args) => stress::run(&args, &interruption),
        Command::StressWorker(args) => stress::worker::run(&args),
        Command::Exec(args) => exec::run(&args, &interruption),
        Command::Query(args) => query::run(&args),
        Command::Import(args) => import::run(&args, &interruption),
        Command::Status(args) => status::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::History(args) => history::run(&args),
        Command::Top(args) => top::run(&args, &interruption),
        Command::Run(args) => run::run(&args, &interruption),
        Command::Wait(args) => wait::run(&args, &interruption),
        Command::Checkpoint(args) => maintain::checkpoint(&args),
        Command::Backup(args) => maintain::backup(&args, &interruption),
        Command::Restore(args) => maintain::restore(&args, &interruption),
        Command::Vacuum(args) => maintain::vacuum(&args),
        Command::Cluster(_) | Command::Serve(_) => {
            cluster_program::run(&std::env::args_os().collect::<Vec<_>>())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(), "penholder", &mut script);
            output::print(&script)
        }
        Command::Man { directory } => man::run(Args::command(), &directory),
    }
}

/// Refuses the address of a cluster that stands after options.
fn refuse_cluster(command: &Command) -> Result<(), Failure> {
    let Some((name, target)) = target_of(command) else {
        return Ok(());
    };
    if !cluster_program::is_cluster(&target.db) {
        return Ok(());
    }
    let why = "the address of a cluster stands before the options";
    let next = format!("write `penholder {name} {} …`", shell_path(&target.db));
    Err(Failure::new(format!("{name}: {why}: {next}"), USAGE))
}

/// What a signal interrupts.
fn subject(command: &Command) -> String {
    match (target_of(command), command) {
        (Some((name, target)), _) => format!("{name}: {}", shown_path(&target.db)),
        (None, Command::Man { .. }) => "man".to_owned(),
        (None, _) => "completions".to_owned(),
    }
}

/// The name of a command, and the database that it is for.
fn target_of(command: &Command) -> Option<(&'static str, &Target)> {
    Some(match command {
        Command::Stress(args) => ("stress", &args.target),
        Command::StressWorker(args) => ("stress-worker", &args.target),
        Command::Exec(args) => ("exec", &args.target),
        Command::Query(args) => ("query", &args.target),
        Command::Import(args) => ("import", &args.target),
        Command::Status(args) => ("status", &args.target),
        Command::Doctor(args) => ("doctor", &args.target),
        Command::History(args) => ("history", &args.target),
        Command::Top(args) => ("top", &args.target),
        Command::Run(args) => ("run", &args.target),
        Command::Wait(args) => ("wait", &args.target),
        Command::Checkpoint(args) => ("checkpoint", &args.target),
        Command::Backup(args) => ("backup", &args.target),
        Command::Restore(args) => ("restore", &args.target),
        Command::Vacuum(args) => ("vacuum", &args.target),
        Command::Cluster(_) | Command::Serve(_) => return None,
        Command::Completions { .. } | Command::Man { .. } => return None,
    })
}

/// The interface without hidden subcommands, which completions would offer otherwise.
fn visible() -> clap::Command {
    let all = Args::command();
    let visible = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    clap::Command::new("penholder")
        .version(all.get_version().unwrap_or_default().to_owned())
        .subcommands(visible.cloned().collect::<Vec<_>>())
}
