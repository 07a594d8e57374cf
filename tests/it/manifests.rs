//! Manifests: every fixture of `fixtures/manifests`, with the diagnostics of the invalid ones.
//!
//! `UPDATE_FIXTURES=1 cargo test --test it manifests` writes the expected output anew; review it as prose.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fleetform::cli::view::{annotations, diagnostic, junit, sarif};
use fleetform::diag::CODES;
use fleetform::manifest::{self, Entry, Input, Loaded, QueryProblem};
use fleetform::model::kind::Kind;
use proptest::prelude::*;

const FLEET: &str = "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {name: acme}\nspec: {}\n";

#[derive(Default)]
struct Tree {
    entries: BTreeMap<String, Entry>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    fn of(path: &str, text: impl Into<Vec<u8>>) -> Tree {
        let mut tree = Tree::default();
        tree.add(path, text);
        tree
    }

    fn add(&mut self, path: &str, text: impl Into<Vec<u8>>) {
        let text = text.into();
        self.entries.insert(path.to_string(), Entry::file(text.len() as u64));
        self.files.insert(path.to_string(), text);
    }

    /// Adds a file or folder of the disk; `fleet-less` in its name keeps the minimal fleet away.
    fn add_disk(&mut self, path: &Path, name: &str) {
        if path.is_symlink() {
            self.entries.insert(name.to_string(), Entry::Symlink);
        } else if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap().path();
                let last = entry.file_name().unwrap().to_str().unwrap();
                if last != "expected.stderr" {
                    self.add_disk(&entry, &if name.is_empty() { last.to_string() } else { format!("{name}/{last}") });
                }
            }
        } else {
            self.add(name, fs::read(path).unwrap());
        }
    }

    fn load(mut self) -> Loaded {
        let has_fleet = self
            .files
            .iter()
            .any(|(path, text)| path == "fleetform.yaml" || String::from_utf8_lossy(text).contains("kind: Fleet\n"));
        if !has_fleet && !self.files.keys().any(|path| path.contains("fleet-less")) {
            self.add("fleetform.yaml", FLEET);
        }
        let read = |path: &str| self.files.get(path).cloned().ok_or_else(|| "no such file".to_string());
        manifest::load(&Input { entries: &self.entries, read: &read, check_query })
    }
}

/// A stand-in for the query language: the word `BAD` is wrong.
fn check_query(text: &str) -> Vec<QueryProblem> {
    let at = text.find("BAD").or(text.trim().is_empty().then_some(0));
    at.into_iter()
        .map(|start| QueryProblem {
            start,
            end: (start + 3).min(text.len()),
            message: "There is no property `BAD`.".to_string(),
            help: Some("Did you mean `tags`?".to_string()),
        })
        .collect()
}

fn rendered(loaded: &Loaded) -> String {
    let sorted = loaded.diagnostics.sorted();
    let rendered: Vec<String> =
        sorted.iter().map(|item| diagnostic::render(item, &loaded.sources, false, None) + "\n").collect();
    rendered.join("\n")
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/manifests").join(folder);
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_none_or(|extension| extension != "stderr"));
    found.sort();
    found
}

fn tree_of(path: &Path) -> Tree {
    let mut tree = Tree::default();
    let name = path.file_name().unwrap().to_str().unwrap();
    tree.add_disk(path, if path.is_dir() { "" } else { name });
    tree
}

/// Compares with the expected text of a file, or writes it when asked to.
fn check_file(expected: &Path, actual: &str, problems: &mut Vec<String>) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(expected, actual).unwrap();
        return;
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    if wanted != actual {
        problems.push(format!("{} expects:\n{wanted}\nbut the output is:\n{actual}", expected.display()));
    }
}

#[test]
fn valid_fixtures_have_no_errors() {
    for path in fixtures("valid") {
        let loaded = tree_of(&path).load();
        assert_eq!(rendered(&loaded), "", "{}", path.display());
        assert!(loaded.declared.is_some());
    }
}

