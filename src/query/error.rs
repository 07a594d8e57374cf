//! What is wrong with a condition, where, and what to write instead.

use std::fmt;

use super::ast::Function;
use crate::model::limits;

/// One thing that is wrong with a condition.
///
/// `Display` is a whole sentence; [`help`](QueryError::help) is the next step when there is one.
/// What is kept of a device and no part of its twin.
const KEPT: [&str; 5] = ["authentication", "authenticationType", "x509Thumbprint", "etag", "twinETag"];

#[derive(Debug, Clone, PartialEq)]
pub struct QueryError {
    pub kind: QueryErrorKind,
    /// The first byte in the query text.
    pub start: usize,
    /// The byte after the last; equal to `start` at the end of the text.
    pub end: usize,
}

impl QueryError {
    /// Returns what to write instead, as a sentence; `None` when the error itself says it.
    pub fn help(&self) -> Option<String> {
        self.kind.help()
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for QueryError {}

/// The ways in which a condition can be wrong; `Display` is a whole sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QueryErrorKind {
    #[error("The condition is empty.")]
    Empty,
    #[error("A condition has at most {max} characters, and this one has {chars}.", max = limits::QUERY_CHARS_MAX)]
    Long { chars: usize },
    #[error("A condition is nested at most {max} levels deep.", max = limits::QUERY_DEPTH_MAX)]
    Deep,
    #[error("This string has no closing {0}.")]
    UnterminatedString(char),
    #[error("This comment has no closing `*/`.")]
    UnterminatedComment,
    #[error("This escaped name has no closing `]]`.")]
    UnterminatedName,
    #[error("An escaped name may not be empty.")]
    EmptyName,
    #[error("`{0}` is not an escape that a string can contain.")]
    BadEscape(String),
    #[error("`{0}` is not a number.")]
    BadNumber(String),
    #[error("The character {0:?} has no meaning here.")]
    UnexpectedCharacter(char),
    /// An operator of another language; `instead` says the same here.
    #[error("`{found}` is not an operator of conditions.")]
    ForeignOperator { found: String, instead: &'static str },
    #[error("A value is missing before {found}.")]
    ExpectedValue { found: String },
    #[error("AND, OR or an operator is missing before {found}.")]
    ExpectedOperator { found: String },
    #[error("A name is missing after the dot.")]
    ExpectedName,
    #[error("A closing `{bracket}` is missing before {found}.")]
    ExpectedClosing { bracket: char, found: String },
    #[error("This `{0}` closes nothing.")]
    UnmatchedClosing(char),
    #[error("`*` means every device and stands alone.")]
    StarNotAlone,
    #[error("This is more of a query than its condition.")]
    FullQuery,
    /// A whole query that is not over devices.
    #[error("A condition selects devices, and this is about `{collection}`.")]
    OtherCollection { collection: &'static str },
    #[error("A device has no property `{name}`.")]
    UnknownRoot { name: String, help: String },
    /// A property that IoT Hub has.
    #[error("IoT Hub has `{name}`, and {}.",
        if KEPT.contains(name) { "a condition here cannot ask for it" } else { "fleetform does not keep it" })]
    NotKept { name: &'static str, instead: Option<&'static str> },
    #[error("`{root}` has no parts.")]
    NoParts { root: &'static str },
    #[error("There is no function `{name}`.")]
    UnknownFunction { name: String, near: Option<&'static str> },
    #[error("`{function}` takes {expected} argument{s}, and {found} {are} given.",
        function = function.as_str(), expected = function.arity(), s = if function.arity() == 1 { "" } else { "s" },
        are = if *found == 1 { "is" } else { "are" })]
    Arity { function: Function, found: usize },
    #[error("`{function}` needs a {expected}, and this is {found}.", function = function.as_str())]
    ArgumentType { function: Function, expected: &'static str, found: &'static str },
    #[error("{operator} needs true or false, and this is {found}.")]
    NotBoolean { operator: &'static str, found: &'static str },
    #[error("A condition is true or false, and this is {found}.")]
    NotCondition { found: &'static str },
    #[error("`{operator}` needs numbers, and this is {found}.")]
    NotNumber { operator: &'static str, found: &'static str },
    #[error("{left} is never comparable with {right}: the answer would always be undefined.",
        left = capitalized(left))]
    MixedTypes { left: &'static str, right: &'static str },
    #[error("Arrays cannot be compared.")]
    ComparedArray,
    #[error("{operator} needs an array in brackets on its right.")]
    NeedsArray { operator: &'static str },
    #[error("`{key}` was taken as a subtraction.")]
    DashedName { key: String },
}

impl QueryErrorKind {
    fn help(&self) -> Option<String> {
        match self {
            QueryErrorKind::Empty => Some("Write `*` for every device.".to_string()),
            QueryErrorKind::Long { .. } => Some("Tag the devices, and ask for the tag.".to_string()),
            QueryErrorKind::Deep => Some("Take out parentheses, or ask for a tag instead.".to_string()),
            QueryErrorKind::UnterminatedString(quote) => {
                Some(format!("Write {quote} at its end, and \\{quote} for a quote inside."))
            }
            QueryErrorKind::BadEscape(_) => {
                Some("The escapes are \\' \\\" \\\\ \\/ \\n \\t \\r \\b \\f and \\uXXXX.".to_string())
            }
            QueryErrorKind::BadNumber(_) => {
                Some("Numbers look like 20, 1.5, 1e3 or 0x1F; text needs quotes.".to_string())
            }
            QueryErrorKind::UnexpectedCharacter(c) => character_help(*c),
            QueryErrorKind::ForeignOperator { found, instead } => Some(foreign_help(found, instead)),
            QueryErrorKind::ExpectedOperator { found } => expected_operator_help(found),
            QueryErrorKind::StarNotAlone => Some("Leave it out, or write only `*`.".to_string()),
            QueryErrorKind::FullQuery => Some("Give only the condition: what stands after WHERE.".to_string()),
            QueryErrorKind::OtherCollection { collection: "devices.modules" } => Some(
                "Jobs are for devices, not for their modules: ask for what the devices themselves have.".to_string(),
            ),
            QueryErrorKind::OtherCollection { .. } => {
                Some("`fleetform job list --device ID` lists the runs of a device.".to_string())
            }
            QueryErrorKind::UnknownRoot { help, .. } => Some(help.clone()),
            QueryErrorKind::NotKept { instead, .. } => {
                Some(instead.unwrap_or("Ask for a tag that says the same: an import can set it.").to_string())
            }
            QueryErrorKind::NoParts { root } => Some(format!("Write just `{root}`.")),
            QueryErrorKind::UnknownFunction { near, .. } => Some(match near {
                Some(near) => format!("Did you mean `{near}`?"),
                None => {
                    let names: Vec<_> = Function::ALL.iter().map(|function| function.as_str()).collect();
                    format!("The functions are {}.", names.join(", "))
                }
            }),
            QueryErrorKind::ComparedArray => Some("Write IN to look for a value in an array.".to_string()),
            QueryErrorKind::NeedsArray { operator } => Some(format!("Write {operator} ['a', 'b'].")),
            QueryErrorKind::MixedTypes { left, right } => mixed_help(left, right),
            QueryErrorKind::DashedName { key } => Some(format!("Write the name as `[[{key}]]`.")),
            QueryErrorKind::UnterminatedComment
            | QueryErrorKind::UnterminatedName
            | QueryErrorKind::EmptyName
            | QueryErrorKind::ExpectedValue { .. }
            | QueryErrorKind::ExpectedName
            | QueryErrorKind::ExpectedClosing { .. }
            | QueryErrorKind::UnmatchedClosing(_)
            | QueryErrorKind::Arity { .. }
            | QueryErrorKind::ArgumentType { .. }
            | QueryErrorKind::NotBoolean { .. }
            | QueryErrorKind::NotCondition { .. }
            | QueryErrorKind::NotNumber { .. } => None,
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn character_help(c: char) -> Option<String> {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' | '`' => Some("Write ' or \" around text.".to_string()),
        ';' => Some("A condition needs no `;` at its end.".to_string()),
        '{' | '}' | '|' | '&' | '~' | '^' | '#' | '?' | ':' | '@' | '\\' => {
            Some("Text needs quotes, and a name with special characters needs [[ ]].".to_string())
        }
        _ => None,
    }
}

fn foreign_help(found: &str, instead: &str) -> String {
    match found.to_ascii_uppercase().as_str() {
        "LIKE" | "ILIKE" | "RLIKE" | "REGEXP" | "MATCHES" => {
            "Write startswith(x, 'a'), endswith(x, 'a') or contains(x, 'a').".to_string()
        }
        "BETWEEN" => "Write x >= 1 AND x <= 2.".to_string(),
        "IS" => "Write is_null(x), or NOT is_defined(x) for a property that is not there.".to_string(),
        _ => format!("Write {instead}."),
    }
}

fn expected_operator_help(found: &str) -> Option<String> {
    match found {
        "a string" => Some("Inside a string, write \\' or \\\" for a quote.".to_string()),
        "`[`" => Some("Write a key as tags.key or tags.[[key]].".to_string()),
        "`.`" => Some("A number in front of a dot needs a digit after it.".to_string()),
        _ => None,
    }
}

fn mixed_help(left: &str, right: &str) -> Option<String> {
    if left == "null" || right == "null" {
        return Some("Write NOT is_defined(x) for a property that is not there.".to_string());
    }
    match (left, right) {
        ("true or false", "a string") | ("a string", "true or false") => {
            Some("Write true and false without quotes.".to_string())
        }
        ("a number", "a string") => Some("Write a number without quotes, and text with quotes.".to_string()),
        ("a string", "a number") => Some("Write text with quotes, and a number without.".to_string()),
        _ => None,
    }
}
