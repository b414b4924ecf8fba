//! Benchmarks of penholder beside its peers. Every figure is a ratio of two
//! things measured in turns in one run; losses are printed like wins.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

mod burst;
mod clock;
mod cpu;
mod directory;
mod figures;
mod fixed_rate;
mod handoff_lock;
mod lock_file;
mod lock_process;
mod machine;
mod matrix;
mod names;
mod peer;
mod penholder_command;
mod plot;
mod process;
mod report;
mod rounds;
mod targets;
mod text;
mod trial;
mod turns;
mod word;
mod worker;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use workload::{compare, execute, handoff, import, lock, scale, threads, waiting, watching};

/// Benchmarks of penholder beside its peers.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The uncontended lock beside a bare flock and unlock.
    Lock(rounds::Args),
    /// One-row writes of one process beside bare rusqlite.
    Execute(rounds::Args),
    /// Many processes that write one database, beside the peers.
    Compare(compare::Args),
    /// The same from one process to hundreds, or all at once.
    Scale(scale::Args),
    /// Threads of one process, beside one mutex around one connection.
    Threads(threads::Args),
    /// The hand-off alone, beside the least that it can cost; and recovery.
    Handoff(handoff::Args),
    /// What it costs to wait behind a long hold.
    Waiting(waiting::Args),
    /// An import while others write, beside the sqlite3 shell's alone.
    Import(import::Args),
    /// What it costs to watch busy writers with `penholder top`.
    Watching(watching::Args),
    #[command(hide = true)]
    LockProcess(lock_process::Args),
    #[command(hide = true)]
    Worker(worker::Args),
    #[command(hide = true)]
    FixedRate(fixed_rate::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Lock(args) => lock::run(&args),
        Command::Execute(args) => execute::run(&args),
        Command::Compare(args) => compare::run(args),
        Command::Scale(args) => scale::run(args),
        Command::Threads(args) => threads::run(&args),
        Command::Handoff(args) => handoff::run(&args),
        Command::Waiting(args) => waiting::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Watching(args) => watching::run(&args),
        Command::LockProcess(args) => lock_process::run(&args),
        Command::Worker(args) => worker::run(args),
        Command::FixedRate(args) => fixed_rate::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
