//! Columns of text, aligned.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::wrapped;
use crate::cli::output::stdout_width;
use crate::model::text::sanitize_line;

/// Rows under a header; the last column is not padded.
#[derive(Debug)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
    /// The columns of free text, which are cut first.
    texts: &'static [&'static str],
    /// The columns that are left out when that is not enough.
    spare: &'static [&'static str],
    /// The columns that name the rows, which are cut last; the first one when empty.
    names: &'static [&'static str],
}

impl TextTable {
    /// Returns a table with a header.
    pub fn new(header: &[&str]) -> TextTable {
        let rows = vec![header.iter().map(|cell| (*cell).to_string()).collect()];
        TextTable { rows, texts: &[], spare: &[], names: &[] }
    }

    /// Names columns that are cut where there is too little room, the first of them first. A number or a time that is
    /// cut says nothing, and is not one of them.
    #[must_use]
    pub fn cutting(mut self, texts: &'static [&'static str]) -> TextTable {
        self.texts = texts;
        self
    }

    /// Names the columns that say what a row is about, in place of the first one. They are cut when nothing can be
    /// spared any more, in the middle: ids often begin alike.
    #[must_use]
    pub fn naming(mut self, names: &'static [&'static str]) -> TextTable {
        self.names = names;
        self
    }

    /// Names columns that are left out where cutting does not make enough room, the first of them first. After them
    /// names are cut, and then the other columns are left out from the last one on.
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

    /// Returns the text in so many columns of a terminal.
    fn render_within(&self, most: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
        let whole: Vec<Shown> =
            (0..columns).map(|column| Shown { column, width: width(column).unwrap_or(0) }).collect();
        let (shown, left_out) = match most {
            None => (whole, Vec::new()),
            Some(most) => self.fit(whole, most),
        };
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for Shown { column, width } in &shown {
                let cell = cut(row.get(*column).map_or("", String::as_str), *width, self.is_name(*column));
                line.push_str(&cell);
                line.push_str(&" ".repeat(width + GAP - cell.width().min(*width)));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if !left_out.is_empty() {
            let line = format!("(no room for {})", left_out.join(", "));
            text.push_str(&format!("{}\n", wrapped(&line, 1, most)));
        }
        text
    }

    /// Returns the columns that are shown in so many columns of a terminal, and the names of those that are not.
    fn fit(&self, mut shown: Vec<Shown>, most: usize) -> (Vec<Shown>, Vec<&str>) {
        let mut left_out = Vec::new();
        let place = |shown: &[Shown], named: &str| shown.iter().position(|one| self.name(one.column) == named);
        // One column is less than several.
        let without = |named: &&&str| {
            let mut rest = shown.clone();
            rest.remove(place(&shown, named)?);
            self.cut_to(&rest, most, false)
        };
        if self.cut_to(&shown, most, false).is_none()
            && let Some(named) = self.spare.iter().find(|named| without(named).is_some())
        {
            left_out.extend(place(&shown, named).map(|at| shown.remove(at).column));
        }
        let mut spare = self.spare.iter();
        loop {
            if let Some(fitting) = self.cut_to(&shown, most, spare.len() == 0) {
                left_out.sort_unstable();
                let names = left_out.into_iter().map(|column| self.name(column)).filter(|name| !name.is_empty());
                return (fitting, names.collect());
            }
            match spare.next() {
                Some(named) => {
                    left_out.extend(place(&shown, named).map(|at| shown.remove(at).column));
                }
                None => {
                    let at = shown.iter().rposition(|one| !self.is_name(one.column)).unwrap_or(shown.len() - 1);
                    left_out.push(shown.remove(at).column);
                }
            }
        }
    }

    /// Returns these columns with some of them cut so that all fit; `None` when they do not.
    fn cut_to(&self, shown: &[Shown], most: usize, cuts_names: bool) -> Option<Vec<Shown>> {
        let mut cut = shown.to_vec();
        let whole = cut.iter().map(|one| one.width).sum::<usize>() + GAP * cut.len().saturating_sub(1);
        let mut excess = whole.saturating_sub(most);
        let mut take = |one: &mut Shown, least: usize| {
            let taken = one.width.saturating_sub(least).min(excess);
            one.width -= taken;
            excess -= taken;
        };
        for text in self.texts {
            cut.iter_mut().filter(|one| self.name(one.column) == *text).for_each(|one| take(one, TEXT_WIDTH_MIN));
        }
        let least = if cut.len() == 1 { 1 } else { NAME_WIDTH_MIN };
        cut.iter_mut().filter(|one| cuts_names && self.is_name(one.column)).for_each(|one| take(one, least));
        (excess == 0).then_some(cut)
    }

    fn is_name(&self, column: usize) -> bool {
        if self.names.is_empty() { column == 0 } else { self.names.contains(&self.name(column)) }
    }

    fn name(&self, column: usize) -> &str {
        self.rows[0].get(column).map_or("", String::as_str)
    }
}

