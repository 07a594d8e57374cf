//! The life of a job through commits: stopped, continued, copied, rerun, renamed, deleted.

use std::time::Duration;

use fleetform::execute::{Inbox, Progress};
use fleetform::model::outcome::RunStatus;
use fleetform::ops::OpsError;
use fleetform::ops::apply::ApplyOptions;
use fleetform::plan::ActionKind;
use serde_json::json;

use crate::world::{BRANCH, Ran, World, fleetform};

const DIM: &str = "{target: {query: '*'}, action: {property: {light: {level: 3}}}}";

/// A fleet whose ten devices take a second each, one after the other.
fn slow_world() -> World {
    let world =
        World::with_devices("{link: {simulated: {latency: 1s, journal: devices.jsonl}}, limits: {inFlight: 1}}", 10);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    let command = "{name: reboot, responseTimeout: 10s}";
    world.job("reboot", &format!("{{target: {{query: '*'}}, action: {{command: {command}}}}}"));
    world.commit("Reboot");
    world
}

fn refused_with(world: &World) -> String {
    match world.apply() {
        Err(OpsError::Invalid(findings)) => {
            let codes: Vec<&str> = findings.diagnostics.sorted().iter().map(|item| item.code.0).collect();
            codes.join(" ")
        }
        other => panic!("the apply is not refused: {other:?}"),
    }
}

#[test]
fn stop_and_continue_are_commits_that_keep_the_file() {
    let world = slow_world();
    let path = world.file("jobs/reboot.yaml");
    let text = format!("# why\n{}# end\n", std::fs::read_to_string(&path).unwrap());
    world.write("jobs/reboot.yaml", &text);
    world.commit("Comment");
    assert!(world.apply_interrupted(Duration::from_millis(2_500)).was_interrupted);

    world.run(&["job", "stop", "reboot"]).expect(0);
    let stopped = std::fs::read_to_string(&path).unwrap();
    assert!(stopped.starts_with("# why\n") && stopped.ends_with("# end\n") && stopped.contains("suspend: true"));
    assert_eq!(world.planned_action("reboot"), ActionKind::Stop);
    let applied = world.apply().unwrap();
    assert_eq!(applied.records[0].status, RunStatus::Stopped);
    assert_eq!(world.record("reboot", "1")["status"], json!("stopped"));
    assert!(world.apply().unwrap().was_empty, "a stopped job stays stopped");

    world.run(&["job", "continue", "reboot"]).expect(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), stopped.replace("suspend: true", "suspend: false"));
    let applied = world.apply().unwrap();
    assert_eq!((applied.records[0].status, applied.records[0].counts.completed), (RunStatus::Completed, 10));
    assert_eq!(world.executions().len(), 10, "each device rebooted once");
}

