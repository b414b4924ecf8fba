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

/// The environment variable with the version of the queue file that the process takes for its own:
/// it then is a process of another version.
#[cfg(feature = "failpoints")]
pub const VERSION_VARIABLE: &str = "PENHOLDER_TEST_QUEUE_FILE_VERSION";

/// Returns the version of the queue file that a test wants this process to use.
pub(crate) fn queue_file_version() -> Option<u64> {
    #[cfg(feature = "failpoints")]
    return std::env::var(VERSION_VARIABLE).ok()?.parse().ok();
    #[cfg(not(feature = "failpoints"))]
    None
}

/// The environment variable by which a test keeps the lock also for callers that are not quick: a
/// debug build, on a loaded machine, seldom is.
#[cfg(feature = "failpoints")]
pub const ALL_QUICK: &str = "PENHOLDER_TEST_ALL_QUICK";

/// Nothing: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reached(_name: &'static str) {}

#[cfg(feature = "failpoints")]
pub use plan::reached;

#[cfg(feature = "failpoints")]
mod plan {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::VARIABLE;
    use crate::sys::signal::{self, Signal};

    #[derive(Clone, Copy)]
    enum Action {
        Signal(Signal),
        Panic,
    }

    struct Plan {
        name: String,
        action: Action,
        time: u32,
    }

    thread_local! {
        // Each thread reads the environment by itself: a child forked while another thread
        // fills a `OnceLock` would wait for that thread for ever.
        static PLAN: Option<Plan> = Plan::from_environment();
    }

    /// How often the step of the plan was reached in this process.
    static REACHED: AtomicU32 = AtomicU32::new(0);

    /// Signals this thread, or panics, if the environment asked for it at this step.
    #[expect(clippy::panic, reason = "a test asked for it")]
    pub fn reached(name: &'static str) {
        // A thread that ends has dropped its plan already, and reaches no step.
        let action = PLAN.try_with(|plan| plan.as_ref().and_then(|plan| plan.due(name)));
        match action.ok().flatten() {
            Some(Action::Signal(signal)) => signal::raise(signal),
            Some(Action::Panic) => panic!("failpoint {name}"),
            None => {}
        }
    }

    impl Plan {
        /// Returns what to do now that the step of this name is reached.
        fn due(&self, name: &str) -> Option<Action> {
            let is_due =
                self.name == name && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == self.time;
            is_due.then_some(self.action)
        }

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
            })
        }
    }
}
