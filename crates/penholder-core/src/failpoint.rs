//! Steps of the protocols at which a test kills or stops its process.
//!
//! Without the feature `failpoints`, which only dev-dependencies enable, nothing of
//! them is compiled.

/// A step of a protocol: nothing, or [`reached`] with the feature `failpoints`.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reached($name);
    };
}

/// The environment variable that says what happens at which step:
/// `<name> <KILL or STOP> <the how-manieth time>`.
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

    struct Plan {
        name: String,
        signal: Signal,
        time: u32,
        reached: AtomicU32,
    }

    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

    /// Signals this thread if the environment asked for it at this step.
    pub fn reached(name: &'static str) {
        let Some(plan) = PLAN.get_or_init(Plan::from_environment) else {
            return;
        };
        if plan.name == name && plan.reached.fetch_add(1, Ordering::Relaxed) + 1 == plan.time {
            signal::raise(plan.signal);
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
            let [name, signal, time] = words[..] else {
                panic!("{VARIABLE} is {text:?}");
            };
            let signal = match signal {
                "KILL" => Signal::Kill,
                "STOP" => Signal::Stop,
                other => panic!("{VARIABLE}: unknown signal {other:?}"),
            };
            let Ok(time) = time.parse() else {
                panic!("{VARIABLE}: not a number: {time:?}");
            };
            Some(Self {
                name: name.to_owned(),
                signal,
                time,
                reached: AtomicU32::new(0),
            })
        }
    }
}
