//! SQL parameters on the command line.

use std::cell::Cell;

use penholder::Value;
use penholder::rusqlite::Statement;
use penholder::word_value::value;
use penholder_core::one_line;

use crate::failure::{FAILED, Failure, USAGE};

/// The values for the parameters of SQL.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// For `?1`, `?2` …
    pub(crate) positional: Vec<Value>,
    /// Whether a statement got them.
    are_used: Cell<bool>,
    /// For `:name`, `@name` and `$name`.
    named: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    name: String,
    value: Value,
    is_used: Cell<bool>,
}

impl Parameters {
    /// Reads the words after the SQL, and those of `--param`, which are `NAME=VALUE`.
    pub(crate) fn of(positional: &[String], named: &[String]) -> Result<Self, Failure> {
        let mut parameters = Self {
            positional: positional.iter().map(|word| value(word)).collect(),
            ..Self::default()
        };
        for word in named {
            parameters.add(word)?;
        }
        Ok(parameters)
    }

    fn add(&mut self, word: &str) -> Result<(), Failure> {
        let shown = one_line(word);
        let refused = |why: &str| Failure::new(format!("--param {shown}: {why}"), USAGE);
        let Some((name, text)) = word.split_once('=') else {
            return Err(refused("give NAME=VALUE"));
        };
        let name = name.strip_prefix(PREFIXES).unwrap_or(name);
        if name.is_empty() {
            return Err(refused("the name is empty: give NAME=VALUE"));
        }
        if self.named.iter().any(|one| one.name == name) {
            return Err(refused("the name has a value already"));
        }
        self.named.push(Named {
            name: name.to_owned(),
            value: value(text),
            is_used: Cell::new(false),
        });
        Ok(())
    }

    /// Whether there are values for `?1`, `?2` … and for no others.
    pub(crate) fn are_positional(&self) -> bool {
        !self.positional.is_empty() && self.named.is_empty()
    }

    /// Gives each parameter of a statement its value.
    ///
    /// # Errors
    ///
    /// A parameter has no value, or there are more values than `?1`, `?2` … have places for.
    pub(crate) fn bind(&self, statement: &mut Statement<'_>) -> Result<(), Failure> {
        let count = statement.parameter_count();
        let (mut places, mut names) = (0, 0);
        for number in 1..=count {
            let name = statement.parameter_name(number).map(str::to_owned);
            let named = name.as_deref().and_then(|name| name.strip_prefix(PREFIXES));
            let value = match (named, &name) {
                (Some(name), _) => {
                    names += 1;
                    self.named(name)?
                }
                (None, name) => {
                    // SQLite counts the names before a `?` too, which need no value here.
                    let place = if name.is_some() {
                        number
                    } else {
                        number - names
                    };
                    places = places.max(place);
                    let value = self.positional.get(place - 1);
                    value.ok_or_else(|| self.wrong_number(count, place))?
                }
            };
            statement.raw_bind_parameter(number, value)?;
        }
        if self.positional.len() > places {
            return Err(self.wrong_number(count, places + 1));
        }
        self.are_used.set(true);
        Ok(())
    }

    fn given(&self) -> String {
        match self.positional.len() {
            1 => "1 value is given".to_owned(),
            given => format!("{given} values are given"),
        }
    }

    fn wrong_number(&self, count: usize, place: usize) -> Failure {
        if !self.named.is_empty() {
            let given = self.given();
            let why = format!(
                "{given} for ?1, ?2 …, which does not fit ?{place}: give one value for each of them \
                 after the SQL"
            );
            return Failure::new(why, FAILED);
        }
        let count = match count {
            0 => "no parameters".to_owned(),
            1 => "1 parameter".to_owned(),
            count => format!("{count} parameters"),
        };
        let given = self.given();
        let next = "give one for each after the SQL, or names with --param NAME=VALUE";
        let why = format!("the statement has {count}, and {given}: {next}");
        Failure::new(why, FAILED)
    }

    fn named(&self, name: &str) -> Result<&Value, Failure> {
        let Some(found) = self.named.iter().find(|one| one.name == name) else {
            let why = format!("the parameter {name} has no value: give --param {name}=VALUE");
            return Err(Failure::new(why, FAILED));
        };
        found.is_used.set(true);
        Ok(&found.value)
    }

    /// Refuses values that no statement has a place for: a name is probably misspelt.
    pub(crate) fn refuse_unused(&self) -> Result<(), Failure> {
        if !self.positional.is_empty() && !self.are_used.get() {
            let given = self.given();
            let why = format!("the SQL has no parameters, and {given}: leave them out");
            return Err(Failure::new(why, FAILED));
        }
        match self.named.iter().find(|one| !one.is_used.get()) {
            None => Ok(()),
            Some(Named { name, .. }) => {
                let name = one_line(name);
                let why =
                    format!("--param {name}: the SQL has no parameter :{name}: check the name");
                Err(Failure::new(why, FAILED))
            }
        }
    }
}

/// What a named parameter of SQL begins with.
const PREFIXES: [char; 3] = [':', '@', '$'];
