//! The question before a signal is sent, and what became of the signal.

use std::time::{Duration, Instant};

use penholder::lock::{Process, ProcessIdentity, ProcessState};
use penholder_core::one_line;
use ratatui::layout::Size;

use super::entry::Entry;
use super::wrap::{start_of, wrap};
use crate::sys::pidfd::{self, OpenProcess};
use crate::sys::sent_signal::SentSignal;
use crate::text;

/// A process that has not ended this long after a signal is said to live on.
const SOON: Duration = Duration::from_secs(2);

/// A signal that is sent if the answer is yes.
pub(crate) struct Question {
    signal: SentSignal,
    /// It is the process that `identity` says, whatever gets its pid.
    process: OpenProcess,
    identity: ProcessIdentity,
    cmd: String,
    does: String,
}

/// A signal that was sent.
pub(crate) struct Sent {
    signal: SentSignal,
    identity: ProcessIdentity,
    at: Instant,
}

impl Question {
    /// Finds the process of an entry.
    ///
    /// # Errors
    ///
    /// It may or can not get a signal; the text says why.
    pub(crate) fn new(signal: SentSignal, entry: &Entry, does: String) -> Result<Self, String> {
        let none = || "nothing is sent: the pid of the process is not known".to_owned();
        let identity = entry.identity.ok_or_else(none)?;
        let pid = identity.pid();
        let refused = |why: &str| format!("nothing is sent: pid:{pid} {why}");
        match (pid, identity.state()) {
            (_, ProcessState::OtherNamespace) => {
                return Err(refused(
                    "is in another pid namespace: send the signal there",
                ));
            }
            (_, ProcessState::Gone) => return Err(refused("has ended")),
            (0 | 1, _) => return Err(refused("is the first process of the system or container")),
            (pid, _) if pid == std::process::id() => {
                return Err(refused("is this penholder top: q quits"));
            }
            _ => {}
        }
        let process = OpenProcess::open(pid).map_err(|error| match error {
            error if pidfd::is_no_process(&error) => refused("has ended"),
            error => refused(&format!("cannot be opened: {}", one_line(&error))),
        })?;
        // Asked again with the process open: it is this one, and no later one with its pid.
        match identity.state() {
            ProcessState::Gone => return Err(refused("has ended")),
            ProcessState::Running | ProcessState::Sleeping | ProcessState::Stopped => {}
            _ => {
                return Err(refused(
                    "cannot be told from a later process with the same pid",
                ));
            }
        }
        let seen = Process::with_id(pid)
            .cmd
            .map(|cmd| one_line(cmd).to_string());
        let cmd = seen.unwrap_or_else(|| entry.cmd.clone());
        Ok(Self {
            signal,
            process,
            identity,
            cmd,
            does,
        })
    }

    /// The lines of the question; `None` if there is no room for all of it.
    pub(crate) fn lines(&self, room: Size) -> Option<Vec<String>> {
        let (width, height) = (usize::from(room.width), usize::from(room.height));
        if width < 8 {
            return None;
        }
        let ask = format!("Send {} to pid {}?", name(self.signal), self.identity.pid());
        let ask = wrap(&ask, width, 0);
        let mut cmd = wrap(&self.cmd, width, 0);
        let mut does = wrap(&format!("It {}.", self.does), width, 0);
        let mut effect = wrap(self.effect(), width, 0);
        let mut answer = wrap("y sends it, any other key does not", width, 0);
        let count = |parts: &[&Vec<String>]| parts.iter().map(|part| part.len()).sum::<usize>();
        if count(&[&ask, &cmd, &does, &effect, &answer]) > height {
            does.clear();
        }
        if count(&[&ask, &cmd, &does, &effect, &answer]) > height {
            cmd = vec![start_of(&self.cmd, width)];
        }
        if count(&[&ask, &cmd, &does, &effect, &answer]) > height {
            answer = wrap("y: yes, else: no", width, 0);
        }
        if count(&[&ask, &cmd, &does, &effect, &answer]) > height {
            let (first, _) = self
                .effect()
                .split_once([';', ':', '.'])
                .unwrap_or_default();
            effect = wrap(&format!("{first}."), width, 0);
        }
        let lines = [ask, cmd, does, effect, answer].concat();
        (lines.len() <= height).then_some(lines)
    }

    /// What the signal does.
    fn effect(&self) -> &'static str {
        let is_stopped = self.identity.state() == ProcessState::Stopped;
        match self.signal {
            SentSignal::Term if is_stopped => "Asks it to end. It is stopped: CONT (c) too.",
            SentSignal::Term => "Asks it to end.",
            SentSignal::Cont if is_stopped => "Lets it run again.",
            SentSignal::Cont => "Is not stopped: changes nothing.",
            SentSignal::Kill => "Ends it at once; its children live on.",
        }
    }

    /// Sends the signal.
    ///
    /// # Errors
    ///
    /// It is not sent; the text says why.
    pub(crate) fn send(&self) -> Result<Sent, String> {
        let (name, pid) = (name(self.signal), self.identity.pid());
        let refused = |why: &str| format!("{name} is not sent: pid:{pid} {why}");
        if self.identity.state() == ProcessState::Gone {
            return Err(refused("has ended"));
        }
        match self.process.send(self.signal) {
            Ok(()) => Ok(Sent {
                signal: self.signal,
                identity: self.identity,
                at: Instant::now(),
            }),
            Err(error) if pidfd::is_no_process(&error) => Err(refused("has ended")),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(refused("belongs to another user: permission denied"))
            }
            Err(error) => Err(refused(&one_line(error).to_string())),
        }
    }
}

impl Sent {
    /// What has become of it so far.
    pub(crate) fn text(&self) -> String {
        let (name, pid) = (name(self.signal), self.identity.pid());
        let state = self.identity.state();
        let is_late = self.at.elapsed() > SOON;
        let waited = text::age(self.at.elapsed());
        match (self.signal, state) {
            (_, ProcessState::Gone) => format!("sent {name}: pid:{pid} has ended"),
            (SentSignal::Term, ProcessState::Stopped) => {
                format!("sent {name} to pid:{pid}, which is stopped: c lets it act on it")
            }
            (SentSignal::Term, _) if is_late => {
                format!("sent {name}: pid:{pid} runs on after {waited}: K ends it at once")
            }
            (SentSignal::Kill, _) if is_late => {
                format!("sent {name}: pid:{pid} has not ended after {waited}")
            }
            (SentSignal::Cont, ProcessState::Stopped) if is_late => {
                format!("sent {name}: pid:{pid} is stopped still, or again")
            }
            _ => format!("sent {name} to pid:{pid}"),
        }
    }
}

fn name(signal: SentSignal) -> &'static str {
    match signal {
        SentSignal::Term => "TERM",
        SentSignal::Cont => "CONT",
        SentSignal::Kill => "KILL",
    }
}
