//! From the JSON of Azure IoT Central and IoT Hub to documents of ours.
//!
//! A pure room. In: the bytes of JSON files and the time, which decides whether a start lies in the future. Out:
//! [`Document`]s, each with notes of what has no equal here or was changed, and [`Refusal`]s of what cannot be
//! converted. `ops::convert` reads and writes the files. The shapes are those of the REST APIs: IoT Central data plane
//! 2022-07-31 and 2022-10-31-preview (<https://learn.microsoft.com/rest/api/iotcentral/>), IoT Hub service 2021-04-12
//! (<https://learn.microsoft.com/rest/api/iothub/>).
//!
//! A file holds one value, an array, or a page `{"value": [...]}` of them, kinds mixed as they come. All files of a
//! call are converted together, so that a job finds the name of its group. [`Source::of`] tells kinds apart by their
//! shape.
//!
//! Every document is one that `manifest` accepts, except for references to documents that the caller has to add:
//! `check.rs` loads them.

mod central;
mod check;
mod document;
mod fields;
mod hub;
mod names;
mod source;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::limits;
use document::Draft;
use names::Names;

pub use document::{Document, DocumentKind, File};
pub use source::Source;

/// A file to convert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What messages call it, such as its path.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// What a conversion takes into account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What every item is; by its shape when `None`.
    pub source: Option<Source>,
    /// The keys of devices are part of their imports.
    pub has_keys: bool,
    /// A start after it becomes a schedule.
    pub now: Timestamp,
}

/// The result of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conversion {
    /// In the order of the input; an item may give several.
    pub documents: Vec<Document>,
    /// About whole files: sentences, safe to show.
    pub notes: Vec<String>,
    /// What could not be converted, in the order of the input.
    pub refusals: Vec<Refusal>,
}

/// An item, or a whole file, that could not be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which one, such as `jobs.json, item 3 (job-014)`.
    pub place: String,
    /// Whole sentences: what is wrong, and what was expected.
    pub what: String,
}

/// One JSON object of the input.
struct Item<'a> {
    place: String,
    source: Source,
    members: &'a Map<String, Value>,
}

/// What the conversion of an item may look at.
struct Context<'a> {
    now: Timestamp,
    has_keys: bool,
    names: Names,
    /// The device templates of the input, by their `@id`.
    templates: BTreeMap<&'a str, &'a Map<String, Value>>,
    /// The ids of the templates that the device groups of the input have, by the ids of those.
    group_templates: BTreeMap<&'a str, String>,
    /// The devices of the input that have not been written yet, by the ids of their template and organization.
    devices: BTreeMap<central::device::Place, Vec<&'a Map<String, Value>>>,
    /// The ids of all devices of the input, and what the input has of their properties.
    properties: BTreeMap<&'a str, central::properties::Known<'a>>,
}

