//! Random input for every reader of untrusted files: no panic, no endless work, and a consistent answer.
//!
//! ```text
//! cargo test --test fuzz                                         a second a target
//! FLEETFORM_FUZZ_SECONDS=600 cargo test --release --test fuzz    ten minutes each, all at once
//! FLEETFORM_FUZZ_SEED=7 ...                                      another way
//! FLEETFORM_FUZZ_INPUT=FILE cargo test --test fuzz TARGET        one input again
//! ```
//!
//! Inputs are made from the fixtures and examples, and from inputs that got a new kind of answer: a cheap substitute
//! for coverage, which needs a nightly compiler. A finding is printed and kept in a file below `target/tmp`; its fix
//! comes with its own test. The seed decides the inputs; the speed of the machine decides how many of them run.
//!
//! Add a target for each new reader: a corpus, the words of its format, and a check that returns the kind of the
//! answer.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, reads its settings from the environment and says what it saw"
)]

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "it/twins.rs"]
mod twins;
#[path = "fuzz/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fleetform::cli::view::diagnostic;
use fleetform::convert;
use fleetform::diag::Diagnostics;
use fleetform::manifest::{self, Entry, Loaded, QueryProblem};
use fleetform::model::device::Device;
use fleetform::model::digest::Digest;
use fleetform::model::fleet::{ImportFormat, Removed};
use fleetform::query;
use fleetform::registry::{Change, DeviceFilter, ImportFailure, ImportSpec, Request, Selection, sqlite};
use fleetform::sim::Random;
use mutate::mutated;

/// An input that takes more seconds of the processor is a finding, in a debug build. Time that other work takes is not
/// counted: the tests run beside others, and give way.
const INPUT_SECONDS_MAX: u64 = 20;
/// Inputs that are kept to make others of.
const CORPUS_MAX: usize = 4_000;
/// Bytes of a finding that are printed; all of it is in its file.
const SHOWN_MAX: usize = 2_000;

/// Runs a check on random inputs until the time is over.
///
/// `check` panics on a finding, and returns what kind of answer the input got.
fn fuzz(target: &str, mut corpus: Vec<Vec<u8>>, words: &[&str], mut check: impl FnMut(&[u8]) -> String) {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Ok(path) = std::env::var("FLEETFORM_FUZZ_INPUT") {
        eprintln!("{target}: {}", check(&std::fs::read(path).unwrap()));
        return;
    }
    let seed = setting("FLEETFORM_FUZZ_SEED").unwrap_or(1);
    let time = Duration::from_secs(setting("FLEETFORM_FUZZ_SECONDS").unwrap_or(1));
    let (mut random, mut answers, mut inputs) = (Random::new(seed), BTreeSet::new(), 0_u64);
    for input in corpus.clone() {
        answers.insert(answer_of(target, &input, &mut check));
    }
    let start = Instant::now();
    while start.elapsed() < time {
        let input = mutated(&mut random, &corpus, words);
        let answer = answer_of(target, &input, &mut check);
        inputs += 1;
        if corpus.len() < CORPUS_MAX && answers.insert(answer) {
            corpus.push(input);
        }
    }
    assert!(inputs > 0, "there was time for an input");
    eprintln!("{target}: {inputs} inputs, {} kinds of answers, seed {seed}", answers.len());
}

fn answer_of(target: &str, input: &[u8], check: &mut impl FnMut(&[u8]) -> String) -> String {
    let start = processor_time();
    let answer = catch_unwind(AssertUnwindSafe(|| check(input)));
    let took = processor_time().saturating_sub(start);
    match answer {
        Ok(answer) if took < Duration::from_secs(INPUT_SECONDS_MAX) => answer,
        Ok(_) => report(target, input, &format!("took {took:?}")),
        Err(_) => report(target, input, "panicked (see above)"),
    }
}

