//! The README works: its blocks are run in order, in one folder, on a terminal of 80 columns. A `console` block has
//! commands (`$ `) and all lines that they print, where `…` stands for lines that are left out; a `yaml` block is a file
//! that the paragraph before it names; a `text` block is a listing of files that exist.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::{Ran, folder};

/// Commands of the README that the test does not run: it would build and test in a test.
const NOT_RUN: &[&str] = &["tests/all.sh"];
/// What the example job needs and the example fleet does not have.
const NOT_THERE: &[&str] = &["organization", "edgeManifest"];

enum Step {
    /// A command, and what is shown below it.
    Run {
        command: String,
        shown: Vec<String>,
    },
    File {
        path: String,
        text: String,
    },
    Listing(Vec<String>),
}

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// Returns the steps of all blocks in order.
fn walk(readme: &str) -> Vec<Step> {
    let (mut steps, mut named) = (Vec::new(), None);
    for (at, part) in readme.split("\n```").enumerate() {
        if at % 2 == 0 {
            // Prose. The file is the last one that it names.
            let mut words = part.split('`').filter(|word| word.starts_with("my-fleet/") && word.ends_with(".yaml"));
            named = words.next_back().map(str::to_string);
            continue;
        }
        let (kind, text) = part.split_once('\n').unwrap();
        match kind {
            "console" => steps.extend(commands(text)),
            "yaml" => {
                let path = named.take().unwrap_or_else(|| panic!("no file is named before\n{text}"));
                steps.push(Step::File { path, text: format!("{text}\n") });
            }
            "text" => steps.push(Step::Listing(text.lines().map(str::to_string).collect())),
            "sh" => {}
            other => panic!("a block of the kind `{other}` is not run"),
        }
    }
    steps
}

fn commands(block: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step::Run { command: command.to_string(), shown: Vec::new() }),
            (None, Some(Step::Run { shown, .. })) => shown.push(line.to_string()),
            _ => panic!("a console block begins with a command: {line}"),
        }
    }
    steps
}

