//! The daemon on a local repository, in virtual time.

use std::cell::RefCell;
use std::time::Duration;

use fleetform::execute::{CrashPoints, Inbox, Ports, Progress, Side};
use fleetform::ops::OpsError;
use fleetform::ops::watch::{Note, WatchOptions, watch};
use fleetform::plan::ActionKind;
use serde_json::json;

use crate::edge;
use crate::world::{World, without_children};

/// The notes of a daemon, as text.
type Said = Vec<String>;

fn word(note: &Note<'_>) -> Option<String> {
    let progress = match note {
        Note::Progress(progress) => progress,
        Note::TakenUp { held, .. } => {
            let names: Vec<String> = held.documents.keys().map(|(kind, name)| format!("{kind}/{name}")).collect();
            return Some(format!("taken up, held [{}]", names.join(" ")));
        }
        Note::Trouble { error, .. } => {
            let codes = match error {
                OpsError::Invalid(findings) => {
                    findings.diagnostics.sorted().iter().map(|item| item.code.0).collect::<Vec<_>>().join(" ")
                }
                other => other.to_string(),
            };
            return Some(format!("trouble: {codes}"));
        }
        Note::Link { .. } | Note::Reconciling => return None,
        Note::Recovered => return Some("recovered".to_string()),
        Note::Missed { .. } | Note::Started { .. } | Note::NoEvents { .. } | Note::Fetched { .. } | Note::Looked(_) => {
            return None;
        }
    };
    match progress {
        Progress::RunStarted { job, run, .. } => Some(format!("{job} {run} started")),
        Progress::RunFinished { record } => Some(format!("{} {} {}", record.job, record.run, record.status.as_str())),
        Progress::RunPaused { record, .. } => {
            Some(format!("{} {} paused {}", record.job, record.run, record.status.as_str()))
        }
        Progress::StopSeen { job, run, .. } => Some(format!("{job} {run} stop seen")),
        _ => None,
    }
}

const OPTIONS: WatchOptions = WatchOptions {
    gateway: None,
    trust: fleetform::ops::Trust { introduction: None, remembers: false },
    remote: None,
    branch: None,
    interval: Duration::from_secs(30),
    grace: Duration::from_secs(10),
    lease_time: Duration::from_secs(180),
    pulse: None,
    accepts_rewind: false,
    has_events: true,
    ports: Ports::REAL,
};

/// Watches for some virtual time, doing what `react` does at each note; returns what was said.
fn watch_for(world: &World, time: Duration, react: &mut dyn FnMut(&Note<'_>, &Inbox)) -> Said {
    let interrupt = Inbox::new();
    world.clock.interrupt_at(world.clock_now().checked_add(time).unwrap(), &interrupt);
    let said = RefCell::new(Vec::new());
    let mut tell = |note: &Note<'_>| {
        said.borrow_mut().extend(word(note));
        react(note, &interrupt);
    };
    let environment = world.environment();
    without_children(|| {
        watch(&environment, &OPTIONS, &world.clock, &interrupt, &mut tell).unwrap();
    });
    world.clock.interrupt_never();
    said.into_inner()
}

fn said(world: &World, minutes: u64) -> Said {
    watch_for(world, Duration::from_secs(60 * minutes), &mut |_, _| {})
}

const DIM: &str = "{target: {query: '*'}, action: {property: {light: {level: 3}}}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

/// A fleet of five devices that take a second each, one after the other.
fn slow_world() -> World {
    slow_world_of(5)
}

fn slow_world_of(devices: usize) -> World {
    World::with_devices("{link: {simulated: {latency: 1s}}, limits: {inFlight: 2}}", devices)
}

#[test]
fn what_is_merged_while_a_job_runs_is_taken_up() {
    let world = slow_world();
    world.job("reboot", REBOOT);
    let mut is_merged = false;
    let said = watch_for(&world, Duration::from_secs(600), &mut |note, _| {
        if matches!(note, Note::Progress(Progress::RunStarted { .. })) && !is_merged {
            is_merged = true;
            world.job("dim", DIM);
        }
    });
    let expected = [
        "taken up, held []",
        "reboot 1 started",
        "taken up, held []",
        "dim 1 started",
        "dim 1 completed",
        "reboot 1 completed",
    ];
    assert_eq!(said, expected);
    assert_eq!(world.record("dim", "1")["completed"], json!(5));
    assert!(world.apply().unwrap().was_empty, "the daemon has given the lock back");
}

