//! What a reviewer of a pull request sees: the plan of a change, as text, as a comment and as annotations.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fleetform::forge::Kind;
use serde_json::Value;

use crate::stand_in::{PROJECT, StandIn, TOKEN};
use crate::world::{Ran, World, fleetform};

const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=T", "-c", "user.email=t@example.com"]).args(arguments).current_dir(folder);
    let ran = Ran::of(&mut command);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:#?}");
    ran.stdout.trim().to_string()
}

/// A fleet on `main` that was applied, on a branch for a change.
fn world() -> World {
    let world = World::with_devices("{}", 20);
    world.write(".gitignore", ".fleetform/\n");
    world.job("done", REBOOT);
    world.job("waits", "{target: {query: '*'}, action: {tags: {ring: a}}, suspend: true}");
    world.apply().unwrap();
    git(world.path(), &["checkout", "-q", "-b", "change"]);
    world
}

/// A clone of one commit, as a step of CI makes it, with the results branch or without.
fn shallow(world: &World, folder: &Path, has_results: bool) -> PathBuf {
    let clone = folder.join("clone");
    let url = format!("file://{}", world.path().display());
    git(folder, &["clone", "-q", "--depth=1", "--branch=change", &url, clone.to_str().unwrap()]);
    git(&clone, &["fetch", "-q", "--depth=1", "origin", "main:refs/remotes/origin/main"]);
    if has_results {
        git(&clone, &["fetch", "-q", "origin", "fleetform/results:fleetform/results"]);
    }
    clone
}

fn at(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::of(fleetform().arg("-C").arg(folder).args(arguments))
}

#[test]
fn a_tree_that_changes_nothing_plans_nothing_in_any_clone() {
    let world = world();
    let plan = world.run(&["plan", "--base", "main", "--detailed-exitcode"]).expect(0);
    assert!(
        plan.stdout.contains("documents are alike on both sides") && plan.stdout.contains("nothing to do"),
        "{plan:?}"
    );
    for has_results in [true, false] {
        let folder = crate::world::folder();
        let clone = shallow(&world, folder.path(), has_results);
        let plan = at(&clone, &["plan", "--base", "origin/main", "--detailed-exitcode"]).expect(0);
        assert!(plan.stdout.contains("Plan: nothing to do."), "{plan:?}");
        assert_eq!(plan.stderr.contains("FF675"), !has_results, "{plan:?}");
        let json = at(&clone, &["plan", "--base", "origin/main", "--json"]).expect(0).json()[0].clone();
        assert_eq!((&json["facts"], &json["changes"]), (&Value::from("files"), &serde_json::json!([])));
        assert_eq!(json["compared_with"]["alike"].as_u64().unwrap(), 3);
    }
    // What came to the base since is not the change's.
    git(world.path(), &["checkout", "-q", "main"]);
    world.job("later", REBOOT);
    git(world.path(), &["checkout", "-q", "change"]);
    world.run(&["plan", "--base", "main", "--detailed-exitcode"]).expect(0);
}

