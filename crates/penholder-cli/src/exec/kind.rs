//! What a statement of a script does, as far as that decides where it can run.

use super::pragma::{Effect, Pragma};
use crate::sql_text::{Token, Tokens};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Pragma(Pragma),
    Begin,
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK` of the whole transaction.
    Rollback,
    /// `ATTACH`, and the file that is attached, if it is written as a text or a name.
    Attach(Option<String>),
    Detach,
    /// It creates something that ends with the connection.
    CreateTemp,
    Vacuum,
    Other,
}

impl Kind {
    pub(super) fn of(sql: &str) -> Self {
        if let Some(pragma) = Pragma::of(sql) {
            return Self::Pragma(pragma);
        }
        let mut tokens = Tokens::significant(sql);
        let Some(first) = tokens.next() else {
            return Self::Other;
        };
        let kinds = [
            ("BEGIN", Self::Begin),
            ("COMMIT", Self::Commit),
            ("END", Self::Commit),
            ("DETACH", Self::Detach),
            ("VACUUM", Self::Vacuum),
        ];
        if let Some((_, kind)) = kinds.into_iter().find(|(word, _)| first.is(word)) {
            return kind;
        }
        if first.is("ROLLBACK") {
            let is_partial = tokens.any(|token| token.is("TO"));
            return if is_partial {
                Self::Other
            } else {
                Self::Rollback
            };
        }
        if first.is("CREATE") {
            let is_temp = |token: Token<'_>| token.is("TEMP") || token.is("TEMPORARY");
            let is_temp = tokens.next().is_some_and(is_temp);
            return if is_temp {
                Self::CreateTemp
            } else {
                Self::Other
            };
        }
        if first.is("ATTACH") {
            let file: Vec<_> = tokens.collect();
            return Self::Attach(attached_file(&file));
        }
        Self::Other
    }

    /// Whether it only sets what holds for the connection or the transaction.
    pub(super) fn is_setting(&self) -> bool {
        matches!(
            self,
            Self::Pragma(pragma) if matches!(
                pragma.effect(),
                Some(
                    Effect::Transaction
                        | Effect::Connection
                        | Effect::OutsideTransaction
                        | Effect::Refused { .. }
                )
            )
        )
    }

    /// Whether it begins or ends a transaction.
    pub(super) fn is_transaction(&self) -> bool {
        matches!(self, Self::Begin | Self::Commit | Self::Rollback)
    }

    /// Whether it does something that a setting before it may be for, as a transaction does
    /// in the dump of an empty database.
    pub(super) fn does_something(&self) -> bool {
        !self.is_setting() && !matches!(self, Self::Commit | Self::Rollback | Self::Detach)
    }
}

/// `ATTACH [DATABASE] file AS name`.
fn attached_file(tokens: &[Token<'_>]) -> Option<String> {
    let file = match tokens {
        [word, rest @ ..] if word.is("DATABASE") && !rest.first()?.is("AS") => rest,
        all => all,
    };
    match file {
        [file, word, ..] if word.is("AS") => Some(file.value().into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_recognised() {
        for (sql, kind) in [
            ("begin immediate transaction;", Kind::Begin),
            ("/* a */ END", Kind::Commit),
            ("Commit Transaction", Kind::Commit),
            ("ROLLBACK", Kind::Rollback),
            ("ROLLBACK TRANSACTION TO SAVEPOINT a", Kind::Other),
            ("SAVEPOINT a", Kind::Other),
            ("VACUUM main", Kind::Vacuum),
            ("DETACH b", Kind::Detach),
            ("create temporary table a(b)", Kind::CreateTemp),
            ("CREATE TABLE temp(a)", Kind::Other),
            (
                "ATTACH 'it''s.db' AS b",
                Kind::Attach(Some("it's.db".to_owned())),
            ),
            (
                "attach database \"b.db\" as b;",
                Kind::Attach(Some("b.db".to_owned())),
            ),
            ("ATTACH b AS c", Kind::Attach(Some("b".to_owned()))),
            ("ATTACH 'a' || 'b' AS c", Kind::Attach(None)),
            ("INSERT INTO t VALUES ('BEGIN')", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(sql), kind, "{sql}");
        }
    }
}