/// Makes alike what differs from run to run: times, commits, how long something took.
fn redacted(line: &str) -> String {
    let line = line.split_once("simulated in ").map_or(line, |(before, _)| before);
    let words = line.split(' ').map(|word| {
        let core = word.trim_matches(|c: char| "().,".contains(c));
        let is_time = core.len() >= 8 && core.chars().all(|c| c.is_ascii_digit() || "-:TZ.".contains(c));
        let is_commit = core.len() == 12 && core.chars().all(|c| c.is_ascii_hexdigit());
        if is_time || is_commit { word.replace(|c: char| c.is_ascii_hexdigit(), "0") } else { word.to_string() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the first shown line that is not printed at its place; `…` stands for any lines.
fn missing<'a>(shown: &'a [String], printed: &str) -> Option<&'a str> {
    let printed: Vec<String> = printed.trim_matches('\n').lines().map(redacted).collect();
    let end = shown.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let (mut at, mut leaves_out) = (0, false);
    for line in &shown[..end] {
        if line == "…" {
            leaves_out = true;
            continue;
        }
        let wanted = redacted(line);
        let found = printed[at..].iter().position(|one| *one == wanted).filter(|found| leaves_out || *found == 0);
        let Some(found) = found else { return Some(line) };
        at += found + 1;
        leaves_out = false;
    }
    (at < printed.len() && !leaves_out).then_some("the end of what is shown")
}

/// Runs a command of the shell on a terminal of 80 columns; what it leaves there is `stdout`.
fn at_80_columns(command: &str, folder: &Path) -> Ran {
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/picture.py");
    Ran::of(newcomer("python3", folder).args([picture, "--print", command]))
}

/// Returns a program as a newcomer runs it, with our binary on the path.
pub fn newcomer(program: &str, folder: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_fleetform")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command.current_dir(folder).env("PATH", path).env("HOME", folder).env("XDG_CONFIG_HOME", folder.join("config"));
    command.env_remove("FLEETFORM_REGISTRY").env_remove("NO_COLOR");
    for (name, value) in [("NAME", "Reader"), ("EMAIL", "reader@localhost")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command
}

/// Returns the example job once for each alternative that it has as a comment, with the name of the alternative.
fn alternatives(job: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = job.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.trim_start().strip_prefix("# ").and_then(|rest| rest.split_once(':')) else {
            continue;
        };
        let section = lines[..at].iter().rposition(|one| indent(one) < indent(line)).unwrap();
        let is_choice = lines[section].contains("exactly one of these");
        let mut text = String::new();
        for (other, one) in lines.iter().enumerate() {
            let is_chosen_now = is_choice
                && other > section
                && other < at
                && !one.trim_start().starts_with('#')
                && !one.trim_start().starts_with("expect");
            let one = if other == at { one.replacen("# ", "", 1) } else { (*one).to_string() };
            writeln!(text, "{}{one}", if is_chosen_now { "#" } else { "" }).unwrap();
        }
        found.push((key.to_string(), text));
    }
    found
}

#[test]
fn the_blocks_of_the_readme_work_in_order() {
    let folder = folder();
    let steps = walk(&readme());
    assert!(steps.iter().filter(|step| matches!(step, Step::Run { .. })).count() >= 15, "the walk has its steps");
    let mut job = None;
    for step in steps {
        match step {
            Step::Listing(lines) => {
                for line in &lines[1..] {
                    let name = line.split_whitespace().next().unwrap();
                    assert!(folder.path().join(&lines[0]).join(name).exists(), "{name}");
                }
            }
            Step::File { path, text } => {
                std::fs::write(folder.path().join(&path), &text).unwrap();
                job = Some((path, text));
            }
            Step::Run { command, .. } if NOT_RUN.contains(&command.as_str()) => {}
            Step::Run { command, shown } => {
                let ran = at_80_columns(&command.replace("cargo run -- ", "fleetform "), folder.path());
                let is_mistake = shown.iter().any(|line| line.starts_with("error"));
                assert_eq!(ran.code != 0, is_mistake, "`{command}`:\n{ran:#?}");
                let differs = if shown.is_empty() { None } else { missing(&shown, &ran.stdout) };
                assert_eq!(differs, None, "`{command}` prints:\n{}{}", ran.stdout, ran.stderr);
            }
        }
    }
    // Each line that the example job has as a comment can take the place of what is there.
    let (path, job) = job.expect("the README has an example job");
    let alternatives = alternatives(&job);
    assert!(alternatives.len() >= 9, "{alternatives:#?}");
    for (key, text) in alternatives {
        std::fs::write(folder.path().join(&path), &text).unwrap();
        let ran = Ran::of(newcomer("fleetform", folder.path()).args(["-C", "my-fleet", "plan"]));
        let is_there = !NOT_THERE.contains(&key.as_str());
        assert_eq!(ran.code == 0, is_there, "with `{key}`:\n{text}\n{ran:#?}");
        assert!(is_there || ran.stderr.contains("FF401"), "with `{key}`:\n{ran:#?}");
    }
}

#[test]
fn a_console_block_shows_what_is_printed() {
    let shown = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    let printed = "a\nb  2026-11-29 04:02:43 UTC\nc\n\nd 838203866721\n";
    for same in ["a\nb  2020-01-01 00:00:00 UTC\nc\n\nd 0123456789ab", "a\n…\nd 0123456789ab", "…\nc\n…", "…"] {
        assert_eq!(missing(&shown(same), printed), None, "{same}");
    }
    for (other, differs) in [
        ("a\nc\n…", "c"),
        ("…\nc\n…\na\n…", "a"),
        ("b  2026-11-29 04:02:43 UTC\n…", "b  2026-11-29 04:02:43 UTC"),
        ("a\n…\nc", "the end of what is shown"),
        ("a\nb 2026-11-29 04:02:43 UTC\n…", "b 2026-11-29 04:02:43 UTC"),
    ] {
        assert_eq!(missing(&shown(other), printed), Some(differs), "{other}");
    }
}

#[test]
fn the_example_job_has_every_field() {
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::Object(properties)) = members.get("properties") {
                    found.extend(properties.keys().cloned());
                }
                members.values().for_each(|member| names(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }
    let schema: Value = serde_json::from_str(include_str!("../../schemas/job.schema.json")).unwrap();
    let mut fields = Vec::new();
    names(&schema, &mut fields);
    // Those of the metadata are of every kind; a command of a component is in docs/jobs.md.
    fields.retain(|field| !["component", "description", "labels", "previousName"].contains(&field.as_str()));
    assert!(fields.len() > 30, "{fields:?}");
    let readme = readme();
    let job = readme.split("```yaml").nth(1).unwrap().split("```").next().unwrap();
    let lacking: Vec<&String> = fields.iter().filter(|field| !job.contains(&format!("{field}:"))).collect();
    assert!(lacking.is_empty(), "the example job has no {lacking:?}");
}

#[test]
fn completions_are_loaded_by_the_line_that_is_given() {
    let readme = readme();
    let line = readme.lines().find(|line| line.contains("completions bash")).unwrap();
    let folder = folder();
    let ran = Ran::of(newcomer("bash", folder.path()).args(["-c", &format!("{line}\ncomplete -p fleetform")]));
    assert!(ran.code == 0 && ran.stdout.contains("_fleetform fleetform"), "{ran:#?}");
}

#[test]
fn the_last_hint_of_the_quickstart_is_an_edit_that_works() {
    let folder = folder();
    let ran = at_80_columns("fleetform quickstart my-fleet", folder.path()).expect(0);
    assert!(
        ran.stdout.contains("150 pending (6 of\n  300 devices failed"),
        "a line is broken at a space: {}",
        ran.stdout
    );
    let hint = ran.stdout.split_once("\n\nDone.").unwrap_or_else(|| panic!("{}", ran.stdout)).1;
    assert!(hint.lines().all(|line| line.chars().count() < 80), "{hint}");
    let (mut last, mut edits) = (String::new(), 0);
    for line in hint.lines() {
        let words: Vec<&str> = line.split('`').collect();
        if let Some(command) = line.strip_prefix("    ") {
            last = at_80_columns(command, folder.path()).expect(0).stdout;
        } else if let [before, old, _, new, _] = words[..] {
            let file = before.trim_start_matches("In ").split(',').next().unwrap();
            let file = folder.path().join(file);
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(old), "{text}");
            std::fs::write(&file, text.replace(old, new)).unwrap();
            edits += 1;
        }
    }
    assert_eq!(edits, 1, "{hint}");
    assert!(last.contains("light.level  60 -> 40") && last.contains("Plan: 1 to run on 350 devices."), "{last}");
}

#[test]
fn the_picture_is_made_by_its_script() {
    let folder = folder();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/picture.py");
    Ran::of(newcomer("python3", folder.path()).args([script, "quickstart.svg"])).expect(0);
    let check = "import sys, xml.etree.ElementTree as tree\n\
        print('\\n'.join(text for text in tree.parse(sys.argv[1]).getroot().itertext()))";
    let path = |path: &str| {
        if path.starts_with("docs/") { format!("{}/{path}", env!("CARGO_MANIFEST_DIR")) } else { path.to_string() }
    };
    // The one of the repository is not made anew by a test, but it is one like it.
    for picture in ["quickstart.svg", "docs/quickstart.svg"] {
        let text = Ran::of(newcomer("python3", folder.path()).args(["-c", check, &path(picture)])).expect(0).stdout;
        for job in ["assign-owner", "canary-template", "dim-hall-a", "mark-tested", "reboot-hall-c"] {
            assert!(text.contains(job), "{picture} has no {job}:\n{text}");
        }
        assert!(text.contains("batch 2 of 6"), "{picture}:\n{text}");
    }
}
