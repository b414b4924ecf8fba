//! The figures as SVG.

use std::error::Error;
use std::path::Path;

use crate::figures::Figures;
use crate::machine::Machine;
use crate::matrix::Plan;

pub(crate) fn bars(_: &Path, _: &Machine, _: &Plan, _: &[Figures]) -> Result<(), Box<dyn Error>> {
    Ok(())
}

pub(crate) fn lines(_: &Path, _: &Machine, _: &Plan, _: &[Figures]) -> Result<(), Box<dyn Error>> {
    Ok(())
}
