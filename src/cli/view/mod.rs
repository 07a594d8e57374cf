//! Values as text and JSON. Pure: a view is a function from a value to a string.

pub mod annotations;
pub mod device;
pub mod diagnostic;
mod field;
pub mod group;
pub mod held;
pub mod import;
pub mod indexes;
pub mod job;
pub mod junit;
pub mod log;
pub mod markdown;
pub mod plan;
pub mod progress;
mod prose;
pub mod registry;
pub mod rehearsal;
pub mod sarif;
pub mod schedule;
mod table;
pub mod why;

pub use field::field;
pub use prose::{fitted, reflowed};
pub use table::TextTable;

use jiff::Timestamp;

pub use crate::model::text::number;

/// Returns an instant as every view shows it, in UTC to the second: `2026-12-01 01:30:00Z`.
pub fn instant(at: Timestamp) -> String {
    at.strftime("%F %TZ").to_string()
}

/// Returns an instant, `-` where there is none.
pub fn instant_or_dash(at: Option<Timestamp>) -> String {
    at.map_or("-".to_string(), instant)
}

/// Returns a number with its noun, which gets an `s` unless there is one.
pub fn counted(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(value), plural(value, noun))
}

fn plural(value: u64, noun: &str) -> &'static str {
    match (value, noun.ends_with("ch")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    }
}

/// Returns a text in lines of so many columns of a terminal, broken at spaces and continued at an indent.
pub fn wrapped(text: &str, indent: usize, most: Option<usize>) -> String {
    text.split('\n').map(|line| wrapped_line(line, indent, most)).collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, indent: usize, most: Option<usize>) -> String {
    let Some(most) = most.filter(|most| console::measure_text_width(line) > *most) else { return line.to_string() };
    let (mut text, mut column) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        let width = console::measure_text_width(word.trim_end());
        if column > indent && column + width > most {
            text.truncate(text.trim_end().len());
            text.push_str(&format!("\n{}", " ".repeat(indent)));
            column = indent;
        }
        // What is broken at two spaces does not go on with one.
        if width > 0 || column > indent || text.is_empty() || !text.contains('\n') {
            text.push_str(word);
            column += console::measure_text_width(word);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_wrapped_at_its_indent() {
        let line =
            "  + run      job/dim-line-3 run 1  1,204 devices in 25 batches · 3 unchanged · cancel above 5 failures";
        assert_eq!(wrapped(line, 13, None), line);
        assert_eq!(
            wrapped(line, 13, Some(60)),
            "  + run      job/dim-line-3 run 1  1,204 devices in 25\n             batches · 3 unchanged · cancel above 5 failures"
        );
        let painted = line.replace("+ run     ", "\u{1b}[32m+ run     \u{1b}[0m");
        assert_eq!(console::strip_ansi_codes(&wrapped(&painted, 13, Some(60))), wrapped(line, 13, Some(60)));
        assert_eq!(wrapped("job a run 1: completed", 2, Some(12)), "job a run 1:\n  completed");
    }

    #[test]
    fn instants_are_utc_to_the_second() {
        let at = "2026-12-01T02:30:00.123456+01:00".parse().unwrap();
        assert_eq!(instant(at), "2026-12-01 01:30:00Z");
        assert_eq!((instant_or_dash(Some(at)), instant_or_dash(None)), (instant(at), "-".to_string()));
    }

    #[test]
    fn numbers_are_grouped() {
        let check = |value: u64, expect: &str| assert_eq!(number(value), expect);
        check(0, "0");
        check(999, "999");
        check(1_240, "1,240");
        check(1_000_000, "1,000,000");
        assert_eq!(counted(1, "batch"), "1 batch");
        assert_eq!(counted(2, "batch"), "2 batches");
    }
}
