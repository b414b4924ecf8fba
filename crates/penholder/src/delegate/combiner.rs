//! The holder's side: one transaction for its own writes and those of other processes.

use std::mem;
use std::time::{Duration, Instant};

use penholder_core::fair_queue::Wakes;
use penholder_core::{BatchSize, Combining, Guard, RemoteRequest};

use super::batch_table::{self, BatchTable, Search, TableError};
use super::connection::DelegateConnection;
use super::execution::{ExecutedWrite, execute_write};
use super::policy::may_use_other_connection;
use super::state::DelegateContext;
use super::wire::{self, Encoder, RemoteWrite, Reply};
use crate::data::Statement;
use crate::error::{Error, Result, is_busy_code};
use crate::group::{Budget, ClaimedWrite, Isolation, WriteResult};
use crate::sqlite::connection::set_busy_timeout;
use crate::sqlite::fingerprint::Fingerprint;
use crate::telemetry;
use crate::write::Session;

/// How often a batch begins again without a write that aborted it.
const BATCH_TRIES: usize = 4;

/// How long the writes of other processes may run in one transaction, together. What is left then
/// is for their owners.
const TOTAL_TIME_LIMIT: Duration = Duration::from_millis(50);
/// Requests of at most this many bytes are executed before the others, in the order of the queue.
const SHORT_REQUEST: usize = 1024;

/// A request that is being executed.
struct ExecutingRequest {
    request: RemoteRequest,
    writes: Vec<RemoteWrite>,
    /// Which of the writes were done.
    done: Vec<bool>,
    /// Whether there is anything to acknowledge.
    is_replied: bool,
}

/// A write of our own in the transaction.
struct OwnWrite {
    write: ClaimedWrite,
    result: Option<WriteResult>,
}

/// A transaction for our own writes and those of other processes.
struct Combination<'a> {
    context: &'a DelegateContext<'a>,
    session: &'a Session<'a>,
    connection: Box<DelegateConnection>,
    own: Vec<OwnWrite>,
    remote: Vec<ExecutingRequest>,
    sequence: i64,
    /// Another one for each attempt, so that a reply tells which attempt it is of.
    batch: [u64; 2],
    /// How its writes are kept apart.
    isolation: Isolation,
    /// How long the writes of others have run.
    spent: Duration,
    /// How many requests were executed and acknowledged.
    executed: usize,
    /// Until the transaction is over.
    combining: Option<Combining>,
}

/// The write that made a transaction impossible, by its index.
enum Culprit {
    Own(usize),
    Remote(usize),
}

/// Executes, in one transaction, what other processes offer, and those writes of our own
/// that may be executed on another connection than ours. Returns the fingerprint of the requests,
/// if there were any and all were executed.
pub(super) fn combine(context: &DelegateContext<'_>, session: &Session<'_>) -> Option<Fingerprint> {
    if session.guard().count_requests() == 0 {
        return None;
    }
    let (write, delegate, guard) = (context.write(), context.delegate, session.guard());
    // An error is ignored here: the same step fails again, and is reported, when the queue runs
    // without combining.
    let connection = delegate.take_connection(write, session.deadline()).ok()?;
    session.count_commits_of(connection.write_connection());
    let fingerprint = connection.fingerprint();
    let mut requests = guard.requests(fingerprint.0);
    let offered = requests.len();
    let Some(combining) = guard.begin_combining(&mut requests) else {
        delegate.keep_connection(connection);
        return None;
    };
    let mut combination = Combination {
        context,
        session,
        connection,
        own: Vec::new(),
        remote: Vec::new(),
        sequence: 0,
        batch: [0; 2],
        isolation: Isolation::Savepoint,
        spent: Duration::ZERO,
        executed: 0,
        combining: Some(combining),
    };
    combination.decode(requests);
    // Without any, our own writes need no combination.
    if !combination.remote.is_empty() && combination.begin() {
        combination.isolation = delegate.caution.next();
        let mut budget = Budget::new(write.limits());
        if may_use_other_connection(write) {
            combination.gather_own(&mut budget);
        }
        combination.run(&mut budget);
    }
    let executes_all = combination.executed == offered;
    combination.end();
    executes_all.then_some(fingerprint)
}

