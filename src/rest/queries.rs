//! Queries: `POST /devices/query`, and the pages of all lists.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::aggregate::aggregated;
use super::answer::{self, Fault, JsonItems};
use super::asked::{Asked, time};
use super::throttle::Operation;
use super::twins::Twin;
use super::{tokens, twins};
use crate::model::hub::HubRight;
use crate::ops::hub::whole;
use crate::query::{Collection, Columns, QueryError, RowQuery, Select, parse_select};

/// Items of a page that asks for none, and the most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// `POST /devices/query`
pub async fn query(asked: &Asked) -> Result<Response, Fault> {
    asked.take(Operation::Query)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    let body = asked.json()?;
    let text = body["query"].as_str().ok_or_else(|| Fault::argument("the body is {\"query\": \"SELECT …\"}"))?;
    let text = text.trim().to_string();
    let select = parse_select(&text).map_err(|error| invalid(&format!("the query cannot be read, {error}")))?;
    let most = asked.page_size("pageSize", PAGE_DEFAULT)?;
    let place = asked.place(&text, "continuationToken")?;
    match select.from {
        Collection::Jobs => rows(asked, &text, &select, most, place).await,
        Collection::Devices => devices(asked, &text, select, most, place).await,
        Collection::Modules => Err(Fault::refused("modules do not exist here: ask for `devices`")),
    }
}

async fn rows(
    asked: &Asked,
    text: &str,
    select: &Select,
    most: usize,
    place: Option<Vec<String>>,
) -> Result<Response, Fault> {
    let condition = match &select.condition {
        None => RowQuery::all(),
        Some(condition) => RowQuery::parse(condition).map_err(|errors| wrong(condition, &errors))?,
    };
    let left = left_of(select, place.as_deref());
    let after = place.and_then(|place| <[String; 3]>::try_from(place).ok()).map(|[job, device, _]| (job, device));
    let most = left.map_or(most, |left| most.min(left));
    let page = asked.served.desks.read(move |desk| desk.rows(&condition, after.as_ref(), most, time())).await?;
    let left = left.map(|left| left.saturating_sub(page.rows.len()));
    let next = page.next.as_ref().filter(|_| left != Some(0));
    let next = next.map(|(job, device)| asked.token(text, &[job, device, &left_text(left)]));
    Ok(answer::page(&page.rows, "DeviceJob", next))
}

async fn devices(
    asked: &Asked,
    text: &str,
    select: Select,
    most: usize,
    place: Option<Vec<String>>,
) -> Result<Response, Fault> {
    let condition = match &select.condition {
        None => None,
        Some(condition) => Some(crate::query::parse(condition).map_err(|errors| wrong(condition, &errors))?),
    };
    let item_type = if select.columns == Columns::All { "Twin" } else { "Raw" };
    let left = left_of(&select, place.as_deref());
    let after = place.and_then(|place| place.into_iter().next());
    let most = left.map_or(most, |left| most.min(left));
    // What is long is made on the thread that has read it.
    let (count, json, next) = asked
        .served
        .desks
        .read(move |desk| {
            if select.is_aggregate() {
                let rows = aggregated(desk, &select, condition.as_ref())?;
                return Ok((rows.len(), answer::json_of(&rows), None));
            }
            let mut items = JsonItems::default();
            let next =
                desk.twins(condition.as_ref(), after.as_deref(), (most, time()), &mut |twin| match &select.columns {
                    Columns::All => items.push(&Twin::of_row(twin)),
                    Columns::Listed(columns) => items.push(&twins::projected(&Twin::of_row(twin).value(), columns)),
                })?;
            let (count, json) = items.end();
            Ok((count, json, next))
        })
        .await?;
    let left = left.map(|left| left.saturating_sub(count));
    let next = next.filter(|_| left != Some(0)).map(|device| asked.token(text, &[&device, &left_text(left)]));
    Ok(answer::page_of(json, item_type, next))
}

/// Returns how many items of `TOP` are left at a place, whose last part says so; `None` without it.
fn left_of(select: &Select, place: Option<&[String]>) -> Option<usize> {
    let top = usize::try_from(select.top?).unwrap_or(usize::MAX);
    Some(place.and_then(|place| place.last()?.parse().ok()).unwrap_or(top))
}

fn left_text(left: Option<usize>) -> String {
    left.map(|left| left.to_string()).unwrap_or_default()
}

/// Returns what is wrong with a condition, with its place.
fn wrong(condition: &str, errors: &[QueryError]) -> Fault {
    let said = errors.iter().map(|error| {
        let before = condition.get(..error.start).unwrap_or(condition);
        let help = error.help().map(|help| format!(" {help}")).unwrap_or_default();
        format!("at character {} of the condition: {error}{help}", before.chars().count() + 1)
    });
    invalid(&said.collect::<Vec<_>>().join(", "))
}

fn invalid(sentence: &str) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "ArgumentInvalid", format!("the query is invalid, {sentence}"))
}

impl Asked {
    /// Returns how many items a page is to have.
    ///
    /// # Errors
    /// The client asks for something that is no number of items.
    pub fn page_size(&self, parameter: &str, default: usize) -> Result<usize, Fault> {
        let text = self.header("x-ms-max-item-count").or_else(|| self.parameter(parameter)).unwrap_or_default();
        // Some clients send -1 for what they leave to the hub.
        if text.is_empty() || text == "-1" {
            return Ok(default);
        }
        let number = whole(&Value::from(text)).filter(|number| *number > 0);
        let number = number.ok_or_else(|| Fault::argument("the size of a page is a number from 1 to 1000"))?;
        Ok(usize::try_from(number).unwrap_or(PAGE_MAX).min(PAGE_MAX))
    }

    /// Returns the place at which the page of a query begins; `None` for the first.
    ///
    /// # Errors
    /// The token is none, is of another query, or is over.
    pub fn place(&self, query: &str, parameter: &str) -> Result<Option<Vec<String>>, Fault> {
        let Some(token) = self.header("x-ms-continuation").or_else(|| self.parameter(parameter)) else {
            return Ok(None);
        };
        if token.is_empty() {
            return Ok(None);
        }
        let now = time().as_second();
        tokens::place(&self.rules.token_key, query, token, now).map(Some).map_err(Fault::argument)
    }

    /// Returns the token of a place in the result of a query.
    pub fn token(&self, query: &str, place: &[&str]) -> String {
        tokens::token(&self.rules.token_key, query, place, time().as_second())
    }
}
