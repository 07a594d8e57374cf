//! The devices of the registry, by a condition or a part of an id or a name.

use schemars::JsonSchema;
use serde::Serialize;

use super::Page;
use crate::diag::Diagnostic;
use crate::model::device::Device;
use crate::ops::device::{DeviceChoice, count, list};
use crate::ops::{Environment, Findings, OpsError};
use crate::web::asked::Asked;
use crate::web::fault::Fault;
use crate::web::site::Voice;
use crate::web::table::{Row, Sink};

/// What messages call a condition.
const CALLED: &str = "condition";

/// The page `/devices`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Devices {
    /// A condition of the query language; null for any.
    pub query: Option<String>,
    /// A part of the id or of the name.
    pub search: Option<String>,
    /// The path or the name of an organization.
    pub organization: Option<String>,
    /// What is wrong with the condition, with a mark below the place; null when it is understood.
    pub problem: Option<String>,
    /// Sorted by id.
    pub devices: Vec<RegisteredRow>,
    /// How many fit, when `count=1` asks for it: that may read every device.
    pub total: Option<u64>,
    /// The address of the next page; null on the last one.
    pub next: Option<String>,
    /// The address that also counts.
    pub counted: String,
}

/// A device of the registry.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RegisteredRow {
    pub device_id: String,
    pub device_name: String,
    pub template: Option<String>,
    /// The path of its organization.
    pub organization: Option<String>,
    /// Such as `provisioned` or `blocked`.
    pub state: String,
    pub simulated: bool,
    /// `Connected` or `Disconnected`.
    pub connection_state: String,
    pub last_activity: Option<String>,
}

impl Page for Devices {
    const TEMPLATE: &'static str = "devices.html";
    const PARAMETERS: &'static [&'static str] = &["query", "search", "organization", "count", "after", "limit"];

    fn title(&self) -> String {
        "Devices".to_string()
    }

    fn is_well(&self) -> bool {
        self.problem.is_none()
    }
}

impl Row for RegisteredRow {
    const COLUMNS: &'static [&'static str] = &[
        "device_id",
        "device_name",
        "template",
        "organization",
        "state",
        "simulated",
        "connection_state",
        "last_activity",
    ];
}

impl RegisteredRow {
    pub(super) fn of(device: &Device) -> RegisteredRow {
        RegisteredRow {
            device_id: device.device_id.clone(),
            device_name: device.device_name.clone(),
            template: device.template.clone(),
            organization: device.organization.clone(),
            state: if device.blocked { "blocked" } else { device.state.as_str() }.to_string(),
            simulated: device.simulated,
            connection_state: device.connection_state.as_str().to_string(),
            last_activity: device.last_activity.map(|at| at.to_string()),
        }
    }
}

/// Returns the condition that the two fields of the form make together.
fn condition(query: Option<&str>, search: Option<&str>) -> Option<String> {
    let search = search.map(|text| {
        let text = text.replace('\\', "\\\\").replace('\'', "\\'");
        format!("(contains(deviceId, '{text}') OR contains(deviceName, '{text}'))")
    });
    match (query, search) {
        (Some(query), Some(search)) => Some(format!("({query}) AND {search}")),
        (query, search) => query.map(str::to_string).or(search),
    }
}

/// Returns what `tell` makes of what is wrong with a condition of a person; `None` when nothing is.
fn problem<T>(environment: &Environment, query: &str, tell: impl FnOnce(&Findings) -> T) -> Result<Option<T>, Fault> {
    let choice =
        DeviceChoice { query: Some(query.to_string()), called: CALLED, limit: Some(0), ..DeviceChoice::default() };
    match list(environment, &choice, &mut |_| Ok(())) {
        // It is the condition that is wrong, and no file.
        Err(OpsError::Invalid(found)) if found.diagnostics.iter().any(|one| is_of_condition(&found, one)) => {
            Ok(Some(tell(&found)))
        }
        other => Ok(other.map(|()| None)?),
    }
}

fn is_of_condition(found: &Findings, one: &Diagnostic) -> bool {
    one.span.is_some_and(|span| found.sources.path(span.file) == CALLED)
}

fn choice_of(asked: &Asked) -> DeviceChoice {
    DeviceChoice {
        query: condition(asked.text("query").as_deref(), asked.text("search").as_deref()),
        organization: asked.text("organization"),
        ..DeviceChoice::default()
    }
}

/// Reads the page.
///
/// # Errors
/// There is no such organization, or the fleet cannot be read.
pub fn read(environment: &Environment, asked: &Asked, voice: Voice) -> Result<Devices, Fault> {
    let limit = asked.limit()?;
    let query = asked.text("query");
    let mut page = Devices {
        problem: query.as_deref().map(|query| problem(environment, query, voice.findings)).transpose()?.flatten(),
        query,
        search: asked.text("search"),
        organization: asked.text("organization"),
        devices: Vec::new(),
        total: None,
        next: None,
        counted: asked.address(&[("count", "1")]),
    };
    if page.problem.is_some() {
        return Ok(page);
    }
    let wanted = choice_of(asked);
    if asked.text("count").is_some() {
        page.total = Some(count(environment, &wanted)?);
    }
    let wanted = DeviceChoice { after: asked.text("after"), limit: Some(limit as u64 + 1), ..wanted };
    list(environment, &wanted, &mut |device| {
        page.devices.push(RegisteredRow::of(&device));
        Ok(())
    })?;
    if page.devices.len() > limit {
        page.devices.truncate(limit);
        let last = page.devices.last().map(|row| row.device_id.clone()).unwrap_or_default();
        page.next = Some(asked.address(&[("after", &last)]));
    }
    Ok(page)
}

/// Writes all devices that fit.
///
/// # Errors
/// As [`read`]; or the condition is none.
pub fn write(environment: &Environment, asked: &Asked, sink: &mut Sink) -> Result<(), Fault> {
    if let Some(query) = asked.text("query")
        && problem(environment, &query, |_| ())?.is_some()
    {
        let help = "Ask for the page without `format=csv`: it shows where the condition goes wrong.";
        return Err(Fault::asked(asked.form, "the condition cannot be understood", help));
    }
    sink.begin::<RegisteredRow>()?;
    Ok(list(environment, &choice_of(asked), &mut |device| sink.push(&RegisteredRow::of(&device)))?)
}
