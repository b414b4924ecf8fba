//! From one process to hundreds, and all at once.

use std::error::Error;
use std::time::Duration;

use crate::burst::Burst;
use crate::machine::Machine;
use crate::matrix::{self, Matrix, Plan};
use crate::peer::{Peers, Sync};
use crate::{clock, plot, report, targets};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many processes write at once; several numbers with commas between
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128,256", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    processes: Vec<u32>,
    /// What a commit waits for
    #[arg(long, value_enum, value_delimiter = ',', default_value = "normal")]
    sync: Vec<Sync>,
    /// Who is compared; all, or names as for `compare`
    #[arg(long, default_value = "penholder,sqlite-busy")]
    peers: Peers,
    /// Instead: so many processes at once, each opens, writes one row and ends
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    once: Option<u32>,
    /// How long each of those waits
    #[arg(long, default_value = "60s", value_parser = clock::parse, requires = "once")]
    timeout: Duration,
    #[command(flatten)]
    plan: Plan,
}

pub(crate) fn run(args: Args) -> Result<(), Box<dyn Error>> {
    matrix::check_folder(&args.plan.folder)?;
    let matrix = Matrix {
        peers: matrix::present(args.peers.0),
        processes: &args.processes,
        syncs: &args.sync,
        plan: &args.plan,
    };
    let machine = Machine::here(&args.plan.folder);
    if let Some(processes) = args.once {
        return once(&machine, &matrix, processes, args.timeout);
    }
    let figures = matrix.measure()?;
    report::print(&machine, &args.plan, &figures);
    targets::print(&figures);
    if let Some(path) = &args.plan.json {
        report::write_json(path, &figures)?;
    }
    if let Some(folder) = &args.plan.svg {
        plot::lines(folder, &machine, &args.plan, &figures)?;
    }
    Ok(())
}

/// Processes that all open at once, write one row and end.
fn once(
    machine: &Machine,
    matrix: &Matrix<'_>,
    processes: u32,
    timeout: Duration,
) -> Result<(), Box<dyn Error>> {
    println!("{}\n{}", machine.hardware, machine.software);
    println!("{processes} processes at once, each opens and writes once, timeout {timeout:?}\n");
    for run in 0..matrix.plan.runs {
        for sync in matrix.syncs {
            for peer in matrix.in_turn(run) {
                let trial = matrix.trial(peer, *sync, processes);
                let burst = Burst::measure(&trial, &matrix.plan.folder, timeout)?;
                println!("{sync}, {burst}");
            }
        }
    }
    Ok(())
}
