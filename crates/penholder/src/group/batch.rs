//! One transaction for the queued writes of a process.
//!
//! | a member | what becomes of it, and of the others |
//! | --- | --- |
//! | succeeds | acknowledged after `COMMIT`, with all the others |
//! | fails, or its closure fails or panics | its own work is taken back and its owner told; the others go on |
//! | fails, and may ask SQLite to keep what it did before (`OR FAIL`, `RAISE(FAIL)`) | it is taken back; the others before it are committed; then it runs again, alone, where it shows what SQLite keeps |
//! | makes SQLite end the transaction (`ON CONFLICT ROLLBACK`, a `ROLLBACK` in a closure, some I/O errors): closures that had run | their owners get an error that says to call again |
//! | the same: plain data that had run | each write runs again, alone; also one that had failed, because what made it fail may be undone now |
//! | the same: members after it | they are a new batch |
//! | `BEGIN` fails | its owner is told; the others try again, each with its own deadline |
//! | `COMMIT` fails | all get the error, nothing was written, and the next batch begins again |
//!
//! Each member has a savepoint; a statement that is alone in its transaction needs none,
//! because SQLite makes it atomic. Most plain data succeeds, so it first runs without, up to the
//! first closure: if a write fails, all of the batch is taken back, of which no one was told
//! anything, and runs again with savepoints. Violations of deferred foreign keys are looked for
//! after each member, so that none is blamed for, or healed by, another.

use std::collections::VecDeque;
use std::time::Instant;

use penholder_core::BatchSize;
use penholder_core::fair_queue::Wakes;

use super::budget::Budget;
use super::isolation::Isolation;
use super::pending_write::ClaimedWrite;
use super::queue::Group;
use super::work::{Work, WriteResult};
use crate::data::Statement;
use crate::error::Error;
use crate::options::GroupLimits;
use crate::sqlite::savepoint;
use crate::sqlite::sql::StatementKind;
use crate::write::Session;

/// How one member went.
enum MemberEnd {
    /// It ran. Its result holds if the commit succeeds; a failed write is taken back already.
    Ran(WriteResult),
    /// It was taken back, and has to run in a transaction of its own.
    OnItsOwn,
    /// The transaction is gone, or has to go.
    Aborted(Option<Error>),
}

/// Runs what is queued, as much as one batch takes.
pub(crate) fn run_queued(session: &Session<'_>, group: &Group, limits: GroupLimits) {
    let mut budget = Budget::new(limits);
    while let Some(first) = group.claim(|work| budget.take(work)) {
        if group.len() == 0 || limits.max_statements <= 1 {
            run_alone(session, first);
            return;
        }
        let members = VecDeque::from([first]);
        // Functions and hooks of the application must not see a write twice.
        let isolation = match session.context().resources.is_customized() {
            true => Isolation::Savepoint,
            false => group.caution().next(),
        };
        match run_together(session, group, &mut budget, members, isolation) {
            BatchEnd::Done => return,
            // The members after it are a new batch.
            BatchEnd::EndedEarly => budget = Budget::new(limits),
        }
    }
}

/// How a batch ended.
enum BatchEnd {
    /// Every member that was claimed has been told its result, also if `BEGIN` or `COMMIT`
    /// failed. (In a forked child nothing is told.)
    Done,
    /// A member ended the transaction, or had to run on its own. Every member has been told its
    /// result; those still in the queue have not run.
    EndedEarly,
}

fn note_call_site(session: &Session<'_>, one: &ClaimedWrite) {
    if let Some(site) = one.site() {
        session.note_call_site(site, !one.work.is_closure());
    }
}

