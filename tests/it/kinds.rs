//! A page for each kind in `docs/kinds`: what is written by hand, a whole example in it, and tables of all fields that
//! are made of the schema. `UPDATE_KINDS=1 cargo test --test it kinds` makes the tables, and the list in
//! `docs/README.md`, anew. A new kind needs its page down to the example.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleetform::manifest;
use fleetform::model::kind::Kind;
use serde_json::Value;

use crate::editors::resolved;
use crate::world::World;

/// What stands before the tables in a page.
const MARK: &str = "<!-- From here on made of the schema: UPDATE_KINDS=1 cargo test --test it kinds -->\n";
/// What stands before and behind the list of the pages in the index.
const LIST: (&str, &str) = ("<!-- kinds: UPDATE_KINDS=1 cargo test --test it kinds -->\n", "<!-- kinds end -->\n");
/// Columns of a line of prose.
const COLUMNS: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the name of a kind's page, such as `device-group.md`.
fn page_name(kind: Kind) -> String {
    manifest::schema_file_name(kind).replace(".schema.json", ".md")
}

fn page_path(kind: Kind) -> PathBuf {
    root().join("docs/kinds").join(page_name(kind))
}

/// Keeps a test from reading a page that another one writes.
fn pages_alone() -> MutexGuard<'static, ()> {
    static PAGES: Mutex<()> = Mutex::new(());
    PAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_KINDS").is_some()
}

/// An object of a schema, with the place that it has in a document.
struct Part<'a> {
    /// Such as `spec.target`; empty for the whole document.
    place: String,
    object: Value,
    root: &'a Value,
}

/// Returns the objects of a schema that have fields of their own, each before those in it.
fn parts(root: &Value) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let mut open = vec![Part { place: String::new(), object: root.clone(), root }];
    while let Some(part) = open.pop() {
        let fields = part.object["properties"].as_object().into_iter().flatten();
        let mut inner: Vec<Part<'_>> = fields
            .flat_map(|(name, field)| {
                let field = resolved(field, root);
                let place = if part.place.is_empty() { name.clone() } else { format!("{}.{name}", part.place) };
                let values = [("items", "[]"), ("additionalProperties", ".*")].map(|(key, mark)| {
                    (
                        format!("{place}{mark}"),
                        if field[key].is_object() { resolved(&field[key], root) } else { Value::Null },
                    )
                });
                std::iter::once((place, field)).chain(values)
            })
            .filter(|(_, object)| object["properties"].is_object())
            .map(|(place, object)| Part { place, object, root })
            .collect();
        // The last one is looked at next.
        inner.reverse();
        open.extend(inner);
        found.push(part);
    }
    found
}

/// Returns a text that ends no cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn grouped(number: u64) -> String {
    fleetform::cli::view::number(number)
}

/// Returns the words of the type of a text or amount, such as `time of day` of `#/$defs/DurationText`.
fn named_type(field: &Value) -> Option<String> {
    let name = field.get("$ref")?.as_str()?.rsplit('/').next()?.strip_suffix("Text")?;
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    Some(words)
}

