//! Rules that the compiler does not check: which module may import which, what stays below the IO line, and the length
//! of files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Lines of a file without its tests at which it is to be split by noun.
const LINES_MAX: usize = 500;

/// The modules that each room may import. Every room must be in this list: add a new one at its level.
const ROOMS: &[(&str, &str)] = &[
    // Level 0. The text of a diagnostic is made safe as every other text is.
    ("diag", "model"),
    ("model", ""),
    // Level 1.
    ("access", "model"),
    ("query", "diag model"),
    ("schedule", "model"),
    ("template", "diag model"),
    // Level 2.
    ("manifest", "diag model query schedule template"),
    ("ledger", "model"),
    ("plan", "model query schedule ledger"),
    // Level 3.
    ("rollout", "model plan ledger"),
    ("policy", "model ledger plan"),
    ("results", "model ledger"),
    ("convert", "diag model query template manifest"),
    // Below the IO line, from here on.
    ("tls", "model"),
    // Level 4; siblings never import each other. `diag` for near names.
    ("registry", "diag model query ledger tls"),
    ("link", "model tls"),
    ("repo", "diag model results"),
    ("alert", "model tls"),
    ("forge", "model tls"),
    // Level 5.
    ("prepare", "diag model access query schedule template manifest ledger plan rollout policy results registry repo"),
    ("execute", "diag model query schedule template manifest ledger plan rollout results registry link repo"),
    ("listen", "model"),
    ("device", "model tls link"),
    // Level 6. What a registry, a link and a branch are made to do for a fleet.
    ("reconcile", "diag model manifest ledger plan results registry link repo prepare execute"),
    // Level 7.
    (
        "ops",
        "diag model query schedule template manifest ledger plan results convert tls registry link repo alert prepare execute \
            reconcile listen",
    ),
    // Level 8. Connected devices are called at once, beside the machine.
    ("rest", "model query link tls execute ops"),
    // What people see, as they are told on the command line.
    ("web", "diag model schedule ledger results registry repo tls link listen execute ops"),
    // Level 9: `ops` and the value types that it shows; never the queries, the machine or the link themselves.
    (
        "cli",
        "diag model manifest ledger plan results convert registry repo alert forge prepare execute listen device ops rest web",
    ),
    // A world is judged by what it leaves behind: in the registry, in the repository and at the devices.
    ("sim", "model ledger results registry link repo prepare execute ops"),
];

/// The rooms of levels 0 to 3: no clock, randomness, environment, files, network or async.
const ABOVE_THE_LINE: &[&str] = &[
    "diag", "model", "query", "schedule", "template", "manifest", "ledger", "plan", "rollout", "policy", "results",
    "convert",
];

/// What does not pass the IO line. `env!` and `include_str!` are of the compiler, and stay.
const WORLDLY: &[&str] = &[
    "async",
    "await",
    "tokio",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "rand",
    "getrandom",
    "git2",
    "rusqlite",
];

/// What every file of `ops` may have of the others.
const OPS_SHARED: &[&str] = &["Environment", "Findings", "OpsError", "Workspace"];

/// A source file without its tests.
struct Source {
    /// From the root of the package, with `/`.
    path: String,
    /// The text with comments taken out and texts emptied, line by line.
    code: String,
    /// Lines before the tests.
    lines: usize,
}

impl Source {
    /// The name of its room; `None` for `main.rs` and `lib.rs`.
    fn room(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        match inner.split_once('/') {
            Some((room, _)) => Some(room),
            None => inner.strip_suffix(".rs").filter(|name| !matches!(*name, "main" | "lib")),
        }
    }

    /// How many modules deep it is: 1 for the `mod.rs` of a room.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count() - 1;
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// Every file of `src` but those that are tests as a whole. They are read once for all tests.
fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let mut files = Vec::new();
        files_below(&root().join("src"), &mut files);
        files.retain(|file| file.file_name().unwrap() != "tests.rs");
        assert!(files.len() > 100, "the walk finds the sources");
        files.iter().map(|file| source(file)).collect()
    });
    &SOURCES
}

fn source(file: &Path) -> Source {
    let whole = fs::read_to_string(file).unwrap();
    // The tests are the end of a file, or a file of their own that is only declared here.
    let tests = whole.find("\n#[cfg(test)]\nmod tests {").unwrap_or(whole.len());
    let text = &whole[..tests];
    let path = file.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
    Source { path, code: code_of(text), lines: text.lines().count() }
}

