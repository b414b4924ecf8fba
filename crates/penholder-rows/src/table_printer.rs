//! A table of rows, printed as they come.
//!
//! The first rows decide how wide the columns are, so that any number of rows needs little memory.
//! On a terminal the table fits its width: longer texts go on in the next line of their cell.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many rows, and bytes of text, decide how wide the columns are.
const SAMPLE_ROWS: usize = 1000;
const SAMPLE_BYTES: usize = 4 << 20;
/// The narrowest column that a terminal makes.
const NARROWEST: usize = 3;

/// A table with borders and aligned columns.
#[derive(Debug)]
pub struct TablePrinter<W: Write> {
    out: W,
    header: Option<Vec<String>>,
    /// The width of the terminal in columns of characters; `None` if it is none.
    terminal: Option<usize>,
    sample: Vec<Vec<String>>,
    sample_bytes: usize,
    /// `None` until the sample is complete.
    widths: Option<Vec<usize>>,
}

impl<W: Write> TablePrinter<W> {
    /// Begins a table. `terminal` is the width of the terminal in columns of characters, if there is one.
    pub fn new(out: W, header: Option<Vec<String>>, terminal: Option<usize>) -> Self {
        Self {
            out,
            header,
            terminal,
            sample: Vec::new(),
            sample_bytes: 0,
            widths: None,
        }
    }

    /// Prints a row, or keeps it until the widths are known.
    pub fn row(&mut self, cells: Vec<String>) -> io::Result<()> {
        let cells: Vec<String> = cells.into_iter().map(without_tabs).collect();
        if let Some(widths) = &self.widths {
            return write_row(&mut self.out, &cells, widths, self.terminal.is_some());
        }
        self.sample_bytes += cells.iter().map(String::len).sum::<usize>();
        self.sample.push(cells);
        if self.sample.len() >= SAMPLE_ROWS || self.sample_bytes >= SAMPLE_BYTES {
            self.begin()?;
        }
        Ok(())
    }

    /// Prints what is left.
    pub fn end(mut self) -> io::Result<()> {
        if self.widths.is_none() {
            self.begin()?;
        }
        let widths = self.widths.unwrap_or_default();
        write_border(&mut self.out, &widths, ["└", "─", "┴", "┘"])?;
        self.out.flush()
    }