#[test]
fn a_stop_a_deletion_and_a_continuation_are_followed() {
    let world = slow_world_of(20);
    world.job("reboot", REBOOT);
    let mut stage = 0;
    let said = watch_for(&world, Duration::from_secs(600), &mut |note, _| {
        let is_advance = matches!(note, Note::Progress(Progress::Advanced { .. }));
        let is_pause = matches!(note, Note::Progress(Progress::RunPaused { .. }));
        stage = match stage {
            0 if is_advance => {
                world.job("reboot", &REBOOT.replace("{target", "{suspend: true, target"));
                1
            }
            1 if is_pause => {
                world.job("reboot", REBOOT);
                2
            }
            2 if matches!(note, Note::Progress(Progress::RunStarted { .. })) => 3,
            3 if is_advance => {
                std::fs::remove_file(world.file("jobs/reboot.yaml")).unwrap();
                world.commit("Delete");
                4
            }
            other => other,
        };
    });
    assert_eq!(said.iter().filter(|word| *word == "reboot 1 stop seen").count(), 2, "{said:?}");
    assert_eq!(world.record("reboot", "1")["status"], json!("stopped"));
    let done = world.record("reboot", "1");
    let (completed, failed) = (done["completed"].as_u64().unwrap(), done["failed"].as_u64().unwrap());
    assert!((1..20).contains(&(completed + failed)), "{done}");
}

#[test]
fn a_bad_document_holds_itself_and_what_needs_it() {
    let world = slow_world();
    world.declare("groups.yaml", "DeviceGroup", "odd", "{query: \"tags.parity = 'odd' AND\"}");
    world.declare("jobs/needs.yaml", "Job", "needs", &DIM.replace("query: '*'", "group: odd"));
    world.declare("jobs/typo.yaml", "Job", "typo", "{target: {query: '*'}, action: {tags: {a: 1}}, delivry: {}}");
    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: broken\n");
    world.job("dim", DIM);
    let first = said(&world, 5);
    assert_eq!(first, ["taken up, held [DeviceGroup/odd Job/needs Job/typo]", "dim 1 started", "dim 1 completed"]);
    world.declare("groups.yaml", "DeviceGroup", "odd", "{query: \"tags.parity = 'odd'\"}");
    world.declare("jobs/needs.yaml", "Job", "needs", "{target: {group: odd}, action: {tags: {a: 1}}}");
    world.commit("Mend the group");
    let second = said(&world, 5);
    assert_eq!(second, ["taken up, held [Job/typo]", "needs 1 started", "needs 1 completed"]);
}

#[test]
fn jobs_in_conflict_hold_each_other_and_nobody_else() {
    let world = slow_world();
    world.declare("jobs/one.yaml", "Job", "one", DIM);
    world.declare("jobs/two.yaml", "Job", "two", &DIM.replace('3', "4"));
    world.job("tag", "{target: {query: '*'}, action: {tags: {a: 1}}}");
    assert_eq!(said(&world, 5), ["taken up, held [Job/one Job/two]", "tag 1 started", "tag 1 completed"]);
    world.job("two", &DIM.replace("{target", "{after: [one], target").replace('3', "4"));
    let second = said(&world, 5);
    assert_eq!(second, ["taken up, held []", "one 1 started", "one 1 completed", "two 1 started", "two 1 completed"]);
}

#[test]
fn breaking_the_file_of_a_running_job_does_not_stop_it() {
    let world = slow_world();
    world.job("reboot", REBOOT);
    let mut is_broken = false;
    let said = watch_for(&world, Duration::from_secs(600), &mut |note, _| {
        if matches!(note, Note::Progress(Progress::Advanced { .. })) && !is_broken {
            is_broken = true;
            world.write("jobs/reboot.yaml", "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: reboot");
            world.commit("Break it");
        }
    });
    assert!(said.contains(&"reboot 1 completed".to_string()), "{said:?}");
    assert!(!said.contains(&"reboot 1 stop seen".to_string()), "{said:?}");
}

#[test]
fn a_fleet_document_that_cannot_be_used_is_told_once_and_passed_over() {
    let world = slow_world();
    world.job("dim", DIM);
    let fleet = std::fs::read_to_string(world.file("fleetform.yaml")).unwrap();
    let mut is_broken = false;
    let said = watch_for(&world, Duration::from_secs(3_600), &mut |note, _| {
        if matches!(note, Note::Progress(Progress::RunStarted { .. })) && !is_broken {
            is_broken = true;
            world.write("fleetform.yaml", fleet.replace("limits", "limit"));
            world.commit("Break the fleet");
        }
    });
    assert_eq!(said.iter().filter(|word| word.starts_with("trouble")).count(), 1, "{said:?}");
    assert!(said.contains(&"dim 1 completed".to_string()), "{said:?}");
    world.write("fleetform.yaml", fleet);
    world.job("tag", "{target: {query: '*'}, action: {tags: {a: 1}}}");
    assert!(self::said(&world, 5).contains(&"tag 1 completed".to_string()));
}