#[test]
fn a_plan_of_a_change_shows_what_it_adds_and_takes_away() {
    let world = world();
    world.job("more", "{target: {query: '*'}, action: {property: {level: 40}}, delivery: {batchSize: 10}}");
    world.job("asleep", "{target: {query: '*'}, action: {tags: {ring: b}}, suspend: true}");
    fs::remove_file(world.file("jobs/done.yaml")).unwrap();
    fs::remove_file(world.file("jobs/waits.yaml")).unwrap();
    world.commit("change");
    let run = |arguments: &[&str]| world.run(&[&["plan", "--base", "main"], arguments].concat());
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = words(run(&[]).expect(0).stdout);
    for line in [
        "+ run job/more run 1",
        "- gone job/done run 1 completed",
        "what it wrote stays",
        "job/waits",
        "will not go on",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    run(&["--detailed-exitcode"]).expect(2);
    let json = run(&["--json"]).expect(0).json()[0].clone();
    let addresses: Vec<&Value> = json["changes"].as_array().unwrap().iter().map(|one| &one["address"]).collect();
    assert!(addresses.contains(&&Value::from("job/more")) && addresses.contains(&&Value::from("job/asleep")), "{json}");
    let what: Vec<&Value> =
        json["compared_with"]["withdrawn"].as_array().unwrap().iter().map(|one| &one["what"]).collect();
    assert!(what.contains(&&Value::from("will-not-go-on")), "{json}");
    // The same numbers in all forms.
    let comment = run(&["--markdown"]).expect(0).stdout;
    assert_eq!(json["summary"]["devices"], 20);
    assert!(
        text.contains("Plan: 1 to run on 20 devices.") && comment.contains("### fleetform: 1 job on 20 devices"),
        "{comment}"
    );
    assert!(
        comment.starts_with("<!-- fleetform:plan -->\n") && comment.contains("| `level` | (none) | `40` | 20 |"),
        "{comment}"
    );
    assert!(comment.contains(json["source"]["digest"].as_str().unwrap()), "the digest of the files is in the comment");
    // A run that main would do and the change does not, and one that it does otherwise.
    git(world.path(), &["checkout", "-q", "main"]);
    world.job("soon", REBOOT);
    git(world.path(), &["checkout", "-q", "-b", "other"]);
    fs::remove_file(world.file("jobs/soon.yaml")).unwrap();
    world.commit("not soon");
    let text = words(world.run(&["plan", "--base", "main"]).expect(0).stdout);
    assert!(text.contains("job/soon run 1 will not run on 20 devices"), "{text}");
}

#[test]
fn an_import_that_leaves_or_is_edited_is_a_change_and_the_same_one_is_none() {
    let world = world();
    let folder = crate::world::folder();
    world.write("more.csv", "IOTC_DEVICEID\nnew-1\nbad id\n");
    world.declare("more.yaml", "DeviceImport", "more", "{file: more.csv}");
    world.commit("more devices");
    let clone = shallow(&world, folder.path(), true);
    let plan = at(&clone, &["plan", "--base", "origin/main", "--json"]).expect(0).json()[0].clone();
    let changes = plan["changes"].as_array().unwrap();
    assert_eq!((changes.len(), &changes[0]["address"]), (1, &Value::from("import/more")), "{plan}");
    assert_eq!(changes[0]["import"]["rejected"], 1);
    at(&clone, &["plan", "--base", "origin/main", "--strict"]).expect(65);
    world.declare("more.yaml", "DeviceImport", "more", "{file: more.csv, expect: {rejected: 0}}");
    let refused = world.run(&["plan", "--base", "main"]).expect(65);
    assert!(refused.stderr.contains("has 1 rejected rows, and its `expect` allows at most 0"), "{refused:?}");
}

#[test]
fn a_comment_stays_within_its_bytes_and_is_always_whole() {
    let world = world();
    for n in 0..60 {
        let value = "`|<b>@team".repeat(n % 7);
        let spec = format!("{{target: {{query: '*'}}, action: {{tags: {{t{n}: \"{value}\", u: {{v{n}: {n}}}}}}}}}");
        world.declare(&format!("jobs/j{n}.yaml"), "Job", &format!("j{n}"), &spec);
    }
    world.commit("many");
    for most in [2_000, 5_000, 20_000, 60_000] {
        let ran = world.run(&["plan", "--base", "main", "--markdown", "--markdown-bytes", &most.to_string()]);
        let comment = ran.stdout;
        assert!(comment.len() <= most, "{} of {most}", comment.len());
        let count = |what: &str| comment.matches(what).count();
        assert_eq!(count("<details"), count("</details>"), "{comment}");
        assert!(comment.lines().filter(|line| line.starts_with("```")).count() % 2 == 0, "{comment}");
        assert!(comment.ends_with("</sub>\n") && comment.contains("plan `"), "{comment}");
        assert_eq!(most < 5_000, comment.contains("for which there is no room"), "{most}: {comment}");
        for line in comment.lines().filter(|line| line.starts_with("| `t")) {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
        }
    }
    world.run(&["plan", "--markdown", "--json"]).expect(64);
    // What has no room for its table has a line.
    let comment = world.run(&["plan", "--base", "main", "--markdown", "--markdown-bytes", "20000"]).expect(0).stdout;
    for n in 0..60 {
        assert!(comment.contains(&format!("job/j{n} run 1: 20 devices")), "{n}: {comment}");
    }
    // An item stands apart from what is folded before it: there it would be part of that.
    for (at, line) in comment.lines().enumerate().filter(|(_, line)| line.starts_with("- ")) {
        assert_eq!(comment.lines().nth(at - 1), Some(""), "{line}");
    }
}

#[test]
fn files_that_cannot_be_planned_are_told_in_the_form_that_was_asked_for() {
    let world = world();
    world.declare("jobs/broken.yaml", "Job", "broken", "{target: {group: none}, action: {tags: {a: b}}}");
    let comment = world.run(&["plan", "--markdown"]).expect(65).stdout;
    assert!(comment.contains("### fleetform: cannot be planned, 1 error") && comment.contains("FF401"), "{comment}");
    assert!(world.run(&["plan", "--format", "github"]).expect(65).stdout.starts_with("::error file=jobs/broken.yaml"));
    let sarif: Value = serde_json::from_str(&world.run(&["plan", "--format", "sarif"]).expect(65).stdout).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "FF401");
    assert!(world.run(&["plan", "--format", "junit"]).expect(65).stdout.contains("FF401"));
    assert!(world.run(&["plan", "--format", "json"]).expect(65).stdout.contains("FF401"));
}