/// Returns the type of a field, in words, and notes which named types it has.
fn type_of(place: &str, field: &Value, part: &Part<'_>, named: &mut BTreeMap<String, Value>) -> String {
    if let Some(words) = named_type(field) {
        let mut bare = Value::Object(serde_json::Map::new());
        bare["$ref"] = field["$ref"].clone();
        named.insert(words.clone(), resolved(&bare, part.root));
        return format!("[{words}](#types)");
    }
    let whole = resolved(field, part.root);
    let anchor = |place: &str| place.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    if whole["properties"].is_object() {
        return format!("[object](#{})", anchor(place));
    }
    if whole.get("const").is_some() || whole.get("enum").is_some() {
        return "choice".to_string();
    }
    if let Some(branches) = whole["anyOf"].as_array() {
        let types: Vec<String> = branches.iter().map(|branch| type_of(place, branch, part, named)).collect();
        return types.join(" or ");
    }
    let words = |word: &str, named: &mut BTreeMap<String, Value>| match word {
        "boolean" => "true or false".to_string(),
        "integer" => "whole number".to_string(),
        "string" => "text".to_string(),
        "array" => format!("list of {}", plural(&type_of(&format!("{place}[]"), &whole["items"], part, named))),
        "object" if whole["additionalProperties"].is_object() => {
            let inner = type_of(&format!("{place}.*"), &whole["additionalProperties"], part, named);
            format!("map of {}", plural(&inner))
        }
        "object" => "map".to_string(),
        other => other.to_string(),
    };
    match &whole["type"] {
        Value::String(word) => words(word, named),
        Value::Array(several) => {
            let several = several.iter().filter_map(Value::as_str).map(|word| words(word, named));
            several.collect::<Vec<_>>().join(" or ")
        }
        _ => "any value".to_string(),
    }
}

/// Returns the plural of a type, which may be a link.
fn plural(word: &str) -> String {
    match word.find(']') {
        Some(at) => format!("{}s{}", &word[..at], &word[at..]),
        None => {
            if word == "text" {
                word.to_string()
            } else {
                format!("{word}s")
            }
        }
    }
}

/// Returns which values a field may have beyond its type.
fn range_of(field: &Value) -> String {
    let mut ranges = Vec::new();
    let number = |name: &str| field.get(name).and_then(Value::as_u64).map(grouped);
    if let Some(Value::String(constant)) = field.get("const") {
        ranges.push(format!("`{constant}`"));
    }
    if let Some(values) = field["enum"].as_array().or_else(|| field["items"]["enum"].as_array()) {
        let values: Vec<String> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        ranges.push(values.join(", "));
    }
    // The range of a text that may be a number is that of its type.
    if field.get("$ref").is_none() {
        match (number("minimum"), number("maximum")) {
            (Some(least), Some(most)) => ranges.push(format!("{least} to {most}")),
            (Some(least), None) if field["type"] == "integer" => ranges.push(format!("{least} or more")),
            (None, Some(most)) => ranges.push(format!("at most {most}")),
            _ => {}
        }
    }
    match (number("minProperties"), number("maxProperties")) {
        (Some(least), Some(most)) if least == most => ranges.push(format!("exactly {least} of its fields")),
        (Some(least), _) => ranges.push(format!("at least {least} entry")),
        _ => {}
    }
    if let Some(least) = number("minItems") {
        ranges.push(format!("at least {least} item"));
    }
    if field["uniqueItems"] == true {
        ranges.push("none twice".to_string());
    }
    ranges.join("; ")
}

/// Takes the default out of a description: it stands in a sentence `Default: X.`, or X is a choice marked `(default)`.
fn default_of(description: &str) -> (String, String) {
    if let Some(at) = description.find("Default: ") {
        let rest = &description[at + "Default: ".len()..];
        let end = rest.find(". ").unwrap_or_else(|| rest.trim_end_matches('.').len());
        let meaning = format!("{}{}", &description[..at], rest[end..].trim_start_matches(['.', ' ']));
        return (rest[..end].to_string(), meaning.trim().to_string());
    }
    if let Some(at) = description.find(" (default)") {
        let value = description[..at].rsplit(' ').next().unwrap();
        return (value.to_string(), description.replacen(" (default)", "", 1));
    }
    (String::new(), description.to_string())
}

