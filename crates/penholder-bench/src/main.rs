//! Benchmarks that compare penholder with its peers. Every figure is a ratio of two
//! things that alternate in one run; losses are printed like wins.
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark prints its own paths"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

mod availability;
mod benchmark;
mod burst;
mod clock;
mod closed_loop;
mod closures;
mod company;
mod directory;
mod figures;
mod fixed_rate;
mod handoff_lock;
mod lock_file;
mod lock_process;
mod look_up;
mod machine;
mod matrix;
mod names;
mod pause;
mod peer;
mod penholder_command;
mod plan;
mod plot;
mod process;
mod report;
mod rounds;
mod scene;
mod share;
mod statistics;
mod synchronous;
mod system;
mod table;
mod tally;
mod targets;
mod task;
mod text;
mod trial;
mod turns;
mod waits;
mod wake_process;
mod window;
mod word;
mod worker;
mod workers;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use benchmark::{
    compare, execute, handoff, import, lock, outsider, readers, scale, threads, waiting, wake,
    watching,
};

/// Benchmarks that compare penholder with its peers
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare the uncontended lock with a bare flock and unlock
    Lock(rounds::Args),
    /// Compare one-row writes of one process with bare rusqlite
    Execute(rounds::Args),
    /// Compare many processes that write to one database with the peers
    Compare(plan::Plan),
    /// Make the same comparison from one process to hundreds, or measure a burst
    Scale(scale::Args),
    /// Compare threads of one process with one mutex around one connection
    Threads(threads::Args),
    /// Compare the waits of a plain writer next to penholder with those among plain writers
    Outsider(outsider::Args),
    /// Compare readers next to penholder's writers with readers next to plain writers
    Readers(readers::Args),
    /// Measure handoffs between processes, and the time to notice a dead holder
    Handoff(handoff::Args),
    /// Measure the CPU time that processes use while they wait behind a long hold
    Waiting(waiting::Args),
    /// Compare an import while others write with the import of the sqlite3 shell
    Import(import::Args),
    /// Measure the CPU time that `penholder top` uses while processes write
    Watching(watching::Args),
    /// Measure how soon processes learn of a commit, and what that costs the writer
    Wake(wake::Args),
    /// A process that a benchmark starts
    #[command(hide = true)]
    WakeProcess(wake_process::Args),
    /// A process that a benchmark starts
    #[command(hide = true)]
    LockProcess(lock_process::Args),
    /// A process that a benchmark starts
    #[command(hide = true)]
    Worker(worker::Args),
    /// A process that a benchmark starts
    #[command(hide = true)]
    FixedRate(fixed_rate::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Lock(args) => lock::run(&args),
        Command::Execute(args) => execute::run(&args),
        Command::Compare(plan) => compare::run(&plan),
        Command::Scale(args) => scale::run(&args),
        Command::Threads(args) => threads::run(&args),
        Command::Outsider(args) => outsider::run(&args),
        Command::Readers(args) => readers::run(&args),
        Command::Handoff(args) => handoff::run(&args),
        Command::Waiting(args) => waiting::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Watching(args) => watching::run(&args),
        Command::Wake(args) => wake::run(&args),
        Command::WakeProcess(args) => wake_process::run(&args),
        Command::LockProcess(args) => lock_process::run(&args),
        Command::Worker(args) => worker::run(&args),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_options_of_all_commands_fit_together() {
        super::Args::command().debug_assert();
    }
}