#[test]
fn what_breaks_again_is_told_again() {
    let world = slow_world();
    world.job("dim", DIM);
    let fleet = std::fs::read_to_string(world.file("fleetform.yaml")).unwrap();
    let mut changes =
        [fleet.replace("limits", "limit"), fleet.clone(), fleet.replace("limits", "limit"), fleet.clone()]
            .into_iter()
            .enumerate();
    let said = watch_for(&world, Duration::from_secs(3_600), &mut |note, _| {
        if matches!(note, Note::TakenUp { .. } | Note::Trouble { is_news: true, .. } | Note::Recovered)
            && let Some((number, text)) = changes.next()
        {
            world.write("fleetform.yaml", format!("{text}\n# {number}\n"));
            world.commit("Change the fleet");
        }
    });
    assert_eq!(said.iter().filter(|word| word.starts_with("trouble")).count(), 2, "{said:?}");
}

#[test]
fn a_schedule_under_another_name_is_another_schedule() {
    let world = scheduled_world("");
    let words = said(&world, 90);
    assert!(words.contains(&"nightly 20261120T110000Z completed".to_string()), "{words:?}");
    let job = "target: {query: '*'}, action: {command: {name: reboot}}";
    let spec = format!("{{start: 2026-11-20T12:00:00, recurrence: daily, job: {{{job}}}}}");
    world.declare("schedules/nightly.yaml", "Schedule", "evening", &spec);
    world.commit("Rename");
    let words = said(&world, HOUR);
    assert!(words.contains(&"evening 20261120T120000Z completed".to_string()), "{words:?}");
}

#[test]
fn an_idle_hour_writes_nothing() {
    let world = slow_world();
    world.job("dim", DIM);
    said(&world, 5);
    let files = || {
        let mut found = std::collections::BTreeMap::new();
        let mut folders = vec![world.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let modified = entry.metadata().unwrap().modified().unwrap();
                    found.insert(entry.path(), (modified, std::fs::read(entry.path()).unwrap()));
                }
            }
        }
        found
    };
    let before = files();
    let mut looks = 0;
    let said = watch_for(&world, Duration::from_secs(3_600), &mut |note, _| {
        looks += u32::from(matches!(note, Note::Looked(_)));
    });
    assert!(looks >= 120, "it looked {looks} times");
    assert_eq!(said, ["taken up, held []"]);
    let after = files();
    // The lock says who had it last, and this is another daemon than the one before.
    let is_lock = |path: &std::path::Path| path.ends_with(".fleetform/fleet.lock");
    let changed: Vec<_> =
        after.iter().filter(|(path, content)| before.get(*path) != Some(*content) && !is_lock(path)).collect();
    let changed: Vec<_> = changed.iter().map(|(path, _)| path).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

#[test]
fn a_rewound_branch_and_a_busy_registry_hold_until_they_are_mended() {
    let world = slow_world();
    world.job("dim", DIM);
    said(&world, 5);
    let head = world.head();
    let repository = world.repository();
    let parent = repository.head().unwrap().peel_to_commit().unwrap().parent(0).unwrap();
    repository.reset(parent.as_object(), git2::ResetType::Hard, None).unwrap();
    let mut looks = 0;
    let words = watch_for(&world, Duration::from_secs(3_600), &mut |note, _| {
        looks += u32::from(matches!(note, Note::Looked(_)));
        assert!(looks >= 20 || !matches!(note, Note::TakenUp { .. }), "it is held until it is mended");
        if looks == 20 {
            let back = git2::Oid::from_str(&head).unwrap();
            repository.reset(&repository.find_object(back, None).unwrap(), git2::ResetType::Hard, None).unwrap();
        }
    });
    assert!(words[0].starts_with("trouble: history was rewound"), "{words:?}");
    assert_eq!(words[words.len() - 2..], ["taken up, held []", "recovered"]);
    assert_eq!(world.record("dim", "1")["status"], json!("completed"));
}