impl Combination<'_> {
    /// Begins a transaction; `false` if nothing can be combined in it.
    fn begin(&mut self) -> bool {
        // An error is ignored: see `combine`.
        let begun = self.try_begin();
        let is_begun = matches!(begun, Ok(Ok(())));
        if let Ok(Err(error)) = begun {
            self.note_table_error(error);
        }
        is_begun
    }

    fn try_begin(&mut self) -> Result<Result<(), TableError>> {
        let failed = |e| self.session.explain("begin transaction", e);
        let Some(batch) = self.session.guard().unique_id() else {
            return Ok(Err(TableError::Empty));
        };
        let connection = self.connection.connection();
        let set = |timeout| set_busy_timeout(connection, timeout);
        let begin = || self.connection.step("BEGIN IMMEDIATE");
        let begun = self.session.wait_for_sqlite(set, begin, is_busy_code);
        begun.map_err(failed)?;
        // Before, what is still claimed is that of the batch before.
        self.batch = batch;
        self.session.share_busy_timeout(connection)?;
        let table = self.connection.batch_table();
        let newest = match table.newest(connection) {
            Err(TableError::Empty) => {
                let created = table.create(connection, batch);
                if created.is_ok() {
                    self.connection.step("COMMIT").map_err(failed)?;
                    self.connection.step("BEGIN IMMEDIATE").map_err(failed)?;
                }
                created.and_then(|()| table.newest(connection))
            }
            newest => newest,
        };
        Ok(newest.map(|newest| self.sequence = newest + 1))
    }

    /// If the table of batches cannot be used, nothing is combined for a while.
    fn note_table_error(&self, error: TableError) {
        let Some(foreign) = error.into_foreign() else {
            return;
        };
        self.context.delegate.pause();
        telemetry::combining_paused(self.session.context().labels(), &foreign);
    }

    fn roll_back(&self) {
        // If that fails, the connection is closed: see `Delegate::keep_connection`.
        let _ = self.connection.roll_back();
    }

    /// Decodes what other processes offer.
    fn decode(&mut self, requests: Vec<RemoteRequest>) {
        for request in requests {
            match wire::remote_writes(&request.bytes) {
                Some(writes) => self.remote.push(ExecutingRequest {
                    request,
                    done: vec![false; writes.len()],
                    writes,
                    is_replied: false,
                }),
                None => self.session.guard().refuse(&request),
            }
        }
    }

    fn gather_own(&mut self, budget: &mut Budget) {
        let group = self.context.group();
        while let Some(write) = group.claim(|work| work.looks_delegable() && budget.take(work)) {
            let result = None;
            self.own.push(OwnWrite { write, result });
        }
    }

    /// Runs all writes, commits, and tells all owners. If not all of them are done without
    /// savepoints, it begins again with savepoints. If a write aborts the transaction even so, it
    /// begins again without that write.
    fn run(&mut self, budget: &mut Budget) {
        self.remote.retain(|one| {
            let all = || one.writes.iter().flat_map(|write| &write.statements);
            budget.take_size(all().count(), all().map(Statement::bytes).sum())
        });
        // What is left when the time is over goes back to its owners: that should be long ones.
        self.remote
            .sort_by_key(|one| one.request.bytes.len() > SHORT_REQUEST);
        self.claim();
        let tries = BATCH_TRIES + usize::from(self.isolation == Isolation::None);
        for _ in 0..tries {
            if self.remote.is_empty() {
                // None fits, or all were withdrawn or refused: our own need no combination.
                break;
            }
            match self.run_all() {
                Ok(()) => {
                    self.commit();
                    return;
                }
                Err(_) if self.isolation == Isolation::None => {
                    // No owner was told anything.
                    self.roll_back();
                    self.spent = Duration::ZERO;
                    self.isolation = Isolation::Savepoint;
                    self.context.delegate.caution.increase();
                    penholder_core::failpoint!("taken_back");
                }
                Err(Culprit::Own(index)) => {
                    // It has no result, so it is run alone.
                    self.roll_back();
                    self.own[index].result = None;
                    self.own[index].write.make_local();
                }
                Err(Culprit::Remote(index)) => {
                    let culprit = self.remote.remove(index);
                    self.refuse(&[&culprit.request]);
                    self.roll_back();
                }
            }
            let before = self.batch;
            if !self.begin() {
                break;
            }
            self.claim_again(before);
        }
        self.give_up();
    }

    /// Claims the requests; some may have been withdrawn.
    fn claim(&mut self) {
        self.acknowledge_executed();
        self.claim_all();
        if !self.remote.is_empty() {
            penholder_core::failpoint!("requests_claimed");
        }
    }

    /// Claims the requests again for another transaction. In between, a process that does not
    /// know of our lock may have had SQLite's, so only what is still claimed by the batch before
    /// is still to be executed.
    fn claim_again(&mut self, before: [u64; 2]) {
        self.acknowledge_executed();
        let guard = self.session.guard();
        self.remote
            .retain(|one| is_claimed_by(guard, &one.request, before));
        self.claim_all();
    }

    /// Claims the requests for this batch, and keeps those that could be claimed.
    fn claim_all(&mut self) {
        let Some(combining) = &self.combining else {
            return;
        };
        let (guard, sequence) = (self.session.guard(), self.sequence.unsigned_abs());
        let requests: Vec<&RemoteRequest> = self.remote.iter().map(|one| &one.request).collect();
        let mut claimed = guard
            .claim(&requests, sequence, self.batch, combining)
            .into_iter();
        self.remote.retain(|_| claimed.next() == Some(true));
    }

    /// Looks up which requests an earlier combiner has executed: it died before it told their
    /// owners, or their mailboxes are older ones that were written back. That comes before the
    /// claims, which replace what the earlier combiner left in the mailboxes.
    fn acknowledge_executed(&mut self) {
        let ids: Vec<_> = self
            .remote
            .iter()
            .map(|one| (one.request.id, one.request.since))
            .collect();
        let connection = self.connection.connection();
        let newest = self.sequence - 1;
        let found = batch_table::find_up_to(connection, newest, &ids).unwrap_or_else(|error| {
            self.note_table_error(error.into());
            vec![Search::Unknown; ids.len()]
        });
        if found.iter().all(|found| *found == Search::NotExecuted) {
            return;
        }
        let guard = self.session.guard();
        let mut executed = Vec::new();
        for (one, found) in mem::take(&mut self.remote).into_iter().zip(found) {
            match found {
                Search::NotExecuted => self.remote.push(one),
                Search::Executed(found) => executed.push((one.request, found.batch)),
                // Its owner finds out, or is told that the outcome is unknown.
                Search::Unknown if guard.current_claim(&one.request).is_some() => {}
                Search::Unknown => guard.refuse(&one.request),
            }
        }
        if let Some(combining) = &self.combining
            && !executed.is_empty()
        {
            guard.acknowledge_found(&executed, combining, self.connection.fingerprint().0);
        }
    }

    /// Leaves requests to their owners. This has to happen before the transaction is rolled
    /// back, because another combiner may claim them after that. If SQLite has rolled it back
    /// already, only those are refused that are still ours.
    fn refuse(&self, requests: &[&RemoteRequest]) {
        let is_over = self.connection.connection().is_autocommit();
        let guard = self.session.guard();
        for &one in requests {
            if !is_over || is_claimed_by(guard, one, self.batch) {
                guard.refuse(one);
            }
        }
    }

    fn run_all(&mut self) -> Result<(), Culprit> {
        self.run_own()?;
        self.run_remote()?;
        penholder_core::failpoint!("executed");
        Ok(())
    }

    fn run_own(&mut self) -> Result<(), Culprit> {
        for (index, own) in self.own.iter_mut().enumerate() {
            // What it did in an earlier attempt was rolled back.
            own.result = None;
            if own.write.is_local() {
                continue;
            }
            note_statement(self.session, own.write.work.statements());
            let statements = own.write.work.statements();
            match execute_write(&self.connection, statements, self.isolation) {
                ExecutedWrite::Replied(Reply::Done(all)) => own.result = Some(Ok(all)),
                ExecutedWrite::Replied(Reply::Failed {
                    statement,
                    code,
                    text,
                }) => {
                    let error = self.session.explain("write", Reply::failed(code, text));
                    own.result = Some(Err(own.write.work.say_which_failed(
                        error,
                        statement as usize,
                        self.session.context().options,
                    )));
                }
                ExecutedWrite::Replied(Reply::Local) => own.write.make_local(),
                ExecutedWrite::Aborted => return Err(Culprit::Own(index)),
            }
        }
        Ok(())
    }

    fn run_remote(&mut self) -> Result<(), Culprit> {
        for (index, one) in self.remote.iter_mut().enumerate() {
            let mut replies = Encoder::default();
            one.is_replied = false;
            for (write, done) in one.writes.iter().zip(&mut one.done) {
                note_statement(self.session, &write.statements);
                let reply = if self.spent > TOTAL_TIME_LIMIT {
                    Reply::Local
                } else {
                    let begun = Instant::now();
                    let executed =
                        execute_write(&self.connection, &write.statements, self.isolation);
                    self.spent += begun.elapsed();
                    match executed {
                        ExecutedWrite::Replied(reply) => reply,
                        ExecutedWrite::Aborted => return Err(Culprit::Remote(index)),
                    }
                };
                *done = matches!(reply, Reply::Done(_));
                one.is_replied |= !matches!(reply, Reply::Local);
                replies.reply(&reply);
            }
            let (guard, replies) = (self.session.guard(), replies.into_bytes());
            if !guard.reply(&one.request, self.batch, &replies) {
                return Err(Culprit::Remote(index));
            }
        }
        Ok(())
    }

    fn commit(&mut self) {
        if let Err(error) = self.record() {
            // Nothing would tell what became of the requests: their owners execute them.
            self.note_table_error(error);
            self.give_up();
            return;
        }
        let guard = self.session.guard();
        let (done, local): (Vec<_>, Vec<_>) = self.remote.drain(..).partition(|one| one.is_replied);
        local.iter().for_each(|one| guard.refuse(&one.request));
        penholder_core::failpoint!("before_commit");
        let begun = Instant::now();
        let committed = self.session.check_files_again().and_then(|()| {
            let committed = self.connection.step("COMMIT");
            committed.map_err(|e| self.session.explain("commit", e))
        });
        let commit_time = begun.elapsed();
        penholder_core::failpoint!("committed");
        let requests: Vec<&RemoteRequest> = done.iter().map(|one| &one.request).collect();
        match committed {
            Ok(()) => {
                self.combining = None;
                if let Err(error) = self.session.check_files() {
                    // The requests stay claimed: their owners look them up in the database that
                    // the path names now.
                    self.fail_own(&error.after_commit());
                    return;
                }
                let fingerprint = self.connection.fingerprint();
                acknowledge(guard, &requests, self.batch, fingerprint);
                self.executed = done.len();
                self.account(&done, commit_time);
            }
            Err(error) => {
                self.refuse(&requests);
                self.roll_back();
                self.fail_own(&error);
            }
        }
    }

    /// Gives an error to those of our own writes that would have succeeded.
    fn fail_own(&mut self, error: &Error) {
        for own in &mut self.own {
            if let Some(Ok(_)) = own.result {
                own.result = Some(Err(error.for_another()));
            }
        }
    }

    /// Records the requests that were executed, if there are any.
    fn record(&self) -> Result<(), TableError> {
        let replied = self.remote.iter().filter(|one| one.is_replied);
        let mut executed = replied.map(|one| (one.request.id, &*one.done)).peekable();
        if executed.peek().is_none() {
            return Ok(());
        }
        let connection = self.connection.connection();
        BatchTable::record(connection, self.sequence, self.batch, executed)
    }

    /// Counts the batch, and notes how long its commit took.
    fn account(&self, done: &[ExecutingRequest], commit_time: Duration) {
        let (guard, delegate) = (self.session.guard(), self.context.delegate);
        if !done.is_empty() {
            delegate.note_batch(self.sequence.unsigned_abs());
        }
        let own = self.own.iter().filter(|own| own.result.is_some()).count();
        if let Some(stats) = guard.commit_stats() {
            stats.note(commit_time, own + done.len());
        }
        self.context
            .group()
            .commit_stats()
            .note_duration(commit_time);
        let remote: usize = done.iter().map(|one| one.writes.len()).sum();
        guard.count_batch(BatchSize {
            writes: (own + remote) as u64,
            requests: done.len() as u64,
            remote_writes: remote as u64,
        });
        let Some(first) = done.first() else { return };
        telemetry::combined(self.session.context().labels(), done.len(), remote);
        if delegate.is_event_due() {
            guard.record_remote_writes(first.request.pid, remote as u64);
        }
    }

    /// Leaves all writes to their owners.
    fn give_up(&mut self) {
        let requests: Vec<&RemoteRequest> = self.remote.iter().map(|one| &one.request).collect();
        self.refuse(&requests);
        self.roll_back();
        self.remote.clear();
        for own in &mut self.own {
            own.result = None;
        }
    }

    /// Gives everything back. Writes without a result are run alone.
    fn end(self) {
        let (mut local, mut wakes) = (Vec::new(), Wakes::default());
        for own in self.own {
            match own.result {
                Some(result) => own.write.finish_with(&mut wakes, result),
                None => {
                    own.write.make_local();
                    local.push(own.write);
                }
            }
        }
        drop(wakes);
        self.context.group().put_back(local);
        self.session
            .note_writes_of(self.connection.write_connection());
        // Ends the transaction, if it is still open.
        self.context.delegate.keep_connection(self.connection);
        drop(self.combining);
    }
}

/// Returns whether this batch claimed the request, and no other combiner has claimed it since.
fn is_claimed_by(guard: &Guard, request: &RemoteRequest, batch: [u64; 2]) -> bool {
    let claim = guard.current_claim(request);
    claim.is_some_and(|claim| claim.batch == batch)
}

/// Acknowledges requests. With the feature `failpoints` it does so in two halves, with a step
/// between them.
fn acknowledge(
    guard: &Guard,
    requests: &[&RemoteRequest],
    batch: [u64; 2],
    Fingerprint(fingerprint): Fingerprint,
) {
    #[cfg(feature = "failpoints")]
    let requests = {
        let (first, rest) = requests.split_at(requests.len().div_ceil(2));
        guard.acknowledge(first, batch, fingerprint);
        penholder_core::failpoint!("half_acknowledged");
        rest
    };
    guard.acknowledge(requests, batch, fingerprint);
}

/// Shows the statement that runs next.
fn note_statement(session: &Session<'_>, statements: &[Statement]) {
    if let Some(first) = statements.first() {
        session.note_statement(&first.sql);
    }
}
