//! The comparison from one process to hundreds, or with a burst of processes.

use std::error::Error;
use std::time::Duration;

use crate::benchmark::compare;
use crate::burst::Burst;
use crate::clock;
use crate::machine::Machine;
use crate::matrix::Matrix;
use crate::plan::Plan;
use crate::plot::Shape;

#[derive(clap::Args)]
#[command(mut_arg("processes", |arg| arg.default_value("1,2,4,8,16,32,64,128,256")))]
#[command(mut_arg("sync", |arg| arg.default_value("normal")))]
#[command(mut_arg("peers", |arg| arg.default_value("penholder,sqlite-busy")))]
pub(crate) struct Args {
    /// Measure a burst instead: N processes start at the same time, and each opens
    /// the database, sends one request and exits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    once: Option<u32>,
    /// How long each process of a burst waits for the write lock
    #[arg(long, default_value = "60s", value_parser = clock::parse, requires = "once")]
    timeout: Duration,
    #[command(flatten)]
    plan: Plan,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    match args.once {
        Some(processes) => bursts(&args.plan, processes, args.timeout),
        None => compare::measure(&args.plan, Shape::Lines),
    }
}

fn bursts(plan: &Plan, processes: u32, timeout: Duration) -> Result<(), Box<dyn Error>> {
    let machine = Machine::here(plan.directory.path());
    println!("{}\n{}", machine.hardware, machine.software);
    println!("burst of {processes} processes, each opens and writes once, timeout {timeout:?}\n");
    let matrix = Matrix::new(plan);
    for run in 0..plan.runs {
        for sync in &plan.sync {
            for trial in matrix.peer_trials(run, *sync, processes) {
                let burst = Burst::measure(&trial, plan.directory.path(), timeout)?;
                println!("{sync}, {burst}");
            }
        }
    }
    Ok(())
}