#[test]
fn what_cannot_be_published_is_tried_ever_more_rarely() {
    let world = slow_world();
    world.job("reboot", REBOOT);
    let lock = world.file(".git/refs/heads/fleetform/results.lock");
    let words = watch_for(&world, Duration::from_secs(300), &mut |note, _| {
        if matches!(note, Note::Progress(Progress::RunStarted { .. })) && !lock.exists() {
            std::fs::write(&lock, "").unwrap();
        }
    });
    let count = |what: &str| words.iter().filter(|word| word.starts_with(what)).count();
    assert!((3..20).contains(&count("trouble")), "{words:?}");
    assert_eq!(count("recovered"), 0, "{words:?}");
    std::fs::remove_file(lock).unwrap();
    assert!(said(&world, 5).contains(&"reboot 1 completed".to_string()));
}

/// A fleet of two devices with a schedule that is due an hour after the clock's start, every day.
fn scheduled_world(spec: &str) -> World {
    let world = World::with_devices("{link: {simulated: {latency: 1s, journal: devices.jsonl}}, timeZone: UTC}", 2);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.commit("ignore");
    schedule(&world, spec);
    world
}

fn schedule(world: &World, spec: &str) {
    let job = "target: {query: '*'}, action: {command: {name: reboot}}";
    let spec = format!("{{start: 2026-11-20T11:00:00, recurrence: daily, job: {{{job}}}{spec}}}");
    world.declare("schedules/nightly.yaml", "Schedule", "nightly", &spec);
    world.commit("Schedule");
}

const HOUR: u64 = 60;

#[test]
fn a_schedule_runs_each_occurrence_once() {
    let world = scheduled_world("");
    let first = said(&world, 3 * HOUR);
    assert_eq!(first[1..], ["nightly 20261120T110000Z started", "nightly 20261120T110000Z completed"], "{first:?}");
    let second = said(&world, 48 * HOUR);
    let runs: Vec<&String> = second.iter().filter(|word| word.ends_with("completed")).collect();
    assert_eq!(runs, ["nightly 20261121T110000Z completed", "nightly 20261122T110000Z completed"]);
    assert_eq!(world.executions().len(), 6);
    let listed = world.run(&["--json", "job", "list"]).expect(0).json();
    assert_eq!(listed.len(), 3, "the instances are in the list");
    assert!(world.apply().unwrap().was_empty, "apply starts none");
    let record = world.record("nightly", "20261121T110000Z");
    assert_eq!(record["started_at"], json!("2026-11-21T11:00:00Z"), "to the second");
}

#[test]
fn what_was_due_while_nobody_watched_is_a_row_of_the_results() {
    let world = scheduled_world(", missed: {policy: runOnce, within: 2h}");
    said(&world, 30);
    world.pass(Duration::from_secs(50 * 3_600));
    let words = said(&world, 30);
    assert!(words.contains(&"nightly 20261122T110000Z completed".to_string()), "{words:?}");
    for run in ["20261120T110000Z", "20261121T110000Z"] {
        let record = world.record("nightly", run);
        assert_eq!((record["status"].clone(), record["total"].clone()), (json!("failed"), json!(0)), "{record}");
        assert!(record["reason"].as_str().unwrap().starts_with("missed: "), "{record}");
    }
    assert_eq!(world.executions().len(), 2, "only the newest ran late");
    let before = world.subjects().len();
    said(&world, HOUR);
    assert_eq!(world.subjects().len(), before, "and nothing is recorded twice");

    let world = scheduled_world("");
    said(&world, 30);
    world.pass(Duration::from_secs(3_600));
    said(&world, 30);
    assert_eq!(world.record("nightly", "20261120T110000Z")["status"], json!("failed"), "skip is the default");
    let listed = world.run(&["schedule", "list"]).expect(0).stdout;
    assert!(listed.contains("failed (missed)"), "{listed}");
    assert_eq!(world.executions().len(), 0);
}

#[test]
fn what_was_missed_and_since_when_is_known_without_the_branch() {
    let world = scheduled_world("");
    said(&world, 30);
    world.pass(Duration::from_secs(3_600));
    said(&world, 30);
    let before = world.results();
    let reference = world.repository().find_reference("refs/heads/fleetform/results").map(|mut found| found.delete());
    reference.unwrap().unwrap();
    said(&world, 30);
    let after = world.results();
    assert!(before.keys().any(|path| path.starts_with("claims/nightly/")));
    for (path, bytes) in before.iter().filter(|(path, _)| !path.starts_with("imports/")) {
        assert_eq!(after.get(path), Some(bytes), "{path}");
    }
}