fn row(name: &str, part: &Part<'_>, named: &mut BTreeMap<String, Value>) -> String {
    let own = &part.object["properties"][name];
    let place = if part.place.is_empty() { name.to_string() } else { format!("{}.{name}", part.place) };
    let whole = resolved(own, part.root);
    let is_required = part.object["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let (default, meaning) = default_of(whole["description"].as_str().unwrap_or_default());
    let default = match (is_required, default.is_empty()) {
        (true, _) => "required".to_string(),
        (false, true) => "none".to_string(),
        (false, false) => default,
    };
    // A text has its range in its description.
    let mut range = range_of(&whole);
    if let (true, Some((before, after))) = (range.is_empty(), meaning.split_once("` to `"))
        && let (Some((_, least)), Some((most, _))) = (before.rsplit_once('`'), after.split_once('`'))
    {
        range = format!("`{least}` to `{most}`");
    }
    let mut meaning = meaning;
    let examples = own["examples"].as_array().into_iter().flatten();
    let examples: Vec<String> = examples
        .map(|example| match example {
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        })
        .collect();
    if !examples.is_empty() {
        let _ = write!(meaning, " Example: {}.", examples.join(", "));
    }
    let cells = [format!("`{name}`"), type_of(&place, own, part, named), default, range, meaning];
    let mut row = String::new();
    for text in cells {
        row.push_str(&if text.is_empty() { "| ".to_string() } else { format!("| {} ", cell(&text)) });
    }
    format!("{row}|\n")
}

/// Returns the tables of a schema.
fn tables(schema: &Value) -> String {
    let (mut text, mut named) = (String::new(), BTreeMap::new());
    for part in parts(schema) {
        if part.place.is_empty() {
            text.push_str("\n## Fields\n");
        } else {
            let _ = write!(text, "\n### `{}`\n", part.place);
            // What the field says is in the table above.
            let mut bare = part.object.clone();
            bare.as_object_mut().unwrap().remove("$ref");
            if let Some(about) = bare["description"].as_str() {
                let _ = write!(text, "\n{}\n", wrapped(&default_of(about).1, COLUMNS));
            }
        }
        text.push_str("\n| field | type | default | range | meaning |\n| --- | --- | --- | --- | --- |\n");
        // Those that have to be there come first.
        let is_required = |name: &&String| {
            part.object["required"].as_array().is_some_and(|list| list.contains(&Value::from(name.as_str())))
        };
        let fields = part.object["properties"].as_object().unwrap();
        let (first, last): (Vec<&String>, Vec<&String>) = fields.keys().partition(is_required);
        for name in first.into_iter().chain(last) {
            text.push_str(&row(name, &part, &mut named));
        }
    }
    text.push_str("\n## Types\n\n| type | is | examples |\n| --- | --- | --- |\n");
    for (words, definition) in &named {
        let examples = definition["examples"].as_array().into_iter().flatten();
        let examples: Vec<String> = examples
            .map(|example| format!("`{}`", example.as_str().map_or_else(|| example.to_string(), str::to_string)))
            .collect();
        let about = cell(definition["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| {words} | {about} | {} |", examples.join(", "));
    }
    text
}

/// Returns prose in lines of so many columns.
fn wrapped(prose: &str, columns: usize) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for word in prose.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > columns {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text
}

/// Returns what is written by hand of a page.
fn introduction(text: &str) -> &str {
    text.split(MARK).next().unwrap()
}

fn page_of(kind: Kind) -> String {
    fs::read_to_string(page_path(kind)).unwrap_or_else(|_| {
        panic!(
            "docs/kinds/{} is missing: write what {kind} is for, and a whole example in a block of yaml",
            page_name(kind)
        )
    })
}

/// Returns the first block of YAML of a page.
fn example(text: &str) -> Option<&str> {
    let inner = introduction(text).split_once("```yaml\n")?.1;
    Some(inner.split_once("```")?.0)
}

#[test]
fn the_pages_have_the_fields_of_the_schemas() {
    let _alone = pages_alone();
    for kind in Kind::ALL {
        let text = page_of(kind);
        let by_hand = introduction(&text).trim_end();
        let fresh = format!("{by_hand}\n\n{MARK}{}", tables(&manifest::schema(kind)));
        if is_update() {
            fs::write(page_path(kind), &fresh).unwrap();
        }
        let committed = fs::read_to_string(page_path(kind)).unwrap();
        assert!(committed == fresh, "docs/kinds/{} is stale: run the tests with UPDATE_KINDS=1", page_name(kind));
        assert!(by_hand.starts_with(&format!("# {kind}\n\n")), "{kind}: the page begins with its title");
        let paragraph = by_hand.split("\n\n").nth(1).unwrap();
        assert!(paragraph.len() > 100 && !paragraph.starts_with("```"), "{kind}: a paragraph says what it is for");
        assert!(example(&text).is_some_and(|text| text.contains(&format!("kind: {kind}\n"))), "{kind}: an example");
    }
    // Every page is of a kind.
    let count = fs::read_dir(root().join("docs/kinds")).unwrap().count();
    assert_eq!(count, Kind::ALL.len(), "docs/kinds has a page for each kind and no other");
}

#[test]
fn the_index_lists_the_pages_of_all_kinds() {
    let path = root().join("docs/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(LIST.0).expect("the index has a place for the list");
    let (_, after) = rest.split_once(LIST.1).expect("the list of the index has an end");
    let line = |kind: Kind| {
        let schema = manifest::schema(kind);
        let about = schema["description"].as_str().unwrap();
        let first = about.split(". ").next().unwrap().trim_end_matches('.');
        let line = format!("- [{kind}](kinds/{}): {}{}", page_name(kind), first[..1].to_lowercase(), &first[1..]);
        format!("{}\n", wrapped(&line, COLUMNS - 2).replace('\n', "\n  "))
    };
    let list: String = Kind::ALL.into_iter().map(line).collect();
    let fresh = format!("{before}{}{list}{}{after}", LIST.0, LIST.1);
    if is_update() {
        fs::write(&path, &fresh).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(committed == fresh, "docs/README.md is stale: run the tests with UPDATE_KINDS=1");
}

/// The examples are one fleet: a job of one page has its group, template and organization on others.
#[test]
fn the_examples_of_the_pages_are_one_valid_fleet() {
    let _alone = pages_alone();
    let world = World::new("{}");
    for kind in Kind::ALL {
        let text = page_of(kind);
        let name =
            if kind == Kind::Fleet { "fleetform.yaml".to_string() } else { page_name(kind).replace(".md", ".yaml") };
        world.write(&name, example(&text).unwrap());
    }
    for (name, source) in [
        ("lamp.dtdl.json", "examples/quickstart/templates/lamp.dtdl.json"),
        ("lamps.csv", "examples/quickstart/imports/lamps.csv"),
        ("allowed_signers", "fixtures/manifests/valid/everything/access/allowed_signers"),
        ("gateway.deployment.json", "fixtures/manifests/valid/everything/edge-manifests/gateway.deployment.json"),
    ] {
        world.write(name, fs::read(root().join(source)).unwrap());
    }
    let ran = world.run(&["validate", "--strict"]).expect(0);
    for kind in Kind::ALL {
        assert!(ran.stderr.contains(kind.as_str()), "{kind}: {ran:?}");
    }
    // Whoever brings the first one has to sign it: tests/it/access.rs does.
    fs::remove_file(world.file("access.yaml")).unwrap();
    world.commit("the examples");
    world.run(&["plan", "--strict"]).expect(0);
}

#[test]
fn a_changed_schema_changes_the_tables() {
    let schema = manifest::schema(Kind::Job);
    let before = tables(&schema);
    for (pointer, value, expect) in [
        ("/$defs/Retry/properties/attempts/maximum", Value::from(7), "0 to 7"),
        (
            "/$defs/Retry/properties/attempts/description",
            Value::from("Tries. Default: 9."),
            "| 9 | 0 to 100 | Tries. Example: `3`.",
        ),
        ("/$defs/Confirm/enum", serde_json::json!(["read"]), "`read`"),
        ("/$defs/DurationText/description", Value::from("A time."), "| duration | A time. |"),
    ] {
        let mut changed = schema.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        let after = tables(&changed);
        assert!(!before.contains(expect) && after.contains(expect), "{pointer}: {after}");
    }
}
