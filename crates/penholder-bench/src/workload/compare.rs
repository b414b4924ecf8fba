//! Many processes that write one database in a closed loop, beside the peers.

use std::error::Error;

use crate::machine::Machine;
use crate::matrix::{self, Matrix, Plan};
use crate::peer::{Peers, Sync};
use crate::{plot, report, targets};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many processes write at once; several numbers with commas between
    #[arg(long, value_delimiter = ',', default_value = "1,2,8,32", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    processes: Vec<u32>,
    /// What a commit waits for
    #[arg(long, value_enum, value_delimiter = ',', default_value = "normal,full")]
    sync: Vec<Sync>,
    /// Who is compared: all, or some of naive, sqlite-busy, sqlite-busy-prepared,
    /// sqlite-autocommit, sqlite-busy-1ms, flock-blocking, python-sqlite3,
    /// penholder, penholder-fifo
    #[arg(long, default_value = "all")]
    peers: Peers,
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
    let figures = matrix.measure()?;
    let machine = Machine::here(&args.plan.folder);
    report::print(&machine, &args.plan, &figures);
    targets::print(&figures);
    if let Some(path) = &args.plan.json {
        report::write_json(path, &figures)?;
    }
    if let Some(folder) = &args.plan.svg {
        plot::bars(folder, &machine, &args.plan, &figures)?;
    }
    Ok(())
}
