//! Values as text and JSON. Pure: a view is a function from a value to a string.

pub mod annotations;
pub mod device;
pub mod diagnostic;
pub mod group;
pub mod held;
pub mod import;
pub mod indexes;
pub mod job;
pub mod junit;
pub mod log;
pub mod plan;
pub mod progress;
mod prose;
pub mod rehearsal;
pub mod sarif;
pub mod schedule;
mod table;
pub mod why;

pub use prose::{reflowed, wrapped};
pub use table::TextTable;

/// Returns a number with a comma between thousands.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

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
