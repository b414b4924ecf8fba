//! Names in a file for which the table has no column.

/// What to do with such names, and which were found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unknown {
    /// They are left out, and else refused.
    pub(crate) is_ignored: bool,
    names: Vec<String>,
    has_more: bool,
}

/// The most names that are kept for the message.
const MAX_NAMES: usize = 10;

impl Unknown {
    pub(crate) fn new(is_ignored: bool) -> Self {
        Self {
            is_ignored,
            ..Self::default()
        }
    }

    /// Notes a name. Returns whether it may be left out.
    pub(crate) fn leave_out(&mut self, name: &str) -> bool {
        if self.is_ignored && !self.names.iter().any(|noted| noted == name) {
            if self.names.len() < MAX_NAMES {
                self.names.push(name.to_owned());
            } else {
                self.has_more = true;
            }
        }
        self.is_ignored
    }

    /// The names, for a message. `None` if nothing was left out.
    pub(crate) fn names(&self) -> Option<String> {
        let names: Vec<String> = self.names.iter().map(|name| format!("{name:?}")).collect();
        let more = if self.has_more { " and more" } else { "" };
        (!names.is_empty()).then(|| names.join(", ") + more)
    }
}