#[test]
fn a_stop_does_not_commit_what_a_person_has_not() {
    let world = slow_world();
    let path = world.file("jobs/reboot.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    world.write("jobs/reboot.yaml", format!("{text}# unfinished thought\n"));
    world.run(&["job", "stop", "reboot"]).expect(75);
    world.run(&["job", "stop", "reboot", "--no-commit"]).expect(0);
    assert!(std::fs::read_to_string(&path).unwrap().contains("# unfinished thought"));
}

#[test]
fn a_copy_is_a_new_job_and_a_rerun_takes_the_failed_devices() {
    let devices = "{d-002: {answers: 500}, d-004: {answers: 500}}";
    let world = World::with_devices(&format!("{{link: {{simulated: {{devices: {devices}}}}}}}"), 6);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.commit("Reboot");
    assert_eq!(world.apply().unwrap().records[0].counts.failed, 2);

    world.run(&["job", "rerun", "reboot"]).expect(0);
    world.run(&["job", "copy", "reboot"]).expect(0);
    let applied = world.apply().unwrap();
    let counts: Vec<(String, u64)> =
        applied.records.iter().map(|record| (record.job.to_string(), record.counts.total)).collect();
    assert!(counts.contains(&("reboot-rerun".to_string(), 2)) && counts.contains(&("reboot-copy".to_string(), 6)));
    let rerun: Vec<String> = world.rows("reboot-rerun", "1").into_iter().map(|row| row.device_id).collect();
    assert_eq!(rerun, ["d-002", "d-004"]);
}

#[test]
fn a_copy_takes_no_name_whose_run_was_claimed() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {answers: 500}}}}}", 3);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.commit("Reboot");
    world.apply().unwrap();
    world.run(&["job", "copy", "reboot"]).expect(0);
    world.run(&["job", "rerun", "reboot"]).expect(0);
    world.apply().unwrap();
    for file in ["jobs/reboot-copy.yaml", "jobs/reboot-rerun.yaml"] {
        std::fs::remove_file(world.file(file)).unwrap();
    }
    world.commit("tidied up");
    let head = world.head();
    for verb in ["copy", "rerun"] {
        let name = format!("reboot-{verb}");
        let ran = world.run(&["job", verb, "reboot", &name]).expect(64);
        let told = format!("a job `{name}` was there before, and its run 1 was claimed");
        assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    }
    assert_eq!(world.head(), head);
    world.run(&["job", "copy", "reboot"]).expect(0);
    world.run(&["job", "rerun", "reboot"]).expect(0);
    assert!(world.file("jobs/reboot-copy-2.yaml").exists() && world.file("jobs/reboot-rerun-2.yaml").exists());
}

#[test]
fn a_rerun_of_a_run_without_failures_says_so() {
    let world = World::with_devices("{}", 3);
    world.job("dim", DIM);
    world.commit("Dim");
    world.apply().unwrap();
    let ran = world.run(&["job", "rerun", "dim"]).expect(1);
    assert!(ran.stderr.contains("no device failed"), "{}", ran.stderr);
}

#[test]
fn a_renamed_job_does_not_run_again() {
    let world = World::with_devices("{}", 3);
    world.job("dim", DIM);
    world.commit("Dim");
    world.apply().unwrap();
    std::fs::remove_file(world.file("jobs/dim.yaml")).unwrap();
    world.job("darken", DIM);
    world.commit("Rename");
    assert_eq!(refused_with(&world), "FF607");

    let text = std::fs::read_to_string(world.file("jobs/darken.yaml")).unwrap();
    world.write("jobs/darken.yaml", text.replace("name: darken", "name: darken, previousName: dim"));
    world.commit("Say so");
    assert!(world.apply().unwrap().was_empty);
    world.job("dim", DIM);
    world.commit("A copy beside the renamed one");
    assert_eq!(world.planned_action("dim"), ActionKind::Done);
}

#[test]
fn a_job_that_is_deleted_while_it_runs_is_stopped_and_goes_on_when_it_is_back() {
    let world = slow_world();
    let text = std::fs::read_to_string(world.file("jobs/reboot.yaml")).unwrap();
    assert!(world.apply_interrupted(Duration::from_millis(2_500)).was_interrupted);
    let before = world.executions().len();
    std::fs::remove_file(world.file("jobs/reboot.yaml")).unwrap();
    world.commit("Delete");
    assert_eq!(world.planned_action("reboot"), ActionKind::Stop);
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Stopped);
    assert!(world.apply().unwrap().was_empty);
    assert_eq!(world.executions().len(), before, "nothing was sent");

    world.write("jobs/reboot.yaml", text);
    world.commit("Bring it back");
    assert_eq!(world.apply().unwrap().records[0].counts.completed, 10);
    assert_eq!(world.executions().len(), 10, "each device rebooted once");
}