/// Runs a write in a transaction of its own.
fn run_alone(session: &Session<'_>, mut one: ClaimedWrite) {
    note_call_site(session, &one);
    let result = match &mut one.work {
        Work::Closure(run) => session.write(|tx| closure_result(run(tx))),
        Work::Statement(one) => session
            .execute(&one.sql, StatementKind::of(&one.sql), &one.values)
            .map(|done| vec![done]),
        Work::Batch(all) => session.batch(all),
    };
    if session.is_ours() {
        // A failed write may have left its transaction open, for the next one to fall into.
        session.roll_back();
        if result.is_err() {
            session.forgo_lease();
        }
        one.finish(result);
    }
}

/// Returns the result of a closure for the batch; its owner has its own.
fn closure_result(succeeded: bool) -> WriteResult {
    if succeeded {
        Ok(Vec::new())
    } else {
        Err(Error::misuse(
            "write",
            "the closure failed",
            "see its error",
        ))
    }
}

/// Runs these members and those that follow in the queue, until that is empty or the batch is
/// full, and commits.
fn run_together(
    session: &Session<'_>,
    group: &Group,
    budget: &mut Budget,
    mut members: VecDeque<ClaimedWrite>,
    mut isolation: Isolation,
) -> BatchEnd {
    let mut done: Vec<(ClaimedWrite, WriteResult)> = Vec::new();
    if let Err(error) = session.begin_transaction() {
        // Others may wait longer than this one, and lead next.
        if let Some(first) = members.pop_front() {
            first.finish(Err(error));
        }
        group.put_back(members.into());
        return BatchEnd::Done;
    }
    while let Some(mut one) = members
        .pop_front()
        .or_else(|| group.claim(|work| budget.take(work)))
    {
        note_call_site(session, &one);
        if one.work.is_closure() {
            // It runs only once.
            isolation = Isolation::Savepoint;
        }
        let may_run_again = isolation == Isolation::None && one.work.changes_only_data();
        let end = if may_run_again {
            run_without_savepoint(session, &one.work)
        } else {
            run_member(session, &mut one.work)
        };
        if !session.is_ours() {
            return BatchEnd::Done;
        }
        match end {
            MemberEnd::Ran(Ok(result)) => done.push((one, Ok(result))),
            _ if may_run_again => {
                session.roll_back();
                group.caution().increase();
                let former = done.into_iter().map(|(former, _)| former);
                let members = former.chain([one]).chain(members).collect();
                return run_together(session, group, budget, members, Isolation::Savepoint);
            }
            MemberEnd::Ran(result) => done.push((one, result)),
            MemberEnd::OnItsOwn => {
                commit(session, group, done);
                session.roll_back();
                run_alone(session, one);
                group.put_back(members.into());
                return BatchEnd::EndedEarly;
            }
            MemberEnd::Aborted(error) => {
                session.roll_back();
                finish_aborted(session, done, one, error);
                group.put_back(members.into());
                return BatchEnd::EndedEarly;
            }
        }
    }
    commit(session, group, done);
    BatchEnd::Done
}

/// Commits, and tells each member how its write went.
fn commit(session: &Session<'_>, group: &Group, done: Vec<(ClaimedWrite, WriteResult)>) {
    let begun = Instant::now();
    let committed = session.commit(done.len());
    if committed.is_ok() {
        group.commit_stats().note(begun.elapsed(), done.len());
        if done.len() > 1 {
            count_batch(session, &done);
        }
    }
    let mut wakes = Wakes::default();
    for (one, result) in done {
        let result = match (&committed, result) {
            (Ok(()), result) => result,
            // A write that failed by itself keeps its own error.
            (Err(_), Err(own)) => Err(own),
            (Err(error), Ok(_)) => Err(error.for_another()),
        };
        one.finish_with(&mut wakes, result);
    }
}

/// Counts a commit that several writes shared.
fn count_batch(session: &Session<'_>, done: &[(ClaimedWrite, WriteResult)]) {
    let written = done.iter().filter(|(_, result)| result.is_ok()).count();
    session.guard().count_batch(BatchSize {
        writes: written as u64,
        ..BatchSize::default()
    });
}