/// Converts everything that can be converted.
pub fn convert(inputs: &[Input], options: Options) -> Conversion {
    // Each refusal with its place in the input: some are only found when all is converted.
    let mut refusals: Vec<(usize, Refusal)> = Vec::new();
    let values = parsed(inputs, &mut refusals);
    let items = items(&values, options.source, &mut refusals);
    let mut context = Context {
        now: options.now,
        has_keys: options.has_keys,
        names: Names::default(),
        templates: BTreeMap::new(),
        group_templates: BTreeMap::new(),
        devices: BTreeMap::new(),
        properties: BTreeMap::new(),
    };
    for (_, item) in &items {
        central::declare(item, &mut context);
    }
    let mut made: BTreeMap<usize, (&Item<'_>, Vec<Draft>)> = BTreeMap::new();
    for (order, item) in &items {
        match convert_item(item, &mut context) {
            Ok(drafts) => drop(made.insert(*order, (item, drafts))),
            Err(what) => refusals.push((*order, Refusal { place: item.place.clone(), what })),
        }
    }
    let mut documents: Vec<(usize, Document)> = Vec::new();
    let mut invalid = BTreeMap::new();
    for (order, (item, drafts)) in &made {
        for draft in drafts {
            match draft.document(item.source, &item.place) {
                Ok(document) => documents.push((*order, document)),
                Err(what) => drop(invalid.insert(*order, what)),
            }
        }
    }
    invalid.extend(check::invalid(&documents));
    documents.retain(|(order, _)| !invalid.contains_key(order));
    let late = invalid.into_iter().map(|(order, what)| (order, Refusal { place: made[&order].0.place.clone(), what }));
    refusals.extend(late);
    refusals.sort_by_key(|(order, _)| *order);
    Conversion {
        documents: documents.into_iter().map(|(_, document)| document).collect(),
        notes: notes(&values),
        refusals: refusals.into_iter().map(|(_, refusal)| refusal).collect(),
    }
}

/// A file that is JSON.
struct Parsed {
    name: String,
    /// The place of its first item in the input.
    order: usize,
    value: Value,
}

impl Parsed {
    /// Returns the items when it is a list of them.
    fn list(&self) -> Option<&Vec<Value>> {
        match &self.value {
            Value::Array(list) => Some(list),
            Value::Object(members) => members.get("value").and_then(Value::as_array),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }
}

/// Returns the JSON of every file that is JSON.
fn parsed(inputs: &[Input], refusals: &mut Vec<(usize, Refusal)>) -> Vec<Parsed> {
    let mut values = Vec::new();
    let mut order = 0;
    for input in inputs {
        let refuse = |what: String| (order, Refusal { place: input.name.clone(), what });
        let bytes = input.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&input.bytes);
        if bytes.len() > limits::CONVERT_FILE_BYTES_MAX {
            refusals.push(refuse(TOO_LARGE.to_string()));
        } else {
            match serde_json::from_slice(bytes) {
                Ok(value) => {
                    let value = match source::device_of(&input.name) {
                        Some((id, member)) => json!({"id": id, member: value}),
                        None => value,
                    };
                    values.push(Parsed { name: input.name.clone(), order, value });
                }
                Err(_) if bytes.trim_ascii().is_empty() => refusals.push(refuse("The file is empty.".to_string())),
                Err(error) if error.is_eof() => {
                    refusals.push(refuse(format!("The file is cut off: its JSON does not end ({error}).")));
                }
                Err(error) => {
                    refusals.push(refuse(format!("This is not valid JSON: {error}. {}", source::expected())));
                }
            }
        }
        order += values.last().and_then(Parsed::list).map_or(1, |list| list.len().max(1));
    }
    values
}

/// Notes about whole files: that pages are missing. A page that leads on is followed by another one of its kind.
fn notes(values: &[Parsed]) -> Vec<String> {
    let leads_on = |file: &&Parsed| file.value.get("nextLink").is_some_and(Value::is_string);
    let kind = |file: &Parsed| file.list().and_then(|list| Source::of(list.first()?.as_object()?).ok());
    let mut notes = Vec::new();
    let kinds: BTreeSet<Option<Source>> = values.iter().filter(leads_on).map(kind).collect();
    for one in kinds {
        let pages: Vec<&Parsed> = values.iter().filter(|file| file.list().is_some() && kind(file) == one).collect();
        notes.extend(gaps(&pages));
        let mut leading: Vec<&&Parsed> = pages.iter().filter(|file| leads_on(file)).collect();
        leading.sort_by_key(|file| numbered(&file.name));
        // A page that has no list is refused for that.
        let Some(last) = leading.last().filter(|_| leading.len() == pages.len()) else { continue };
        let last = &last.name;
        let count = leading.len();
        notes.push(match count {
            1 => format!("{last}: it has a `nextLink`, so there are more pages than this one."),
            _ => format!("{last}: all {count} pages have a `nextLink`, so at least one page more is missing."),
        });
    }
    notes
}

/// Returns a note for each gap between pages that are numbered, and when the first one is not there.
fn gaps(pages: &[&Parsed]) -> Vec<String> {
    let mut numbers: Vec<(&str, u64, &str)> = pages
        .iter()
        .filter_map(|file| numbered(&file.name).map(|(stem, number)| (stem, number, &*file.name)))
        .collect();
    numbers.sort_unstable();
    let mut notes = Vec::new();
    let mut before: Option<(&str, u64)> = None;
    for (stem, number, name) in numbers {
        // Pages are counted from 1, or from 0.
        let last = before.filter(|(other, _)| *other == stem).map_or(0, |(_, last)| last);
        let lacks = |first: u64| match number - first {
            1 => format!("{name}: the page {first} before it is not in the input. What is on it is not converted."),
            _ => format!(
                "{name}: the pages {first} to {} before it are not in the input. What is on them is not converted.",
                number - 1
            ),
        };
        if number > last + 1 {
            notes.push(lacks(last + 1));
        }
        before = Some((stem, number));
    }
    notes
}

/// Returns what the name of a page begins with, and the number that it ends with, such as `devices-` and 12.
fn numbered(name: &str) -> Option<(&str, u64)> {
    let name = name.strip_suffix(".json")?;
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    Some((stem, name[stem.len()..].parse().ok()?))
}

/// Why a file is not read.
const TOO_LARGE: &str = "It has more than the 16 MiB that are read. Split it into several files.";
const _: () = assert!(limits::CONVERT_FILE_BYTES_MAX == 16 << 20, "the text above says so");

/// Returns the objects of all files, each with its kind and its place in the input.
fn items<'a>(
    files: &'a [Parsed],
    forced: Option<Source>,
    refusals: &mut Vec<(usize, Refusal)>,
) -> Vec<(usize, Item<'a>)> {
    let mut items = Vec::new();
    for file in files {
        let list = file.list();
        let single = std::slice::from_ref(&file.value);
        for (at, value) in list.map_or(single, Vec::as_slice).iter().enumerate() {
            let place = source::place(&file.name, list.map(|_| at + 1), value);
            let order = file.order + at;
            let Some(members) = value.as_object() else {
                let described = fields::described(value);
                let what = format!("This is {described}, and not a JSON object. {}", source::expected());
                refusals.push((order, Refusal { place, what }));
                continue;
            };
            match forced.map_or_else(|| Source::of(members), Ok) {
                Ok(source) => items.push((order, Item { place, source, members })),
                Err(what) => refusals.push((order, Refusal { place, what })),
            }
        }
        if list.is_some_and(Vec::is_empty) {
            let what = format!("The list is empty. {}", source::expected());
            refusals.push((file.order, Refusal { place: file.name.clone(), what }));
        }
    }
    items
}

/// Returns the documents of an item; the error is whole sentences.
fn convert_item(item: &Item<'_>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    match item.source {
        Source::CentralOrganization => central::organization::organization(item.members, context),
        Source::CentralDevice => central::device::devices(item.members, context),
        Source::CentralDeviceProperties => central::properties::properties(item.members, context),
        Source::CentralJob => central::job::job(item.members, context),
        Source::CentralScheduledJob => central::job::scheduled_job(item.members, context),
        Source::CentralDeviceGroup => central::group::group(item.members, context),
        Source::CentralDeviceTemplate => central::template::template(item.members, context),
        Source::CentralDeploymentManifest => central::manifest::manifest(item.members, context),
        Source::HubJob => hub::job::job(item.members, context),
        Source::HubConfiguration => hub::configuration::configuration(item.members, context),
    }
}
