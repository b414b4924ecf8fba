//! Group commit across processes: whoever holds the lock does the waiting
//! statements of others in a transaction of its own, and commits once for all.
//!
//! | step of the holder | what stands then, if it dies | who finds out |
//! | --- | --- | --- |
//! | `BEGIN IMMEDIATE` | nothing | – |
//! | resolves what an earlier holder claimed and did not acknowledge | nothing new | – |
//! | claims a request, runs it, leaves the reply | rolled back; the claim says in which batch | the next holder, or its owner with the lock in hand: not in the table, so it is run anew |
//! | notes the batch and its requests in the table, in the same transaction | as above | as above |
//! | `COMMIT` | all of it | as above: it is in the table, so the reply is true |
//! | acknowledges | all of it | its owner, by the acknowledgement, or as above |
//!
//! Claims are made and looked up only inside `BEGIN IMMEDIATE`: SQLite's own write
//! lock is the fence, whatever became of `db.lock`. See `docs/design.md`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use penholder_core::{
    BatchSize, Deadline, Guard, Offer, Outcome as Fate, RemoteRequest as Request, RequestId,
};

use crate::batch;
use crate::carrier::{Carried, Carrier, may_travel};
use crate::data::Statement;
use crate::error::{Error, Result};
use crate::group::{Answer, Claimed, Group, Member, Room, Work};
use crate::options::GroupCommit;
use crate::pace::{self, DEAR};
use crate::parcel::{self, Parcel, Reply};
use crate::telemetry;
use crate::writer::{Desk, Session, Writer};

/// So many that wait are carried however cheap a commit is; and so many, once it is
/// done. Below that handing over is faster, as measured with 32 and 64 processes.
const MANY_WAIT: usize = 48;
const STILL_MANY: usize = 40;
/// It is done if the last batch served so many.
const MANY_LAST: usize = 8;
/// How often a batch is begun anew without somebody who spoiled it.
const TRIES: usize = 4;
/// One event a second tells of carried writes.
const TELL_EACH: Duration = Duration::from_secs(1);
/// Longest request and reply that a place in the page has room for.
const REQUEST_MAX: usize = 3900;
const REPLY_MAX: usize = 4000;

/// What a process keeps for carrying, and for being carried.
#[derive(Debug, Default)]
pub(crate) struct Carrying {
    carrier: Mutex<Option<Box<Carrier>>>,
    /// The carrier's, or zero before there is one.
    kind: AtomicU64,
    /// Whether this process has written: before that it is not worth a second
    /// connection.
    is_warm: AtomicBool,
    /// Whether a closure of the application has had the writing connection, and may
    /// have changed what statements mean there.
    is_touched: AtomicBool,
    /// The newest batch that this process knows of.
    newest: AtomicU64,
    /// When an event last told of carried writes.
    told: Mutex<Option<Instant>>,
    /// When the writing connection may next be looked at, and how often it was.
    look: Mutex<Look>,
}

/// How often a touched connection is looked at, which takes up to a millisecond.
#[derive(Debug, Default)]
struct Look {
    not_before: Option<Instant>,
    looks: u32,
}

/// The longest and the shortest time between two looks; at most a fiftieth of the
/// time goes to them.
const LOOK_EACH: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
const LOOK_SHARE: u32 = 50;

impl Carrying {
    pub(crate) fn warm_up(&self) {
        self.is_warm.store(true, Relaxed);
    }

    /// A closure gets the writing connection.
    pub(crate) fn touch(&self) {
        self.is_touched.store(true, Relaxed);
    }

    pub(crate) fn is_touched(&self) -> bool {
        self.is_touched.load(Relaxed)
    }