#[test]
fn a_results_branch_that_others_wrote_to_or_rewrote_holds() {
    let world = World::with_devices("{}", 2);
    world.job("dim", DIM);
    world.commit("Dim");
    world.apply().unwrap();
    let repository = world.repository();
    let name = format!("refs/heads/{BRANCH}");
    let sound = repository.find_reference(&name).unwrap().peel_to_commit().unwrap();
    let subjects = world.subjects();

    let foreign =
        repository.commit(None, &sound.author(), &sound.author(), "mine", &sound.tree().unwrap(), &[&sound]).unwrap();
    repository.reference(&name, foreign, true, "test").unwrap();
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains(&foreign.to_string()), "{}", ran.stderr);

    repository.reference(&name, sound.parent_id(0).unwrap(), true, "test").unwrap();
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("was rewritten"), "{}", ran.stderr);
    world.run(&["plan"]).expect(75);

    repository.reference(&name, sound.id(), true, "test").unwrap();
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(world.subjects(), subjects, "nothing was written");
}

#[test]
fn a_fleet_that_its_head_does_not_have_is_planned() {
    let world = World::with_devices("{}", 2);
    let before = world.head();
    world.declare("hall/fleetform.yaml", "Fleet", "hall", "{results: {branch: results/hall}}");
    world.commit("Hall");
    let hall = world.file("hall");
    let run = |arguments: &[&str]| Ran::of(fleetform().arg("-C").arg(&hall).args(arguments));
    run(&["init"]).expect(0);
    run(&["apply", "--yes"]).expect(0);
    let repository = world.repository();
    repository.reset(&repository.revparse_single(&before).unwrap(), git2::ResetType::Soft, None).unwrap();
    let ran = run(&["plan"]).expect(0);
    assert!(!ran.stderr.contains("FF669"), "{ran:?}");
}

#[test]
fn a_rewound_history_holds_and_a_squash_does_not() {
    let world = World::with_devices("{}", 2);
    world.job("dim", DIM);
    world.commit("Dim");
    let before = world.head();
    world.job("tag", "{target: {query: '*'}, action: {tags: {ring: canary}}}");
    world.commit("Tag");
    world.apply().unwrap();
    let applied = world.head();

    let reset = |to: &str| {
        let repository = world.repository();
        let commit = repository.revparse_single(to).unwrap();
        repository.reset(&commit, git2::ResetType::Hard, None).unwrap();
    };
    reset(&before);
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("rewound") && ran.stderr.contains("--accept-rewind"), "{}", ran.stderr);
    // The plan says so before.
    let words =
        format!("istory was rewound: the commit {before} does not come after {applied}, which was applied last");
    assert!(ran.stderr.contains(&words), "{}", ran.stderr);
    let warned = |arguments: &[&str]| {
        let ran = world.run(arguments).expect(0);
        ran.stderr.contains("FF669") && ran.stderr.contains(&words) && ran.stderr.contains("--accept-rewind")
    };
    assert!(warned(&["plan"]) && warned(&["plan", "--rev", "HEAD"]));
    assert!(!warned(&["plan", "--rev", &applied]));

    // A shallow clone does not know, and a fleet that is not in `HEAD` has no history.
    let shallow = world.file(".git/shallow");
    std::fs::write(&shallow, format!("{before}\n{applied}\n")).unwrap();
    assert!(!warned(&["plan"]) && !warned(&["plan", "--rev", "HEAD"]));
    std::fs::remove_file(shallow).unwrap();
    assert!(warned(&["plan"]));

    // The same files as one commit: a squash.
    let repository = world.repository();
    let tip = repository.find_commit(git2::Oid::from_str(&applied).unwrap()).unwrap();
    let squashed = repository.commit(None, &tip.author(), &tip.author(), "Squash", &tip.tree().unwrap(), &[]).unwrap();
    reset(&squashed.to_string());
    assert!(!warned(&["plan"]));
    world.run(&["apply", "--yes"]).expect(0);

    reset(&before);
    world.run(&["apply", "--yes"]).expect(75);
    world.run(&["apply", "--yes", "--accept-rewind"]).expect(0);
    world.run(&["apply", "--yes"]).expect(0);
}

