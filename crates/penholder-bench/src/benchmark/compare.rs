//! Many processes that write to one database in a closed loop, with penholder and
//! with each of its peers.

use std::error::Error;

use crate::machine::Machine;
use crate::matrix::Matrix;
use crate::plan::Plan;
use crate::plot::{self, Shape};
use crate::{report, targets};

pub(crate) fn run(plan: &Plan) -> Result<(), Box<dyn Error>> {
    measure(plan, Shape::Bars)
}

/// Measures a plan, and reports the figures in every form that it asks for.
pub(crate) fn measure(plan: &Plan, shape: Shape) -> Result<(), Box<dyn Error>> {
    let figures = Matrix::new(plan).measure()?;
    let machine = Machine::here(plan.directory.path());
    report::print(&machine, plan, &figures);
    targets::print(&figures);
    if let Some(path) = &plan.json {
        report::write_json(path, &figures)?;
    }
    if let Some(directory) = &plan.svg {
        plot::write(directory, shape, &machine, plan, &figures)?;
    }
    Ok(())
}
