//! The devices of a request as SQL over the alias `d`, in any dialect.

use super::sql::{self, Dialect, Param};
use super::{Request, Selection};
use crate::query::Query;

/// Says what a dialect alone cannot: how texts are kept, and sets of devices.
pub(super) trait Sets {
    type Error;

    fn dialect(&self) -> &'static dyn Dialect;

    /// Returns a text as it is kept.
    fn kept(&self, text: &str) -> String;

    /// Returns SQL that is true for the devices with some ids.
    fn listed(&self, ids: &[String], params: &mut Vec<Param>) -> Result<String, Self::Error>;

    /// Returns SQL that is true for the devices that meet a condition which the dialect cannot say exactly. No other
    /// condition of the request has its number.
    fn checked(&self, query: &Query, number: usize, params: &mut Vec<Param>) -> Result<String, Self::Error>;
}

/// A condition over the alias `d`, with its parameters, numbered from 1.
pub(super) struct Condition {
    pub sql: String,
    pub params: Vec<Param>,
}

/// The parts of a request. Each is safe beside AND and OR.
pub(super) struct Bounds {
    /// The organizations and the template of its devices.
    within: String,
    /// The devices that are selected among those.
    selected: String,
    /// The other devices that are counted.
    passed_over: Vec<String>,
    /// Numbered from 1.
    pub params: Vec<Param>,
}

impl Condition {
    /// Returns which devices a request selects.
    pub fn of<S: Sets>(request: &Request, sets: &S) -> Result<Condition, S::Error> {
        // A database may refuse parameters that the condition does not have.
        let Bounds { within, selected, params, .. } = Bounds::with(request, &[], sets)?;
        Ok(Condition { sql: format!("{within} AND {selected}"), params })
    }
}

impl Bounds {
    pub fn of<S: Sets>(request: &Request, sets: &S) -> Result<Bounds, S::Error> {
        Bounds::with(request, &request.passed_over, sets)
    }

    fn with<S: Sets>(request: &Request, passed_over: &[Vec<Query>], sets: &S) -> Result<Bounds, S::Error> {
        let dialect = sets.dialect();
        let mut within: Vec<String> = Vec::new();
        let mut params: Vec<Param> = Vec::new();
        for path in &request.within {
            let mut add = |text: String| added(dialect, &mut params, sets.kept(&text));
            // `0` is the character after `/`: everything that starts with "path/" lies between them.
            let (itself, from, below) = (add(path.clone()), add(format!("{path}/")), add(format!("{path}0")));
            let inside = format!("(d.organization >= {from} AND d.organization < {below})");
            within.push(format!("(d.organization = {itself} OR {inside})"));
        }
        let mut lowered = 0;
        let mut lower = |conditions: &[Query], params: &mut Vec<Param>| -> Result<String, S::Error> {
            let mut terms = Vec::new();
            for query in conditions {
                lowered += 1;
                terms.push(term(sets, query, lowered, params)?);
            }
            Ok(all_of(dialect, &terms))
        };
        let selected = match &request.selection {
            Selection::Listed(ids) => sets.listed(ids, &mut params)?,
            Selection::Matching { template, conditions } => {
                if let Some(template) = template {
                    within.push(format!("d.template = {}", added(dialect, &mut params, sets.kept(template))));
                }
                lower(conditions, &mut params)?
            }
        };
        let passed_over: Result<Vec<String>, S::Error> =
            passed_over.iter().map(|conditions| lower(conditions, &mut params)).collect();
        Ok(Bounds { within: all_of(dialect, &within), selected, passed_over: passed_over?, params })
    }

    /// Returns which rows are read.
    pub fn condition(&self) -> String {
        let Bounds { within, selected, passed_over, .. } = self;
        let others: String = passed_over.iter().map(|one| format!(" OR {one}")).collect();
        format!("{within} AND ({selected}{others})")
    }

    /// Returns the state of a row: 0 when it is selected, else a bit for each question that it answers, from the second
    /// bit on.
    pub fn state(&self) -> String {
        if self.passed_over.is_empty() {
            return "0".to_string();
        }
        let bits = self.passed_over.iter().enumerate();
        let bits: String =
            bits.map(|(at, one)| format!(" + CASE WHEN {one} THEN {} ELSE 0 END", 2_u64 << at)).collect();
        format!("CASE WHEN {} THEN 0 ELSE 0{bits} END", self.selected)
    }
}

/// Returns a condition as a term over the alias `d`.
fn term<S: Sets>(sets: &S, query: &Query, number: usize, params: &mut Vec<Param>) -> Result<String, S::Error> {
    let lowered = sql::lower(query, "d", params.len() + 1, sets.dialect());
    if !lowered.is_exact {
        return sets.checked(query, number, params);
    }
    params.extend(lowered.params);
    Ok(format!("({})", lowered.sql))
}

/// Adds a text to the parameters, and returns how SQL refers to it.
fn added(dialect: &dyn Dialect, params: &mut Vec<Param>, text: String) -> String {
    params.push(Param::Text(text));
    dialect.parameter(params.len(), &params[params.len() - 1])
}

/// Joins terms by AND.
fn all_of(dialect: &dyn Dialect, terms: &[String]) -> String {
    match terms {
        [] => dialect.constant(true).to_string(),
        [term] => term.clone(),
        terms => format!("({})", terms.join(" AND ")),
    }
}
