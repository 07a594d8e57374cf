//! Names, device ids and run tokens: text that is checked once and trusted afterwards. A copy shares the text.

use std::fmt;
use std::sync::Arc;

use super::limits;

/// Why a text is not a legal name, id or token; `Display` completes "it ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("is empty")]
    Empty,
    #[error("has {count} characters, and at most {max} are allowed")]
    TooLong { count: usize, max: usize },
    #[error("contains {character:?} at character {at}, and only {allowed} are allowed")]
    Character { character: char, at: usize, allowed: &'static str },
    #[error("must start and end with {allowed}")]
    Edge { allowed: &'static str },
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_text! {
    /// `metadata.name`: `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`.
    Name
}
checked_text! {
    /// A device id: 1 to 128 of the characters that IoT Hub allows; it is case-sensitive.
    DeviceId
}
checked_text! {
    /// The opaque token that tells one run of a job from the next; it is also a file name on the results branch.
    RunToken
}

const NAME_CHARACTERS: &str = "lower-case letters, digits and `-`";
const NAME_EDGES: &str = "a lower-case letter or a digit";
const DEVICE_ID_CHARACTERS: &str = "letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '";
const CENTRAL_ID_CHARACTERS: &str = "letters, digits and `-`";
const RUN_TOKEN_CHARACTERS: &str = "letters, digits, `.`, `_` and `-`";
const RUN_TOKEN_EDGES: &str = "a letter or a digit";

impl Name {
    /// Returns the name.
    ///
    /// # Errors
    /// The error names the character or length that is not legal.
    pub fn parse(text: &str) -> Result<Name, IdError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        check(text, limits::NAME_CHARS_MAX, legal, NAME_CHARACTERS)?;
        check_edges(text, |c| c != '-', NAME_EDGES)?;
        Ok(Name(text.into()))
    }
}

impl DeviceId {
    /// Returns the device id of an IoT Hub (`DeviceIdentity` of its REST interface).
    ///
    /// # Errors
    /// The error names the character or length that is not legal.
    pub fn parse(text: &str) -> Result<DeviceId, IdError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@;$'".contains(c);
        check(text, limits::DEVICE_ID_CHARS_MAX, legal, DEVICE_ID_CHARACTERS)?;
        Ok(DeviceId(text.into()))
    }

    /// Returns the device id of a CSV file of IoT Central, whose import allows fewer characters: letters, digits and
    /// `-`.
    ///
    /// # Errors
    /// The error names the character or length that is not legal.
    pub fn parse_central(text: &str) -> Result<DeviceId, IdError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        check(text, limits::DEVICE_ID_CHARS_MAX, legal, CENTRAL_ID_CHARACTERS)?;
        Ok(DeviceId(text.into()))
    }
}

impl RunToken {
    /// Returns the run token.
    ///
    /// # Errors
    /// The error names the character or length that is not legal.
    pub fn parse(text: &str) -> Result<RunToken, IdError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        check(text, limits::RUN_TOKEN_CHARS_MAX, legal, RUN_TOKEN_CHARACTERS)?;
        check_edges(text, |c| c.is_ascii_alphanumeric(), RUN_TOKEN_EDGES)?;
        Ok(RunToken(text.into()))
    }
}

impl RunToken {
    /// Returns a bound below every token, for ranges of ordered maps; it is no token itself.
    pub fn least() -> RunToken {
        RunToken("".into())
    }
}

impl Default for RunToken {
    /// Returns `1`, the token of a job that names none.
    fn default() -> RunToken {
        RunToken("1".into())
    }
}

fn check(text: &str, max: usize, legal: impl Fn(char) -> bool, allowed: &'static str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some((at, character)) = text.chars().enumerate().find(|(_, c)| !legal(*c)) {
        return Err(IdError::Character { character, at: at + 1, allowed });
    }
    let count = text.chars().count();
    if count > max {
        return Err(IdError::TooLong { count, max });
    }
    Ok(())
}

fn check_edges(text: &str, legal: impl Fn(char) -> bool, allowed: &'static str) -> Result<(), IdError> {
    let first = text.chars().next().is_some_and(&legal);
    let last = text.chars().next_back().is_some_and(&legal);
    if first && last { Ok(()) } else { Err(IdError::Edge { allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "0", "dim-line-3", &"a".repeat(63)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "é", &"a".repeat(64)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_run_token_cannot_leave_its_folder() {
        for bad in ["..", ".", "a/b", "a\\b", "", "-x", "x\u{1b}"] {
            assert!(RunToken::parse(bad).is_err(), "{bad}");
        }
        for good in ["1", "2026-11", "20261201T013000Z", "v1.2_3"] {
            assert!(RunToken::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        assert_eq!(
            Name::parse("dim_line").unwrap_err().to_string(),
            "contains '_' at character 4, and only lower-case letters, digits and `-` are allowed"
        );
    }
}