#[test]
fn an_occurrence_whose_claim_was_only_journaled_is_not_run_late() {
    let world = scheduled_world("");
    said(&world, 30);
    let options = WatchOptions {
        trust: fleetform::ops::Trust { introduction: None, remembers: false },
        ports: fleetform::sim::dying(CrashPoints::at_step(Side::Before, "publish claim", 1)),
        ..OPTIONS
    };
    let interrupt = Inbox::new();
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let environment = world.environment();
        watch(&environment, &options, &world.clock, &interrupt, &mut |_| {}).unwrap();
    }));
    assert!(died.is_err());
    world.pass(Duration::from_secs(3_600));
    assert!(world.apply().unwrap().was_empty, "what is due is not for an apply to start");
    let words = said(&world, 30);
    assert!(!words.iter().any(|word| word.starts_with("trouble")), "{words:?}");
    assert_eq!(world.executions().len(), 0);
    assert_eq!(world.record("nightly", "20261120T110000Z")["status"], json!("failed"), "it was missed");
}

#[test]
fn editing_suspending_or_finding_a_schedule_never_runs_the_past() {
    let world = scheduled_world(", missed: {policy: runOnce, within: 20h}");
    world.pass(Duration::from_secs(5 * 3_600));
    let words = said(&world, 10);
    assert_eq!(words, ["taken up, held []"], "it was due before anybody followed it");
    schedule(&world, ", missed: {policy: runOnce, within: 20h}, suspend: true");
    said(&world, 30 * HOUR);
    schedule(&world, ", missed: {policy: runOnce, within: 20h}");
    said(&world, 10);
    let text = std::fs::read_to_string(world.file("schedules/nightly.yaml")).unwrap();
    world.write("schedules/nightly.yaml", text.replace("11:00:00", "12:30:00"));
    world.commit("Later");
    let words = said(&world, 10);
    assert_eq!(words, ["taken up, held []"]);
    std::fs::remove_file(world.file("schedules/nightly.yaml")).unwrap();
    world.commit("Gone");
    said(&world, 30 * HOUR);
    world.write("schedules/nightly.yaml", text.replace("11:00:00", "12:30:00"));
    world.commit("Back");
    said(&world, 10);
    assert_eq!(world.executions().len(), 0);
    assert!(world.results().keys().all(|path| !path.starts_with("runs/")), "no row either");
}

/// Everything that an occurrence names may be gone: its devices and its values are known.
#[test]
fn an_occurrence_that_is_under_way_goes_on_without_what_it_names() {
    for (is_kept, is_in_git) in [(true, false), (false, true), (false, false)] {
        let world = edge::world("{timeZone: UTC}", 3, 0);
        let manifest = |name: &str, version: u32| {
            let content = edge::manifest(edge::camera(version));
            world.write(&format!("{name}.deployment.json"), content.to_string());
            world.declare(&format!("{name}.yaml"), "EdgeManifest", name, &format!("{{file: {name}.deployment.json}}"));
        };
        let schedule = |name: &str| {
            let job = format!("target: {{group: {name}}}, organization: {name}, action: {{edgeManifest: {name}}}");
            let spec = format!(
                "{{start: 2026-11-20T11:00:00, recurrence: daily, job: {{{job}, delivery: {{batchSize: 1}}}}}}"
            );
            world.declare("nightly.yaml", "Schedule", "nightly", &spec);
        };
        let all = |name: &str, version: u32| {
            world.declare("organization.yaml", "Organization", name, "{}");
            world.declare("group.yaml", "DeviceGroup", name, "{query: '*'}");
            world.declare(
                "imports.yaml",
                "DeviceImport",
                "all",
                &format!("{{file: devices-in.jsonl, organization: {name}}}"),
            );
            manifest(name, version);
            schedule(name);
        };
        all("old", 4);
        world.commit("Old");
        let first = watch_for(&world, Duration::from_secs(2 * 3600), &mut |note, interrupt| {
            if matches!(note, Note::Progress(Progress::BatchFinished { .. })) {
                interrupt.waker().interrupt();
            }
        });
        assert!(first.contains(&"nightly 20261120T110000Z paused running".to_string()), "{first:?}");
        let claimed = edge::assigned(&world, "d-001");
        assert_eq!((claimed.0.as_deref(), edge::assigned(&world, "d-003").0), (Some("old"), None));
        for file in ["old.yaml", "old.deployment.json"] {
            std::fs::remove_file(world.file(file)).unwrap();
        }
        let blob = world.repository().revparse_single("HEAD:old.deployment.json").unwrap().id().to_string();
        all("new", 5);
        world.commit("New");
        if !is_kept {
            world.sql("UPDATE run SET edge_manifest_digest = NULL");
        }
        if !is_in_git {
            std::fs::remove_file(world.file(&format!(".git/objects/{}/{}", &blob[..2], &blob[2..]))).unwrap();
        }
        world.plan().unwrap();
        world.apply().unwrap();
        if !is_kept && !is_in_git {
            assert_eq!(world.record("nightly", "20261120T110000Z")["status"], json!("running"));
            let plan = world.run(&["plan", "--json"]).json().remove(0);
            assert!(plan["changes"].to_string().contains("an occurrence that is under way"), "{plan}");
            manifest("old", 4);
            world.commit("Again");
            world.apply().unwrap();
        }
        assert_eq!(world.record("nightly", "20261120T110000Z")["status"], json!("completed"));
        assert_eq!(edge::assigned(&world, "d-003"), claimed);
    }
}

