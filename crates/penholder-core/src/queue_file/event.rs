//! An event as the queue file records it.

use super::layout::{self, EVENT_LABEL_AT, EVENT_LABEL_LEN, EVENT_TEXT_LEN};
use super::text::read_text;

/// How many events of one kind are kept if those of other kinds need the room.
const KEPT_OF_KIND: usize = 8;

/// Something that happened and is kept for people. Its meaning is that of
/// [`EventKind`](crate::EventKind).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EventRecord {
    pub(crate) kind: u64,
    /// Wall clock, nanoseconds since 1970; of a merged event the latest.
    pub(crate) at: u64,
    pub(crate) pid: u64,
    pub(crate) other: u64,
    /// A duration in nanoseconds, or a number of writes; of a merged event the largest.
    pub(crate) amount: u64,
    pub(crate) label: String,
    pub(crate) statement: String,
    pub(crate) call_site: String,
    /// How often it happened.
    pub(crate) count: u32,
    /// When it happened first, as `at`.
    pub(crate) first: u64,
    /// Whether it counts as the same event if either of the two processes is the same: one that
    /// happens at each wait.
    pub(crate) is_frequent: bool,
}

impl EventRecord {
    /// Whether another event says the same of the same processes.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_either = |one: u64, other: u64| one == other && one != 0;
        if self.kind != other.kind {
            return false;
        }
        if self.is_frequent {
            return is_either(self.pid, other.pid) || is_either(self.other, other.other);
        }
        self.pid == other.pid
            && self.other == other.other
            && self.label == other.label
            && self.statement == other.statement
            && self.call_site == other.call_site
    }

    /// Adds an earlier event that is the same.
    pub(super) fn merge(&mut self, earlier: &Self) {
        self.count = earlier.count.saturating_add(1);
        self.first = earlier.first;
        self.amount = self.amount.max(earlier.amount);
    }
}

/// Returns the place for an event, where `kinds` has number and kind of the event in each place:
/// a place that has had none, or that of the oldest, unless its kind is rare. Then it is that of
/// the oldest of a kind that is not.
pub(super) fn place_for(number: u64, kinds: &[(u64, u64)]) -> usize {
    let places = u64::try_from(kinds.len()).unwrap_or(1).max(1);
    let usual = usize::try_from(number % places).unwrap_or(0);
    let number_in = |place: usize| kinds.get(place).map_or(0, |(number, _)| *number);
    // While an event is written, its place has no number. If the process dies with it, the place
    // is taken when its turn comes.
    if number_in(usual) == 0 {
        return usual;
    }
    let count = |kind: u64| kinds.iter().filter(|(_, one)| *one == kind).count();
    let is_rare = |place: &usize| {
        let kind = kinds.get(*place);
        kind.is_some_and(|(_, kind)| count(*kind) <= KEPT_OF_KIND)
    };
    let mut all = (usual..kinds.len()).chain(0..usual);
    let unused = all.find(|&place| kinds.get(place) == Some(&(0, 0)));
    // A number that was not yet given is garbage, and the oldest.
    let age = |place: &usize| number.wrapping_sub(number_in(*place));
    let written = || (0..kinds.len()).filter(|&place| number_in(place) != 0);
    unused
        .or_else(|| written().filter(|place| !is_rare(place)).max_by_key(age))
        .or_else(|| written().max_by_key(age))
        .unwrap_or(usual)
}

/// Reads the event in a place, and its number. `word` reads the word at an offset.
pub(super) fn read_event(place: usize, word: impl Fn(usize) -> u64) -> Option<(u64, EventRecord)> {
    let (at, texts) = layout::event(place);
    let number = Some(word(at)).filter(|&number| number != 0)?;
    let text = |at, length| read_text(at, length, &word);
    let happened = word(at + 16);
    let count_at = layout::event_count(place);
    // Of another event if a program that does not know of counts has written this one.
    let count = word(count_at);
    let count = u32::try_from(count & COUNT_MAX)
        .ok()
        .filter(|&found| found > 0 && event_count(number, found) == count);
    let record = EventRecord {
        kind: word(at + 8),
        at: happened,
        pid: word(at + 24),
        other: word(at + 32),
        amount: word(at + 40),
        label: text(at + EVENT_LABEL_AT, EVENT_LABEL_LEN),
        statement: text(texts, EVENT_TEXT_LEN),
        call_site: text(texts + EVENT_TEXT_LEN, EVENT_TEXT_LEN),
        count: count.unwrap_or(1),
        first: count.map_or(happened, |_| word(count_at + 8)),
        is_frequent: false,
    };
    Some((number, record))
}

/// The largest count.
const COUNT_MAX: u64 = u32::MAX as u64;

/// Returns the word that says how often the event with this number happened.
pub(super) fn event_count(number: u64, count: u32) -> u64 {
    (number & COUNT_MAX) << 32 | u64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_event_is_not_replaced_by_a_frequent_one() {
        let mut kinds: Vec<(u64, u64)> = (1..=64).map(|number| (number, 2)).collect();
        kinds[5] = (6, 3);
        assert_eq!(place_for(64, &kinds), 0);
        assert_eq!(
            place_for(64 + 5, &kinds),
            0,
            "the oldest of the frequent kind"
        );
        kinds[0] = (70, 2);
        assert_eq!(place_for(128 + 5, &kinds), 1);
        let rare: Vec<(u64, u64)> = (1..=64).map(|number| (number, number)).collect();
        assert_eq!(place_for(64 + 5, &rare), 0);
        assert_eq!(place_for(7, &[(0, 0); 64]), 7);
    }

    /// Numbers are given to events that are merged too, which need no place.
    #[test]
    fn every_place_is_used_whatever_the_numbers() {
        let mut kinds = [(0, 0); 64];
        for number in (0..).step_by(2).take(200) {
            kinds[place_for(number, &kinds)] = (number + 1, 2);
        }
        let mut kept = kinds.map(|(number, _)| number);
        kept.sort_unstable();
        assert_eq!((kept[0], kept[63]), (2 * 136 + 1, 2 * 199 + 1));
        kinds[9].0 = u64::MAX;
        assert_eq!(place_for(500, &kinds), 9, "garbage");
    }

    #[test]
    fn the_same_event_is_recognised() {
        let event = EventRecord {
            kind: 2,
            pid: 1,
            other: 2,
            ..EventRecord::default()
        };
        let later = |change: fn(&mut EventRecord)| {
            let mut later = event.clone();
            change(&mut later);
            later
        };
        assert!(event.is_same(&later(|one| one.at = 7)));
        assert!(!event.is_same(&later(|one| one.kind = 3)));
        assert!(!event.is_same(&later(|one| one.pid = 3)));
        assert!(!event.is_same(&later(|one| one.label = "x".to_owned())));
        let frequent = later(|one| one.is_frequent = true);
        assert!(frequent.is_same(&later(|one| one.pid = 3)));
        assert!(frequent.is_same(&later(|one| one.other = 3)));
        assert!(!frequent.is_same(&later(|one| (one.pid, one.other) = (3, 3))));
    }
}
