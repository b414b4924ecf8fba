//! A box over the middle of the screen; in a small window it has no border.

use ratatui::Frame;
use ratatui::layout::{Rect, Size};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

/// The widest box.
const WIDTH: u16 = 80;

/// The room for text in a box on this screen.
pub(crate) fn room(screen: Rect) -> Size {
    let border = border(screen);
    Size {
        width: screen.width.min(WIDTH) - border,
        height: screen.height - border,
    }
}

/// Draws lines that have been wrapped for [`room`].
pub(crate) fn draw(frame: &mut Frame<'_>, title: &str, lines: &[String]) {
    let screen = frame.area();
    let border = border(screen);
    let count = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let area = screen.centered(
        ratatui::layout::Constraint::Length(screen.width.min(WIDTH)),
        ratatui::layout::Constraint::Length(count.saturating_add(border).min(screen.height)),
    );
    let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::raw(line.as_str())).collect();
    let mut text = Paragraph::new(lines);
    if border > 0 {
        text = text.block(Block::bordered().title(format!(" {title} ")));
    }
    frame.render_widget(Clear, area);
    frame.render_widget(text, area);
}

fn border(screen: Rect) -> u16 {
    if screen.width >= 30 && screen.height >= 10 {
        2
    } else {
        0
    }
}
