//! Conditions over the devices of jobs, `devices.jobs` of IoT Hub, in the same language with other names.

use serde_json::Value;

use super::ast::{Comparison, Expr, ExprKind, Literal, PathRef, Root};
use super::error::{QueryError, QueryErrorKind};
use super::eval::{Answer, evaluate_with, json_value};
use super::{check, parse};
use crate::diag::nearest;
use crate::model::limits;

/// The names of a row, in any case, with the one that it is kept under.
const NAMES: [(&str, &str); 11] = [
    ("deviceId", "deviceId"),
    ("jobId", "jobId"),
    ("jobType", "jobType"),
    ("status", "status"),
    ("startTimeUtc", "startTimeUtc"),
    ("endTimeUtc", "endTimeUtc"),
    ("createdDateTimeUtc", "createdDateTimeUtc"),
    // As an example of IoT Hub's documentation has it.
    ("createdTimeUtc", "createdDateTimeUtc"),
    ("lastUpdatedDateTimeUtc", "lastUpdatedDateTimeUtc"),
    ("outcome", "outcome"),
    ("error", "error"),
];

/// A condition over rows, which are JSON objects.
#[derive(Debug, Clone, PartialEq)]
pub struct RowQuery {
    condition: Expr,
}

impl RowQuery {
    /// Returns the condition that every row meets.
    pub fn all() -> RowQuery {
        RowQuery { condition: Expr { kind: ExprKind::All, start: 0, end: 0 } }
    }

    /// Parses and checks a condition.
    ///
    /// # Errors
    /// As [`super::parse`].
    pub fn parse(text: &str) -> Result<RowQuery, Vec<QueryError>> {
        let chars = text.chars().count();
        if chars > limits::QUERY_CHARS_MAX {
            return Err(vec![QueryError { kind: QueryErrorKind::Long { chars }, start: 0, end: text.len() }]);
        }
        let (condition, mut errors) = parse::parse_with(text, resolve);
        if errors.is_empty() {
            errors = check::check(&condition);
        }
        if errors.is_empty() { Ok(RowQuery { condition }) } else { Err(errors) }
    }

    /// Returns true when the condition selects a row.
    pub fn matches(&self, row: &Value) -> bool {
        evaluate_with(&self.condition, &|path| json_value(row, &path.keys)) == Answer::Bool(true)
    }

    /// Returns the text that every selected row has under a name, when the condition says so: `jobId = 'x'`, at the top
    /// or under nothing but AND.
    pub fn only(&self, name: &str) -> Option<&str> {
        only(&self.condition, name)
    }
}

fn only<'a>(expr: &'a Expr, name: &str) -> Option<&'a str> {
    match &expr.kind {
        ExprKind::And(operands) => operands.iter().find_map(|operand| only(operand, name)),
        ExprKind::Compare(Comparison::Equal, left, right) => match (&left.kind, &right.kind) {
            (ExprKind::Path(path), ExprKind::Literal(Literal::String(text)))
            | (ExprKind::Literal(Literal::String(text)), ExprKind::Path(path)) => {
                (path.keys == [name]).then_some(text.as_str())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Returns what a path names: a member of the row, which is read as a section of its own.
fn resolve(segments: &[String]) -> Result<PathRef, QueryErrorKind> {
    let is = |at: usize, word: &str| segments.get(at).is_some_and(|one| one.eq_ignore_ascii_case(word));
    let segments = match segments {
        [_, _, rest @ ..] if is(0, "devices") && is(1, "jobs") && !rest.is_empty() => rest,
        [_, rest @ ..] if is(0, "jobs") && !rest.is_empty() => rest,
        all => all,
    };
    let Some((first, rest)) = segments.split_first() else {
        return Err(QueryErrorKind::ExpectedName);
    };
    match NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)) {
        Some((_, name)) => {
            let keys = std::iter::once((*name).to_string()).chain(rest.iter().cloned()).collect();
            Ok(PathRef { root: Root::Tags, keys })
        }
        None => {
            let help = match nearest(first, NAMES.iter().map(|(name, _)| *name)) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "A row has deviceId, jobId, jobType, status, times, outcome and error.".to_string(),
            };
            Err(QueryErrorKind::UnknownRoot { name: first.clone(), help })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_selected_by_their_names() {
        let row = json!({
            "deviceId": "d", "jobId": "j", "jobType": "scheduleUpdateTwin", "status": "completed",
            "createdDateTimeUtc": "2026-09-02T00:00:00Z", "outcome": {"deviceMethodResponse": {"status": 200}},
        });
        let of = |text: &str| RowQuery::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        for text in [
            "devices.jobs.deviceId = 'd'",
            "devices.jobs.deviceId = 'd' AND devices.jobs.jobType = 'scheduleUpdateTwin' AND devices.jobs.status = \
             'completed' AND devices.jobs.createdTimeUtc > '2016-09-01'",
            "JobId = 'j' AND NOT is_defined(error)",
            "outcome.deviceMethodResponse.status IN [200, 201]",
        ] {
            assert!(of(text).matches(&row), "{text}");
        }
        assert!(!of("status = 'failed'").matches(&row));
        assert_eq!(of("status = 'x' AND devices.jobs.jobId = 'j'").only("jobId"), Some("j"));
        assert_eq!(of("status = 'x' OR jobId = 'j'").only("jobId"), None);
        assert!(RowQuery::parse("tags.x = 1").is_err());
        assert!(RowQuery::all().matches(&row));
    }
}
