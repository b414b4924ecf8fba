//! The command `penholder`. `args.rs` is its whole interface; each subcommand has a
//! module of its own.

mod advised_target;
mod args;
mod base64;
mod blob_literal;
mod caveats;
mod csv_line;
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
mod real_literal;
mod row_printer;
mod run;
mod script;
mod shell_command;
mod sql_source;
mod sql_text;
mod status;
mod stress;
mod summary;
mod sys;
mod table_printer;
mod text;
mod top;
mod wait;

use std::process::{self, ExitCode};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use penholder_core::{one_line, shown_path};

use args::{Args, Command};
use failure::{FAILED, Failure, USAGE, say};
use interruption::Interruption;
use sys::signal;

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| end_with(&error));
    match dispatch(args.command) {
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
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(), "penholder", &mut script);
            output::print(&script)
        }
        Command::Man { directory } => man::run(Args::command(), &directory),
    }
}

/// What a signal interrupts.
fn subject(command: &Command) -> String {
    let (name, target) = match command {
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
        Command::Completions { .. } => return "completions".to_owned(),
        Command::Man { .. } => return "man".to_owned(),
    };
    format!("{name}: {}", shown_path(&target.db))
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