    /// After a write of plain data on a connection that was touched before: whether it
    /// is like any other all the same. Only with the lock in hand.
    pub(crate) fn look_at(&self, desk: &Desk<'_>, deadline: &Deadline, writer: &Writer) {
        let mut look = lock(&self.look);
        let begun = Instant::now();
        if !is_across(desk) || look.not_before.is_some_and(|due| begun < due) {
            return;
        }
        if let Some(kind) = self.kind(desk, deadline)
            && writer.is_of_kind(kind, desk.location)
        {
            self.is_touched.store(false, Relaxed);
        }
        let (shortest, longest) = LOOK_EACH;
        // Whoever touches it again and again is looked at less and less.
        let pause = shortest * (1 << look.looks.min(5));
        let share = begun.elapsed() * LOOK_SHARE;
        look.looks += 1;
        look.not_before = Some(begun + pause.min(longest).max(share));
    }

    /// Whether what this process writes may be carried out on another connection
    /// than its own.
    fn travels(&self) -> bool {
        self.is_warm.load(Relaxed) && !self.is_touched.load(Relaxed)
    }

    /// The connection; opened if there is none.
    fn take_carrier(&self, desk: &Desk<'_>, deadline: &Deadline) -> Result<Box<Carrier>> {
        if let Some(carrier) = lock(&self.carrier).take() {
            return Ok(carrier);
        }
        let carrier = Carrier::open(desk.location, desk.options, deadline)?;
        self.kind.store(carrier.kind(), Relaxed);
        Ok(Box::new(carrier))
    }

    /// Gives it back, unless something is still open in it.
    fn keep_carrier(&self, carrier: Box<Carrier>) {
        let is_clean = carrier.connection().is_autocommit() || carrier.step("ROLLBACK").is_ok();
        if is_clean {
            *lock(&self.carrier) = Some(carrier);
        }
    }

    /// The kind of requests that this process makes, and takes.
    fn kind(&self, desk: &Desk<'_>, deadline: &Deadline) -> Option<u64> {
        if self.kind.load(Relaxed) == 0 {
            let carrier = self.take_carrier(desk, deadline).ok()?;
            self.keep_carrier(carrier);
        }
        Some(self.kind.load(Relaxed)).filter(|&kind| kind != 0)
    }

