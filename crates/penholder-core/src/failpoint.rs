//! Steps at which a test kills or stops its process, or makes it panic.
//!
//! Without the feature `failpoints`, which only dev-dependencies enable, nothing of
//! them is compiled.

/// A step: nothing, or [`reached`] with the feature `failpoints`.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reached($name);
    };
}

/// The environment variable that says what happens at which step:
/// `<name> <KILL, STOP or PANIC> <number>`. The number 1 means the first time that the
/// process reaches the step.
#[cfg(feature = "failpoints")]
pub const VARIABLE: &str = "PENHOLDER_TEST_FAILPOINT";

/// Nothing: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reached(_name: &'static str) {}

#[cfg(feature = "failpoints")]
pub use plan::reached;

#[cfg(feature = "failpoints")]
mod plan {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::VARIABLE;
    use crate::sys::signal::{self, Signal};

    enum Action {
        Signal(Signal),
        Panic,
    }

    struct Plan {
        name: String,
        action: Action,
        time: u32,
        reached: AtomicU32,
    }

    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

    /// Signals this thread, or panics, if the environment asked for it at this step.
    #[expect(clippy::panic, reason = "a test asked for it")]
    pub fn reached(name: &'static str) {
        let Some(plan) = PLAN.get_or_init(Plan::from_environment) else {
            return;
        };
        if plan.name == name && plan.reached.fetch_add(1, Ordering::Relaxed) + 1 == plan.time {
            match plan.action {
                Action::Signal(signal) => signal::raise(signal),
                Action::Panic => panic!("failpoint {name}"),
            }
        }
    }

    impl Plan {
        #[expect(
            clippy::panic,
            reason = "a test asked for something that does not exist"
        )]
        fn from_environment() -> Option<Self> {
            let text = std::env::var(VARIABLE).ok()?;
            let words: Vec<&str> = text.split(' ').collect();
            let [name, action, time] = words[..] else {
                panic!("{VARIABLE} is {text:?}");
            };
            let action = match action {
                "KILL" => Action::Signal(Signal::Kill),
                "STOP" => Action::Signal(Signal::Stop),
                "PANIC" => Action::Panic,
                other => panic!("{VARIABLE}: unknown action {other:?}"),
            };
            let Ok(time) = time.parse() else {
                panic!("{VARIABLE}: not a number: {time:?}");
            };
            Some(Self {
                name: name.to_owned(),
                action,
                time,
                reached: AtomicU32::new(0),
            })
        }
    }
}
