//! One transaction for all that wait in a process.
//!
//! | a member | what becomes of it, and of the others |
//! | --- | --- |
//! | succeeds | acknowledged after `COMMIT`, with all the others |
//! | fails, or its closure does, or panics | its own work is taken back, its owner told; the others go on |
//! | makes SQLite end the transaction (`ON CONFLICT ROLLBACK`, a `ROLLBACK` in a closure, some I/O errors) | closures that had run get an error that says to call again; plain data runs again, each by itself, also what had failed: perhaps of what never was; those after it are a new batch |
//! | `BEGIN` fails | told so; the others try again, each with its own deadline |
//! | `COMMIT` fails | all get the error, nothing was written, the next batch begins anew |
//!
//! A statement by itself needs no savepoint: SQLite makes it atomic. A closure has
//! one, and so has a batch of statements. Violations of deferred foreign keys are
//! looked for after each member, so that nobody is blamed for, or healed by, another.

use std::time::Instant;

use penholder_core::BatchSize;

use crate::data::Statement;
use crate::error::Error;
use crate::group::{Answer, Claimed, Group, Room, Work};
use crate::options::GroupLimits;
use crate::sqlite::sql::StatementKind;
use crate::writer::Session;

/// How one member went.
enum Went {
    /// Its work stands if the commit succeeds; or it is taken back already.
    Well(Answer),
    /// The transaction is gone, or has to go.
    Spoiled(Option<Error>),
}

/// Runs what is queued, as much as one batch takes.
pub(crate) fn run(session: &Session<'_>, group: &Group, limits: GroupLimits) {
    let mut room = Room::new(limits);
    while let Some(first) = group.claim(|work| room.takes(work)) {
        if group.len() == 0 || limits.statements <= 1 {
            alone(session, first);
            return;
        }
        match together(session, group, &mut room, first) {
            // The transaction was spoiled; those after it are a new batch.
            Some(()) => room = Room::new(limits),
            None => return,
        }
    }
}

/// Says where the program asked for what comes next.
fn asked(session: &Session<'_>, one: &Claimed) {
    if let Some(site) = one.site() {
        session.is_asked_at(site, !one.work.is_closure());
    }
}

/// Nobody to share a commit with.
fn alone(session: &Session<'_>, mut one: Claimed) {
    asked(session, &one);
    let answer = match &mut one.work {
        Work::Closure(run) => session.write(|tx| {
            let failed = || Error::misuse("write", "the closure failed", "see its error");
            if run(tx) {
                Ok(Vec::new())
            } else {
                Err(failed())
            }
        }),
        Work::Statement(one) => session
            .execute(one.sql(), one.params())
            .map(|done| vec![done]),
        Work::Batch(all) => session.batch(all),
    };
    if session.is_ours() {
        // What failed may have left its transaction open, for the next one to fall into.
        session.roll_back();
        one.answer(answer);
    }
}

/// Runs members until the queue is empty or the batch is full, and commits;
/// `Some` if the transaction ended before that.
fn together(session: &Session<'_>, group: &Group, room: &mut Room, first: Claimed) -> Option<()> {
    let mut done: Vec<(Claimed, Answer)> = Vec::new();
    if let Err(error) = session.begin() {
        // Others may wait for longer than this one, and lead next.
        first.answer(Err(error));
        return None;
    }
    let mut next = Some(first);
    while let Some(mut one) = next.take() {
        asked(session, &one);
        let went = member(session, &mut one.work);
        if !session.is_ours() {
            return None;
        }
        match went {
            Went::Well(answer) => done.push((one, answer)),
            Went::Spoiled(error) => {
                session.roll_back();
                spoiled(session, done, one, error);
                return Some(());
            }
        }
        next = group.claim(|work| room.takes(work));
    }
    let begun = Instant::now();
    let committed = session.commit(done.len());
    group.pace.note(done.len(), begun.elapsed());
    if committed.is_ok() && done.len() > 1 {
        count(session, &done);
    }
    for (one, answer) in done {
        one.answer(match (&committed, answer) {
            (Ok(()), answer) => answer,
            // Whoever failed by itself keeps its own error, unless that says that some
            // of it stands.
            (Err(_), Err(own)) if !own.keeps_changes() => Err(own),
            (Err(error), _) => Err(error.for_another()),
        });
    }
    None
}

