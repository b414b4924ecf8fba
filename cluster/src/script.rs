//! SQL of a command line, with its values.

use std::collections::BTreeSet;
use std::io::{self, Read};

use penholder::sql_script::statements;
use penholder::sql_tokens::{TokenKind, Tokens};
use penholder::word_value::value;
use penholder::{Params, Query, Value};
use penholder_core::one_line;

use crate::failure::{Failure, USAGE};

/// What the name of a parameter begins with.
const PREFIXES: [char; 3] = [':', '@', '$'];

/// Values of parameters, as they stand on a command line.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// Of `?1`, `?2` …
    positional: Vec<Value>,
    /// By their names without the first character.
    named: Vec<(String, Value)>,
}

impl Parameters {
    /// Reads words, and those of `--param`, which are `NAME=VALUE`.
    pub(crate) fn of(positional: &[String], named: &[String]) -> Result<Self, Failure> {
        let mut parameters = Self {
            positional: positional.iter().map(|word| value(word)).collect(),
            named: Vec::new(),
        };
        for word in named {
            let refused =
                |why: &str| Failure::with_code(format!("--param {}: {why}", one_line(word)), USAGE);
            let Some((name, text)) = word.split_once('=') else {
                return Err(refused("give NAME=VALUE"));
            };
            let name = name.strip_prefix(PREFIXES).unwrap_or(name);
            if name.is_empty() {
                return Err(refused("the name is empty: give NAME=VALUE"));
            }
            if parameters.named.iter().any(|(known, _)| known == name) {
                return Err(refused("the name has a value already"));
            }
            parameters.named.push((name.to_owned(), value(text)));
        }
        Ok(parameters)
    }

    /// Returns the statements of a script with their values.
    pub(crate) fn bind(&self, what: &str, script: &str) -> Result<Vec<Query>, Failure> {
        let statements = statements(script);
        if statements.len() > 1 && !self.positional.is_empty() {
            let text = format!(
                "{what}: values for ?1, ?2 … are for one statement, and there are {}: name them, with --param",
                statements.len()
            );
            return Err(Failure::with_code(text, USAGE));
        }
        let mut used = BTreeSet::new();
        let mut queries = Vec::new();
        for statement in &statements {
            let names = names(statement.sql);
            let params: Params = match self.named.is_empty() || names.is_empty() {
                true => self.positional.iter().cloned().collect(),
                false if self.positional.is_empty() => self.named_of(&names),
                false => {
                    let text =
                        format!("{what}: values with and without names: give all of them names");
                    return Err(Failure::with_code(text, USAGE));
                }
            };
            used.extend(names.into_iter().map(|name| name[1..].to_owned()));
            queries.push(Query::new(statement.sql, params));
        }
        match self.named.iter().find(|(name, _)| !used.contains(name)) {
            None => Ok(queries),
            Some((name, _)) => {
                let text = format!("{what}: no statement has a parameter {name}: check the name");
                Err(Failure::with_code(text, USAGE))
            }
        }
    }

    /// The values of these parameters. One that is missing is an error later.
    fn named_of(&self, names: &BTreeSet<String>) -> Params {
        let found = names.iter().filter_map(|name| {
            let (_, value) = self.named.iter().find(|(known, _)| *known == name[1..])?;
            Some((name.as_str(), value.clone()))
        });
        let found: Vec<(&str, Value)> = found.collect();
        penholder::IntoParams::into_params(&found[..])
    }
}

/// Returns SQL; `-` is read from standard input.
pub(crate) fn read(what: &str, sql: &str) -> Result<String, Failure> {
    if sql != "-" {
        return Ok(sql.to_owned());
    }
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text);
    read.map_err(|error| {
        Failure::new(format!(
            "{what}: read standard input: {error}: give SQL in UTF-8"
        ))
    })?;
    Ok(text)
}

/// Returns the names of the parameters of a statement, with their first characters.
fn names(sql: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut tokens = Tokens::of(sql).peekable();
    while let Some(token) = tokens.next() {
        if token.kind == TokenKind::Word && token.text.starts_with('$') {
            names.insert(token.text.to_owned());
        }
        let is_prefix = token.text.len() == 1 && token.text.starts_with(PREFIXES);
        if let Some(next) = tokens.peek().filter(|_| is_prefix)
            && next.kind == TokenKind::Word
        {
            names.insert(format!("{}{}", token.text, next.text));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sql: &str, positional: &[&str], named: &[&str]) -> Result<Vec<Vec<Value>>, String> {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let parameters = Parameters::of(&words(positional), &words(named));
        let queries = parameters.and_then(|parameters| parameters.bind("exec", sql));
        let queries = queries.map_err(|failure| failure.to_string())?;
        queries
            .into_iter()
            .map(|query| {
                query
                    .into_parts()
                    .map(|(_, values)| values)
                    .map_err(|error| error.to_string())
            })
            .collect()
    }

    #[test]
    fn each_statement_gets_the_values_that_it_names() {
        let (one, two) = (Value::from(1), Value::from("x"));
        assert_eq!(
            parts("a ?1, ?2", &["1", "x"], &[]),
            Ok(vec![vec![one.clone(), two.clone()]])
        );
        let sql = "insert :a; delete from t where $b = @a and x = ':c'; select 1";
        let expected = vec![vec![one.clone()], vec![two, one], vec![]];
        assert_eq!(parts(sql, &[], &["a=1", "$b=x"]), Ok(expected));
    }

    #[test]
    fn values_without_a_place_are_refused() {
        for (sql, positional, named, why) in [
            ("a; b", &["1"][..], &[][..], "name them"),
            ("a :x", &[], &["y=1"], "has a parameter y"),
            ("a :x", &["1"], &["x=1"], "give all of them names"),
            ("a", &[], &["x"], "give NAME=VALUE"),
            ("a", &[], &[":=1"], "the name is empty"),
            ("a :x", &[], &["x=1", ":x=2"], "already"),
        ] {
            let error = parts(sql, positional, named).unwrap_err();
            assert!(error.contains(why), "{sql}: {error}");
        }
    }
}