#[test]
fn a_first_try_commits_nothing_to_the_repository_around_it() {
    let world = World::new("{}");
    let head = world.head();
    let inner = world.file("my-fleet");
    let ran = crate::world::Ran::of(crate::world::fleetform().arg("quickstart").arg(&inner));
    ran.expect(0);
    assert_eq!(world.head(), head);
    assert!(inner.join(".git").is_dir());
    assert!(git2::Repository::open(&inner).unwrap().find_reference("refs/heads/fleetform/results").is_ok());
}

#[test]
fn a_clone_knows_what_has_run_from_its_remote() {
    let world = World::with_devices("{}", 2);
    world.job("dim", DIM);
    world.commit("Dim");
    world.apply().unwrap();
    let folder = crate::world::folder();
    let clone = folder.path().join("clone");
    git2::build::RepoBuilder::new().clone(world.path().to_str().unwrap(), &clone).unwrap();
    let at =
        |arguments: &[&str]| crate::world::Ran::of(crate::world::fleetform().arg("-C").arg(&clone).args(arguments));
    let listed = at(&["job", "list", "--json"]).expect(0).json();
    assert_eq!(listed[0]["status"], json!("completed"));
    at(&["init"]).expect(0);
    let planned = at(&["plan"]).expect(0);
    assert!(planned.stdout.contains("done     job/dim"), "{}", planned.stdout);
    let refused = at(&["apply", "--yes"]).expect(75);
    assert!(refused.stderr.contains("another registry works on this fleet"), "{}", refused.stderr);
    assert_eq!(at(&["job", "list", "--json"]).expect(0).json().len(), 1, "nothing ran again");
}

#[test]
fn a_clone_whose_results_are_old_is_told_to_fetch_them() {
    let world = World::with_devices("{results: {remote: origin}}", 2);
    world.job("dim", DIM);
    world.commit("Dim");
    // The remote is `world`; the clone has its state at that time.
    let folder = crate::world::folder();
    let clone = folder.path().join("clone");
    let cloned = git2::build::RepoBuilder::new().clone(world.path().to_str().unwrap(), &clone).unwrap();
    let at =
        |arguments: &[&str]| crate::world::Ran::of(crate::world::fleetform().arg("-C").arg(&clone).args(arguments));
    let first = cloned.refname_to_id(&format!("refs/remotes/origin/{BRANCH}")).unwrap();
    cloned.reference(&format!("refs/heads/{BRANCH}"), first, true, "test").unwrap();
    let fresh = at(&["job", "list"]).expect(0);
    assert!(!fresh.stderr.contains("behind"), "{}", fresh.stderr);

    at(&["apply", "--yes"]).expect(0);
    let newest = cloned.refname_to_id(&format!("refs/heads/{BRANCH}")).unwrap();
    let commits = cloned.graph_ahead_behind(newest, first).unwrap().0;
    cloned.reference(&format!("refs/remotes/origin/{BRANCH}"), newest, true, "test").unwrap();
    cloned.reference(&format!("refs/heads/{BRANCH}"), first, true, "test").unwrap();
    let ran = at(&["job", "list"]).expect(75);
    let behind = format!(
        "here is {commits} commits behind origin's, as of the last fetch. Fetch it: `git fetch origin {BRANCH}:{BRANCH}`"
    );
    assert!(ran.stderr.contains(&behind), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("is behind here: the commit {newest}")), "{}", ran.stderr);
    assert!(!ran.stderr.contains("branch -D") && !ran.stderr.contains("branch -f"), "{}", ran.stderr);

    // A registry of its own knows of no newer one: then the line is all there is.
    let own = format!("sqlite:{}", folder.path().join("own.db").display());
    let ran = at(&["job", "list", "--registry", &own]).expect(0);
    assert!(ran.stderr.contains(&behind), "{}", ran.stderr);
    let ran = at(&["plan", "--registry", &own]).expect(0);
    assert!(
        ran.stderr.contains("FF670") && ran.stderr.contains(&format!("{commits} commits behind origin's")),
        "{}",
        ran.stderr
    );

    cloned.reference(&format!("refs/heads/{BRANCH}"), newest, true, "test").unwrap();
    let copied = at(&["job", "copy", "dim"]).expect(0);
    assert!(copied.stderr.contains("git push"), "{}", copied.stderr);
}

