//! What a request asks for: the form of the answer and its parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::header;
use axum::http::request::Parts;
use jiff::Timestamp;

use super::access::Visitor;
use super::copies::age_of;
use super::fault::Fault;
use super::form::Form;
use crate::diag::shown;
use crate::execute::{Clock as _, SystemClock};
use crate::model::encoding::percent_encoded;
use crate::model::limits::{PAGE_ROWS, PAGE_ROWS_MAX};
use crate::ops::job::{PERIOD_FORMS, beginning};

/// A request for a page.
#[derive(Debug, Clone)]
pub struct Asked {
    pub form: Form,
    /// The path, percent-encoded as it came.
    pub path: String,
    pub parameters: BTreeMap<String, String>,
    /// The names of all parameters, those without a value as well.
    pub names: BTreeSet<String>,
    /// How old a copy of the answer may be that is taken; zero when it is to be read now.
    pub age_max: Duration,
    /// When it was asked.
    pub now: Timestamp,
    /// Who asks.
    pub visitor: Visitor,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked, Fault> {
        let path = parts.uri.path().to_string();
        let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let accepts_json = accept.contains("application/json") && !accept.contains("text/html");
        let mut form = if accepts_json { Form::Json } else { Form::Html };
        let query = Query::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let Query(mut parameters) = query.map_err(|_| {
            let help = match form {
                Form::Html => "Follow a link of a page.",
                Form::Json | Form::Csv => "Write each parameter once, as name=value, with & between them.",
            };
            Fault::asked(form, "the part of the address behind the `?` is not understood", help)
        })?;
        let names = parameters.keys().cloned().collect();
        // An empty field of a form is one that was left out.
        parameters.retain(|_, value| !value.is_empty());
        form = match parameters.get("format").map(String::as_str) {
            None => form,
            Some("html") => Form::Html,
            Some("json") => Form::Json,
            Some("csv") => Form::Csv,
            Some(other) => {
                let what = format!("there is no format `{}`", shown(other));
                return Err(Fault::asked(form, &what, "Ask for html, json or csv."));
            }
        };
        let visitor = parts.extensions.get::<Visitor>().cloned().unwrap_or_default();
        let age_max = age_of(&parts.headers);
        Ok(Asked { form, path, parameters, names, age_max, now: SystemClock.now(), visitor })
    }
}

impl Asked {
    /// Refuses parameters that a page does not know; each knows `format`.
    ///
    /// # Errors
    /// There is one.
    pub fn only(&self, known: &[&str]) -> Result<(), Fault> {
        let is_known = |name: &&String| *name == "format" || known.contains(&name.as_str());
        let unknown: Vec<String> =
            self.names.iter().filter(|name| !is_known(name)).map(|name| format!("`{}`", shown(name))).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let of = |one: &str, many: &str| if unknown.len() == 1 { one.to_string() } else { many.to_string() };
        let what = format!("{} {} here", unknown.join(", "), of("is no parameter", "are no parameters"));
        let known: Vec<&str> = known.iter().filter(|name| **name != "note").copied().chain(["format"]).collect();
        Err(Fault::asked(self.form, &what, &format!("This page knows {}.", known.join(", "))))
    }