/// A column that is shown, and in how many columns of the terminal.
#[derive(Debug, Clone, Copy)]
struct Shown {
    column: usize,
    width: usize,
}

/// The spaces between two columns.
const GAP: usize = 2;
/// A column of free text is not cut to fewer characters.
const TEXT_WIDTH_MIN: usize = 12;
/// A column that names the row is not cut to fewer characters.
const NAME_WIDTH_MIN: usize = 20;

/// Returns a cell in so many columns of a terminal: its beginning, and of a name its end as well.
fn cut(cell: &str, width: usize, is_name: bool) -> Cow<'_, str> {
    if cell.width() <= width {
        return Cow::Borrowed(cell);
    }
    let room = width.saturating_sub(1);
    let behind = if is_name { room / 2 } else { 0 };
    let begin: String = taken(cell.chars(), room - behind);
    let end: String = taken(cell.chars().rev(), behind).chars().rev().collect();
    Cow::Owned(format!("{begin}…{end}"))
}

/// Returns the first characters that have room in so many columns.
fn taken(chars: impl Iterator<Item = char>, room: usize) -> String {
    let mut left = room;
    let fits = |c: &char| {
        c.width().unwrap_or(0).le(&left) && {
            left -= c.width().unwrap_or(0);
            true
        }
    };
    chars.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(header: &[&str], row: &[&str]) -> TextTable {
        let mut table = TextTable::new(header);
        table.push(row.iter().map(ToString::to_string).collect());
        table
    }

    #[test]
    fn a_text_is_cut_before_a_column_is_left_out() {
        let cells = ["dim-line-3", "completed", "2026-11-21", "the device said no, and then it said yes"];
        let table = table(&["JOB", "STATUS", "STARTED", "MESSAGE"], &cells).cutting(&["MESSAGE"]);
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
        assert_eq!(table.render_within(Some(20)), "JOB\ndim-line-3\n(no room for STATUS,\n STARTED, MESSAGE)\n");
        assert!(table.render_within(Some(9)).starts_with("JOB\ndim-…ne-3\n"));
        assert!(table.render_within(Some(75)).contains("said yes"));
    }

    #[test]
    fn a_time_is_whole_or_left_out() {
        let table = table(&["JOB", "STARTED"], &["dim-line-3", "2026-11-21 09:00:00Z"]);
        assert_eq!(table.render_within(Some(31)), "JOB\ndim-line-3\n(no room for STARTED)\n");
    }

    #[test]
    fn columns_that_can_be_spared_are_left_out_first() {
        let table = table(&["JOB", "STATUS", "TAKES"], &["dim-line-3", "completed", "5 min"]).sparing(&["STATUS"]);
        assert_eq!(table.render_within(Some(20)), "JOB         TAKES\ndim-line-3  5 min\n(no room for STATUS)\n");
        assert!(table.render_within(Some(30)).contains("completed"));
    }

    #[test]
    fn a_long_name_is_cut_before_what_cannot_be_spared_is_left_out() {
        let name = "the-name-of-a-job-that-says-much";
        let table = table(&["JOB", "RUN", "FAILED"], &[name, "1", "1,204"]).sparing(&["RUN"]);
        assert_eq!(
            table.render_within(Some(30)),
            "JOB                     FAILED\nthe-name-of…-says-much  1,204\n(no room for RUN)\n"
        );
    }

    #[test]
    fn what_names_a_row_is_never_left_out() {
        let id = format!("plant-north-{}-0001", "x".repeat(60));
        let table = table(&["FAILED", "DEVICE_ID", "REASON", ""], &["1", &id, "template-mismatch", "<- crossed"])
            .naming(&["DEVICE_ID"]);
        assert_eq!(
            table.render_within(Some(60)),
            "FAILED  DEVICE_ID              REASON\n\
             1       plant-nort…xxxxx-0001  template-mismatch  <- crossed\n"
        );
        assert!(table.render_within(Some(30)).contains("1       plant-north…xxxxx-0001\n"));
        for most in 0..200 {
            let text = table.render_within(Some(most));
            let widest = text.lines().take(2).map(|line| line.width()).max();
            assert!(widest <= Some(most.max(1)), "{most}: {text}");
        }
        assert_eq!(TextTable::new(&[]).render_within(Some(0)), "\n");
    }

    #[test]
    fn a_column_without_a_name_is_left_out_without_a_word() {
        let table = table(&["JOB", "STATUS", ""], &["dim-line-3", "completed", "<- this"]);
        assert_eq!(table.render_within(Some(24)), "JOB         STATUS\ndim-line-3  completed\n");
    }
}