#[test]
fn nothing_is_removed_while_rows_are_rejected() {
    let world = World::new("{}");
    world.write("devices.csv", "IOTC_DEVICEID\na-1\na-2\n");
    world.declare("import.yaml", "DeviceImport", "all", "{file: devices.csv, removed: delete}");
    world.commit("Import");
    world.apply().unwrap();
    world.write("devices.csv", "IOTC_DEVICEID\na-1\na_2\n");
    world.commit("A slip of the finger");
    world.apply().unwrap();
    assert_eq!(world.devices().len(), 2);
    world.write("devices.csv", "IOTC_DEVICEID\na-1\n");
    world.commit("On purpose");
    world.apply().unwrap();
    assert_eq!(world.devices().len(), 1);
}

#[test]
fn a_saved_plan_holds_for_the_very_job_and_file_that_it_was_made_of() {
    let world = World::with_devices("{}", 2);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.commit("Reboot");
    let file = world.folder_file("plan.json");
    world.run(&["plan", "--out", &file]).expect(0);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot, idempotent: true}}}");
    world.commit("Another command, as far as a device is concerned");
    let ran = world.run(&["apply", &file, "--yes"]).expect(75);
    assert!(ran.stderr.contains("job/reboot"), "{}", ran.stderr);

    world.run(&["plan", "--out", &file]).expect(0);
    let devices = std::fs::read_to_string(world.file("devices.csv")).unwrap();
    world.write("devices.csv", devices.replace("Device 1", "Somebody else's"));
    world.commit("Another file of the same length in rows");
    let ran = world.run(&["apply", &file, "--yes"]).expect(75);
    assert!(ran.stderr.contains("import/all"), "{}", ran.stderr);
}

#[test]
fn a_refusal_of_a_later_job_does_not_hide_what_ran() {
    let world = World::with_devices("{}", 3);
    world.job("tag", "{target: {query: '*'}, action: {tags: {ring: canary}}}");
    let target = "{query: \"tags.ring = 'canary'\", expect: {max: 1}}";
    world.job("dim", &format!("{{target: {target}, after: [tag], action: {{property: {{light: 1}}}}}}"));
    world.commit("One after the other");
    let ran = world.run(&["apply", "--yes"]).expect(65);
    assert!(ran.stderr.contains("FF605") && ran.stderr.contains("job tag run 1: completed"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("Nothing was changed"), "{}", ran.stderr);
}

#[test]
fn a_running_apply_heeds_a_stop_that_is_committed_meanwhile() {
    let world = slow_world();
    let text = std::fs::read_to_string(world.file("jobs/reboot.yaml")).unwrap();
    let mut seen = Vec::new();
    let applied = world
        .apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| match progress {
            Progress::Advanced { counts, .. } if counts.completed == 3 => {
                world.write("jobs/reboot.yaml", text.replace("spec: {", "spec: {suspend: true, "));
                world.job("other", "{target: {query: '*'}, action: {tags: {x: 1}}}");
            }
            Progress::StopSeen { job, .. } => seen.push(job.to_string()),
            _ => {}
        })
        .unwrap();
    assert_eq!(seen, ["reboot"]);
    let [record] = applied.records.as_slice() else { panic!("one run: {:?}", applied.records) };
    assert_eq!(record.status, RunStatus::Stopped);
    assert!((3..10).contains(&record.counts.completed), "{:?}", record.counts);
    assert_eq!(world.executions().len() as u64, record.counts.completed, "what was in flight is recorded");
    assert_eq!(world.planned_action("other"), ActionKind::Run, "nothing else of the new commit is taken up");
    assert_eq!(world.planned_action("reboot"), ActionKind::Hold);
}