    /// The connection, to be closed.
    pub(crate) fn drain(&mut self) -> Option<Box<Carrier>> {
        let carrier = self.carrier.get_mut();
        carrier.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn may_tell(&self) -> bool {
        let mut told = lock(&self.told);
        let due = told.is_none_or(|told| told.elapsed() >= TELL_EACH);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with one of these held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_across(desk: &Desk<'_>) -> bool {
    desk.options.group_commit == GroupCommit::AcrossProcesses && desk.options.queue_file
}

// ---- to be carried ---------------------------------------------------------------

/// Waits for the lock with what is at the front of the queue left as a request, and
/// runs or delivers what comes of it.
pub(crate) fn serve(desk: &Desk<'_>, leader: &Member) -> Result<()> {
    let group = desk.group();
    let carrying = &desk.attachment.carrying;
    group.pace.gather(desk.limits().latency, || group.len());
    // A request is SQL in the page.
    let may_leave = desk.options.record_sql && is_across(desk);
    let kind = (may_leave && carrying.travels())
        .then(|| carrying.kind(desk, &leader.deadline))
        .flatten();
    let mut left = Left::default();
    if kind.is_some() {
        left.fill(group, leader);
    }
    let since = carrying.newest.load(Relaxed);
    let bytes = std::mem::take(&mut left.bytes);
    let id = Mutex::new(None);
    let note = |request, withdrawal| {
        *lock(&id) = Some(request);
        failpoint!("offered");
        group.offered(withdrawal);
    };
    let offer = kind.filter(|_| !left.members.is_empty()).map(|kind| Offer {
        fingerprint: kind,
        bytes: &bytes,
        on_left: &note,
    });
    let waiting = telemetry::Wait::begin(desk.subject());
    let waited =
        desk.locker()
            .acquire_with_request(&leader.deadline, &leader.canceller, offer.as_ref());
    group.no_longer_offered();
    if let Ok(Some(guard)) = &waited.lock {
        waiting.ends(desk.subject(), guard);
    }
    if !waited.commit_time.is_zero() {
        group.pace.note_commit(waited.commit_time);
    }
    let id = *lock(&id);
    match waited.outcome {
        Fate::Done { claim, reply } => {
            if let Some(claim) = claim {
                carrying.newest.fetch_max(claim.sequence, Relaxed);
            }
            group.pace.note_company(left.members.len());
            failpoint!("answered");
            left.deliver(desk, &reply);
        }
        fate @ (Fate::Claimed { .. } | Fate::Lost) => {
            return unsettled(
                desk,
                leader,
                left,
                waited.lock.map_err(Error::from),
                &fate,
                id,
                since,
            );
        }
        _ => left.give_back(group),
    }
    match waited.lock? {
        Some(guard) => hold(desk, leader.deadline, guard),
        None => Ok(()),
    }
}

/// With the lock in hand: serves whoever waits, here and elsewhere.
pub(crate) fn hold(desk: &Desk<'_>, deadline: Deadline, guard: Guard) -> Result<()> {
    let session = Session::with(*desk, deadline, guard)?;
    run(&session);
    Ok(())
}

/// Runs what is queued here, and what others have left if that is worth while.
pub(crate) fn run(session: &Session<'_>) {
    let desk = session.desk();
    let group = desk.group();
    if is_worth_it(desk, session.guard()) {
        let guard = session.guard();
        let (commit, company) = pace_of(guard);
        pace::gather(company, commit, desk.limits().latency, || {
            group.len() + guard.count_requests()
        });
        share(session, group);
    }
    batch::run(session, group, desk.limits());
}

/// Writes that are left as one request.
#[derive(Default)]
struct Left {
    members: Vec<Claimed>,
    bytes: Vec<u8>,
}

impl Left {
    /// Takes what may travel from the front of the queue, as much as fits.
    fn fill(&mut self, group: &Group, leader: &Member) {
        let mut writer = parcel::Writer::default();
        loop {
            let length = writer.len();
            let claimed = group.claim_to_offer(leader, |work| {
                if !travels(work) {
                    return false;
                }
                let is_batch = matches!(work, Work::Batch(_));
                writer.parcel(is_batch, work.statements());
                writer.len() <= REQUEST_MAX
            });
            let Some(claimed) = claimed else {
                writer.cut(length);
                break;
            };
            self.members.push(claimed);
        }
        self.bytes = writer.into_bytes();
    }

    fn give_back(self, group: &Group) {
        group.unclaim(self.members, false);
    }

    /// Tells everybody what came of it.
    fn deliver(self, desk: &Desk<'_>, reply: &[u8]) {
        let replies = parcel::replies(reply).unwrap_or_default();
        let path = &desk.location.path;
        if replies.len() != self.members.len() {
            for one in self.members {
                one.answer(Err(Error::result_lost(path)));
            }
            return;
        }
        let mut home = Vec::new();
        for (one, reply) in self.members.into_iter().zip(replies) {
            match reply {
                Reply::Done(all) => one.answer(Ok(all)),
                Reply::Failed { code, text } => {
                    let error = Reply::failed(code, text);
                    one.answer(Err(Error::sqlite("write", path, error)));
                }
                Reply::Home => home.push(one),
            }
        }
        desk.group().unclaim(home, true);
    }

    fn leave_unknown(self, error: &dyn Fn() -> Error) {
        for one in self.members {
            one.answer(Err(error()));
        }
    }
}

fn travels(work: &Work) -> bool {
    let all = work.statements();
    !all.is_empty() && all.iter().all(|one| may_travel(one.sql()))
}

/// Somebody claimed our request, and did not acknowledge it; or its place was
/// overwritten. Whether it was carried out stands in the table, for whoever has the
/// lock.
fn unsettled(
    desk: &Desk<'_>,
    leader: &Member,
    left: Left,
    lock: Result<Option<Guard>>,
    fate: &Fate,
    id: Option<RequestId>,
    since: u64,
) -> Result<()> {
    let path = &desk.location.path;
    let guard = match lock {
        // The wait ended because the request was gone: now for the lock itself.
        Ok(None) => desk
            .locker()
            .acquire_until(&leader.deadline)
            .map(Some)
            .map_err(Error::from),
        lock => lock,
    };
    let (guard, id) = match (guard, id) {
        (Ok(Some(guard)), Some(id)) => (guard, id),
        (guard, _) => {
            let cause = guard.err();
            left.leave_unknown(&|| Error::outcome_unknown(path, cause.as_ref()));
            return Ok(());
        }
    };
    let session = match Session::with(*desk, leader.deadline, guard) {
        Ok(session) => session,
        Err(error) => {
            left.leave_unknown(&|| Error::outcome_unknown(path, Some(&error)));
            return Ok(());
        }
    };
    match look_up(&session, fate, id, since) {
        Ok(Some(true)) => match fate {
            Fate::Claimed {
                reply: Some(reply), ..
            } => left.deliver(desk, reply),
            _ => left.leave_unknown(&|| Error::result_lost(path)),
        },
        Ok(Some(false)) => left.give_back(desk.group()),
        Ok(None) => left.leave_unknown(&|| Error::outcome_unknown(path, None)),
        Err(error) => left.leave_unknown(&|| Error::outcome_unknown(path, Some(&error))),
    }
    run(&session);
    Ok(())
}

/// Whether a request was carried out and committed; `None` if nobody knows any more.
fn look_up(session: &Session<'_>, fate: &Fate, id: RequestId, since: u64) -> Result<Option<bool>> {
    let desk = session.desk();
    let carrying = &desk.attachment.carrying;
    let failed = |e| session.explain("look a batch up", e);
    let carrier = carrying.take_carrier(desk, session.deadline())?;
    session.have_patience(carrier.connection())?;
    let found = carrier
        .step("BEGIN IMMEDIATE")
        .and_then(|()| match fate {
            Fate::Claimed {
                claim: Some(claim), ..
            } => carrier.has_carried(claim.sequence, id),
            _ => carrier.find_carried(since, id),
        })
        .map_err(failed);
    failpoint!("looked_up");
    // Ends the transaction too.
    carrying.keep_carrier(carrier);
    found
}

// ---- to carry ------------------------------------------------------------------

/// Whether to do what others have left: where a commit is dear, or many wait. Not at the
/// first write of a process: a second connection is not worth it for one, and where
/// hundreds begin at once each gets its turn sooner.
pub(crate) fn is_worth_it(desk: &Desk<'_>, guard: &Guard) -> bool {
    let is_warm = || desk.attachment.carrying.is_warm.load(Relaxed);
    if !is_across(desk) || !guard.is_awaited() || !is_warm() {
        return false;
    }
    let (commit, company) = pace_of(guard);
    let many = if company >= MANY_LAST {
        STILL_MANY
    } else {
        MANY_WAIT
    };
    commit >= DEAR || guard.count_waiters() >= many
}

fn pace_of(guard: &Guard) -> (Duration, usize) {
    guard.commit_stats().map_or((Duration::ZERO, 0), |stats| {
        (stats.commit_time(), stats.last_batch())
    })
}

/// A request being carried out.
struct Passenger {
    request: Request,
    parcels: Vec<Parcel>,
    /// Whether there is anything to acknowledge.
    is_done: bool,
}

/// A write of our own in the transaction.
struct Own {
    member: Claimed,
    answer: Option<Answer>,
}

/// A transaction for our own writes and those of others.
struct Shared<'a> {
    session: &'a Session<'a>,
    carrier: Box<Carrier>,
    own: Vec<Own>,
    passengers: Vec<Passenger>,
    sequence: i64,
    batch: [u64; 2],
}

/// Does, in one transaction, what is queued here and may as well be done on another
/// connection, and what others have left.
fn share(session: &Session<'_>, group: &Group) {
    let desk = session.desk();
    let carrying = &desk.attachment.carrying;
    if session.guard().count_requests() == 0 {
        return;
    }
    // What fails here is met again, and told, when the queue is run by itself.
    let Ok(carrier) = carrying.take_carrier(desk, session.deadline()) else {
        return;
    };
    let Some(batch) = session.guard().unique_id() else {
        carrying.keep_carrier(carrier);
        return;
    };
    let mut shared = Shared {
        session,
        carrier,
        own: Vec::new(),
        passengers: Vec::new(),
        sequence: 0,
        batch,
    };
    if shared.begin().is_ok() {
        shared.gather_passengers();
        if shared.passengers.is_empty() {
            // Nobody to carry: our own are run at home.
            shared.roll_back();
        } else {
            let mut room = Room::new(desk.limits());
            if carrying.travels() {
                shared.gather_own(group, &mut room);
            }
            shared.run(&mut room);
        }
    }
    shared.end(group);
}

impl Shared<'_> {
    fn begin(&mut self) -> Result<()> {
        let failed = |e| self.session.explain("begin transaction", e);
        self.session.have_patience(self.carrier.connection())?;
        self.carrier.step("BEGIN IMMEDIATE").map_err(failed)?;
        self.sequence = self.carrier.next_sequence().map_err(failed)?;
        Ok(())
    }

    fn roll_back(&self) {
        if !self.carrier.connection().is_autocommit() {
            // If that fails, the connection is closed: see `keep_carrier`.
            let _ = self.carrier.step("ROLLBACK");
        }
    }

    /// Reads what others have left; what an earlier holder has done is acknowledged.
    fn gather_passengers(&mut self) {
        let guard = self.session.guard();
        for request in guard.requests(self.carrier.kind()) {
            if let Some(claim) = request.claimed {
                match self.carrier.has_carried(claim.sequence, request.id) {
                    Ok(Some(false)) => {}
                    Ok(Some(true)) => {
                        guard.acknowledge(&[request]);
                        continue;
                    }
                    // Its owner finds out, or is told that nobody knows.
                    Ok(None) | Err(_) => continue,
                }
            }
            match parcel::parcels(&request.bytes) {
                Some(parcels) => self.passengers.push(Passenger {
                    request,
                    parcels,
                    is_done: false,
                }),
                None => guard.refuse(&request),
            }
        }
    }

    fn gather_own(&mut self, group: &Group, room: &mut Room) {
        while let Some(member) = group.claim(|work| travels(work) && room.takes(work)) {
            let answer = None;
            self.own.push(Own { member, answer });
        }
    }

    /// Runs everybody, commits, and tells everybody; begins anew without whoever
    /// spoils it.
    fn run(&mut self, room: &mut Room) {
        self.passengers.retain(|one| {
            let all = || one.parcels.iter().flat_map(|parcel| &parcel.statements);
            room.takes_as_much(all().count(), all().map(Statement::bytes).sum())
        });
        self.board();
        for _ in 0..TRIES {
            match self.run_all() {
                Ok(()) => {
                    self.commit();
                    return;
                }
                Err(Culprit::Own(place)) => {
                    // It stays without an answer, and is run at home.
                    self.roll_back();
                    self.own[place].answer = None;
                    self.own[place].member.stay_home();
                }
                Err(Culprit::Passenger(place)) => {
                    let culprit = self.passengers.remove(place);
                    self.refuse(&[culprit.request]);
                    self.roll_back();
                }
            }
            if self.begin().is_err() {
                break;
            }
            self.board_again();
        }
        self.give_up();
    }

    /// Claims the requests; some may have been taken back.
    fn board(&mut self) {
        let (guard, sequence, batch) = (self.session.guard(), self.sequence, self.batch);
        self.passengers
            .retain(|one| guard.claim(&one.request, sequence.unsigned_abs(), batch));
        failpoint!("boarded");
    }

    /// Between two transactions anybody may have had SQLite's lock, who does not know
    /// of ours: only what is still claimed by this batch is still to be done. It is claimed
    /// anew, because the number of the batch may be another one now.
    fn board_again(&mut self) {
        let (guard, sequence, batch) = (self.session.guard(), self.sequence, self.batch);
        let ours = self.still_claimed();
        self.passengers.retain(|one| {
            ours.contains(&one.request.id)
                && guard.claim(&one.request, sequence.unsigned_abs(), batch)
        });
    }

    /// What is claimed by this batch, and nobody has claimed anew.
    fn still_claimed(&self) -> Vec<RequestId> {
        let requests = self.session.guard().requests(self.carrier.kind());
        let is_ours = |one: &Request| one.claimed.is_some_and(|claim| claim.batch == self.batch);
        let ours = requests.into_iter().filter(is_ours);
        ours.map(|one| one.id).collect()
    }

    /// Leaves them to their owners: before the transaction is rolled back, because
    /// another holder may claim them after that; if SQLite has done so by itself, only
    /// those that nobody has.
    fn refuse(&self, requests: &[Request]) {
        let is_over = self.carrier.connection().is_autocommit();
        let ours = is_over.then(|| self.still_claimed());
        for one in requests {
            if ours.as_ref().is_none_or(|ours| ours.contains(&one.id)) {
                self.session.guard().refuse(one);
            }
        }
    }

    fn run_all(&mut self) -> Result<(), Culprit> {
        for (place, own) in self.own.iter_mut().enumerate() {
            // What it did in an attempt before was rolled back.
            own.answer = None;
            if own.member.stays_home() {
                continue;
            }
            note(self.session, own.member.work.statements());
            match run_parcel(&self.carrier, own.member.work.statements()) {
                Ran::Stands(Reply::Done(all)) => own.answer = Some(Ok(all)),
                Ran::Stands(Reply::Failed { code, text }) => {
                    let error = Reply::failed(code, text);
                    own.answer = Some(Err(self.session.explain("write", error)));
                }
                Ran::Stands(Reply::Home) => own.member.stay_home(),
                Ran::Spoiled => return Err(Culprit::Own(place)),
            }
        }
        for (place, one) in self.passengers.iter_mut().enumerate() {
            let mut replies = parcel::Writer::default();
            one.is_done = false;
            for parcel in &one.parcels {
                note(self.session, &parcel.statements);
                let ran = run_parcel(&self.carrier, &parcel.statements);
                let Ran::Stands(reply) = ran else {
                    return Err(Culprit::Passenger(place));
                };
                one.is_done |= !matches!(reply, Reply::Home);
                replies.reply(&reply);
            }
            let replies = replies.into_bytes();
            if replies.len() > REPLY_MAX || !self.session.guard().reply(&one.request, &replies) {
                return Err(Culprit::Passenger(place));
            }
        }
        failpoint!("executed");
        Ok(())
    }

    fn commit(&mut self) {
        let guard = self.session.guard();
        let (done, home): (Vec<_>, Vec<_>) = self
            .passengers
            .drain(..)
            .partition(|passenger| passenger.is_done);
        home.iter().for_each(|one| guard.refuse(&one.request));
        let ids: Vec<RequestId> = done.iter().map(|one| one.request.id).collect();
        let noted = if ids.is_empty() {
            Ok(())
        } else {
            self.carrier.note_batch(self.sequence, self.batch, &ids)
        };
        failpoint!("before_commit");
        let begun = Instant::now();
        let committed = noted.and_then(|()| self.carrier.step("COMMIT"));
        let took = begun.elapsed();
        failpoint!("committed");
        let requests: Vec<Request> = done.iter().map(|one| one.request.clone()).collect();
        match committed {
            Ok(()) => {
                acknowledge(guard, &requests);
                self.account(&done, took);
            }
            Err(error) => {
                self.refuse(&requests);
                self.roll_back();
                let error = self.session.explain("commit", error);
                for own in &mut self.own {
                    if let Some(Ok(_)) = own.answer {
                        own.answer = Some(Err(error.for_another()));
                    }
                }
            }
        }
    }

    fn account(&self, done: &[Passenger], commit: Duration) {
        let (guard, desk) = (self.session.guard(), self.session.desk());
        let carrying = &desk.attachment.carrying;
        carrying
            .newest
            .fetch_max(self.sequence.unsigned_abs(), Relaxed);
        let own = self.own.iter().filter(|own| own.answer.is_some()).count();
        if let Some(stats) = guard.commit_stats() {
            stats.note(commit, own + done.len());
        }
        desk.group().pace.note_commit(commit);
        let carried: usize = done.iter().map(|one| one.parcels.len()).sum();
        guard.count_batch(BatchSize {
            writes: (own + carried) as u64,
            requests: done.len() as u64,
            remote_writes: carried as u64,
        });
        if carried > 0 {
            telemetry::carried(desk.subject(), done.len(), carried);
        }
        if let Some(first) = done.first()
            && carrying.may_tell()
        {
            guard.record_remote_writes(first.request.pid, carried as u64);
        }
    }

    /// Nobody is carried this time.
    fn give_up(&mut self) {
        let requests: Vec<Request> = self.passengers.drain(..).map(|one| one.request).collect();
        self.refuse(&requests);
        self.roll_back();
        for own in &mut self.own {
            own.answer = None;
        }
    }

    /// Gives everything back; whoever has no answer is run at home.
    fn end(self, group: &Group) {
        let mut home = Vec::new();
        for own in self.own {
            match own.answer {
                Some(answer) => own.member.answer(answer),
                None => home.push(own.member),
            }
        }
        group.unclaim(home, true);
        self.session.note_log_of(&self.carrier.writer);
        let carrying = &self.session.desk().attachment.carrying;
        carrying.keep_carrier(self.carrier);
    }
}

/// In the unit tests in two halves, with a step between them.
fn acknowledge(guard: &Guard, requests: &[Request]) {
    #[cfg(test)]
    let requests = {
        let (first, rest) = requests.split_at(requests.len().div_ceil(2));
        guard.acknowledge(first);
        failpoint!("half_acknowledged");
        rest
    };
    guard.acknowledge(requests);
}

/// Who made a transaction impossible.
enum Culprit {
    Own(usize),
    Passenger(usize),
}

/// How one write went in a shared transaction.
pub(crate) enum Ran {
    /// So it stands if the transaction is committed.
    Stands(Reply),
    /// The transaction is gone, or has to go.
    Spoiled,
}

/// Says what is run next.
fn note(session: &Session<'_>, statements: &[Statement]) {
    if let Some(first) = statements.first() {
        session.note_statement(first.sql());
    }
}

/// Runs one write, in a savepoint, also a statement by itself: SQLite does not always
/// take back what a failed one did. It leaves rows behind that came before one of a
/// wrong type for a `STRICT` table, one that is too long, or one that a virtual table
/// fails to read; and everything, if the progress handler interrupts after the last
/// step.
pub(crate) fn run_parcel(carrier: &Carrier, statements: &[Statement]) -> Ran {
    if carrier.step("SAVEPOINT penholder_member").is_err() {
        return Ran::Spoiled;
    }
    let mut done = Vec::new();
    let mut failed = None;
    for one in statements {
        match carrier.run(one) {
            Carried::Done(executed) => done.push(executed),
            Carried::Spoiled => return Ran::Spoiled,
            other => {
                failed = Some(Reply::from(other));
                break;
            }
        }
    }
    let mut reply = failed.unwrap_or(Reply::Done(done));
    let is_violated = carrier.writer.connection.has_deferred_violation();
    let mut length = parcel::Writer::default();
    length.reply(&reply);
    if is_violated || length.len() > REPLY_MAX / 2 {
        reply = Reply::Home;
    }
    let ended = if matches!(reply, Reply::Done(_)) {
        carrier.step("RELEASE penholder_member")
    } else {
        let undone = carrier.step("ROLLBACK TO penholder_member");
        undone.and_then(|()| carrier.step("RELEASE penholder_member"))
    };
    match ended {
        Ok(()) => Ran::Stands(reply),
        Err(_) => Ran::Spoiled,
    }
}
