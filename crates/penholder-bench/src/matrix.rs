//! All the trials of a plan. The machine is shared and noisy, so trials of different
//! peers alternate, every second run measures the peers in reverse order, and the
//! median of the runs counts.

use std::error::Error;

use crate::availability::available;
use crate::closed_loop;
use crate::company::Company;
use crate::figures::Figures;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::synchronous::Synchronous;
use crate::trial::Trial;
use crate::turns;

pub(crate) struct Matrix<'a> {
    plan: &'a Plan,
    peers: Vec<Peer>,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let peers = available(&plan.peers, plan.workload);
        Self { plan, peers }
    }

    /// Returns the median figures of each trial, grouped by `synchronous` and the
    /// number of processes.
    pub(crate) fn measure(&self) -> Result<Vec<Figures>, Box<dyn Error>> {
        let mut runs = Vec::new();
        for run in 0..self.plan.runs {
            for trial in self.trials(run) {
                eprintln!(
                    "run {} of {}: {}, {} processes, {}",
                    run + 1,
                    self.plan.runs,
                    trial.sync,
                    trial.processes,
                    trial.peer
                );
                let directory = self.plan.directory.path();
                let measured = closed_loop::measure(&trial, &Company::NONE, directory);
                let measured = measured.map_err(|e| format!("{}: {e}", trial.peer))?;
                runs.push((trial, Figures::of(&trial, &measured)?));
            }
        }
        Ok(self.medians(&runs))
    }

    fn medians(&self, runs: &[(Trial, Figures)]) -> Vec<Figures> {
        let of = |trial: Trial| {
            let same = runs.iter().filter(|(other, _)| *other == trial);
            let figures: Vec<Figures> = same.map(|(_, figures)| figures.clone()).collect();
            Figures::median(&figures)
        };
        self.trials(0).into_iter().filter_map(of).collect()
    }

    /// All trials in the order of a run.
    fn trials(&self, run: u32) -> Vec<Trial> {
        let mut trials = Vec::new();
        for sync in &self.plan.sync {
            for processes in &self.plan.processes {
                trials.extend(self.peer_trials(run, *sync, *processes));
            }
        }
        trials
    }

    /// One trial for each peer, in the order of a run.
    pub(crate) fn peer_trials(
        &self,
        run: u32,
        sync: Synchronous,
        processes: u32,
    ) -> impl Iterator<Item = Trial> {
        let order = turns::order(self.peers.len(), run as usize).into_iter();
        order.map(move |number| Trial {
            peer: self.peers[number],
            workload: self.plan.workload,
            sync,
            processes,
            threads: self.peers[number].threads().unwrap_or(self.plan.threads),
            closures: self.plan.closures,
            think: self.plan.think,
            seconds: self.plan.seconds,
        })
    }
}