#[test]
fn an_occurrence_that_is_under_way_goes_on_as_it_was_claimed() {
    for is_kept in [true, false] {
        let world = scheduled_world("");
        let late = "{d-001: {connectsAfter: 1h}}";
        let fleet =
            format!("{{link: {{simulated: {{latency: 1s, journal: devices.jsonl, devices: {late}}}}}, timeZone: UTC}}");
        world.declare("fleetform.yaml", "Fleet", "acme", &fleet);
        let spec = "{start: 2026-11-20T11:00:00, recurrence: daily, job: {target: {query: '*'}, action: {command: \
            {name: reboot}}, \
                    delivery: {offline: wait}}}";
        world.declare("schedules/nightly.yaml", "Schedule", "nightly", spec);
        world.commit("Wait");
        said(&world, 70);
        assert_eq!(world.run(&["--json", "job", "list"]).expect(0).json()[0]["status"], json!("running"));
        world.declare("schedules/nightly.yaml", "Schedule", "nightly", &spec.replace("reboot", "restart"));
        world.commit("Edit");
        let plan = world.plan().unwrap().plan;
        let change = plan.changes.iter().find(|change| change.subject.to_string() == "job/nightly").unwrap();
        assert_eq!(change.action(), ActionKind::Continue, "what an apply would do");
        if is_kept {
            // A mirror that was made anew after a forced push does not have what the claim names.
            let old = world.repository().revparse_single("HEAD~1:schedules/nightly.yaml").unwrap().id().to_string();
            std::fs::remove_file(world.file(&format!(".git/objects/{}/{}", &old[..2], &old[2..]))).unwrap();
        } else {
            world.sql("UPDATE run SET spec = NULL");
        }
        let words = said(&world, 3 * HOUR);
        assert!(words.contains(&"nightly 20261120T110000Z completed".to_string()), "{words:?}");
        let text = std::fs::read_to_string(world.file("devices.jsonl")).unwrap();
        assert_eq!((text.matches("reboot").count(), text.matches("restart").count()), (2, 0), "{text}");
    }
}

#[test]
fn an_occurrence_that_was_refused_says_so_when_it_is_missed() {
    let world = scheduled_world("");
    let spec = "{start: 2026-11-20T11:00:00, recurrence: daily, job: {target: {query: '*', expect: {min: 9}}, action: \
        {command: {name: reboot}}}}";
    world.declare("schedules/nightly.yaml", "Schedule", "nightly", spec);
    world.commit("Expect");
    let words = said(&world, 70);
    assert!(words.contains(&"taken up, held [Schedule/nightly]".to_string()), "{words:?}");
    let record = world.record("nightly", "20261120T110000Z");
    let reason = record["reason"].as_str().unwrap();
    assert!(reason.starts_with("missed: Nothing started it within "), "{reason}");
    assert!(reason.contains(" It was refused: ") && reason.contains("selects 2 devices"), "{reason}");
    let listed = world.run(&["job", "list"]).expect(0).stdout;
    assert!(listed.contains("20261120T110000Z  failed (missed)"), "{listed}");
}

#[test]
fn an_occurrence_does_not_start_beside_the_one_before() {
    for (overlap, ends) in [("skip", "failed"), ("queue", "completed")] {
        let world = scheduled_world("");
        let fleet = "{link: {simulated: {latency: 1s, devices: {d-001: {connectsAfter: 26h}}}}, timeZone: UTC}";
        world.declare("fleetform.yaml", "Fleet", "acme", fleet);
        let spec = format!(
            "{{start: 2026-11-20T11:00:00, recurrence: daily, overlap: {overlap}, job: {{target: {{query: '*'}}, \
             action: {{command: {{name: reboot}}}}, delivery: {{offline: wait, expiresAfter: 48h}}}}}}"
        );
        world.declare("schedules/nightly.yaml", "Schedule", "nightly", &spec);
        world.commit("Wait");
        said(&world, 60 * HOUR);
        assert_eq!(world.record("nightly", "20261120T110000Z")["status"], json!("completed"));
        let second = world.record("nightly", "20261121T110000Z");
        assert_eq!(second["status"], json!(ends), "{second}");
    }
}

