//! The README and the pages of `docs/` hold together: links lead somewhere, documents are valid, lines are short.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::world::World;

/// Columns of a line of prose or code. A row of a table, and code that is indented, is as long as it is.
const COLUMNS_MAX: usize = 120;
/// Columns of a terminal that a `console` block is of.
const CONSOLE_MAX: usize = 80;
/// What a document may lack when it stands alone: what it refers to by name, and files.
const NOT_ALONE: &[&str] = &["FF401", "FF409"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page, by its path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::from([(PathBuf::from("README.md"), String::new())]);
    for folder in ["docs", "docs/kinds"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name();
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                pages.insert(Path::new(folder).join(name), String::new());
            }
        }
    }
    assert!(pages.len() > 15, "the pages are found");
    for (path, text) in &mut pages {
        *text = fs::read_to_string(root().join(path)).unwrap();
    }
    pages
}

/// Returns the lines that are in no block of code, with their numbers from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        if !is_code && !is_fence && !line.starts_with("    ") {
            found.push((at + 1, line));
        }
        is_code ^= is_fence;
    }
    found
}

/// Returns the blocks of a kind, with the line on which each begins.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<(usize, &'a str)> {
    let open = format!("```{kind}\n");
    let starts = text.match_indices(&open).map(|(start, _)| start);
    starts
        .map(|start| {
            let inner = &text[start + open.len()..];
            (text[..start].lines().count() + 1, &inner[..inner.find("```").unwrap()])
        })
        .collect()
}

/// Returns the targets of the links of a line, also those of pictures. A target is never in code.
fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (start, _) in line.match_indices("](") {
        let is_code = line[..start].matches('`').count() % 2 == 1;
        if let Some(end) = line[start..].find(')').filter(|_| !is_code) {
            found.push(&line[start + 2..start + end]);
        }
    }
    found
}

/// Returns the anchors of a page as GitHub names them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text).into_iter().filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let numbered = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(numbered).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

/// Resolves `..` and `.` in a path from the root.
fn resolved(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

fn broken_links(pages: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut broken = Vec::new();
    for (page, text) in pages {
        for (number, line) in prose(text) {
            for target in links(line).into_iter().filter(|target| !target.contains("://")) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { page.clone() } else { resolved(page, file) };
                let has_anchor = || pages.get(&path).is_some_and(|text| anchors(text).contains(anchor));
                if !root().join(&path).exists() || !anchor.is_empty() && !has_anchor() {
                    broken.push(format!("{}:{number}: {target}", page.display()));
                }
            }
        }
    }
    broken
}

#[test]
fn links_lead_somewhere() {
    assert_eq!(broken_links(&pages()), Vec::<String>::new());
    let text = "# A `b`: c-d\n## A\n## A\n[x](#a-b-c-d) [x](#a-1) [x](#a-2) [x](docs/none.md) `[x](#none)`\n";
    let page = BTreeMap::from([(PathBuf::from("README.md"), text.to_string())]);
    assert_eq!(broken_links(&page), ["README.md:4: #a-2", "README.md:4: docs/none.md"]);
}

#[test]
fn every_page_is_in_the_index() {
    let pages = pages();
    let index = &pages[Path::new("docs/README.md")];
    let named: Vec<&str> = index.lines().flat_map(links).collect();
    for page in pages.keys().filter(|page| page.starts_with("docs") && !page.ends_with("README.md")) {
        let name = page.strip_prefix("docs").unwrap().to_str().unwrap();
        assert_eq!(named.iter().filter(|one| **one == name).count(), 1, "docs/README.md names {name} once");
    }
}

#[test]
fn lines_are_short() {
    let mut long = Vec::new();
    for (page, text) in pages() {
        for (at, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX && !line.starts_with('|') && !line.starts_with("    ") {
                long.push(format!("{}:{}", page.display(), at + 1));
            }
        }
        for (start, block) in blocks(&text, "console") {
            let lines = block.lines().enumerate().filter(|(_, line)| line.chars().count() > CONSOLE_MAX);
            long.extend(lines.map(|(at, _)| format!("{}:{}, of a terminal", page.display(), start + at + 1)));
        }
    }
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn documents_are_valid() {
    let mut checked = 0;
    for (page, text) in pages() {
        for (line, block) in blocks(&text, "yaml") {
            let place = format!("{}:{line}", page.display());
            if !block.starts_with("apiVersion:") {
                let parsed: Result<Value, _> = serde_yaml::from_str(block);
                assert!(parsed.is_ok(), "{place}: {parsed:?}");
                continue;
            }
            checked += 1;
            assert_eq!(mistakes(block), Vec::<String>::new(), "{place}");
        }
    }
    assert!(checked >= 10, "{checked} blocks are documents");
    assert_eq!(mistakes("apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: a}\nspec: {targt: {}}\n").len(), 3);
}

/// Returns what `validate` says of documents that stand alone, each as its code and its sentence.
fn mistakes(documents: &str) -> Vec<String> {
    let world = World::new("{}");
    let is_fleet = documents.contains("kind: Fleet\n");
    world.write(if is_fleet { "fleetform.yaml" } else { "documents.yaml" }, documents);
    let findings = world.run(&["validate", "--format", "json"]).json();
    let alone = |finding: &&Value| !NOT_ALONE.iter().any(|code| finding["code"] == **code);
    findings.iter().filter(alone).map(|finding| format!("{} {}", finding["code"], finding["detail"])).collect()
}