#[test]
fn a_file_that_is_deleted_while_its_job_runs_stops_it() {
    let world = slow_world();
    let mut is_done = false;
    let applied = world
        .apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
            if let Progress::Advanced { .. } = progress
                && !std::mem::replace(&mut is_done, true)
            {
                std::fs::remove_file(world.file("jobs/reboot.yaml")).unwrap();
                world.commit("No reboot");
            }
        })
        .unwrap();
    assert_eq!(applied.records[0].status, RunStatus::Stopped);
    assert!(world.apply().unwrap().was_empty);
}

#[test]
fn a_job_after_another_does_not_wait_for_a_third() {
    let world = slow_world();
    world.job("first", "{target: {query: '*'}, action: {tags: {x: 1}}}");
    world.job("second", "{after: [first], target: {query: 'tags.x = 1'}, action: {tags: {y: 1}}}");
    let mut order = Vec::new();
    world
        .apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
            if let Progress::RunFinished { record } = progress {
                order.push((record.job.to_string(), record.counts.completed));
            }
        })
        .unwrap();
    let expected = [("first", 10), ("second", 10), ("reboot", 10)];
    assert_eq!(order, expected.map(|(name, count)| (name.to_string(), count)));
}

#[test]
fn a_stop_is_heeded_whatever_else_is_wrong_with_its_commit() {
    let world = slow_world();
    let text = std::fs::read_to_string(world.file("jobs/reboot.yaml")).unwrap();
    let mut is_done = false;
    let applied = world
        .apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
            if let Progress::Advanced { .. } = progress
                && !std::mem::replace(&mut is_done, true)
            {
                world.write("jobs/reboot.yaml", text.replace("spec: {", "spec: {suspend: true, "));
                world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: Jobb\n");
                world.commit("stop, and a slip");
            }
        })
        .unwrap();
    assert_eq!(applied.records[0].status, RunStatus::Stopped);
}

#[test]
fn the_failure_of_one_run_loses_nothing_of_another() {
    let world = World::with_devices("{link: {simulated: {latency: 4s, journal: devices.jsonl}}}", 4);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("slow", "{target: {query: '*'}, action: {command: {name: slow, responseTimeout: 20s}}}");
    world.job("tag", "{target: {query: '*'}, action: {tags: {x: 1}}}");
    let lock = world.file(&format!(".git/refs/heads/{BRANCH}.lock"));
    let refused = world
        .apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
            if let Progress::RunStarted { job, .. } = progress
                && job.as_str() == "tag"
            {
                std::fs::write(&lock, "").unwrap();
            }
        })
        .unwrap_err();
    assert!(refused.to_string().contains("is locked"), "{refused}");
    assert_eq!(world.executions().len(), 4, "what was sent was awaited");
    std::fs::remove_file(&lock).unwrap();
    world.apply().unwrap();
    for job in ["slow", "tag"] {
        assert_eq!(world.record(job, "1")["completed"], json!(4), "{job}");
    }
    assert_eq!(world.executions().len(), 4);
}

#[test]
fn a_copy_of_a_renamed_job_is_a_new_job() {
    for metadata in ["{name: dim, previousName: dim-old}", "{previousName: dim-old, name: dim}"] {
        let world = World::with_devices("{}", 2);
        world.write(
            "jobs/dim.yaml",
            format!("apiVersion: fleetform/v1\nkind: Job\nmetadata: {metadata}\nspec: {DIM}\n"),
        );
        world.commit("dim");
        world.run(&["job", "copy", "dim"]).expect(0);
        let copy = std::fs::read_to_string(world.file("jobs/dim-copy.yaml")).unwrap();
        assert!(copy.contains("{name: dim-copy}"), "{copy}");
    }
    let world = World::with_devices("{}", 2);
    let block = "apiVersion: fleetform/v1\nkind: Job\nmetadata:\n  name: dim\n  previousName: dim-old\n  labels: {a: \
        b}\nspec: ";
    world.write("jobs/dim.yaml", format!("{block}{DIM}\n"));
    world.commit("dim");
    world.run(&["job", "copy", "dim"]).expect(0);
    let copy = std::fs::read_to_string(world.file("jobs/dim-copy.yaml")).unwrap();
    assert!(copy.contains("  name: dim-copy\n  labels: {a: b}\n"), "{copy}");
}