fn run_member(session: &Session<'_>, work: &mut Work) -> MemberEnd {
    let end = match work {
        Work::Closure(run) => in_savepoint(session, |session| {
            closure_result(run(&session.transaction()))
        }),
        Work::Statement(one) => run_statement(session, one),
        Work::Batch(all) => in_savepoint(session, |session| session.run_all(all)),
    };
    match end {
        MemberEnd::Ran(_) if session.is_ours() && !session.is_open() => MemberEnd::Aborted(None),
        end => end,
    }
}

/// Runs plain data of which every statement changes data. Unless it succeeds, the transaction has
/// to be rolled back.
fn run_without_savepoint(session: &Session<'_>, work: &Work) -> MemberEnd {
    let done = session.run_all(work.statements());
    if !session.is_open() {
        return MemberEnd::Aborted(None);
    }
    match (done, session.deferred_violation()) {
        (Ok(done), None) => MemberEnd::Ran(Ok(done)),
        (Err(error), _) | (Ok(_), Some(error)) => MemberEnd::Ran(Err(error)),
    }
}

fn run_statement(session: &Session<'_>, one: &Statement) -> MemberEnd {
    let kind = StatementKind::of(&one.sql);
    let run = |session: &Session<'_>| {
        let done = session.run_statement(&one.sql, kind, &one.values);
        done.map(|done| vec![done])
    };
    if kind == StatementKind::Other {
        return in_savepoint(session, run);
    }
    if savepoint::begin(session.connection()).is_err() {
        return MemberEnd::Aborted(None);
    }
    let done = run(session);
    if !session.is_open() {
        return MemberEnd::Aborted(None);
    }
    let may_have_kept = |error: &Error| {
        error.is_constraint_violation() && session.write_connection().may_have_kept(&one.sql)
    };
    let end = match (done, session.deferred_violation()) {
        (Err(error), _) if may_have_kept(&error) => MemberEnd::OnItsOwn,
        (Ok(_), Some(error)) | (Err(error), _) => MemberEnd::Ran(Err(error)),
        (Ok(done), None) => MemberEnd::Ran(Ok(done)),
    };
    let ended = match end {
        MemberEnd::Ran(Ok(_)) => savepoint::release(session.connection()),
        _ => savepoint::roll_back(session.connection()),
    };
    ended.map_or(MemberEnd::Aborted(None), |()| end)
}

fn in_savepoint(session: &Session<'_>, run: impl FnOnce(&Session<'_>) -> WriteResult) -> MemberEnd {
    if savepoint::begin(session.connection()).is_err() {
        return MemberEnd::Aborted(None);
    }
    let done = run(session);
    if !session.is_ours() {
        return MemberEnd::Ran(done);
    }
    if !session.is_open() {
        return MemberEnd::Aborted(Some(session.ended_early()));
    }
    let done = match (done, session.deferred_violation()) {
        (Ok(_), Some(error)) => Err(error),
        (done, _) => done,
    };
    let ended = match &done {
        Ok(_) => savepoint::release(session.connection()),
        Err(_) => savepoint::roll_back(session.connection()),
    };
    match ended.and_then(|()| session.undefer_foreign_keys()) {
        Ok(()) => MemberEnd::Ran(done),
        Err(_) => MemberEnd::Aborted(Some(session.ended_early())),
    }
}

/// Finishes all members of a transaction that `culprit` ended, in their order.
fn finish_aborted(
    session: &Session<'_>,
    done: Vec<(ClaimedWrite, WriteResult)>,
    culprit: ClaimedWrite,
    error: Option<Error>,
) {
    for (one, result) in done {
        match result {
            _ if !one.work.is_closure() => run_alone(session, one),
            // A closure runs only once.
            Ok(_) => one.finish(Err(session.batch_aborted())),
            Err(own) => one.finish(Err(own)),
        }
    }
    if culprit.work.is_closure() {
        culprit.finish(Err(error.unwrap_or_else(|| session.ended_early())));
    } else {
        run_alone(session, culprit);
    }
}