#[test]
fn invalid_fixtures_say_what_is_wrong() {
    let mut problems = Vec::new();
    for path in fixtures("invalid") {
        let loaded = tree_of(&path).load();
        let name = path.file_name().unwrap().to_str().unwrap();
        let code = name.split('-').next().unwrap();
        let found = loaded.diagnostics.sorted();
        if !found.iter().all(|item| item.code.0 == code) || found.is_empty() {
            let codes: Vec<&str> = found.iter().map(|item| item.code.0).collect();
            problems.push(format!("{name} gives {codes:?}:\n{}", rendered(&loaded)));
        }
        let sarif = crate::formats::problems_of_sarif(&sarif::sarif(&found, &loaded.sources));
        let junit = crate::formats::problems_of_junit(&junit::junit("validate", &found, &loaded.sources));
        problems.extend(sarif.into_iter().chain(junit).map(|problem| format!("{name}: {problem}")));
        let expected = if path.is_dir() { path.join("expected.stderr") } else { path.with_extension("stderr") };
        check_file(&expected, &rendered(&loaded), &mut problems);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// The fast path does not run the schema, so every document that it accepts must satisfy the schema too.
#[test]
fn valid_fixtures_are_legal_in_the_schemas() {
    let validators: BTreeMap<&str, jsonschema::Validator> = Kind::ALL
        .iter()
        .map(|kind| (kind.as_str(), jsonschema::draft202012::new(&manifest::schema(*kind)).unwrap()))
        .collect();
    let mut count = 0;
    for path in fixtures("valid") {
        for (path, bytes) in tree_of(&path).files.iter().filter(|(path, _)| manifest::is_yaml(path)) {
            let text = std::str::from_utf8(bytes).unwrap();
            for document in serde_yaml::from_multiple::<serde_json::Value>(text).unwrap() {
                if document["apiVersion"] == manifest::API_VERSION {
                    let validator = &validators[document["kind"].as_str().unwrap()];
                    let problems: Vec<String> =
                        validator.iter_errors(&document).map(|error| error.to_string()).collect();
                    assert!(problems.is_empty(), "{path}: {problems:?}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 10);
}

/// Files that are too large or too odd to commit, with the code that each gives.
fn generated() -> Vec<(&'static str, Tree)> {
    let job = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  target: {query: '*'}\n";
    let large = format!("{job}  action: {{tags: {{a: 1}}}}\n#{}\n", "x".repeat(2 << 20));
    let mut symlink = Tree::default();
    symlink.entries.insert("jobs/a.yaml".to_string(), Entry::Symlink);
    let mut submodule = Tree::default();
    submodule.entries.insert("jobs/a.yaml".to_string(), Entry::Submodule);
    let mut unreadable = Tree::default();
    unreadable.entries.insert("jobs/a.yaml".to_string(), Entry::file(3));
    let words: Vec<String> = (0..300_000).map(|_| "a".to_string()).collect();
    let devices: Vec<String> = (0..100_001).map(|n| format!("d{n}")).collect();
    let mut import = Tree::of(
        "a.yaml",
        "apiVersion: fleetform/v1\nkind: DeviceTemplate\nmetadata: {name: a}\nspec: {model: m.json}\n",
    );
    import.entries.insert("m.json".to_string(), Entry::file(2 << 20));
    let values: Vec<String> = (0..300).map(|n| format!("k{n}: {}", "x".repeat(200))).collect();
    let patch = format!("{job}  action: {{property: {{{}}}}}\n", values.join(", "));
    let payload = format!("{job}  action: {{command: {{name: a, payload: {}}}}}\n", "x".repeat(200_000));
    vec![
        ("FF103", Tree::of("jobs/a.yaml", large)),
        ("FF103", import),
        ("FF106", Tree::of("jobs/a.yaml", "[".repeat(100_000))),
        ("FF106", Tree::of("jobs/a.yaml", (0..300).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>())),
        ("FF107", Tree::of("jobs/a.yaml", format!("[{}]", words.join(",")))),
        ("FF112", symlink),
        ("FF112", submodule),
        ("FF113", unreadable),
        (
            "FF308",
            Tree::of(
                "jobs/a.yaml",
                format!(
                    "{}  action: {{tags: {{a: 1}}}}\n",
                    job.replace("query: '*'", &format!("devices: [{}]", devices.join(",")))
                ),
            ),
        ),
        ("FF315", Tree::of("jobs/a.yaml", patch)),
        ("FF316", Tree::of("jobs/a.yaml", payload)),
    ]
}

#[test]
fn generated_hostile_files_are_refused() {
    for (code, tree) in generated() {
        let loaded = tree.load();
        let found: Vec<&str> = loaded.diagnostics.sorted().iter().map(|item| item.code.0).collect();
        assert_eq!(found, [code], "{}", rendered(&loaded));
        assert!(loaded.declared.is_none());
        assert!(rendered(&loaded).len() < 3_000, "the output for {code} is too long");
    }
}

#[test]
fn every_code_has_a_fixture() {
    let mut covered: BTreeSet<String> = generated().into_iter().map(|(code, _)| code.to_string()).collect();
    covered.extend(fixtures("invalid").iter().map(|path| path.file_name().unwrap().to_str().unwrap()[..5].to_string()));
    // 100,000 documents take too long to generate for a test.
    covered.insert("FF114".to_string());
    let missing: Vec<&str> =
        CODES.iter().map(|info| info.code.0).filter(|code| *code < "FF6" && !covered.contains(*code)).collect();
    assert!(missing.is_empty(), "codes without a fixture: {missing:?}");
}

#[test]
fn committed_schemas_are_fresh() {
    for kind in Kind::ALL {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(manifest::schema_file_name(kind));
        let text = manifest::schema_text(kind);
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is stale: run the tests with UPDATE_SCHEMAS=1", path.display());
    }
}

#[test]
fn the_formats_of_ci_systems_hold_every_diagnostic() {
    let text = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: a}\n\
                spec: {target: {group: <b>}, action: {tags: {a: yes}}}\n";
    let loaded = Tree::of("jobs/a, b.yaml", text).load();
    let sorted = loaded.diagnostics.sorted();
    insta::assert_snapshot!(annotations::github(&sorted, &loaded.sources));
    insta::assert_snapshot!(junit::junit("validate", &sorted, &loaded.sources));
    let log: serde_json::Value = serde_json::from_str(&sarif::sarif(&sorted, &loaded.sources)).unwrap();
    insta::assert_snapshot!(format!("{:#}", log["runs"][0]["results"]));
    let json: Vec<String> = sorted.iter().map(|item| diagnostic::to_json(item, &loaded.sources).to_string()).collect();
    insta::assert_snapshot!(json.join("\n"));
}

/// A valid document with bytes cut out, put in or replaced.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let sources: Vec<Vec<u8>> = fixtures("valid")
        .iter()
        .flat_map(|path| tree_of(path).files.into_values().collect::<Vec<_>>())
        .filter(|bytes| bytes.len() < 4_000)
        .collect();
    let pieces = [
        "{", "}", "[", "]", ":", "- ", "\n", "  ", "'", "\"", "&a ", "*a", "!!x ", "---\n", "<<: ", "\u{feff}", "é",
        "|\n", "null",
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..6, prop::sample::select(pieces.to_vec()));
    (prop::sample::select(sources), prop::collection::vec(edit, 1..6)).prop_map(|(mut bytes, edits)| {
        for (at, cut, piece) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, piece.bytes());
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every input gives either a model or diagnostics that can be shown, never both or neither.
    #[test]
    fn no_text_makes_loading_panic(bytes in damaged()) {
        let loaded = Tree::of("jobs/a.yaml", bytes).load();
        prop_assert_eq!(loaded.declared.is_some(), !loaded.diagnostics.has_errors());
        let sorted = loaded.diagnostics.sorted();
        prop_assert!(rendered(&loaded).len() <= 4_000 * sorted.len().max(1));
        sarif::sarif(&sorted, &loaded.sources);
        for item in sorted {
            prop_assert!(item.detail.ends_with(['.', '?', '!']), "{}", item.detail);
            if let Some(span) = item.span {
                let text = loaded.sources.text(span.file);
                prop_assert!(text.get(span.start..span.end).is_some(), "{:?} is no place of the text", span);
            }
        }
    }
}
