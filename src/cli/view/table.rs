//! Columns of text, aligned.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::cli::output::stdout_width;
use crate::model::text::sanitize_line;

/// Rows under a header; the last column is not padded.
#[derive(Debug)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
    /// The columns that are left out first, before any is cut.
    spare: &'static [&'static str],
}

impl TextTable {
    /// Returns a table with a header.
    pub fn new(header: &[&str]) -> TextTable {
        TextTable { rows: vec![header.iter().map(|cell| (*cell).to_string()).collect()], spare: &[] }
    }

    /// Names columns that are left out first where there is too little room, the first of them first.
    #[must_use]
    pub fn sparing(mut self, spare: &'static [&'static str]) -> TextTable {
        self.spare = spare;
        self
    }

    /// Adds a row with as many cells as the header. Cells are sanitised.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| sanitize_line(&cell).into_owned()).collect());
    }

    /// Returns the text, a line each row; on a terminal no wider than that.
    pub fn render(&self) -> String {
        self.render_within(stdout_width())
    }

    /// Returns the text for a place behind so many columns: on a terminal it is so much narrower.
    pub fn render_behind(&self, columns: usize) -> String {
        self.render_within(stdout_width().map(|width| width.saturating_sub(columns)))
    }

    /// Returns the text in so many columns of a terminal: the last column of the table is cut, or left out where too
    /// little of it would be left, and then the one before.
    fn render_within(&self, most: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
        let name = |column: usize| self.rows[0].get(column).map_or("", String::as_str);
        // The columns that are shown, with their widths.
        let mut shown: Vec<(usize, usize)> = (0..columns).map(|column| (column, width(column).unwrap_or(0))).collect();
        let mut left_out = Vec::new();
        let mut spare = self.spare.iter();
        while let Some(most) = most
            && let Some(excess) = whole(&shown).checked_sub(most + 1)
            && let Some((_, last)) = shown.last().copied()
        {
            if let Some(named) = spare.next() {
                let at = shown.iter().position(|(column, _)| name(*column) == *named);
                left_out.extend(at.map(|at| shown.remove(at).0));
                continue;
            }
            match last.checked_sub(excess + 1) {
                Some(rest) if rest >= CUT_WIDTH_MIN || (shown.len() == 1 && rest > 0) => {
                    shown.last_mut().expect("it was just looked at").1 = rest;
                }
                _ if shown.len() == 1 => break,
                _ => left_out.extend(shown.pop().map(|(column, _)| column)),
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, width) in &shown {
                let cell = cut(row.get(*column).map_or("", String::as_str), *width);
                line.push_str(&cell);
                line.push_str(&" ".repeat(width + 2 - cell.width().min(*width)));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        left_out.sort_unstable();
        let mut left_out: Vec<&str> = left_out.into_iter().map(name).collect();
        left_out.retain(|name| !name.is_empty());
        if !left_out.is_empty() {
            text.push_str(&format!("(no room for {})\n", left_out.join(", ")));
        }
        text
    }
}

/// A column is not cut to fewer characters.
const CUT_WIDTH_MIN: usize = 12;

/// Returns the width of a row of columns with their widths.
fn whole(shown: &[(usize, usize)]) -> usize {
    shown.iter().map(|(_, width)| width).sum::<usize>() + 2 * shown.len().saturating_sub(1)
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
    fn columns_that_can_be_spared_are_left_out_first() {
        let mut table = TextTable::new(&["JOB", "STATUS", "TAKES"]).sparing(&["STATUS"]);
        table.push(["dim-line-3", "completed", "5 min"].map(String::from).into());
        assert_eq!(table.render_within(Some(20)), "JOB         TAKES\ndim-line-3  5 min\n(no room for STATUS)\n");
        assert!(table.render_within(Some(30)).contains("completed"));
    }

    #[test]
    fn a_column_without_a_name_is_left_out_without_a_word() {
        let mut table = TextTable::new(&["JOB", "STATUS", ""]);
        table.push(["dim-line-3", "completed", "<- this"].map(String::from).into());
        assert_eq!(table.render_within(Some(24)), "JOB         STATUS\ndim-line-3  completed\n");
    }
}
