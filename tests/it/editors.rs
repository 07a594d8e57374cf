//! What editors get: schemas in which every field is explained, and lines in files that lead to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fleetform::manifest::{self, SCHEMA_PATH, schema_of_all, schema_of_all_text};
use fleetform::model::kind::Kind;
use serde_json::{Value, json};

use crate::world::{Ran, World, fleetform};

const LINE: &str = "# yaml-language-server: $schema=";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a field with what it refers to; what it says itself goes first.
pub fn resolved(field: &Value, root: &Value) -> Value {
    let mut whole = field.clone();
    let mut next = field.get("$ref").and_then(Value::as_str).map(str::to_string);
    while let Some(reference) = next {
        let target = &root["$defs"][reference.rsplit('/').next().unwrap()];
        for (key, value) in target.as_object().unwrap_or_else(|| panic!("{reference} leads nowhere")) {
            whole.as_object_mut().unwrap().entry(key).or_insert_with(|| value.clone());
        }
        next = target.get("$ref").and_then(Value::as_str).map(str::to_string);
    }
    whole
}

/// Calls `visit` for each field of a schema with its path, such as `spec.target.query`, and itself with what it refers
/// to.
pub fn each_field(schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    fn walk(object: &Value, path: &str, root: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        for (name, field) in object["properties"].as_object().into_iter().flatten() {
            let (field, path) = (resolved(field, root), format!("{path}{name}"));
            visit(&path, &field);
            walk(&field, &format!("{path}."), root, visit);
            for (inner, mark) in [("items", "[]."), ("additionalProperties", ".*.")] {
                if field[inner].is_object() {
                    walk(&resolved(&field[inner], root), &format!("{path}{mark}"), root, visit);
                }
            }
        }
    }
    walk(schema, "", schema, visit);
}

/// Returns the fields that lack what an editor shows, each with what it lacks.
fn lacking(schema: &Value) -> Vec<String> {
    let mut lacking = Vec::new();
    each_field(schema, &mut |path, field| {
        let lacks = |what: &str| field.get(what).is_none_or(|value| value == "" || value == &json!([]));
        for what in ["title", "description"] {
            if lacks(what) {
                lacking.push(format!("{path} has no {what}"));
            }
        }
        // A choice, a switch and an object whose fields have their own examples need none.
        let is_plain =
            ["enum", "const", "properties"].iter().any(|key| field.get(key).is_some()) || field["type"] == "boolean";
        if lacks("examples") && !is_plain {
            lacking.push(format!("{path} has no example"));
        }
        let mut own = field.clone();
        own["$defs"] = schema["$defs"].clone();
        own.as_object_mut().unwrap().remove("$ref");
        let validator = jsonschema::draft202012::new(&own).unwrap();
        for example in field["examples"].as_array().into_iter().flatten() {
            lacking.extend(
                validator.iter_errors(example).map(|error| format!("{path}: no example is {example}: {error}")),
            );
        }
    });
    lacking
}

#[test]
fn every_field_has_a_title_a_description_and_examples_that_are_legal() {
    for kind in Kind::ALL {
        let schema = manifest::schema(kind);
        assert_eq!(lacking(&schema), Vec::<String>::new(), "{kind}: say it in `src/manifest/v1`");
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{kind}");
    }
    // The test can fail.
    let mut schema = manifest::schema(Kind::Job);
    schema["$defs"]["Retry"]["properties"]["attempts"]["examples"] = json!(["many"]);
    schema["$defs"]["Retry"]["properties"]["backoff"].as_object_mut().unwrap().remove("description");
    schema["$defs"]["DurationText"].as_object_mut().unwrap().remove("description");
    let found = lacking(&schema);
    assert!(found.iter().any(|one| one.contains("retry.attempts: no example is \"many\"")), "{found:?}");
    assert!(found.contains(&"spec.delivery.retry.backoff has no description".to_string()), "{found:?}");
}

