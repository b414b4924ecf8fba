//! One trial of a comparison: one peer and a number of processes, measured once in
//! a database of their own.

use std::time::Duration;

use crate::clock;
use crate::peer::Peer;
use crate::synchronous::Synchronous;
use crate::window::Window;

const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    pub(crate) peer: Peer,
    pub(crate) sync: Synchronous,
    pub(crate) processes: u32,
    pub(crate) think: Duration,
    pub(crate) seconds: Duration,
}

impl Trial {
    /// The window of a trial that is about to start. The start is late enough for
    /// the last worker to have read the line that announces it.
    pub(crate) fn window(&self) -> Window {
        let notice = Duration::from_millis(20) + Duration::from_micros(500) * self.processes;
        let start = clock::after(notice);
        let counted = start + clock::nanos(WARM_UP);
        let end = counted + clock::nanos(self.seconds);
        Window {
            start,
            counted,
            end,
        }
    }
}