#[test]
fn what_is_renamed_or_held_is_no_new_thing_and_an_error_of_the_base_is_not_the_changes() {
    let world = world();
    // A rename of what has run changes nothing.
    let text = fs::read_to_string(world.file("jobs/done.yaml")).unwrap();
    fs::remove_file(world.file("jobs/done.yaml")).unwrap();
    world.write("jobs/renamed.yaml", text.replace("name: done", "name: renamed, previousName: done"));
    world.commit("renamed");
    let plan = world.run(&["plan", "--base", "main", "--detailed-exitcode"]).expect(0);
    assert!(!plan.stdout.contains("gone"), "{plan:?}");
    // A run that waits on main and is suspended does not start.
    git(world.path(), &["checkout", "-qf", "main"]);
    world.job("soon", REBOOT);
    let conflict = "{target: {query: '*'}, action: {property: {level: 1}}}";
    world.job("one", conflict);
    git(world.path(), &["checkout", "-q", "-b", "held"]);
    world.declare("jobs/soon.yaml", "Job", "soon", &REBOOT.replace("{target", "{suspend: true, target"));
    world.commit("suspended");
    let plan = world.run(&["plan", "--base", "main", "--detailed-exitcode"]).expect(2);
    assert!(plan.stdout.contains("will not run on 20"), "{plan:?}");
    // Two jobs of main are in conflict: that is not for a change of something else to mend.
    git(world.path(), &["checkout", "-qf", "main"]);
    world.job("two", &conflict.replace('1', "2"));
    git(world.path(), &["checkout", "-q", "-b", "elsewhere"]);
    world.job("asleep", "{target: {query: '*'}, action: {tags: {ring: b}}, suspend: true}");
    world.run(&["plan"]).expect(65);
    world.run(&["plan", "--base", "main"]).expect(0);
}

