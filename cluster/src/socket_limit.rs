#![expect(
    unsafe_code,
    reason = "the sockets of the engine are reached by their numbers only"
)]
//! How long a connection may be without an answer of the other machine's kernel.
//!
//! The kernel sends again what was not received, after pauses that double up to two minutes. So after a
//! partition the connections between nodes would stay silent for as long as it lasted, and a node would be
//! away for that long again. With a limit they end, and the engine connects again at once. It does
//! not set one, and does not hand out its sockets.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use rustix::net::{self, sockopt};

/// How long what was sent may be without an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How often new sockets are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Limits the sockets of this process, also later ones, for ever; except those of clients, who come by this
/// port: they may take their time to read.
pub(crate) async fn keep(clients: Option<u16>) {
    loop {
        for number in open_numbers() {
            limit(number, clients);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Returns the numbers of what this process has open; none where the system does not tell.
fn open_numbers() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.flatten().filter_map(number).collect()
}

/// Limits a socket of TCP. Of anything else, nothing is changed; above all it is not duplicated, because to
/// close the duplicate of a file drops SQLite's locks on it.
fn limit(number: RawFd, clients: Option<u16>) {
    let milliseconds = u32::try_from(LIMIT.as_millis()).unwrap_or(u32::MAX);
    if number < 0 {
        return;
    }
    // SAFETY: it is used for two calls, which fail if the number was closed since, and at worst set the limit of
    // another socket that has it by now. It is neither closed nor kept.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let own = net::getsockname(socket).ok();
    let own = own.and_then(|own| SocketAddr::try_from(own).ok());
    if own.is_some_and(|own| Some(own.port()) != clients) {
        let _ = sockopt::set_tcp_user_timeout(socket, milliseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn sockets_are_limited_and_nothing_else_is_changed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let (client, _) = listener.accept().unwrap();
        let port = listener.local_addr().unwrap().port();
        let _ = tokio::time::timeout(Duration::from_millis(10), keep(Some(port))).await;
        let set = sockopt::tcp_user_timeout(&stream).unwrap();
        assert_eq!(u128::from(set), LIMIT.as_millis());
        assert_eq!(sockopt::tcp_user_timeout(&client).unwrap(), 0);
        assert!(file.metadata().is_ok());
    }
}