/// Returns a text without what is in its comments and literals. Lines stay lines.
fn code_of(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    let keep_lines = |from: usize, to: usize, code: &mut String| {
        code.extend(bytes[from..to].iter().filter(|c| **c == '\n'));
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let starts = |what: &str| what.chars().eq(rest.iter().copied().take(what.chars().count()));
        let is_word = at > 0 && (bytes[at - 1].is_alphanumeric() || bytes[at - 1] == '_');
        let end = if starts("//") {
            at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if starts("/*") {
            find(&bytes, at + 2, "*/")
        } else if !is_word && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
            let hashes = rest.iter().skip_while(|c| matches!(c, 'b' | 'r')).take_while(|c| **c == '#').count();
            let quote = at + rest.iter().position(|c| *c == '"').unwrap_or(0);
            find(&bytes, quote + 1, &format!("\"{}", "#".repeat(hashes)))
        } else if starts("\"") {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != '"' {
                end += if bytes[end] == '\\' { 2 } else { 1 };
            }
            end + 1
        } else if starts("'") && (bytes.get(at + 1) == Some(&'\\') || bytes.get(at + 2) == Some(&'\'')) {
            let from = if bytes.get(at + 1) == Some(&'\\') { at + 3 } else { at + 2 };
            find(&bytes, from, "'")
        } else {
            code.push(bytes[at]);
            at += 1;
            continue;
        };
        let end = end.min(bytes.len());
        keep_lines(at, end, &mut code);
        if !starts("//") && !starts("/*") {
            code.push_str("\"\"");
        }
        at = end;
    }
    code
}

/// Returns the place behind the next `what` at or after `from`.
fn find(text: &[char], from: usize, what: &str) -> usize {
    let wanted: Vec<char> = what.chars().collect();
    (from..text.len()).find(|at| text[*at..].starts_with(&wanted)).map_or(text.len(), |at| at + wanted.len())
}

/// Returns the lines, from 1, on which a word stands as a word of its own.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut lines = Vec::new();
    for (at, line) in code.lines().enumerate() {
        for (start, _) in line.match_indices(word) {
            let before = line[..start].chars().next_back().is_some_and(is_part);
            let after = line[start + word.len()..].chars().next().is_some_and(|c| is_part(c) || c == '!');
            if !before && !after {
                lines.push(at + 1);
                break;
            }
        }
    }
    lines
}

/// Returns what is named right behind each `prefix`, also in braces, with its line.
fn named_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices(prefix) {
        let is_inside = code[..start].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        if is_inside {
            continue;
        }
        let line = code[..start].lines().count().max(1);
        let rest = code[start + prefix.len()..].trim_start();
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => found.push((line, word(rest))),
            Some(list) => {
                let (mut depth, mut is_first) = (0, true);
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => is_first = true,
                        c if depth == 0 && is_first && (c.is_alphanumeric() || c == '_') => {
                            found.push((line, word(&list[at..])));
                            is_first = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// Fails with a list, a violation a line.
fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}:\n  {}\n", violations.join("\n  "));
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let text = "use crate::plan; // crate::repo\nlet a = \"crate::link\"; /* crate::ops */ let b = \
        r#\"\"crate::cli\"#;\n\
                let c = '\"'; crate::{model::{a, b}, diag}; 'x: loop {}";
    let code = code_of(text);
    let named: Vec<String> = named_after(&code, "crate::").into_iter().map(|(_, name)| name).collect();
    assert_eq!(named, ["plan", "model", "diag"], "{code}");
    assert_eq!(lines_with("let operand = 1;\nuse rand::x;\nenv!(1)", "rand"), [2]);
}

#[test]
fn rooms_import_only_what_their_level_may() {
    let mut violations = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        seen.insert(room.to_string());
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            violations.push(format!("{}: the room `{room}` has no place in the table", source.path));
            continue;
        };
        let mut named = named_after(&source.code, "crate::");
        // The way around: enough `super::` lead out of the room too.
        named.extend(named_after(&source.code, &"super::".repeat(source.depth())));
        for (line, target) in named {
            if target != room && target != "super" && !allowed.split(' ').any(|one| one == target) {
                violations.push(format!("{}:{line}: `{room}` imports `{target}`", source.path));
            }
        }
    }
    assert_none("rooms import only rooms of lower levels", &violations);
    for (room, _) in ROOMS {
        assert!(seen.contains(*room), "the room `{room}` of the table is gone");
    }
}