#[test]
fn a_stop_is_written_although_another_file_is_broken_and_not_after_the_end() {
    let world = slow_world();
    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: [\n");
    world.run(&["job", "stop", "reboot"]).expect(0);
    assert!(std::fs::read_to_string(world.file("jobs/reboot.yaml")).unwrap().contains("suspend: true"));
    let ran = world.run(&["job", "stop", "rebot"]).expect(1);
    assert!(ran.stderr.contains("Did you mean `reboot`?"), "{}", ran.stderr);
    // It may be in a file that cannot be read and says its name.
    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: [\nmetadata: {name: rebot}\n");
    world.run(&["job", "stop", "rebot"]).expect(65);
    world.run(&["job", "continue", "reboot"]).expect(0);
    std::fs::remove_file(world.file("jobs/broken.yaml")).unwrap();
    world.apply().unwrap();
    let ran = world.run(&["job", "continue", "reboot"]).expect(1);
    assert!(ran.stderr.contains("was completed: there is nothing to continue"), "{}", ran.stderr);

    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: [\n");
    let ran = world.run(&["job", "stop", "reboot"]).expect(1);
    assert!(ran.stderr.contains("was completed: there is nothing to stop"), "{}", ran.stderr);
}

#[test]
fn runs_are_told_and_run_again_although_another_file_is_broken() {
    let world = World::with_devices("{link: {simulated: {devices: {d-001: {answers: 500}}}}}", 2);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.job("later", DIM);
    world.commit("Reboot");
    std::fs::rename(world.file("jobs/later.yaml"), world.file("later.aside")).unwrap();
    world.commit("Aside");
    world.apply().unwrap();
    std::fs::rename(world.file("later.aside"), world.file("jobs/later.yaml")).unwrap();
    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: [\n");
    world.commit("Broken");
    let expect = |arguments: &[&str], words: &str| {
        let ran = world.run(arguments).expect(0);
        assert!(ran.stdout.contains(words), "{arguments:?}: {}", ran.stdout);
        assert!(ran.stderr.contains("Something of the files cannot be used"), "{arguments:?}: {}", ran.stderr);
    };
    expect(&["job", "list"], "reboot");
    expect(&["job", "show", "reboot"], "completed");
    expect(&["job", "show", "reboot", "--why"], "Failures by reason: 1 rejected");
    expect(&["job", "results", "reboot"], "d-001,");
    expect(&["job", "show", "later", "--why"], "Apply refuses");
    let ran = world.run(&["job", "rerun", "reboot"]).expect(0);
    assert!(world.file("jobs/reboot-rerun.yaml").exists(), "{}", ran.stderr);
    assert!(ran.stderr.contains("Something of the files cannot be used"), "{}", ran.stderr);
    // A missing document may be in a file that cannot be read.
    world.run(&["job", "show", "rebot", "--why"]).expect(65);
    world.run(&["job", "rerun", "rebot"]).expect(1);
    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: [\nmetadata: {name: rebot}\n");
    world.run(&["job", "rerun", "rebot"]).expect(65);
}

#[test]
fn nothing_is_edited_in_the_folder_of_a_daemon() {
    let world = World::new("{}");
    let folder = crate::world::folder();
    let environment =
        fleetform::ops::Environment { folder: folder.path().to_path_buf(), ..fleetform::ops::Environment::default() };
    fleetform::ops::Workspace::open_mirror(&environment, world.path().to_str().unwrap(), "main", "").unwrap();
    let mut command = crate::world::fleetform();
    let ran = crate::world::Ran::of(command.arg("-C").arg(folder.path()).args(["job", "stop", "dim"])).expect(64);
    assert!(ran.stderr.contains("holds a mirror of") && ran.stderr.contains("in a clone"), "{}", ran.stderr);
}
