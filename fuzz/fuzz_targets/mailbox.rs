//! A mailbox of the queue file: any order of steps of its owner and of holders, with and
//! without garbage in its words.
//!
//! Each step is one byte; the steps of garbage take 9 more: a place and a word.
#![no_main]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use libfuzzer_sys::fuzz_target;
use penholder_core::fuzzing::{MAILBOX_WORDS, RequestBox};
use penholder_core::{Claim, Outcome, REPLY_MAX, REQUEST_MAX, RequestId};

const FINGERPRINT: u64 = 5;

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<AtomicU64> = (0..MAILBOX_WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut steps = bytes.iter().copied();
    let mut run = Run {
        mailbox: RequestBox::new(&words),
        state: State::Empty,
        number: 0,
        claims: 0,
        has_reply: false,
        is_spoilt: false,
    };
    while let Some(step) = steps.next() {
        let argument = step >> 4;
        match step & 15 {
            0 => run.offer(argument),
            1 => run.read(),
            2 => run.claim(),
            3 => run.reply(argument),
            4 => run.acknowledge(),
            5 => run.refuse(),
            6 => run.withdraw(),
            7 => run.settle(),
            8 => run.late_holder(),
            9 => {
                let place = usize::from(argument) | usize::from(steps.next().unwrap_or(0)) << 4;
                let mut word = [0; 8];
                word.fill_with(|| steps.next().unwrap_or(0));
                words[place % MAILBOX_WORDS].store(u64::from_le_bytes(word), SeqCst);
                run.is_spoilt = true;
            }
            _ => {}
        }
        run.look();
    }
});

/// The states of `mailbox.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Offered,
    Claimed,
    Done,
    Local,
    Withdrawn,
}

/// A mailbox, and what is expected of it. Once there is garbage in it, only bounds are checked.
struct Run<'a> {
    mailbox: RequestBox<'a>,
    state: State,
    /// Of the request that was offered last.
    number: u64,
    /// Counts the claims on it.
    claims: u64,
    /// Whether a reply was left since the last claim.
    has_reply: bool,
    is_spoilt: bool,
}

impl Run<'_> {
    fn id(&self) -> RequestId {
        RequestBox::id([self.number, !self.number])
    }

    fn request(&self) -> Vec<u8> {
        let length = usize::try_from(self.number * 997).unwrap() % (REQUEST_MAX + 1);
        vec![self.number as u8; length]
    }

    fn reply_bytes(&self) -> Vec<u8> {
        let length = usize::try_from(self.number * 991).unwrap() % (REPLY_MAX + 1);
        vec![!self.number as u8; length]
    }

    fn last_claim(&self) -> Claim {
        Claim {
            sequence: self.claims,
            batch: [self.number, self.claims],
            pid: 42,
        }
    }

    /// Asserts something unless there is garbage in the mailbox.
    fn expect<T: PartialEq + std::fmt::Debug>(&self, found: T, expected: T) {
        if !self.is_spoilt {
            assert_eq!(found, expected, "{:?}", self.state);
        }
    }

    fn offer(&mut self, argument: u8) {
        self.number += 1 + u64::from(argument);
        (self.claims, self.has_reply) = (0, false);
        self.mailbox.offer(self.id(), FINGERPRINT, &self.request());
        self.state = State::Offered;
    }

    fn read(&mut self) {
        let read = self.mailbox.read(FINGERPRINT);
        if let Some((_, request, _)) = &read {
            assert!(request.len() <= REQUEST_MAX);
        }
        let claim = match self.state {
            State::Offered => Some(None),
            State::Claimed => Some(Some(self.last_claim())),
            _ => None,
        };
        let expected = claim.map(|claim| (self.id(), self.request(), claim));
        self.expect(read, expected);
        self.expect(self.mailbox.read(FINGERPRINT + 1), None);
    }

    fn claim(&mut self) {
        if ![State::Offered, State::Claimed].contains(&self.state) {
            return;
        }
        self.claims += 1;
        let is_claimed = self.mailbox.claim(self.id(), self.last_claim());
        self.expect(is_claimed, true);
        self.expect(
            self.mailbox.current_claim(self.id()),
            Some(self.last_claim()),
        );
        (self.state, self.has_reply) = (State::Claimed, false);
    }

    fn reply(&mut self, argument: u8) {
        if self.state != State::Claimed {
            return;
        }
        let batch = self.last_claim().batch;
        if argument == 15 {
            let too_long = vec![0; REPLY_MAX + 1];
            assert!(!self.mailbox.reply(self.id(), batch, &too_long));
        } else {
            assert!(self.mailbox.reply(self.id(), batch, &self.reply_bytes()));
            self.has_reply = true;
        }
    }

    fn acknowledge(&mut self) {
        let is_acknowledged = self.mailbox.acknowledge(self.id(), self.last_claim().batch);
        self.expect(is_acknowledged, self.state == State::Claimed);
        if self.state == State::Claimed {
            self.state = State::Done;
        }
    }

    fn refuse(&mut self) {
        self.mailbox.refuse(self.id());
        if [State::Offered, State::Claimed].contains(&self.state) {
            self.state = State::Local;
        }
    }

    fn withdraw(&mut self) {
        let may = [State::Offered, State::Local, State::Withdrawn].contains(&self.state);
        let is_withdrawn = self.mailbox.withdraw(self.id());
        self.expect(is_withdrawn, may);
        if may {
            self.state = State::Withdrawn;
        }
    }

    fn settle(&mut self) {
        let outcome = self.mailbox.settle(self.id());
        if let Outcome::Done { reply, .. }
        | Outcome::Claimed {
            reply: Some(reply), ..
        } = &outcome
        {
            assert!(reply.len() <= REPLY_MAX);
        }
        let claim = Some(self.last_claim());
        let reply = self.has_reply.then(|| self.reply_bytes());
        let expected = match (self.state, reply) {
            (State::Offered | State::Local | State::Withdrawn, _) => Outcome::Untouched,
            (State::Claimed, reply) => Outcome::Claimed { claim, reply },
            (State::Done, Some(reply)) => Outcome::Done { claim, reply },
            (State::Done, None) | (State::Empty, _) => Outcome::Lost,
        };
        self.expect(outcome, expected);
        self.state = State::Empty;
        // Whatever was in it, it can be used again.
        assert!(!self.mailbox.is_used());
        self.is_spoilt = false;
    }

    /// A holder that was stopped goes on, with a request that is no longer there.
    fn late_holder(&mut self) {
        let old = RequestBox::id([self.number + 1000, 0]);
        assert!(!self.mailbox.acknowledge(old, [1, 1]));
        assert!(!self.mailbox.withdraw(old));
        self.mailbox.refuse(old);
        assert_eq!(self.mailbox.current_claim(old), None);
        assert!(self.mailbox.is_settled(old));
    }

    fn look(&self) {
        let is_settled = self.mailbox.is_settled(self.id());
        let is_waiting = [State::Offered, State::Claimed, State::Local].contains(&self.state);
        self.expect(is_settled, !is_waiting);
        self.expect(self.mailbox.is_used(), self.state != State::Empty);
    }
}