#[test]
fn findings_of_a_plan_are_annotations_and_reports() {
    let world = world();
    world.job("again", "{target: {query: \"tags.nothing = 'x'\"}, action: {tags: {a: b}}}");
    let github = world.run(&["plan", "--format", "github"]).expect(0).stdout;
    assert!(github.starts_with("::warning file=jobs/again.yaml,line="), "{github}");
    let sarif: Value = serde_json::from_str(&world.run(&["plan", "--format", "sarif"]).expect(0).stdout).unwrap();
    let rules: Vec<&Value> = sarif["runs"][0]["results"].as_array().unwrap().iter().map(|one| &one["ruleId"]).collect();
    assert_eq!((&sarif["version"], rules), (&Value::from("2.1.0"), vec![&Value::from("FF651"); 2]));
    assert!(world.run(&["plan", "--format", "junit"]).expect(0).stdout.contains("<testsuite"));
    world.run(&["plan", "--strict"]).expect(65);
    for n in 0..30 {
        world.declare(
            &format!("jobs/e{n}.yaml"),
            "Job",
            &format!("e{n}"),
            "{target: {group: none}, action: {tags: {a: b}}}",
        );
    }
    let github = world.run(&["validate", "--format", "github"]).expect(65).stdout;
    assert_eq!(github.matches("::error").count(), 10, "{github}");
    assert!(github.contains("::error title=fleetform::21 more errors"), "{github}");
}

#[test]
fn the_base_may_be_broken_or_have_no_fleet() {
    let world = world();
    git(world.path(), &["checkout", "-q", "main"]);
    world.declare("jobs/broken.yaml", "Job", "broken", "{target: {group: none}, action: {tags: {a: b}}}");
    world.commit("broken");
    git(world.path(), &["checkout", "-q", "-b", "mend"]);
    fs::remove_file(world.file("jobs/broken.yaml")).unwrap();
    world.job("mended", REBOOT);
    let plan = world.run(&["plan", "--base", "main"]).expect(0);
    assert!(plan.stdout.contains("+ run      job/mended run 1"), "{plan:?}");
    git(world.path(), &["checkout", "-q", "--orphan", "bare"]);
    git(world.path(), &["rm", "-rqf", "."]);
    git(world.path(), &["commit", "-q", "--allow-empty", "-m", "nothing"]);
    git(world.path(), &["checkout", "-q", "mend"]);
    let plan = world.run(&["plan", "--base", "bare"]).expect(0);
    assert!(plan.stderr.contains("FF676") && plan.stdout.contains("job/mended"), "{plan:?}");
    let unknown = world.run(&["plan", "--base", "nowhere"]);
    assert_eq!(unknown.code, 64, "{unknown:?}");
}

/// Returns the scripts of a file of CI, in order: those of `run` or the lines of `script`.
fn scripts(path: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let file: Value = serde_yaml::from_str(&text).unwrap();
    if let Some(steps) = file.pointer("/runs/steps").and_then(Value::as_array) {
        return steps.iter().map(|step| step["run"].as_str().unwrap().to_string()).collect();
    }
    let lines = file["fleetform-plan"]["script"].as_array().unwrap();
    lines.iter().map(|line| line.as_str().unwrap().to_string()).collect()
}

/// Runs the scripts of a file of CI in a clone, with a folder of programs on the path.
fn run_scripts(path: &str, (tools, clone): (&Path, &Path), variables: &[(&str, &str)]) {
    for script in scripts(path) {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &script]).current_dir(clone);
        shell.env("PATH", format!("{}:{}", tools.display(), std::env::var("PATH").unwrap()));
        shell.env_remove("GITHUB_ACTIONS").env_remove("GITLAB_CI").envs(variables.iter().copied());
        let ran = Ran::of(&mut shell);
        assert_eq!(ran.code, 0, "{path}: {script}: {ran:#?}");
    }
}