/// The time of the processor that this thread has had.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Keeps and prints a finding, and fails.
fn report(target: &str, input: &[u8], what: &str) -> ! {
    let name = format!("fuzz-{target}-{}", &Digest::of_bytes(input).to_string()[..12]);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, input).unwrap();
    let shown = String::from_utf8_lossy(&input[..input.len().min(SHOWN_MAX)]).escape_debug().to_string();
    panic!(
        "{target} {what} on {} bytes: {shown}\n\nkept; to see it again:\n\n    FLEETFORM_FUZZ_INPUT={} cargo test \
            --test fuzz {target}\n",
        input.len(),
        path.display()
    );
}

/// Returns the files below some folders whose names end so, with their paths.
fn files(folders: &[&str], ends: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(folder: &Path, ends: &[&str], found: &mut Vec<(PathBuf, Vec<u8>)>) {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() && !path.is_symlink() {
                walk(&path, ends, found);
            } else if path.is_file() && ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    folders.iter().for_each(|folder| walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), ends, &mut found));
    assert!(!found.is_empty(), "the corpus has files");
    found
}

fn corpus(folders: &[&str], ends: &[&str]) -> Vec<Vec<u8>> {
    files(folders, ends).into_iter().map(|(_, bytes)| bytes).collect()
}

/// Each error lies on characters of the text and is a sentence; what is legal selects the same in memory and in SQLite.
#[test]
fn query() {
    let lines = ["conditions.jsonl", "malformed.jsonl"].into_iter().flat_map(twins::fixture);
    let corpus: Vec<Vec<u8>> = lines.map(|line| twins::text(&line, "condition").as_bytes().to_vec()).collect();
    let (devices, folder) = (twins::twins(), tempfile::tempdir().unwrap());
    let registry = twins::registry_of(&devices, folder.path());
    fuzz("query", corpus, words::QUERY, |input| {
        let text = String::from_utf8_lossy(input);
        let parsed = match query::parse(&text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                assert!(!errors.is_empty());
                for error in &errors {
                    assert!(text.get(error.start..error.end).is_some(), "{error:?}");
                    assert!(
                        error.to_string().ends_with('.') && error.help().is_none_or(|help| help.len() > 3),
                        "{error}"
                    );
                }
                let kind = |error: &query::QueryError| format!("{:?}", error.kind).chars().take(12).collect::<String>();
                return errors.iter().map(kind).collect();
            }
        };
        let expected: Vec<&str> = devices
            .iter()
            .filter(|device| query::matches(&parsed, device))
            .map(|device| device.device_id.as_str())
            .collect();
        let mut found =
            twins::listed(&registry, &DeviceFilter { query: Some(parsed.clone()), ..DeviceFilter::default() });
        found.sort_by_key(|id| devices.iter().position(|device| device.device_id == *id));
        assert_eq!(found, expected, "in SQLite and in memory: {text}");
        for lack in query::lacks(&parsed) {
            let meets = |device: &&Device| lack.conditions.iter().all(|condition| query::matches(condition, device));
            let expected = devices.iter().filter(meets).count() as u64;
            let selection = Selection::Matching { template: None, conditions: lack.conditions.clone() };
            let request = Request::new(selection, Vec::new());
            assert_eq!(
                registry.devices().count(&request).unwrap().selected,
                expected,
                "who lacks {}: {text}",
                lack.path
            );
        }
        format!("{} {:?} {:?}", expected.len(), query::searched_paths(&parsed).len(), query::paths(&parsed))
    });
}

fn check_query(text: &str) -> Vec<QueryProblem> {
    let problem = |error: query::QueryError| QueryProblem {
        start: error.start,
        end: error.end,
        message: error.to_string(),
        help: error.help(),
    };
    query::parse(text).err().unwrap_or_default().into_iter().map(problem).collect()
}

/// Loads a fleet of some files; every diagnostic can be shown. Returns what kinds there are.
fn load(files: &BTreeMap<String, Vec<u8>>) -> (Loaded, String) {
    let entries: BTreeMap<String, Entry> =
        files.iter().map(|(path, bytes)| (path.clone(), Entry::file(bytes.len() as u64))).collect();
    let read = |path: &str| files.get(path).cloned().ok_or_else(|| "no such file".to_string());
    let loaded = manifest::load(&manifest::Input { entries: &entries, read: &read, check_query });
    assert_eq!(loaded.declared.is_some(), !loaded.diagnostics.has_errors());
    let codes = shown(&loaded.diagnostics, &loaded);
    (loaded, codes)
}

