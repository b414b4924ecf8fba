//! The one platform switch of this crate: signals to processes, and what can be seen of them; files, as
//! a program without penholder accesses them.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::{
    NamedPipe, PipeEnd, file_number, has_stopped, is_alive, is_locked, is_stopped, parent, read_at,
    signal, signal_of, try_lock, was_killed, write_at,
};

#[cfg(windows)]
mod windows;
#[cfg(all(windows, feature = "command"))]
pub(crate) use windows::children;
#[cfg(windows)]
pub(crate) use windows::{
    NamedPipe, PipeEnd, file_number, has_stopped, is_alive, is_locked, is_stopped, parent, read_at,
    signal, signal_of, try_lock, was_killed, write_at,
};