#[test]
fn the_files_for_forges_do_what_they_say() {
    let world = world();
    world.job("more", REBOOT);
    let folder = crate::world::folder();
    let clone = folder.path().join("clone");
    let url = format!("file://{}", world.path().display());
    git(folder.path(), &["clone", "-q", "--branch=change", &url, clone.to_str().unwrap()]);
    let tools = folder.path().join("tools");
    fs::create_dir(&tools).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fleetform"), tools.join("fleetform")).unwrap();
    let event = folder.path().join("event.json");
    let head = git(&clone, &["rev-parse", "HEAD"]);
    let request = serde_json::json!({"number": 7, "head": {"sha": head, "repo": {"full_name": PROJECT}}});
    fs::write(&event, serde_json::json!({"pull_request": request}).to_string()).unwrap();
    let (github, gitlab) = (StandIn::new(Kind::GitHub), StandIn::new(Kind::GitLab));
    let summary = folder.path().join("summary.md");
    for (path, of_the_forge) in [
        (
            "action.yml",
            vec![
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_API_URL", &*github.api),
                ("GITHUB_REPOSITORY", PROJECT),
                ("GITHUB_EVENT_PATH", event.to_str().unwrap()),
                ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
                ("GITHUB_TOKEN", TOKEN),
                ("FOLDER", "."),
                ("RESULTS", "fleetform/results"),
                ("BASE", "origin/main"),
                ("STRICT", "false"),
                ("COMMENT", "true"),
                ("STATUS", "true"),
            ],
        ),
        (
            "packaging/gitlab-ci.yml",
            vec![
                ("GITLAB_CI", "true"),
                ("CI_API_V4_URL", &*gitlab.api),
                ("CI_PROJECT_ID", PROJECT),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
                ("CI_COMMIT_SHA", &*head),
                ("FLEETFORM_FORGE_TOKEN", TOKEN),
                ("FLEETFORM_FOLDER", "."),
                ("FLEETFORM_RESULTS", "fleetform/results"),
            ],
        ),
    ] {
        run_scripts(path, (&tools, &clone), &of_the_forge);
    }
    let summary = fs::read_to_string(summary).unwrap();
    assert!(summary.contains("### fleetform: 1 job on 20 devices"), "{summary}");
    assert_eq!(fs::read_to_string(clone.join("fleetform.md")).unwrap(), summary_like(&clone, &summary));
    for (server, body) in [(&github, &summary), (&gitlab, &fs::read_to_string(clone.join("fleetform.md")).unwrap())] {
        let comments = server.comments();
        assert_eq!((comments.len(), comments[0].change, &comments[0].body), (1, 7, body));
        assert_eq!(server.states_of(&head), ["success"]);
        server.assert_described();
    }
    let hooks = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml")).unwrap();
    let hooks: Value = serde_yaml::from_str(&hooks).unwrap();
    let entry: Vec<&str> = hooks[0]["entry"].as_str().unwrap().split(' ').collect();
    at(&clone, &entry[1..]).expect(0);
}

/// Two plans differ in the time of their look alone.
fn summary_like(clone: &Path, summary: &str) -> String {
    let other = fs::read_to_string(clone.join("fleetform.md")).unwrap();
    let id = |text: &str| text.rsplit("<sub>").next().unwrap().to_string();
    summary.replace(&id(summary), &id(&other))
}

