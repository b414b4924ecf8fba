//! Proves that a panic gives the terminal back, and that what it says can be read.
#![cfg(test)]

use std::ffi::OsString;
use std::time::Instant;

use super::screen::Screen;

#[path = "../../../penholder-lock/tests/peer/mod.rs"]
mod peer;
#[path = "../../tests/terminal/mod.rs"]
mod terminal;

#[test]
fn peer() {
    peer::play(&[("panic", panic)]);
}

fn panic(_args: &[OsString]) {
    let mut screen = Screen::open().unwrap();
    screen
        .draw(|frame| frame.render_widget("it is up", frame.area()))
        .unwrap();
    // Until a key is typed, or a signal comes.
    screen.wait(Instant::now() + peer::PATIENCE).unwrap();
    panic!("on purpose");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let none: [&str; 0] = [];
    let Some(mut top) = terminal::Terminal::start(&peer::Peer::command("panic", none)) else {
        return;
    };
    top.until("it", |shown| shown.contains("it is up"));
    assert!(top.is_taken_over() && top.is_raw());
    top.types("x");
    assert_eq!(top.ended().code(), Some(101));
    top.assert_given_back();
    peer::until("the panic on its own screen", || {
        let written = top.written();
        let (_, after) = written.rsplit_once("\x1b[?1049l").unwrap_or_default();
        after.contains("on purpose")
    });
}
