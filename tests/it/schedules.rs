//! Schedules before the daemon runs them: in plans, in lists, and in commits.

use std::collections::BTreeMap;

use fleetform::cli::view::schedule as view;
use fleetform::execute::Inbox;
use fleetform::manifest::{Entry, Input, load_valid};
use fleetform::ops::apply::ApplyOptions;
use fleetform::ops::schedule::list;
use fleetform::plan::{ActionKind, Plan, Subject, plan_to_json};
use serde_json::{Value, json};

use crate::world::World;

const REBOOT: &str = "job: {target: {query: \"tags.parity = 'odd'\"}, action: {command: {name: reboot}}}";

/// A fleet with one schedule, `nightly`; what its spec says besides the job.
fn world(spec: &str) -> World {
    let world = World::with_devices("{timeZone: Europe/Amsterdam}", 4);
    declare(&world, "nightly", spec);
    world
}

fn declare(world: &World, name: &str, spec: &str) {
    world.declare(&format!("schedules/{name}.yaml"), "Schedule", name, &format!("{{{spec}, {REBOOT}}}"));
    world.commit(name);
}

/// Declares a job with the name and token of an occurrence of `nightly`, runs it, and declares the schedule in its
/// place, so that the schedule has a past. The run targets the odd devices and waits for `d-001`, which is offline.
fn past(spec: &str, run: &str) -> World {
    let offline = "{simulated: {devices: {d-001: {offline: true}}}}";
    let world = World::with_devices(&format!("{{timeZone: Europe/Amsterdam, link: {offline}}}"), 4);
    world.job("nightly", &format!("{{run: {run}, {}, delivery: {{offline: wait}}}}", &REBOOT[6..REBOOT.len() - 1]));
    world.apply().unwrap();
    std::fs::remove_file(world.file("jobs/nightly.yaml")).unwrap();
    declare(&world, "nightly", spec);
    world
}

/// The changes of schedules and jobs as the plan shows them, without the import.
fn lines(plan: &Plan) -> Vec<String> {
    let changes = plan.changes.iter().filter(|change| !matches!(change.subject, Subject::Import(_)));
    changes.map(|change| format!("{} {}: {}", change.action().symbol(), change.subject, change.reason)).collect()
}

