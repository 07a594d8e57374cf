//! The five-minute walk of the README works: this runs every command of its `console` blocks, in order, in one folder,
//! and checks that it prints every line that is shown below it.

use std::path::Path;
use std::process::Command;

use crate::world::Ran;

/// A command of the walk and the lines shown below it.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// Returns the steps of all blocks, and the files that the walk says to make, in order.
fn walk(readme: &str) -> Vec<Result<Step, String>> {
    let mut steps: Vec<Result<Step, String>> = Vec::new();
    let mut block = "";
    let mut file = String::new();
    let section = readme.split("## Five minutes").nth(1).unwrap().split("\n## ").next().unwrap();
    for line in section.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(""), "yaml") => {
                steps.push(Err(std::mem::take(&mut file)));
                block = "";
            }
            (Some(""), _) => block = "",
            (Some(kind), _) => block = if kind == "yaml" { "yaml" } else { "console" },
            (None, "yaml") => file.push_str(&format!("{line}\n")),
            (None, "console") => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Ok(Step { command: command.to_string(), shown: Vec::new() })),
                (None, Some(Ok(step))) if !line.is_empty() => step.shown.push(line.to_string()),
                (None, _) => {}
            },
            (None, _) => {}
        }
    }
    steps
}

/// Makes what differs from run to run alike: times and runs of spaces.
fn redacted(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let is_time = word.len() >= 8 && word.chars().all(|c| c.is_ascii_digit() || c == '-' || c == ':');
        if is_time { "TIME" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn run(command: &str, folder: &Path) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_fleetform")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).env("PATH", path).env("NO_COLOR", "1");
    shell.env("XDG_CONFIG_HOME", folder.join("config-home"));
    for (name, value) in [("NAME", "Reader"), ("EMAIL", "reader@localhost")] {
        shell.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let ran = Ran::of(&mut shell);
    format!("{}{}", ran.stdout, ran.stderr)
}

#[test]
fn the_walk_of_the_readme_works() {
    let folder = tempfile::tempdir().unwrap();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    run("fleetform quickstart my-fleet", folder.path());
    let steps = walk(&readme);
    assert!(steps.iter().filter(|step| step.is_ok()).count() >= 10, "the walk has its steps");
    for step in steps {
        match step {
            Err(file) => std::fs::write(folder.path().join("my-fleet/jobs/dim-more.yaml"), file).unwrap(),
            Ok(Step { command, shown }) => {
                let printed = run(&command, folder.path());
                let lines: Vec<String> = printed.lines().map(redacted).collect();
                for line in shown {
                    assert!(lines.contains(&redacted(&line)), "`{command}` does not print `{line}`, but:\n{printed}");
                }
            }
        }
    }
}
