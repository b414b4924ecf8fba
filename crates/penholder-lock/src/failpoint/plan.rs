//! What a test wants to happen at which step: of both crates' failpoints.

/// What is to happen where: `<name> <signal> <which time>`.
pub(crate) const VARIABLE: &str = "PENHOLDER_TEST_FAILPOINT";

struct Plan {
    name: String,
    signal: i32,
    time: u32,
    reached: std::sync::atomic::AtomicU32,
}

/// Signals this very process if the environment told it to, at this step.
#[expect(unsafe_code, reason = "a signal to this thread has no safe wrapper")]
pub(crate) fn reached(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;

    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let Some(plan) = PLAN.get_or_init(plan) else {
        return;
    };
    if plan.name == name && plan.reached.fetch_add(1, Ordering::Relaxed) + 1 == plan.time {
        // To this thread: one to the process may stop another one first, and this
        // one somewhere else.
        // SAFETY: it touches no memory of ours, and no handler is called.
        let failed = unsafe { libc::raise(plan.signal) };
        assert_eq!(failed, 0);
    }
}

fn plan() -> Option<Plan> {
    let text = std::env::var(VARIABLE).ok()?;
    let words: Vec<&str> = text.split(' ').collect();
    let [name, signal, time] = words[..] else {
        panic!("{VARIABLE} is {text:?}");
    };
    Some(Plan {
        name: name.to_owned(),
        signal: match signal {
            "KILL" => libc::SIGKILL,
            "STOP" => libc::SIGSTOP,
            other => panic!("signal {other:?}"),
        },
        time: time.parse().unwrap(),
        reached: 0.into(),
    })
}
