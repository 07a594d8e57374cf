//! The OpenAPI 3.1 document of the pages, assembled from the schemas of their values.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::actions::{Acted, Action};
use super::pages;
use super::problem::Problem;
use crate::model::limits::{PAGE_ROWS, PAGE_ROWS_MAX};

/// The document.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// A parameter of a query: its name and what it means.
type Parameter = (&'static str, &'static str);

const AFTER: Parameter = ("after", "Where the page goes on, as the `next` of the one before says.");
const LIMIT: Parameter = ("limit", "Rows of the page.");
const DEVICE: Parameter = ("device", "A device id, with `*` and `?`.");
const ORGANIZATION: Parameter = ("organization", "The path or the name of an organization, with all below it.");
const SINCE: Parameter = ("since", "The beginning of a period: `30d`, `12h`, a date, an instant, or `all`.");

fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let problem = schema_of::<Problem>(&mut generator);
    let mut paths = Map::new();
    let mut add = |path: &str, summary: &str, schema: Value, parameters: &[Parameter]| {
        paths.insert(path.to_string(), json!({"get": operation(path, summary, &schema, &problem, parameters)}));
    };
    let status = ("status", "The status of the run.");
    let of_device = ("status", "The status of a device: `pending`, `completed` or `failed`.");
    let reason = ("reason", "The reason of a device, such as `timeout`.");
    let table = ("table", "Of a download: `devices`, `batches` or `failures`.");
    let grid = [of_device, reason, DEVICE, AFTER, LIMIT, table];
    let g = &mut generator;
    add("/", "What runs, waits and is held now.", schema_of::<pages::now::Now>(g), &[]);
    let listed = [status, ORGANIZATION, DEVICE, SINCE, AFTER, LIMIT];
    add("/jobs", "Runs, the newest first.", schema_of::<pages::jobs::Jobs>(g), &listed);
    add("/jobs/{name}", "The newest run of a job.", schema_of::<pages::job::Job>(g), &grid);
    add("/jobs/{name}/runs/{run}", "A run of a job.", schema_of::<pages::job::Job>(g), &grid);
    add("/schedules", "When schedules run.", schema_of::<pages::schedules::Schedules>(g), &[]);
    let query = ("query", "A condition of the query language.");
    let search = ("search", "A part of the id or the name; capital and small letters differ.");
    let count = ("count", "`1` counts all devices that fit.");
    let of_devices = [query, search, ORGANIZATION, count, AFTER, LIMIT];
    add("/devices", "Devices of the registry.", schema_of::<pages::devices::Devices>(g), &of_devices);
    add("/devices/{id}", "A device with its twin.", schema_of::<pages::device::DevicePage>(g), &[]);
    add("/groups", "Device groups.", schema_of::<pages::groups::Groups>(g), &[]);
    add("/groups/{name}", "A device group with its devices.", schema_of::<pages::groups::Group>(g), &[AFTER, LIMIT]);
    add("/imports", "Device imports.", schema_of::<pages::imports::Imports>(g), &[]);
    let import = schema_of::<pages::imports::Import>(g);
    add("/imports/{name}", "A device import with its rejected rows.", import, &[AFTER, LIMIT]);
    let failing = schema_of::<pages::failing::Failing>(g);
    add("/failing", "Devices by the number of runs that they failed in.", failing, &[SINCE, AFTER, LIMIT]);
    let (wanted, acted) = (schema_of::<Action>(g), schema_of::<Acted>(g));
    for (path, summary) in [
        ("/jobs/{name}/runs/{run}/stop", "Stops a job: a commit with `suspend: true`, or a branch to merge."),
        ("/devices/{id}/block", "Blocks a device at once."),
    ] {
        paths.insert(path.to_string(), json!({"post": action(path, summary, (&wanted, &acted), &problem)}));
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "fleetform",
            "description": "The pages of a fleet as JSON: ask for them with `Accept: application/json`.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        // A server on a loopback address asks for no token.
        "security": [{}, {"token": []}],
    })
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn operation(path: &str, summary: &str, schema: &Value, problem: &Value, parameters: &[Parameter]) -> Value {
    let in_query = parameters.iter().map(|(name, description)| {
        let schema = match *name {
            "limit" => json!({"type": "integer", "minimum": 1, "maximum": PAGE_ROWS_MAX, "default": PAGE_ROWS}),
            _ => json!({"type": "string"}),
        };
        json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
    });
    let format = json!({
        "name": "format", "in": "query", "required": false,
        "description": "The form of the answer, whatever `Accept` says. `csv` is the whole table.",
        "schema": {"type": "string", "enum": ["html", "json", "csv"]},
    });
    let failed = json!({"description": "Why not.", "content": {"application/json": {"schema": problem}}});
    json!({
        "operationId": id_of(path),
        "summary": summary,
        "parameters": in_path(path).chain(in_query).chain([format]).collect::<Vec<_>>(),
        "responses": {
            "200": {
                "description": "The page.",
                "content": {
                    "application/json": {"schema": schema},
                    "text/html": {"schema": {"type": "string"}},
                    "text/csv": {"schema": {"type": "string"}},
                },
            },
            "400": failed,
            "403": failed,
            "404": failed,
            "503": failed,
        },
    })
}

/// Returns the operation of an action. A program sends JSON with a bearer token, and needs no token of a form.
fn action(path: &str, summary: &str, (wanted, acted): (&Value, &Value), problem: &Value) -> Value {
    let failed = json!({"description": "Why not.", "content": {"application/json": {"schema": problem}}});
    json!({
        "operationId": id_of(path),
        "summary": summary,
        "description": "Only where the server was started with `--actions`, and for those whose grants are over jobs.",
        "security": [{"token": []}],
        "parameters": in_path(path).collect::<Vec<_>>(),
        "requestBody": {"required": true, "content": {"application/json": {"schema": wanted}}},
        "responses": {
            "200": {"description": "What was done.", "content": {"application/json": {"schema": acted}}},
            "400": failed,
            "403": failed,
            "404": failed,
            "409": failed,
            "503": failed,
        },
    })
}

fn in_path(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
}

fn id_of(path: &str) -> String {
    let words: Vec<String> = path.split('/').map(|part| part.trim_matches(['{', '}']).to_string()).collect();
    let id = words.join(" ").trim().replace(' ', "-");
    if id.is_empty() { "now".to_string() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_member_is_described_by_a_type() {
        let text = DOCUMENT.to_string();
        for (at, _) in text.match_indices("\"$ref\":\"#") {
            let rest = &text[at + 9..];
            let pointer = &rest[..rest.find('"').unwrap()];
            assert!(DOCUMENT.pointer(pointer).is_some(), "{pointer}");
        }
        assert!(DOCUMENT["paths"].as_object().unwrap().len() == 14, "{}", DOCUMENT["paths"]);
        assert!(DOCUMENT.pointer("/components/schemas/Job/properties/devices").is_some());
    }
}