    /// Returns a parameter; `None` when it is absent or empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.parameters.get(name).cloned()
    }

    /// Returns a parameter that is one of some words.
    ///
    /// # Errors
    /// It is none of them.
    pub fn word<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>, words: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.parameters.get(name) else { return Ok(None) };
        let unknown = || {
            let what = format!("`{}` is no {name}", shown(text));
            Fault::asked(self.form, &what, &format!("Choose one of {words}."))
        };
        parse(text).map(Some).ok_or_else(unknown)
    }

    /// Returns a parameter that is a number.
    ///
    /// # Errors
    /// It is none.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        self.word(name, |text| text.parse().ok(), "the whole numbers from 0")
    }

    /// Returns how many rows a page has.
    ///
    /// # Errors
    /// `limit` is not a number from 1 to [`PAGE_ROWS_MAX`].
    pub fn limit(&self) -> Result<usize, Fault> {
        let fits = |text: &str| text.parse().ok().filter(|rows| (1..=PAGE_ROWS_MAX).contains(rows));
        Ok(self.word("limit", fits, &format!("the numbers from 1 to {PAGE_ROWS_MAX}"))?.unwrap_or(PAGE_ROWS))
    }

    /// Returns the beginning of a period: a date, an instant, or a time back from now such as `30d` or `12h`. That of
    /// `otherwise` when none is asked for, which is `None` for all times.
    ///
    /// # Errors
    /// It is none of these.
    pub fn since(&self, otherwise: &str) -> Result<(String, Option<Timestamp>), Fault> {
        let text = self.text("since").unwrap_or_else(|| otherwise.to_string());
        if text == "all" {
            return Ok((text, None));
        }
        let found = beginning(&text, self.now);
        let unknown = || {
            let what = format!("`{}` is no beginning of a period", shown(&text));
            Fault::asked(self.form, &what, &format!("Write all, {PERIOD_FORMS}."))
        };
        Ok((text.clone(), Some(found.ok_or_else(unknown)?)))
    }

    /// Returns the address of the same page with other parameters; an empty value leaves one out.
    pub fn address(&self, changes: &[(&str, &str)]) -> String {
        let mut parameters = self.parameters.clone();
        parameters.remove("format");
        parameters.remove("note");
        for (name, value) in changes {
            match value.is_empty() {
                true => drop(parameters.remove(*name)),
                false => drop(parameters.insert((*name).to_string(), (*value).to_string())),
            }
        }
        let query: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{}={}", percent_encoded(name), percent_encoded(value)))
            .collect();
        if query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, query.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(parameters: &[(&str, &str)]) -> Asked {
        let parameters: BTreeMap<String, String> =
            parameters.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        Asked {
            names: parameters.keys().cloned().collect(),
            form: Form::Html,
            path: "/jobs".to_string(),
            parameters,
            age_max: Duration::ZERO,
            now: "2026-12-01T10:00:00Z".parse().unwrap(),
            visitor: Visitor::default(),
        }
    }

    #[test]
    fn a_period_begins_at_a_date_an_instant_or_so_long_ago() {
        let check = |text: &str, expect: Option<&str>| {
            let since = asked(&[("since", text)]).since("30d").ok().map(|(_, at)| at.map(|at| at.to_string()));
            assert_eq!(since, expect.map(|at| (at != "all").then(|| at.to_string())), "{text}");
        };
        check("1d", Some("2026-11-30T10:00:00Z"));
        check("12h", Some("2026-11-30T22:00:00Z"));
        check("2w", Some("2026-11-17T10:00:00Z"));
        check("2026-11-01", Some("2026-11-01T00:00:00Z"));
        check("2026-11-01T02:00:00+01:00", Some("2026-11-01T01:00:00Z"));
        check("all", Some("all"));
        for wrong in ["d", "1", "1y", "0d", "-1d", "-1e9d", "99999999999999d", "é", "yesterday"] {
            check(wrong, None);
        }
        assert_eq!(asked(&[]).since("30d").unwrap().1.unwrap().to_string(), "2026-11-01T10:00:00Z");
    }

    #[test]
    fn a_parameter_that_no_page_has_is_named() {
        let asked = asked(&[("status", "failed"), ("stauts", "x"), ("format", "csv")]);
        let Err(Fault::Asked { what, help, .. }) = asked.only(&["note", "status"]) else { panic!("it is known") };
        assert_eq!(
            (what.as_str(), help.as_str()),
            ("`stauts` is no parameter here", "This page knows status, format.")
        );
        assert!(asked.only(&["status", "stauts"]).is_ok());
    }

    #[test]
    fn an_address_keeps_what_was_asked_and_is_encoded() {
        let asked = asked(&[("status", "failed"), ("after", "a/b"), ("format", "csv")]);
        assert_eq!(asked.address(&[("after", "x y&=é")]), "/jobs?after=x%20y%26%3D%C3%A9&status=failed");
        assert_eq!(asked.address(&[("after", ""), ("status", "")]), "/jobs");
    }
}
