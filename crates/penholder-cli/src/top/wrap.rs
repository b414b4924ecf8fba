//! Text on lines of a bounded width.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Breaks a text between words, or within one that is too long for a line. Lines after the first
/// begin with `indent` spaces, if more than half of the line is left.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let indent = if indent * 2 < width.saturating_sub(2) {
        indent
    } else {
        0
    };
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let fits = |line: &String| line.width() + word.trim_end().width() <= width;
        if !lines.last().is_some_and(fits)
            && lines.last().is_some_and(|line| !line.trim().is_empty())
        {
            lines.push(" ".repeat(indent));
        }
        for c in word.chars() {
            let line_width = lines.last().map_or(0, |line| line.width());
            let is_full = line_width + c.width().unwrap_or(0) > width;
            if is_full && c == ' ' {
                continue;
            }
            if is_full && line_width > indent {
                lines.push(" ".repeat(indent));
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
        }
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Returns the end of a text that is too wide, after a `…`.
pub(crate) fn end_of(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept = text.char_indices().rev().take_while(|(_, c)| {
        used += c.width().unwrap_or(0);
        used <= width
    });
    let start = kept.last().map_or(text.len(), |(at, _)| at);
    format!("…{}", &text[start..])
}

/// Returns the beginning of a text that is too wide, before a `…`.
pub(crate) fn start_of(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= width
    });
    let kept: String = kept.collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7, 0), ["one two", "three"]);
        assert_eq!(wrap("key  some words", 10, 3), ["key  some", "   words"]);
        assert_eq!(wrap("abcdefgh", 3, 0), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3, 0), [""]);
        assert_eq!(end_of("/a/b.db", 5), "…b.db");
        assert_eq!(start_of("UPDATE job", 7), "UPDATE…");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_line_is_too_wide(
            text in "[ a-zäの]{0,60}",
            width in 2_usize..30,
            indent in 0_usize..9,
        ) {
            let lines = wrap(&text, width, indent);
            let without = |text: &str| text.replace(' ', "");
            prop_assert_eq!(without(&lines.concat()), without(&text));
            for line in &lines {
                prop_assert!(line.width() <= width, "{:?}", lines);
            }
            prop_assert!(end_of(&text, width).width() <= width);
            prop_assert!(start_of(&text, width).width() <= width);
        }
    }
}