#[test]
fn a_snapshot_plans_like_the_registry_and_has_no_keys() {
    let world = world();
    world.job("level", "{target: {query: '*'}, action: {property: {level: 60}}}");
    world.apply().unwrap();
    let folder = crate::world::folder();
    let snapshot = folder.path().join("fleet.snapshot");
    let said = world.run(&["snapshot", "--out", snapshot.to_str().unwrap()]).expect(0).stderr;
    assert!(said.contains("Wrote 20 devices without keys"), "{said}");
    world.job("dim", "{target: {query: 'properties.desired.level = 60'}, action: {property: {level: 40}}}");
    let clone = shallow(&world, folder.path(), true);
    let at_clone =
        |arguments: &[&str]| at(&clone, &[&["plan", "--json"], arguments].concat()).expect(0).json()[0].clone();
    let (with, here) = (
        at_clone(&["--snapshot", snapshot.to_str().unwrap(), "--base", "origin/main"]),
        world.run(&["plan", "--json", "--base", "main"]).expect(0).json()[0].clone(),
    );
    assert_eq!((&with["changes"], &with["facts"]), (&here["changes"], &Value::from("registry")));
    assert_eq!(with["changes"][0]["diff"][0]["from"], 60);
    assert_eq!(at_clone(&["--base", "origin/main"])["facts"], "files");
    // It stands for the registry of the environment too; one that is named on the line contradicts it.
    let named = ["plan", "--snapshot", snapshot.to_str().unwrap()];
    let nowhere = "sqlite:/nonexistent/fleet.db";
    Ran::of(fleetform().arg("-C").arg(&clone).args(named).env("FLEETFORM_REGISTRY", nowhere)).expect(0);
    let both = at(&clone, &[&named[..], &["--registry", nowhere]].concat()).expect(64);
    assert!(both.stderr.contains("cannot be used with"), "{both:?}");
    // No key of a device is in it, packed or not.
    let key = world.devices().iter().map(|device| device.device_id.clone()).next().unwrap();
    let exported = world.run(&["device", "export", "-o", "-"]).expect(0).stdout;
    let secret = exported.lines().find(|line| line.starts_with(&key)).unwrap().split(',').nth(2).unwrap().to_string();
    use base64::Engine as _;
    let raw = base64::engine::general_purpose::STANDARD.decode(&secret).unwrap();
    let (_, packed) = fleetform::registry::snapshot::open(fs::File::open(&snapshot).unwrap()).unwrap();
    let mut unpacked = Vec::new();
    packed.unpack(&mut unpacked).unwrap();
    let has = |what: &[u8]| unpacked.windows(what.len()).any(|part| part == what);
    assert!(raw.len() >= 16 && !has(&raw) && !has(secret.as_bytes()) && has(key.as_bytes()));
    // One of another fleet, one that is none, one that is cut short.
    let other = World::with_devices("{}", 1);
    other.declare("fleetform.yaml", "Fleet", "other", "{}");
    let refused = other.run(&["plan", "--snapshot", snapshot.to_str().unwrap()]).expect(65);
    assert!(refused.stderr.contains("is of the fleet `acme`"), "{refused:?}");
    let bytes = fs::read(&snapshot).unwrap();
    for (content, word) in [(&bytes[..bytes.len() - 9], "cut short or damaged"), (&b"no"[..], "is not a snapshot")] {
        fs::write(&snapshot, content).unwrap();
        let refused = world.run(&["plan", "--snapshot", snapshot.to_str().unwrap()]).expect(65);
        assert!(refused.stderr.contains(word) && refused.stderr.contains("Take it anew"), "{refused:?}");
    }
    assert!(!fs::read_dir(std::env::temp_dir()).unwrap().any(|one| {
        let name = one.unwrap().file_name().into_string().unwrap_or_default();
        name.starts_with(&format!("fleetform-{}-", std::process::id()))
    }));
}

#[test]
fn a_daemon_keeps_a_snapshot_while_it_works() {
    let world = world();
    let folder = crate::world::folder();
    let snapshot = folder.path().join("fleet.snapshot");
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["watch", "--snapshot-every", "1s", "--snapshot-to"]).arg(&snapshot);
    let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let taken = || {
        let (head, _) = fleetform::registry::snapshot::open(fs::File::open(&snapshot).ok()?).ok()?;
        Some(head.taken_at)
    };
    let mut seen = BTreeSet::new();
    while seen.len() < 2 && Instant::now() < until {
        seen.extend(taken());
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(seen.len(), 2, "it was taken again");
    world.run(&["plan", "--snapshot", snapshot.to_str().unwrap()]).expect(0);
}
