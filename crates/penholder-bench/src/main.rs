//! Benchmarks of penholder beside its peers. Every figure is a ratio of two
//! things measured in turns in one run; losses are printed like wins.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

mod execute;
mod rounds;
mod uncontended;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of penholder beside its peers.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The uncontended lock beside a bare flock and unlock.
    Lock(rounds::Plan),
    /// One-row writes of one process beside bare rusqlite.
    Execute(rounds::Plan),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Lock(plan) => uncontended::run(&plan),
        Command::Execute(plan) => execute::run(&plan),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
