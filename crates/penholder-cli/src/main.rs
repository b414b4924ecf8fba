//! The command `penholder`. `args.rs` is its whole interface; each subcommand has a
//! module of its own.

mod args;
mod doctor;
mod exec;
mod failure;
mod history;
mod import;
mod maintain;
mod man;
mod output;
mod param;
mod query;
mod row_printer;
mod run;
mod sql_text;
mod status;
mod stress;
mod summary;
mod sys;
mod text;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    match dispatch(args.command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Stress(args) => stress::run(&args),
        Command::StressWorker(args) => stress::worker::run(&args),
        Command::Exec(args) => exec::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::History(args) => history::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Checkpoint(args) => maintain::checkpoint(&args),
        Command::Backup(args) => maintain::backup(&args),
        Command::Vacuum(args) => maintain::vacuum(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(), "penholder", &mut script);
            output::print(&script)
        }
        Command::Man { directory } => man::run(Args::command(), &directory),
    }
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
