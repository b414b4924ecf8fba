//! The command `penholder-cluster`, which `penholder` runs for a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    penholder_cluster::command::run()
}