/// The documents of a fixture, as JSON, of our version and of a known kind.
fn documents_below(folder: &Path) -> Vec<Value> {
    let mut documents = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(text) =
                fs::read_to_string(&path).ok().filter(|_| manifest::is_yaml(path.to_str().unwrap()))
            {
                documents.extend(serde_yaml::from_multiple::<Value>(&text).unwrap_or_default());
            }
        }
    }
    let is_ours = |one: &Value| {
        one["apiVersion"] == manifest::API_VERSION && one["kind"].as_str().and_then(Kind::parse).is_some()
    };
    documents.retain(is_ours);
    documents
}

#[test]
fn the_schema_of_all_kinds_says_what_that_of_each_kind_says() {
    let all = jsonschema::draft202012::new(&schema_of_all()).unwrap();
    let of_kinds: Vec<_> = Kind::ALL.map(|kind| jsonschema::draft202012::new(&manifest::schema(kind)).unwrap()).into();
    let mut counts = [0, 0];
    for document in documents_below(&root().join("fixtures/manifests")) {
        let kind = Kind::parse(document["kind"].as_str().unwrap()).unwrap();
        let at = Kind::ALL.iter().position(|one| *one == kind).unwrap();
        let is_legal = of_kinds[at].is_valid(&document);
        assert_eq!(all.is_valid(&document), is_legal, "{document}");
        counts[usize::from(is_legal)] += 1;
    }
    assert!(counts[0] > 20 && counts[1] > 60, "{counts:?}");
    assert!(!all.is_valid(&json!({"apiVersion": manifest::API_VERSION, "kind": "Jobs", "metadata": {"name": "a"}})));
}

/// Returns the problems of the lines of the YAML files in a fleet's folder, and how many documents have one.
fn problems_of_lines(fleet: &Path) -> (Vec<String>, usize) {
    let (mut problems, mut count, mut folders) = (Vec::new(), 0, vec![fleet.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let is_hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
            // Containers have documents of their own.
            if path.ends_with("compose.yml") {
                continue;
            }
            if path.is_dir() && !is_hidden {
                folders.push(path);
            } else if manifest::is_yaml(path.strip_prefix(fleet).unwrap().to_str().unwrap()) {
                // The line holds for its document alone.
                for document in fs::read_to_string(&path).unwrap().split("---\n") {
                    count += 1;
                    let line = document.lines().find_map(|line| line.strip_prefix(LINE));
                    match line.map(|named| fs::read_to_string(folder.join(named))) {
                        Some(Ok(text)) if text == schema_of_all_text() => {}
                        Some(Ok(_)) => problems.push(format!("{}: the schema is stale", path.display())),
                        Some(Err(error)) => problems.push(format!("{}: {error}", path.display())),
                        None => problems.push(format!("{}: a document has no line", path.display())),
                    }
                }
            }
        }
    }
    (problems, count)
}

#[test]
fn committed_schemas_of_all_kinds_are_fresh() {
    let mut copies: Vec<PathBuf> = vec![root().join("schemas/fleetform.schema.json")];
    copies.extend(
        ["quickstart", "maintenance", "mqtt", "postgres", "iothub"]
            .map(|name| root().join("examples").join(name).join(SCHEMA_PATH)),
    );
    for path in copies {
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, schema_of_all_text()).unwrap();
        }
        let is_fresh = fs::read_to_string(&path).unwrap_or_default() == schema_of_all_text();
        assert!(is_fresh, "{} is stale: run the tests with UPDATE_SCHEMAS=1", path.display());
    }
}

#[test]
fn every_document_of_an_example_names_the_schema() {
    let mut counted = 0;
    let examples = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    for example in examples.filter(|path| path.is_dir()) {
        let (problems, count) = problems_of_lines(&example);
        assert_eq!(problems, Vec::<String>::new());
        counted += count;
    }
    assert!(counted > 12, "{counted}");
}

#[test]
fn what_fleetform_writes_names_the_schema_of_the_fleet() {
    for arguments in [&["init"][..], &["init", "--example"]] {
        let folder = crate::world::folder();
        let fleet = folder.path().join("acme");
        Ran::of(fleetform().args(arguments).arg(&fleet)).expect(0);
        let (problems, count) = problems_of_lines(&fleet);
        assert_eq!((problems, count > 0), (Vec::new(), true));
        let ran = Ran::of(fleetform().arg("-C").arg(&fleet).arg("validate")).expect(0);
        assert!(ran.stderr.contains("1 Fleet") && !ran.stderr.contains("warning"), "{ran:?}");
        assert!(!fs::read_to_string(fleet.join(".gitignore")).unwrap_or_default().contains("schemas"));
    }
}