#[test]
fn a_plan_says_when_a_schedule_runs_next_and_has_nothing_to_do_for_it() {
    let world = world("start: 2026-12-01T02:30:00, recurrence: weekly");
    declare(&world, "spring", "start: 2027-03-27T02:30:00, recurrence: daily, end: {after: 3}");
    declare(&world, "year", "start: 2026-12-31T00:00:05, timeZone: Asia/Kolkata, recurrence: monthly");
    declare(&world, "off", "start: 2026-12-31T00:00:00, recurrence: monthly, suspend: true");
    declare(&world, "over", "start: 2026-11-20T10:59:59, recurrence: once");
    declare(&world, "soon", "start: 2026-11-20T11:00:01, recurrence: once");
    declare(
        &world,
        "never",
        "start: 2026-12-01T00:00:00, recurrence: weekly, weekdays: [mon], end: {until: 2026-12-02}",
    );
    world.apply().unwrap();
    let plan = world.plan().unwrap().plan;
    assert_eq!(
        lines(&plan),
        [
            "@ schedule/never: (never)",
            "@ schedule/nightly: 2026-12-01 02:30 Europe/Amsterdam (01:30Z), then 12-08, 12-15 …",
            "@ schedule/off: (suspended)",
            "@ schedule/over: (ended)",
            "@ schedule/soon: 2026-11-20 11:00:01 Europe/Amsterdam (10:00:01Z)",
            "@ schedule/spring: 2027-03-27 02:30 Europe/Amsterdam (01:30Z), then 03-28 03:30, 03-29",
            "@ schedule/year: 2026-12-31 00:00:05 Asia/Kolkata (2026-12-30 18:30:05Z), then 2027-01-31, 2027-02-28 …",
        ]
    );
    assert!(!plan.has_changes());
    let document = plan_to_json(&plan);
    let nightly = document["changes"].as_array().unwrap().iter().find(|change| change["address"] == "schedule/nightly");
    let nightly = nightly.unwrap();
    assert_eq!((&nightly["kind"], &nightly["actions"]), (&json!("Schedule"), &json!(["schedule"])));
    assert_eq!(
        nightly["next"],
        json!([
            {"occurrence": "2026-12-01T01:30:00Z", "local": "2026-12-01T02:30:00+01:00[Europe/Amsterdam]"},
            {"occurrence": "2026-12-08T01:30:00Z", "local": "2026-12-08T02:30:00+01:00[Europe/Amsterdam]"},
            {"occurrence": "2026-12-15T01:30:00Z", "local": "2026-12-15T02:30:00+01:00[Europe/Amsterdam]"},
        ])
    );
    let ran = world.run(&["plan", "--detailed-exitcode"]).expect(0);
    assert!(ran.stdout.contains("@ next     schedule/nightly"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("Plan: nothing to do.\n"), "{}", ran.stdout);
}

#[test]
fn a_plan_says_how_many_devices_a_schedule_would_select_now() {
    let world = world("start: 2026-12-01T02:30:00, recurrence: weekly");
    let target = |target: &str| format!("job: {{target: {target}, action: {{command: {{name: reboot}}}}}}");
    let often = "start: 2026-12-01T02:30:00, recurrence: daily";
    let declare = |name: &str, spec: String| {
        world.declare(&format!("schedules/{name}.yaml"), "Schedule", name, &format!("{{{spec}}}"));
    };
    declare("few", format!("{often}, {}", target("{query: '*', expect: {max: 3}}")));
    declare("listed", format!("{often}, {}", target("{devices: [d-001, d-004]}")));
    declare("nobody", format!("{often}, {}", target("{query: \"tags.ring = 'canry'\"}")));
    let passing = [
        ("low", "query: 'properties.reported.battery < 20'"),
        ("offline", "query: \"connectionState = 'Disconnected' AND tags.ring = 'canary'\""),
        ("grouped", "group: low"),
        ("few-or-none", "query: \"tags.ring = 'canry'\", expect: {max: 3}"),
    ];
    world.declare("group.yaml", "DeviceGroup", "low", "{query: 'properties.reported.battery < 20'}");
    for (name, condition) in passing {
        declare(name, format!("{often}, {}", target(&format!("{{{condition}}}"))));
    }
    declare(
        "low-expected",
        format!("{often}, {}", target("{query: 'properties.reported.battery < 20', expect: {min: 1}}")),
    );
    declare("everybody", format!("{often}, {}", target("{query: \"deviceId != 'd-009'\"}")));
    declare("off", format!("{often}, suspend: true, {}", target("{query: '*'}")));
    world.commit("schedules");
    // The devices come with the same change: nothing is in the registry yet.
    let ran = world.run(&["plan"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for (name, devices) in
        [("nightly", "2 devices"), ("few", "4 devices"), ("listed", "2 devices"), ("nobody", "0 devices")]
    {
        let line = ran.stdout.lines().find(|line| line.contains(&format!("schedule/{name} "))).unwrap();
        assert!(line.ends_with(&format!(" … · {devices} now")), "{line}");
    }
    let line = ran.stdout.lines().find(|line| line.contains("schedule/off ")).unwrap();
    assert!(line.ends_with("(suspended)"), "{line}");
    for words in [
        "Schedule `few` selects 4 devices now, and its `expect` allows at most 3",
        "Schedule `nobody` selects no device now.",
        "Schedule `low-expected` selects no device now, and its `expect` allows at least 1",
        "Schedule `everybody` selects all 4 devices of the fleet.",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    for (name, _) in passing {
        assert!(!ran.stderr.contains(&format!("Schedule `{name}`")), "{name}: {}", ran.stderr);
    }
    let plan: Value = serde_json::from_str(&world.run(&["plan", "--json"]).stdout).unwrap();
    let changes = plan["changes"].as_array().unwrap();
    let now = |name: &str| {
        let address = format!("schedule/{name}");
        changes.iter().find(|change| change["address"] == json!(address)).unwrap()["devices_now"].clone()
    };
    assert_eq!((now("nightly"), now("off")), (json!(2), json!(null)));
}

#[test]
fn a_saved_plan_does_not_go_stale_because_time_passes() {
    let world = world("start: 2026-11-20T12:00:00, recurrence: daily");
    let saved = plan_to_json(&world.plan().unwrap().plan);
    world.pass(std::time::Duration::from_secs(86_400));
    let options = ApplyOptions { saved: fleetform::plan::SavedPlan::from_json(&saved).ok(), ..ApplyOptions::default() };
    let applied = world.apply_with(&options, &Inbox::new(), &mut |_| {}).unwrap();
    assert_eq!(applied.imports.len(), 1);
    assert!(applied.records.is_empty(), "an apply starts no schedule");
}

#[test]
fn an_occurrence_under_way_is_not_stopped_for_being_declared_by_no_job() {
    let world = past("start: 2026-11-19T02:30:00, recurrence: daily", "20261119T013000Z");
    let plan = world.plan().unwrap().plan;
    let action = |plan: &Plan| {
        plan.changes.iter().find(|change| change.subject.to_string() == "job/nightly").map(|change| change.action())
    };
    assert_eq!(action(&plan), Some(ActionKind::Hold), "{:?}", lines(&plan));
    world.commit("Schedule");
    let why = world.run(&["job", "show", "nightly", "--why"]).expect(0).stdout;
    assert!(!why.contains("declares it") && why.contains("waits"), "{why}");
    // Without its schedule the run belongs to nothing that is declared.
    std::fs::remove_file(world.file("schedules/nightly.yaml")).unwrap();
    assert_eq!(action(&world.plan().unwrap().plan), Some(ActionKind::Stop));
}

#[test]
fn a_job_like_that_of_a_schedule_is_not_taken_for_a_renamed_one() {
    let world = past("start: 2026-11-19T02:30:00, recurrence: daily", "20261119T013000Z");
    world.job("same", &format!("{{{}, delivery: {{offline: wait}}}}", &REBOOT[6..REBOOT.len() - 1]));
    assert_eq!(world.planned_action("same"), ActionKind::Run);
}

#[test]
fn a_list_has_the_next_and_the_last_occurrence_of_each_schedule() {
    let world = past("start: 2026-11-19T02:30:00, recurrence: weekly, weekdays: [thu, mon]", "20261119T013000Z");
    declare(&world, "off", "start: 2026-12-31T00:00:00, timeZone: UTC, recurrence: monthly, suspend: true");
    let (listed, _) = list(&world.environment(), world.clock_now()).unwrap();
    insta::assert_snapshot!(view::list(&listed), @r"
    SCHEDULE  RECURRENCE                      ZONE              NEXT                 LAST                 STATUS
    nightly   weekly on mon, thu at 02:30:00  Europe/Amsterdam  2026-11-23 02:30:00  2026-11-19 02:30:00  running
    off       monthly on day 31 at 00:00:00   UTC               (suspended)          -                    -
    ");
    assert_eq!(
        view::listed_json(&listed[0]),
        json!({
            "schedule": "nightly",
            "recurrence": "weekly",
            "weekdays": ["mon", "thu"],
            "start": "2026-11-19T02:30:00",
            "time_zone": "Europe/Amsterdam",
            "end": null,
            "suspended": false,
            "missed": {"policy": "skip", "within": "1h"},
            "overlap": "skip",
            "work": "command",
            "next": "2026-11-23T01:30:00Z",
            "next_local": "2026-11-23T02:30:00+01:00[Europe/Amsterdam]",
            "last": "2026-11-19T01:30:00Z",
            "last_run": "20261119T013000Z",
            "last_status": "running",
            "last_cause": null,
        })
    );
    let off = view::listed_json(&listed[1]);
    assert_eq!((&off["next"], &off["last"], &off["suspended"]), (&Value::Null, &Value::Null, &json!(true)));
    // The runs of a schedule are found where all runs are.
    let ran = world.run(&["job", "list", "--json"]).expect(0);
    assert_eq!((&ran.json()[0]["job"], &ran.json()[0]["run"]), (&json!("nightly"), &json!("20261119T013000Z")));
}

#[test]
fn the_next_occurrences_are_told_on_the_wall_clock_and_in_utc() {
    let world = world("start: 2027-03-27T02:30:00, recurrence: daily, end: {after: 4}");
    let next = |arguments: &[&str]| world.run(&[&["schedule", "next", "nightly"], arguments].concat());
    insta::assert_snapshot!(next(&["--from", "2027-03-28"]).expect(0).stdout, @r"
    nightly (Europe/Amsterdam), daily at 02:30:00, 4 times
    OCCURRENCE               OFFSET  UTC                   NOTE
    Sun 2027-03-28 03:30:00  +02:00  2027-03-28 01:30:00Z  the clock shows no 2027-03-28 02:30:00 then
    Mon 2027-03-29 02:30:00  +02:00  2027-03-29 00:30:00Z
    Tue 2027-03-30 02:30:00  +02:00  2027-03-30 00:30:00Z
    ");
    assert_eq!(
        next(&["--from", "2027-03-28", "-n", "1", "--json"]).expect(0).json(),
        [json!({"occurrence": "2027-03-28T01:30:00Z", "local": "2027-03-28T03:30:00+02:00[Europe/Amsterdam]"})]
    );
    let first = |from: &str| next(&["--from", from, "-n", "1", "--json"]).expect(0).json()[0]["occurrence"].clone();
    for (from, expect) in [
        ("2027-03-01", "2027-03-27T01:30:00Z"),
        ("2027-03-27T02:30", "2027-03-27T01:30:00Z"),
        ("2027-03-27T02:30:01", "2027-03-28T01:30:00Z"),
        ("2027-03-28T02:30", "2027-03-28T01:30:00Z"),
        ("2027-03-28T01:30:00Z", "2027-03-28T01:30:00Z"),
        ("2027-03-28T03:30:01+02:00", "2027-03-29T00:30:00Z"),
    ] {
        assert_eq!(first(from), expect, "{from}");
    }
    assert_eq!(next(&["--from", "2028-01-01", "--json"]).expect(0).stdout, "");
    assert!(next(&["--from", "2028-01-01"]).expect(0).stderr.contains("no further occurrence"));
    for from in ["soon", "2027-13-01", "", "2027-03-28T02:30[Nowhere/City]", "2027-03-28T02:30:00[Europe/Amsterdam]"] {
        assert!(next(&["--from", from]).expect(64).stderr.contains("is not a time"), "{from}");
    }
    next(&["-n", "0"]).expect(64);
    next(&["-n", "10001"]).expect(64);
    let ran = world.run(&["schedule", "next", "nigtly"]).expect(1);
    assert!(ran.stderr.contains("Did you mean `nightly`?"), "{}", ran.stderr);
}

#[test]
fn an_edit_shows_before_it_is_committed_and_whatever_is_wrong_with_other_documents() {
    let world = world("start: 2027-03-27T02:30:00, recurrence: daily");
    declare(&world, "other", "start: 2027-03-27T04:00:00, recurrence: daily");
    let edited = format!("{{start: '2027-03-27T05:15:00', recurrence: daily, {REBOOT}}}");
    world.declare("schedules/nightly.yaml", "Schedule", "nightly", &edited);
    let next = |name: &str| world.run(&["schedule", "next", name, "-n", "1", "--json"]);
    let ran = next("nightly").expect(0);
    assert_eq!((&ran.json()[0]["occurrence"], ran.stderr.as_str()), (&json!("2027-03-27T04:15:00Z"), ""));
    world.declare("jobs/lost.yaml", "Job", "lost", "{target: {group: nowhere}, action: {tags: {a: 1}}}");
    world.declare("schedules/other.yaml", "Schedule", "other", &format!("{{recurrence: hourly, {REBOOT}}}"));
    let ran = next("nightly").expect(0);
    assert_eq!(ran.json()[0]["occurrence"], "2027-03-27T04:15:00Z");
    assert!(ran.stderr.contains("  jobs/lost.yaml:4: FF401 job/lost: "), "{}", ran.stderr);
    let listed = world.run(&["schedule", "list", "--json"]).expect(0);
    let names: Vec<Value> = listed.json().iter().map(|one| one["schedule"].clone()).collect();
    assert_eq!(names, ["nightly"]);
    assert!(listed.stderr.contains("schedules/other.yaml:4: "), "{}", listed.stderr);
    next("other").expect(65);
    next("no-such").expect(1);
    world.write("fleetform.yaml", "apiVersion: fleetform/v1\nkind: Fleet\n");
    assert!(next("nightly").expect(65).stdout.contains("fleetform.yaml"));
}

#[test]
fn unscheduling_is_a_commit_that_keeps_the_rest_of_the_file() {
    let world = world("start: 2026-12-01T02:30:00, recurrence: daily");
    let text = "apiVersion: fleetform/v1\nkind: Schedule\nmetadata: {name: other}\nspec:\n  # why\n  start: \
        2026-12-01T02:30:00  \
                # at night\n  recurrence: daily\n  job:\n    target: {query: '*'}\n    action: {tags: {a: 1}}\n";
    world.write("schedules/other.yaml", text);
    world.commit("other");
    let before = world.head();
    let read = || std::fs::read_to_string(world.file("schedules/other.yaml")).unwrap();
    let edited = world.run(&["schedule", "unschedule", "other", "--json"]).expect(0).json().remove(0);
    assert_eq!(
        (&edited["schedule"], &edited["file"], &edited["changed"]),
        (&json!("other"), &json!("schedules/other.yaml"), &json!(true))
    );
    assert_eq!(edited["commit"], world.head());
    assert_eq!(read(), text.replace("  start:", "  suspend: true\n  start:"));
    let again = world.run(&["schedule", "unschedule", "other"]).expect(0);
    assert!(again.stderr.contains("says so already"), "{}", again.stderr);
    let ran = world.run(&["schedule", "next", "other"]).expect(0);
    assert!(ran.stderr.contains("suspended"), "{}", ran.stderr);
    world.run(&["schedule", "reschedule", "other", "--no-commit"]).expect(0);
    assert_eq!(read(), text.replace("  start:", "  suspend: false\n  start:"));
    assert_ne!(world.head(), before);
    assert!(!world.repository().statuses(None).unwrap().is_empty(), "the file is edited and not committed");
    // Uncommitted changes are not swept into a commit.
    world.run(&["schedule", "unschedule", "other"]).expect(75);
    // A job is none, and a schedule is no job.
    world.commit("rescheduled");
    world.job("once", "{target: {query: '*'}, action: {tags: {a: 1}}}");
    assert!(world.run(&["schedule", "unschedule", "once"]).expect(1).stderr.contains("job stop once"));
    assert!(world.run(&["job", "stop", "other"]).expect(1).stderr.contains("schedule unschedule other"));
    // What is broken elsewhere is no reason not to: it may be urgent.
    world.write("jobs/broken.yaml", "kind: [");
    world.run(&["schedule", "unschedule", "other"]).expect(0);
}

#[test]
fn no_new_job_gets_the_name_of_a_schedule() {
    let world = world("start: 2026-12-01T02:30:00, recurrence: daily");
    world.job("reboot", "{target: {query: '*'}, action: {tags: {a: 1}}}");
    let ran = world.run(&["job", "copy", "reboot", "nightly"]).expect(64);
    assert!(ran.stderr.contains("already"), "{}", ran.stderr);
}

#[test]
fn the_failed_devices_of_an_occurrence_are_a_target() {
    let world = past("start: 2026-11-19T02:30:00, recurrence: daily", "20261119T013000Z");
    world.pass(std::time::Duration::from_secs(25 * 3_600));
    std::fs::remove_file(world.file("schedules/nightly.yaml")).unwrap();
    let again = &REBOOT[6..REBOOT.len() - 1];
    world.job("nightly", &format!("{{run: 20261119T013000Z, {again}, delivery: {{offline: wait}}}}"));
    world.apply().unwrap();
    std::fs::remove_file(world.file("jobs/nightly.yaml")).unwrap();
    declare(&world, "nightly", "start: 2026-11-19T02:30:00, recurrence: daily");
    world.job("again", "{target: {failedOf: {job: nightly, run: 20261119T013000Z}}, action: {tags: {late: true}}}");
    let plan = world.plan().unwrap().plan;
    let run = plan.runs.iter().find(|run| run.job.as_str() == "again").unwrap();
    assert_eq!(run.ids.iter().collect::<Vec<_>>(), ["d-001"]);
}

#[test]
fn the_example_of_maintenance_is_valid() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/maintenance");
    let world = World::new("{}");
    std::fs::remove_file(world.file("fleetform.yaml")).unwrap();
    let mut copy = std::process::Command::new("cp");
    copy.args(["-r", &format!("{example}/."), world.path().to_str().unwrap()]);
    crate::world::Ran::of(&mut copy).expect(0);
    world.commit("example");
    let ran = world.run(&["validate"]).expect(0);
    assert!(ran.stderr.contains("3 Schedules") && !ran.stderr.contains("warning"), "{}", ran.stderr);
    let next =
        world.run(&["schedule", "next", "month-end-report", "--from", "2027-02-01", "-n", "1", "--json"]).expect(0);
    assert_eq!(next.json()[0]["local"], "2027-02-28T23:00:00+01:00[Europe/Amsterdam]");
}

/// A daemon goes on with sound documents. A job and a schedule of one name are both held: the daemon cannot know which
/// of them the author meant.
#[test]
fn a_broken_schedule_holds_nothing_but_itself() {
    let job = "{target: {query: '*'}, action: {tags: {a: 1}}}";
    let daily = "timeZone: UTC, recurrence: daily";
    let documents = [
        ("Fleet", "acme", "{}".to_string()),
        ("Job", "good", job.to_string()),
        ("Job", "both", job.to_string()),
        ("Schedule", "both", format!("{{start: 2026-12-01T02:30:00, {daily}, job: {job}}}")),
        ("Schedule", "fine", format!("{{start: 2026-12-01T02:30:00, {daily}, job: {job}}}")),
        ("Schedule", "tomorrow", format!("{{start: tomorrow, {daily}, job: {job}}}")),
        ("Schedule", "nowhere", format!("{{start: 2026-12-01T02:30:00, recurrence: daily, job: {job}}}")),
    ];
    let text: Vec<String> = documents
        .iter()
        .map(|(kind, name, spec)| {
            format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
        })
        .collect();
    let text = text.join("---\n").into_bytes();
    let entries = BTreeMap::from([("fleetform.yaml".to_string(), Entry::file(text.len() as u64))]);
    let read = |_: &str| Ok(text.clone());
    let sound = load_valid(&Input { entries: &entries, read: &read, check_query: |_| Vec::new() });
    let declared = sound.loaded.declared.unwrap();
    assert_eq!(declared.jobs.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["good"]);
    assert_eq!(declared.schedules.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["fine"]);
    let held: Vec<String> = sound.held.documents.keys().map(|(kind, name)| format!("{kind} {name}")).collect();
    assert_eq!(held, ["Job both", "Schedule both", "Schedule nowhere", "Schedule tomorrow"]);
}