    /// Prints the header and the sample.
    fn begin(&mut self) -> io::Result<()> {
        let sample = std::mem::take(&mut self.sample);
        let mut widths = natural_widths(self.header.iter().chain(&sample));
        if let Some(terminal) = self.terminal {
            fit(&mut widths, terminal);
        }
        let is_wrapped = self.terminal.is_some();
        write_border(&mut self.out, &widths, ["┌", "─", "┬", "┐"])?;
        if let Some(header) = &self.header {
            write_row(&mut self.out, header, &widths, is_wrapped)?;
            write_border(&mut self.out, &widths, ["╞", "═", "╪", "╡"])?;
        }
        for cells in &sample {
            write_row(&mut self.out, cells, &widths, is_wrapped)?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

/// Returns how wide each column has to be for its longest line.
fn natural_widths<'a>(rows: impl Iterator<Item = &'a Vec<String>>) -> Vec<usize> {
    let mut widths = Vec::new();
    for cells in rows {
        widths.resize(cells.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(cells) {
            let longest = cell.split('\n').map(line_width).max().unwrap_or(0);
            *width = longest.max(*width);
        }
    }
    widths
}

/// Narrows the widest columns until the table fits.
fn fit(widths: &mut [usize], terminal: usize) {
    // A border and a blank on each side of each column, and the last border.
    let borders = 3 * widths.len() + 1;
    let mut left = terminal.saturating_sub(borders);
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|&column| widths[column]);
    // The narrow ones keep their width, and what they leave is shared by the wide ones.
    for (done, &column) in order.iter().enumerate() {
        let share = left / (order.len() - done);
        widths[column] = widths[column].min(share.max(NARROWEST));
        left = left.saturating_sub(widths[column]);
    }
}

/// A tab would be as wide as the terminal says.
fn without_tabs(cell: String) -> String {
    match cell.contains('\t') {
        true => cell.replace('\t', "    "),
        false => cell,
    }
}

fn line_width(line: &str) -> usize {
    UnicodeWidthStr::width(line)
}

fn write_border(out: &mut impl Write, widths: &[usize], parts: [&str; 4]) -> io::Result<()> {
    let [left, line, cross, right] = parts;
    let columns: Vec<String> = widths.iter().map(|width| line.repeat(width + 2)).collect();
    writeln!(out, "{left}{}{right}", columns.join(cross))
}

/// Writes a row, whose cells may have several lines.
fn write_row(
    out: &mut impl Write,
    cells: &[String],
    widths: &[usize],
    is_wrapped: bool,
) -> io::Result<()> {
    let lines_of = |(cell, &width): (&String, &usize)| -> Vec<String> {
        let lines = cell.split('\n');
        match is_wrapped {
            true => lines.flat_map(|line| wrapped(line, width)).collect(),
            false => lines.map(str::to_owned).collect(),
        }
    };
    let cells: Vec<Vec<String>> = cells.iter().zip(widths).map(lines_of).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for number in 0..height {
        let mut line = String::from("│");
        for (cell, width) in cells.iter().zip(widths) {
            let text = cell.get(number).map_or("", String::as_str);
            let blanks = width.saturating_sub(line_width(text));
            let separator = if line.len() > "│".len() {
                "┆ "
            } else {
                " "
            };
            line += separator;
            line += text;
            line += &" ".repeat(blanks + 1);
        }
        writeln!(out, "{line}│")?;
    }
    Ok(())
}

/// Cuts a line into pieces of at most this width, between words where it can.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for word in line.split_inclusive(' ') {
        if used > 0 && used + line_width(word.trim_end()) > width {
            pieces.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            let wide = UnicodeWidthChar::width(c).unwrap_or(0);
            if used + wide > width && used > 0 {
                if c == ' ' {
                    continue;
                }
                pieces.push(String::new());
                used = 0;
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(c);
            }
            used += wide;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(header: &[&str], rows: &[&[&str]], terminal: Option<usize>) -> String {
        let owned = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        let header = (!header.is_empty()).then(|| owned(header));
        let mut out = Vec::new();
        let mut printer = TablePrinter::new(&mut out, header, terminal);
        for row in rows {
            printer.row(owned(row)).unwrap();
        }
        printer.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_line() {
        let table = printed(&["id", "name"], &[&["1", "ä\nlong"], &["22", "日本"]], None);
        let expected = "\
┌────┬──────┐
│ id ┆ name │
╞════╪══════╡
│ 1  ┆ ä    │
│    ┆ long │
│ 22 ┆ 日本 │
└────┴──────┘
";
        assert_eq!(table, expected);
        let tab = printed(&[], &[&["a\tb"], &["c"]], None);
        assert!(tab.contains("│ a    b │\n│ c      │\n"), "{tab}");
    }

    #[test]
    fn a_terminal_makes_long_texts_go_on_in_the_next_line() {
        let text = "one two threefourfivesix";
        let table = printed(&["id", "text"], &[&["1", text]], Some(20));
        let expected = "\
┌────┬─────────────┐
│ id ┆ text        │
╞════╪═════════════╡
│ 1  ┆ one two     │
│    ┆ threefourfi │
│    ┆ vesix       │
└────┴─────────────┘
";
        assert_eq!(table, expected);
        assert!(table.lines().all(|line| line_width(line) <= 20), "{table}");
    }

    #[test]
    fn rows_after_the_sample_keep_the_widths() {
        let row: &[&str] = &["12", "34"];
        let mut rows = vec![row; SAMPLE_ROWS];
        rows.push(&["123456", "7"]);
        let on_terminal = printed(&[], &rows, Some(80));
        assert!(on_terminal.contains("│ 12 ┆ 7  │\n│ 34 ┆    │\n│ 56 ┆    │\n└"));
        let on_pipe = printed(&[], &rows, None);
        assert!(on_pipe.contains("│ 123456 ┆ 7  │\n└"));
    }

    #[test]
    fn a_table_without_rows_or_header_is_a_table() {
        assert_eq!(printed(&["a"], &[], None).lines().count(), 4);
        assert_eq!(printed(&[], &[], None), "┌┐\n└┘\n");
    }

    #[test]
    fn many_columns_are_narrow_and_never_lost() {
        let names: Vec<String> = (0..40).map(|number| format!("column{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let table = printed(&names, &[], Some(80));
        assert!(table.contains("col ┆ col"), "{table}");
    }
}
