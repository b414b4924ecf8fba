//! A process that waits in the queue for the lock.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::process::{ProcessIdentity, state_of};
use crate::queue_file::Occupant;
use crate::sys::process_state::ProcessState;
use crate::time;

/// A process that waits in the queue for the lock.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Waiter {
    /// Process id, in its own pid namespace.
    pub pid: u32,
    /// When it began to wait, by the wall clock.
    pub since: SystemTime,
    /// For how long it has waited.
    pub waited: Duration,
    /// How long until its deadline, if it has one.
    pub left: Option<Duration>,
    /// Its command line, control characters escaped.
    pub cmd: Option<String>,
    /// Its label, control characters escaped.
    pub label: Option<String>,
    /// What it is doing.
    pub state: ProcessState,
    identity: ProcessIdentity,
}

impl Waiter {
    /// Returns what tells it from other processes with its pid.
    #[must_use]
    pub fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// Describes the occupant of a slot at `now` (monotonic clock, nanoseconds). Its
    /// state is asked for only if `is_examined`.
    pub(super) fn of(
        occupant: Occupant,
        own_pidns: Option<u64>,
        now: u64,
        is_examined: bool,
    ) -> Self {
        let state = if is_examined {
            state_of(&occupant, own_pidns)
        } else {
            ProcessState::Unknown
        };
        let waited = Duration::from_nanos(now.saturating_sub(occupant.since));
        let left = Duration::from_nanos(occupant.until.saturating_sub(now));
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            identity: ProcessIdentity::of_occupant(&occupant),
            pid: occupant.pid,
            since: SystemTime::now()
                .checked_sub(waited)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            waited,
            left: (occupant.until != u64::MAX).then_some(left),
            cmd: text(occupant.cmd),
            label: text(occupant.label),
            state,
        }
    }
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts: Vec<String> = Vec::new();
        facts.extend(self.cmd.as_ref().map(|cmd| format!("`{cmd}`")));
        facts.extend(self.label.as_ref().map(|label| format!("label: {label}")));
        facts.push(self.state.to_string());
        facts.push(format!("waits {}", time::human(self.waited)));
        facts.extend(self.left.map(|left| format!("{} left", time::human(left))));
        write!(f, "pid:{} ({})", self.pid, facts.join(", "))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Waiter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Waiter", 7)?;
        out.serialize_field("pid", &self.pid)?;
        out.serialize_field("since", &time::rfc3339(self.since))?;
        out.serialize_field("waited_s", &self.waited.as_secs_f64())?;
        out.serialize_field("left_s", &self.left.map(|left| left.as_secs_f64()))?;
        out.serialize_field("cmd", &self.cmd)?;
        out.serialize_field("label", &self.label)?;
        out.serialize_field("state", &self.state)?;
        out.end()
    }
}