/// For people: a commit that several shared.
fn count(session: &Session<'_>, done: &[(Claimed, Answer)]) {
    let written = done.iter().filter(|(_, answer)| answer.is_ok()).count();
    session.guard().count_batch(BatchSize {
        writes: written as u64,
        ..BatchSize::default()
    });
}

fn member(session: &Session<'_>, work: &mut Work) -> Went {
    let went = match work {
        Work::Closure(run) => in_savepoint(session, |session| {
            session.forget_patience();
            let succeeded = run(&session.transaction());
            let failed = || Error::misuse("write", "the closure failed", "see its error");
            if succeeded {
                Ok(Vec::new())
            } else {
                Err(failed())
            }
        }),
        Work::Statement(one) => statement(session, one),
        Work::Batch(all) => in_savepoint(session, |session| {
            let run = |one: &Statement| session.run_statement(one.sql(), one.params(), false);
            all.iter().map(run).collect()
        }),
    };
    match went {
        Went::Well(_) if session.is_ours() && !session.is_open() => Went::Spoiled(None),
        went => went,
    }
}

fn statement(session: &Session<'_>, one: &Statement) -> Went {
    let run = |session: &Session<'_>| {
        let done = session.run_statement(one.sql(), one.params(), true);
        done.map(|done| vec![done])
    };
    if StatementKind::of(one.sql()) == StatementKind::Other {
        return in_savepoint(session, run);
    }
    // It may leave a violation behind that only the commit would find, or rows that SQLite
    // would take back only by itself, outside a transaction: those before one of a wrong
    // type for a `STRICT` table, for instance.
    if session.savepoint().is_err() {
        return Went::Spoiled(None);
    }
    let done = run(session);
    if !session.is_open() {
        return Went::Spoiled(None);
    }
    let (done, ended) = match session.deferred_violation() {
        Some(error) => (Err(error), session.roll_back_to_savepoint()),
        None => match done {
            Err(error) if !error.keeps_changes() => (Err(error), session.roll_back_to_savepoint()),
            done => (done, session.release_savepoint()),
        },
    };
    match ended {
        Ok(()) => Went::Well(done),
        Err(_) => Went::Spoiled(None),
    }
}

fn in_savepoint(session: &Session<'_>, run: impl FnOnce(&Session<'_>) -> Answer) -> Went {
    if session.savepoint().is_err() {
        return Went::Spoiled(None);
    }
    let done = run(session);
    if !session.is_ours() {
        return Went::Well(done);
    }
    if !session.is_open() {
        return Went::Spoiled(Some(session.ended_early()));
    }
    let done = match (done, session.deferred_violation()) {
        (Ok(_), Some(error)) => Err(error),
        (done, _) => done,
    };
    let ended = match &done {
        Ok(_) => session.release_savepoint(),
        Err(_) => session.roll_back_to_savepoint(),
    };
    // It would hold for the next member too, until the commit.
    match ended.and_then(|()| session.undefer_foreign_keys()) {
        Ok(()) => Went::Well(done),
        Err(_) => Went::Spoiled(Some(session.ended_early())),
    }
}

/// The transaction is gone: settles everybody who was in it, in order.
fn spoiled(
    session: &Session<'_>,
    done: Vec<(Claimed, Answer)>,
    culprit: Claimed,
    error: Option<Error>,
) {
    for (one, answer) in done {
        match answer {
            _ if !one.work.is_closure() => alone(session, one),
            // It runs once only.
            Ok(_) => one.answer(Err(session.lost())),
            Err(own) => one.answer(Err(own)),
        }
    }
    if culprit.work.is_closure() {
        culprit.answer(Err(error.unwrap_or_else(|| session.ended_early())));
    } else {
        alone(session, culprit);
    }
}