#[test]
fn a_schedule_that_is_deleted_while_it_runs_stops() {
    let world = scheduled_world("");
    let mut is_gone = false;
    let words = watch_for(&world, Duration::from_secs(7_200), &mut |note, _| {
        if matches!(note, Note::Progress(Progress::RunStarted { .. })) && !is_gone {
            is_gone = true;
            std::fs::remove_file(world.file("schedules/nightly.yaml")).unwrap();
            world.commit("Gone");
        }
    });
    assert!(words.contains(&"nightly 20261120T110000Z stop seen".to_string()), "{words:?}");
}

#[test]
fn a_refused_history_stays_refused() {
    let world = slow_world();
    world.job("dim", DIM);
    said(&world, 5);
    let repository = world.repository();
    let parent = repository.head().unwrap().peel_to_commit().unwrap().parent(0).unwrap();
    repository.reset(parent.as_object(), git2::ResetType::Hard, None).unwrap();
    world.job("tag", "{target: {query: '*'}, action: {tags: {a: 1}}}");
    let words = said(&world, HOUR);
    assert!(words.iter().all(|word| word.starts_with("trouble: history was rewound")), "{words:?}");
    assert!(!words.is_empty());
    assert!(world.results().keys().all(|path| !path.starts_with("claims/tag")));
}

#[test]
fn what_is_due_and_cannot_be_done_is_not_tried_without_a_pause() {
    let world = scheduled_world("");
    said(&world, 5);
    // Another process works on the registry from before the occurrence on.
    let work = world.work("other/1/0");
    let mut looks = 0;
    let words = watch_for(&world, Duration::from_secs(7_200), &mut |note, _| {
        looks += u32::from(matches!(note, Note::Looked(_)));
    });
    assert!(words.iter().any(|word| word.starts_with("trouble: another fleetform")), "{words:?}");
    assert!(looks < 7_200, "{looks} looks in two hours");
    drop(work);
    said(&world, HOUR);
    let record = world.record("nightly", "20261120T110000Z");
    assert_eq!(record["status"], json!("failed"), "missed, and recorded when it can be: {record}");
}

/// A fleet in which an occurrence is under way: it waits for a device that stays offline.
fn world_with_an_open_occurrence() -> World {
    let world = scheduled_world("");
    let fleet = "{link: {simulated: {latency: 1s, devices: {d-001: {connectsAfter: 2000h}}}}, timeZone: UTC}";
    world.declare("fleetform.yaml", "Fleet", "acme", fleet);
    let spec = "{start: 2026-11-20T11:00:00, recurrence: daily, job: {target: {query: '*'}, action: {property: {light: \
                {level: 3}}}, delivery: {confirm: acknowledged, expiresAfter: 960h}}}";
    world.declare("schedules/nightly.yaml", "Schedule", "nightly", spec);
    world.commit("Wait");
    said(&world, 70);
    assert_eq!(world.run(&["--json", "job", "list"]).expect(0).json()[0]["status"], json!("running"));
    world
}

#[test]
fn an_occurrence_that_is_under_way_is_rehearsed() {
    let world = world_with_an_open_occurrence();
    let lines = world.run(&["simulate", "--json"]).json();
    let ran = lines.iter().find(|line| line["job"] == json!("nightly")).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(ran["run"], json!("20261120T110000Z"));
}

#[test]
fn work_on_a_device_that_an_occurrence_has_is_not_committed() {
    let world = world_with_an_open_occurrence();
    let head = world.head();
    let ran = world.run(&["device", "set", "d-001", "light.level=4"]).expect(65);
    assert!(ran.stderr.contains("FF604"), "{}", ran.stderr);
    assert_eq!(world.head(), head);
    assert!(!world.file("jobs").exists(), "nothing is left behind");
}

#[test]
fn a_job_says_that_an_occurrence_keeps_it() {
    let world = world_with_an_open_occurrence();
    world.job("brighten", "{target: {devices: [d-001]}, action: {property: {light: {level: 5}}}}");
    let why = world.run(&["job", "show", "brighten", "--why"]).expect(0).stdout;
    assert!(why.contains("FF604"), "{why}");
}

/// Adds a policy to a world in a commit of its own.
fn policy(world: &World, spec: &str) {
    world.declare("policies/guard.yaml", "Policy", "guard", spec);
    world.commit("a policy");
}

