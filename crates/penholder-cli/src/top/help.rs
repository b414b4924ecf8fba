//! The help on all keys, in pages where the screen is small.

use ratatui::layout::Size;

use super::wrap::wrap;

const HELP: [(&str, &str); 12] = [
    ("up, down", "select a process (also k, j)"),
    ("d, Enter", "show all details of the process"),
    ("t, F9", "send it TERM: asks it to end"),
    ("c", "send it CONT: a stopped process runs again"),
    ("K", "send it KILL: ends it at once"),
    ("", "each is sent only after y to a question"),
    ("p, space", "pause"),
    ("q, Esc", "quit"),
    ("?, h, F1", "this help"),
    ("pen", "holds the lock"),
    ("out", "has SQLite's own lock without the write lock"),
    ("1, 2, …", "wait for the lock, in this order"),
];

/// The pages of the help for this room.
pub(crate) fn pages(room: Size) -> Vec<Vec<String>> {
    let width = usize::from(room.width).max(2);
    let lines: Vec<String> = HELP
        .iter()
        .flat_map(|(key, text)| wrap(&format!("{key:<9} {text}"), width, 10))
        .collect();
    let height = usize::from(room.height).max(1);
    lines.chunks(height).map(<[String]>::to_vec).collect()
}