/// The files that `job copy`, `job rerun`, `device set` and `convert` write.
fn written(world: &World) -> Vec<String> {
    for arguments in [
        &["job", "copy", "dim", "--no-commit"][..],
        &["job", "rerun", "calls", "--no-commit"],
        &["device", "set", "d-001", "brightness=40", "--no-commit"],
    ] {
        world.run(arguments).expect(0);
    }
    let converted = root().join("fixtures/convert/central-job-property.json");
    world.run(&["convert", converted.to_str().unwrap(), "-o", world.path().to_str().unwrap()]);
    let known: BTreeSet<&str> = ["dim.yaml", "calls.yaml"].into();
    let entries = fs::read_dir(world.file("jobs")).unwrap().map(|entry| entry.unwrap().path());
    let new = entries.filter(|path| !known.contains(path.file_name().unwrap().to_str().unwrap()));
    new.map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn jobs_that_are_made_name_the_schema_where_the_fleet_has_it() {
    for has_schema in [false, true] {
        let world = World::with_devices("{link: {simulated: {failures: 100%}}}", 2);
        if has_schema {
            let folder = world.file(".schemas");
            let ran = world.run(&["schema", "--out", folder.to_str().unwrap()]).expect(0);
            assert!(ran.stderr.contains("fleetform.schema.json"), "{ran:?}");
        }
        world.job("dim", "{target: {query: '*'}, action: {property: {level: 1}}}");
        world.job("calls", "{target: {query: '*'}, action: {command: {name: reboot}}}");
        world.run(&["apply", "--yes"]).expect(0);
        let files = written(&world);
        assert!(files.len() >= 4, "{files:?}");
        for text in files {
            let expect = usize::from(has_schema);
            let lines = text.lines().filter(|line| *line == format!("{LINE}../{SCHEMA_PATH}")).count();
            assert_eq!(lines, expect, "{text}");
        }
        // A copy of a copy has one line.
        world.commit("all");
        world.run(&["job", "copy", "dim-copy", "twice", "--no-commit"]).expect(0);
        let text = fs::read_to_string(world.file("jobs/twice.yaml")).unwrap();
        assert_eq!(text.matches(LINE).count(), usize::from(has_schema), "{text}");
        // What was converted refers to what is not here.
        fs::remove_file(world.file("jobs/job-014.yaml")).unwrap();
        world.run(&["validate"]).expect(0);
    }
}

#[test]
fn schemas_are_written_where_they_are_wanted() {
    let folder = crate::world::folder();
    let out = folder.path().join("a/b");
    let run = |arguments: &[&str]| Ran::of(fleetform().args(arguments).arg("--out").arg(&out));
    run(&["schema"]).expect(0);
    assert_eq!(fs::read_to_string(out.join("fleetform.schema.json")).unwrap(), schema_of_all_text());
    let ran = run(&["--json", "schema", "device-group"]).expect(64);
    assert!(ran.stderr.contains("Did you mean `DeviceGroup`?"), "{ran:?}");
    let ran = run(&["--json", "schema", "DeviceGroup"]).expect(0);
    let file = out.join("device-group.schema.json");
    assert_eq!(ran.json()[0], json!({"file": file}));
    assert_eq!(fs::read_to_string(&file).unwrap(), manifest::schema_text(Kind::DeviceGroup));
    fs::write(&file, "old").unwrap();
    run(&["schema", "DeviceGroup"]).expect(0);
    assert_ne!(fs::read_to_string(&file).unwrap(), "old");
    fs::write(folder.path().join("file"), "").unwrap();
    let ran = Ran::of(fleetform().args(["schema", "--out"]).arg(folder.path().join("file/x"))).expect(1);
    assert!(ran.stderr.contains("cannot be written"), "{ran:?}");
}