fn shown(diagnostics: &Diagnostics, loaded: &Loaded) -> String {
    let mut codes = String::new();
    for found in diagnostics.sorted() {
        diagnostic::render(found, &loaded.sources, true, Some(80));
        let json = diagnostic::to_json(found, &loaded.sources);
        assert!(json["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{json}");
        // What is between backquotes and numbers are of this input, the rest is of its kind.
        let outside = found.detail.split('`').step_by(2).flat_map(str::chars);
        codes.push_str(found.code.0);
        codes.extend(outside.filter(|c| !c.is_ascii_digit()).take(160));
    }
    codes
}

const FLEET: &str = "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {name: acme}\nspec: {}\n";

/// The reader of declared files: a file beside a sound fleet.
#[test]
fn manifest() {
    let folders = ["fixtures/manifests", "examples", "fixtures/convert"];
    let corpus = corpus(&folders, &[".yaml", ".yml", ".expected"]);
    fuzz("manifest", corpus, words::MANIFEST, |input| {
        let fleet = (String::from("fleetform.yaml"), FLEET.as_bytes().to_vec());
        let (loaded, codes) = load(&BTreeMap::from([fleet, (String::from("some.yaml"), input.to_vec())]));
        if let (Some(declared), Ok(text)) = (&loaded.declared, std::str::from_utf8(input)) {
            // An edit of a sound file gives a sound file with the edit in it, or is refused.
            let jobs = declared.jobs.values().map(|job| (fleetform::model::kind::Kind::Job, &job.name, job.suspend));
            let schedules = declared
                .schedules
                .values()
                .map(|one| (fleetform::model::kind::Kind::Schedule, &one.name, one.is_suspended));
            for (kind, name, is_suspended) in jobs.chain(schedules) {
                let Ok(edited) = manifest::edit::set_suspend(text, kind, name, !is_suspended) else { continue };
                let fleet = (String::from("fleetform.yaml"), FLEET.as_bytes().to_vec());
                let (after, codes) = load(&BTreeMap::from([fleet, (String::from("some.yaml"), edited.into_bytes())]));
                let found = after.declared.and_then(|after| match kind {
                    fleetform::model::kind::Kind::Schedule => after.schedules.get(name).map(|found| found.is_suspended),
                    _ => after.jobs.get(name).map(|found| found.suspend),
                });
                assert_eq!(found, Some(!is_suspended), "{} {name}: {codes}", kind.noun());
            }
        }
        codes
    });
}

/// The reader of DTDL models: a file that a template names, with jobs that are judged by it.
#[test]
fn model() {
    const TEMPLATE: &str = "apiVersion: fleetform/v1\nkind: DeviceTemplate\nmetadata: {name: lamp}\n\
        spec: {model: lamp.dtdl.json, cloudProperties: {owner: string}}\n---\n\
        apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {name: lamps}\nspec: {template: lamp, query: '*'}\n---\n\
        apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: dim}\n\
        spec: {target: {group: lamps}, action: {property: {light: {level: 3}, level: x, mode: [1, null]}}}\n---\n\
        apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: reboot}\n\
        spec: {target: {group: lamps}, action: {command: {name: reboot, component: light, payload: {delay: 5}}}}\n";
    let corpus = corpus(&["fixtures/manifests", "examples", "fixtures/convert"], &[".json"]);
    fuzz("model", corpus, words::MODEL, |input| {
        let files =
            [("fleetform.yaml", FLEET.as_bytes()), ("lamp.yaml", TEMPLATE.as_bytes()), ("lamp.dtdl.json", input)];
        let files = files.map(|(path, bytes)| (path.to_string(), bytes.to_vec()));
        load(&BTreeMap::from(files)).1
    });
}

/// The readers of device imports, over a registry that has devices of the same names.
#[test]
fn import() {
    const CSV: &str = "IOTC_DEVICEID,IOTC_DEVICENAME,TAG.line,TAG.place.hall,CLOUD.owner,IOTC_SASKEY_PRIMARY\r\n\
        d-1,One,3,\"a, \"\"b\"\"\",north,\r\nd-2,=1+1,,,,\r\nd-3,Three\r\n";
    const HUB: &str = "{\"id\":\"d-1\",\"importMode\":\"createOrUpdate\",\"status\":\"enabled\",\"tags\":{\"line\":\"3\"},\
        \"properties\":{\"desired\":{\"level\":3,\"$version\":2}},\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"AAAA\"}}}\n\
        {\"id\":\"d-2\",\"moduleId\":\"m\"}\n{\"id\":\"d-3\",\"importMode\":\"delete\",\"eTag\":\"MQ==\"}\n";
    let mut corpus = corpus(&["fixtures/manifests", "examples"], &[".csv"]);
    corpus.extend([CSV.as_bytes().to_vec(), HUB.as_bytes().to_vec(), [b"\xef\xbb\xbf", CSV.as_bytes()].concat()]);
    let spec = |format| ImportSpec {
        templates: None,
        organizations: None,
        name: "all".to_string(),
        format,
        template: Some("lamp".to_string()),
        organization: None,
        simulated: true,
        removed: Removed::Delete,
        watched_tags: Vec::new(),
        is_confined: false,
        others: BTreeSet::from(["other".to_string()]),
        digest: Digest::of_bytes(b"state"),
    };
    let mut registry = sqlite::open_for_reading(Path::new("/nowhere/fleet.db"), "acme").unwrap();
    let mut found = registry.imports_mut().stage(&spec(ImportFormat::Csv), &mut CSV.as_bytes()).unwrap();
    registry.imports_mut().settle(&spec(ImportFormat::Csv), &mut found).unwrap();
    let (spec_of_csv, at) = (spec(ImportFormat::Csv), "2026-11-20T10:00:00Z".parse().unwrap());
    registry.write(Change::Import { spec: &spec_of_csv, at, outbox: "" }).unwrap();
    fuzz("import", corpus, words::IMPORT, |input| {
        let mut answers = String::new();
        for format in [ImportFormat::Csv, ImportFormat::IotHub] {
            registry.imports_mut().clear().unwrap();
            match registry.imports_mut().stage(&spec(format), &mut &*input) {
                Ok(mut found) => {
                    registry.imports_mut().settle(&spec(format), &mut found).unwrap();
                    let sum = found.new + found.updated + found.unchanged + found.rejected;
                    assert!(sum <= found.rows && found.renamed <= found.updated, "{found:?}");
                    assert!(found.errors.len() as u64 <= found.rejected, "{found:?}");
                    let messages: BTreeSet<String> =
                        found.errors.iter().map(|error| error.message.chars().take(16).collect()).collect();
                    let kinds = (found.new > 0, found.updated > 0, found.renamed > 0, found.removed > 0);
                    answers.push_str(&format!("{kinds:?} {messages:?}"));
                }
                Err(ImportFailure::File { line, message, .. }) => {
                    assert!(line > 0 && !message.is_empty());
                    answers.extend(message.chars().take(16));
                }
                Err(ImportFailure::Registry(error)) => panic!("{error}"),
            }
        }
        answers
    });
}

/// The reader of what IoT Central and IoT Hub export.
#[test]
fn converter() {
    let corpus = corpus(&["fixtures/convert"], &[".json"]);
    let options = convert::Options { source: None, has_keys: true, now: "2026-11-20T10:00:00Z".parse().unwrap() };
    fuzz("converter", corpus, words::CONVERTER, |input| {
        let inputs = [convert::Input { name: "some.json".to_string(), bytes: input.to_vec() }];
        let found = convert::convert(&inputs, options);
        let kinds: Vec<String> = found.documents.iter().map(|document| format!("{:?}", document.kind)).collect();
        let refusals: Vec<String> =
            found.refusals.iter().map(|refusal| refusal.what.chars().take(16).collect()).collect();
        assert!(found.refusals.iter().all(|refusal| !refusal.place.is_empty() && !refusal.what.is_empty()));
        format!("{kinds:?} {refusals:?}")
    });
}
