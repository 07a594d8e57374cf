//! Columns of text, aligned.

use unicode_width::UnicodeWidthStr as _;

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

    /// Returns the text, a line each row.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width + 2 - cell.width().min(*width)));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
