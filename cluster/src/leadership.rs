//! Whether this node leads, as far as it can know.
//!
//! A leader that is cut off from the others believes for ever that it leads: nobody can tell it that another
//! node was elected. But it knows since when no majority has answered. Once that is longer than the
//! others wait for it, they may have elected another one, and this one sends its clients on to them. A
//! write that it has proposed by then is *unknown*; its key makes its repetition harmless.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hiqlite::Client;

use crate::wire::Answer;

/// How often the leader shows that it lives, in milliseconds. The engine looks each time half of that later.
pub(crate) const HEARTBEAT: u64 = 500;
/// How long the others wait for that before they elect another one: the greater number, in which they elect
/// nobody, and one between the two, in milliseconds. A node that has lost an election since it was started
/// waits twice the greater one in addition, so that small numbers matter: with those that the engine
/// proposes, 1500 and 3000, ten kills in a row made writers wait for 12 s in the median.
pub(crate) const ELECTION: [u64; 2] = [1000, 1500];
/// How long a leader may be without an answer of a majority: as long as the others wait before they elect.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(ELECTION[0] + ELECTION[1]);
/// How often it is looked whether this node still leads, while something is under way.
const LOOK: Duration = Duration::from_millis(100);
/// How long the engine may take to look who leads, and how often it is looked whether it has.
const ENGINE: Duration = Duration::from_secs(1);
const ENGINE_LOOK: Duration = Duration::from_millis(5);

/// Whether this node leads.
#[derive(Clone)]
pub(crate) struct Leadership {
    id: u64,
    engine: Client,
    /// The term in which this node leads without an answer of a majority yet, and since when.
    unconfirmed: Arc<Mutex<Option<(u64, Instant)>>>,
}

/// What this node knows of its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Leads,
    /// Another node leads, or none.
    Follows(Option<u64>),
    /// It leads by what it was told last, and has not heard from a majority for too long.
    CutOff,
}

impl Leadership {
    pub(crate) fn new(id: u64, engine: Client) -> Self {
        Self {
            id,
            engine,
            unconfirmed: Arc::default(),
        }
    }

    /// Returns what this node knows of its part.
    pub(crate) async fn standing(&self) -> Standing {
        let Ok(metrics) = self.engine.metrics_db().await else {
            return Standing::Follows(None);
        };
        if metrics.current_leader != Some(self.id) {
            return Standing::Follows(metrics.current_leader);
        }
        // A leader that was removed may believe for ever that it leads.
        if metrics
            .membership_config
            .voter_ids()
            .all(|id| id != self.id)
        {
            return Standing::Follows(None);
        }
        let known = metrics.millis_since_quorum_ack.map(Duration::from_millis);
        let (term, now) = (metrics.current_term, Instant::now());
        let silence = silence_of(known, term, &mut self.unconfirmed(), now);
        match silence > SILENCE_MAX {
            true => Standing::CutOff,
            false => Standing::Leads,
        }
    }

    /// Returns what to answer instead of doing something, if this node does not lead.
    pub(crate) async fn refusal(&self) -> Option<Answer> {
        match self.standing().await {
            Standing::Leads => {}
            Standing::Follows(leader) => return Some(Answer::NotLeader { leader }),
            Standing::CutOff => return Some(Answer::NotLeader { leader: None }),
        }
        // The engine's client learns of an election late, if the former leader is silent, and would
        // send the request there. This asks it to look.
        if !self.engine.is_leader_db().await {
            tokio::select! {
                _ = self.engine.wait_for_cluster_sync_timeout(ENGINE) => {}
                () = self.engine_has_seen() => {}
            }
        }
        let leads = self.engine.is_leader_db().await;
        (!leads).then_some(Answer::NotLeader { leader: None })
    }

    /// Waits until this node does not lead any more, or only seems to, and returns why.
    pub(crate) async fn lost(&self) -> &'static str {
        loop {
            match self.standing().await {
                Standing::Leads => tokio::time::sleep(LOOK).await,
                Standing::Follows(_) => return "the node ceased to lead",
                Standing::CutOff => return "no majority answers this node",
            }
        }
    }

    async fn engine_has_seen(&self) {
        while !self.engine.is_leader_db().await {
            tokio::time::sleep(ENGINE_LOOK).await;
        }
    }

    fn unconfirmed(&self) -> std::sync::MutexGuard<'_, Option<(u64, Instant)>> {
        self.unconfirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Returns for how long no majority has answered a leader. The engine does not know it of one that was
/// never answered in its term; then it is counted from when that was seen first.
fn silence_of(
    known: Option<Duration>,
    term: u64,
    unconfirmed: &mut Option<(u64, Instant)>,
    now: Instant,
) -> Duration {
    if let Some(known) = known {
        *unconfirmed = None;
        return known;
    }
    match *unconfirmed {
        Some((of, since)) if of == term => now.saturating_duration_since(since),
        _ => {
            *unconfirmed = Some((term, now));
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_was_never_answered_counts_from_when_that_was_seen() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut unconfirmed = None;
        let mut silence = |known, term, now| silence_of(known, term, &mut unconfirmed, now);
        assert_eq!(silence(None, 7, begun), Duration::ZERO);
        assert_eq!(silence(None, 7, after(4)), Duration::from_secs(4));
        // Elected again.
        assert_eq!(silence(None, 8, after(5)), Duration::ZERO);
        let known = Duration::from_millis(3);
        assert_eq!(silence(Some(known), 8, after(6)), known);
        assert_eq!(silence(None, 8, after(7)), Duration::ZERO);
    }
}