#[test]
fn what_is_above_the_io_line_does_not_touch_the_world() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.room().is_some_and(|room| ABOVE_THE_LINE.contains(&room))) {
        for word in WORLDLY {
            for line in lines_with(&source.code, word) {
                violations.push(format!("{}:{line}: `{word}`", source.path));
            }
        }
        // `use std::{env, fs}` names them too.
        for (line, name) in named_after(&source.code, "std::") {
            if matches!(name.as_str(), "env" | "fs" | "net" | "process" | "thread") {
                violations.push(format!("{}:{line}: `std::{name}`", source.path));
            }
        }
    }
    assert_none("rooms of levels 0 to 3 are pure", &violations);
}

#[test]
fn a_use_case_does_not_import_another() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.room() == Some("ops") && !source.path.ends_with("/mod.rs")) {
        // A use case that is large enough for a folder is still one: below it `super` is the use case itself.
        let is_part = source.path.trim_start_matches("src/ops/").contains('/');
        let mut named = if is_part { Vec::new() } else { named_after(&source.code, "super::") };
        named.extend(named_after(&source.code, "crate::ops::"));
        for (line, name) in named {
            if !OPS_SHARED.contains(&name.as_str()) {
                violations.push(format!("{}:{line}: `{name}`", source.path));
            }
        }
    }
    assert_none("files of `ops` share the workspace and the error, nothing else", &violations);
}

#[test]
fn files_stay_short() {
    let sources = sources();
    let long = sources.iter().filter(|source| source.lines > LINES_MAX);
    let list: Vec<String> = long.map(|source| format!("{}: {} lines", source.path, source.lines)).collect();
    assert_none("a file without its tests has at most 500 lines; split it by noun", &list);
}

#[test]
fn nothing_is_left_unfinished_and_nothing_unwrapped() {
    let mut violations = Vec::new();
    for source in sources() {
        for word in ["todo!", "unimplemented!", "dbg!"] {
            if source.code.contains(word) {
                violations.push(format!("{}: `{word}`", source.path));
            }
        }
        for (at, line) in source.code.lines().enumerate() {
            if line.contains(".unwrap()") {
                violations.push(format!("{}:{}: `.unwrap()`: say why it holds with `expect`", source.path, at + 1));
            }
        }
    }
    assert_none("no leftovers outside of tests", &violations);
}

#[test]
fn instants_have_one_form() {
    // The one form; lines of logs, which programs read; wall clocks.
    let allowed = ["src/cli/view/mod.rs", "src/cli/view/log.rs", "src/cli/view/schedule.rs"];
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/cli/")) {
        if source.code.contains("strftime") && !allowed.contains(&source.path.as_str()) {
            violations.push(source.path.clone());
        }
    }
    assert_none("an instant is shown by `view::instant`", &violations);
}

#[test]
fn a_todo_has_a_name_and_a_condition() {
    let (todo, fixme) = (["TO", "DO"].concat(), ["FIX", "ME"].concat());
    let mut files = Vec::new();
    files_below(&root().join("src"), &mut files);
    files_below(&root().join("tests"), &mut files);
    let mut violations = Vec::new();
    for file in files {
        for (at, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let bare = line.match_indices(&todo).any(|(start, _)| {
                let rest = &line[start + todo.len()..];
                !(rest.starts_with('(') && rest.contains("): "))
            });
            if bare || line.contains(&fixme) {
                violations.push(format!("{}:{}", file.display(), at + 1));
            }
        }
    }
    assert_none("it is written with a name and the condition that ends it", &violations);
}

#[test]
fn every_module_of_the_tests_is_run() {
    let folder = root().join("tests/it");
    let main = fs::read_to_string(folder.join("main.rs")).unwrap();
    let declared: BTreeSet<&str> =
        main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let mut violations = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let is_module = path.is_dir() && path.join("mod.rs").exists() || path.extension().is_some_and(|e| e == "rs");
        if is_module && name != "main" && !declared.contains(name.as_str()) {
            violations.push(name);
        }
    }
    assert_none("a file beside main.rs is declared in it", &violations);
}
