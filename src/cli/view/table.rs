//! Columns of text, aligned.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::cli::output::stdout_width;
use crate::model::text::sanitize_line;

/// Rows under a header; the last column is not padded.
#[derive(Debug)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Returns a table with a header.
    pub fn new(header: &[&str]) -> TextTable {
        TextTable { rows: vec![header.iter().map(|cell| (*cell).to_string()).collect()] }
    }

    /// Adds a row with as many cells as the header. Cells are sanitised.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| sanitize_line(&cell).into_owned()).collect());
    }

    /// Returns the text, a line each row; on a terminal no wider than that.
    pub fn render(&self) -> String {
        self.render_within(stdout_width())
    }

    /// Returns the text in so many columns of a terminal: the last column of the table is cut, or left out where too
    /// little of it would be left, and then the one before.
    fn render_within(&self, most: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
        let mut widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut left_out = Vec::new();
        while let Some(most) = most
            && let Some(excess) = whole(&widths).checked_sub(most + 1)
            && let Some(last) = widths.last_mut()
        {
            match last.checked_sub(excess + 1) {
                Some(rest) if rest >= CUT_WIDTH_MIN || (columns == left_out.len() + 1 && rest > 0) => *last = rest,
                _ if columns == left_out.len() + 1 => break,
                _ => {
                    widths.pop();
                    left_out.extend(self.rows[0].get(widths.len()).map(String::as_str));
                }
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = cut(cell, *width);
                line.push_str(&cell);
                line.push_str(&" ".repeat(width + 2 - cell.width().min(*width)));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        left_out.retain(|name| !name.is_empty());
        if !left_out.is_empty() {
            left_out.reverse();
            text.push_str(&format!("(no room for {})\n", left_out.join(", ")));
        }
        text
    }
}

/// A column is not cut to fewer characters.
const CUT_WIDTH_MIN: usize = 12;

/// Returns the width of a row.
fn whole(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
}

/// Returns a cell in so many columns of a terminal.
fn cut(cell: &str, width: usize) -> Cow<'_, str> {
    if cell.width() <= width {
        return Cow::Borrowed(cell);
    }
    let mut kept = String::new();
    for c in cell.chars() {
        if kept.width() + c.width().unwrap_or(0) + 1 > width {
            break;
        }
        kept.push(c);
    }
    Cow::Owned(kept + "…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_terminal() {
        let mut table = TextTable::new(&["JOB", "STATUS", "STARTED", "MESSAGE"]);
        table.push(
            ["dim-line-3", "completed", "2026-11-21", "the device said no, and then it said yes"]
                .map(String::from)
                .into(),
        );
        assert_eq!(table.render_within(None).lines().nth(1).unwrap().width(), 75);
        assert_eq!(
            table.render_within(Some(50)),
            "JOB         STATUS     STARTED     MESSAGE\n\
             dim-line-3  completed  2026-11-21  the device sai…\n"
        );
        assert_eq!(
            table.render_within(Some(40)),
            "JOB         STATUS     STARTED\ndim-line-3  completed  2026-11-21\n(no room for MESSAGE)\n"
        );
        assert_eq!(table.render_within(Some(9)), "JOB\ndim-line…\n(no room for STATUS, STARTED, MESSAGE)\n");
        assert!(table.render_within(Some(75)).contains("said yes"));
    }

    #[test]
    fn a_column_without_a_name_is_left_out_without_a_word() {
        let mut table = TextTable::new(&["JOB", "STATUS", ""]);
        table.push(["dim-line-3", "completed", "<- this"].map(String::from).into());
        assert_eq!(table.render_within(Some(24)), "JOB         STATUS\ndim-line-3  completed\n");
    }
}