#[test]
fn what_a_policy_refuses_is_held_and_the_rest_goes_on() {
    let world = slow_world();
    policy(&world, "{forbid: {actions: [command]}}");
    world.job("reboot", REBOOT);
    world.job("dim", DIM);
    let told = said(&world, 5);
    assert_eq!(told, ["taken up, held [Job/reboot]", "dim 1 started", "dim 1 completed"]);
    // One that cannot be read holds everything that it could have judged.
    world.write("policies/guard.yaml", "apiVersion: fleetform/v1\nkind: Policy\nmetadata: {name: guard}\nspec: 7\n");
    world.job("again", DIM);
    assert_eq!(said(&world, 5), ["taken up, held [Job/again Job/reboot Policy/guard]"]);
}

#[test]
fn what_is_frozen_starts_when_the_freeze_ends() {
    let world = slow_world();
    let until = world.clock_now().checked_add(Duration::from_secs(20 * 60)).unwrap();
    let until = until.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string();
    policy(&world, &format!("{{freeze: [{{from: 2001-01-01T00:00:00, until: {until}, timeZone: UTC}}]}}"));
    world.job("reboot", REBOOT);
    let begun = world.clock_now();
    let (mut started, mut warned) = (None, false);
    let told = watch_for(&world, Duration::from_secs(30 * 60), &mut |note, _| match note {
        Note::Progress(Progress::RunStarted { .. }) => started = Some(world.clock_now()),
        Note::TakenUp { findings, .. } => {
            warned |= findings.diagnostics.iter().any(|one| one.code.0 == "FF683" && one.detail.contains(&until));
        }
        _ => {}
    });
    assert_eq!(told, ["taken up, held []", "reboot 1 started", "reboot 1 completed"]);
    let waited = started.unwrap().duration_since(begun).as_secs();
    assert!((20 * 60..20 * 60 + 5).contains(&waited), "{waited}");
    assert!(warned, "the wait is told with its end");
}

/// Puts a branch back, as a person does with `git reset`.
fn reset(world: &World, commit: &str) {
    let repository = world.repository();
    let object = repository.find_object(commit.parse().unwrap(), None).unwrap();
    repository.reset(&object, git2::ResetType::Hard, None).unwrap();
}

/// A branch is rewound before what it declared was noted as applied: while its runs go on.
#[test]
fn a_branch_that_is_rewound_while_its_job_runs_stops_nothing() {
    for is_killed in [false, true] {
        let world = slow_world();
        world.job("dim", DIM);
        said(&world, 60);
        let before = world.head();
        world.job("reboot", REBOOT);
        let after = world.head();
        if is_killed {
            assert!(world.apply_killed(3));
            reset(&world, &before);
        }
        let (mut was_rewound, mut is_held) = (is_killed, false);
        let words = watch_for(&world, Duration::from_secs(60), &mut |note, _| match note {
            Note::Progress(Progress::Advanced { .. }) if !was_rewound => {
                was_rewound = true;
                reset(&world, &before);
            }
            Note::Trouble { error, .. } => is_held |= error.to_string().contains("was rewound"),
            _ => {}
        });
        assert!(was_rewound && is_held, "{words:?}");
        let is_stop = |word: &&String| word.starts_with("reboot 1 ") && !word.ends_with("completed");
        let stops: Vec<&String> = words.iter().filter(is_stop).filter(|word| !word.ends_with("started")).collect();
        assert!(stops.is_empty(), "{words:?}");
        reset(&world, &after);
        let words = said(&world, 600);
        assert!(is_killed || world.record("reboot", "1")["completed"] == 5, "{words:?}");
        assert!(!words.iter().any(|word| word.contains("stop seen")), "{words:?}");
    }
}

#[test]
fn what_a_rewound_branch_suspends_is_stopped() {
    let world = slow_world();
    let before = world.head();
    world.job("reboot", REBOOT);
    let mut was_rewound = false;
    let words = watch_for(&world, Duration::from_secs(120), &mut |note, _| {
        if matches!(note, Note::Progress(Progress::Advanced { .. })) && !was_rewound {
            was_rewound = true;
            reset(&world, &before);
            world.job("reboot", &REBOOT.replacen('{', "{suspend: true, ", 1));
        }
    });
    assert!(words.contains(&"reboot 1 stop seen".to_string()), "{words:?}");
    assert!(words.iter().any(|word| word.starts_with("trouble: history was rewound")), "{words:?}");
    assert!(words.iter().any(|word| word.starts_with("reboot 1 paused stopped")), "{words:?}");
}
