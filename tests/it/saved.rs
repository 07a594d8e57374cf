//! Saved plans: shown as they were, applied once, and refused with what has changed, by whom and in which commit.

use std::fs;

use serde_json::{Value, json};

use crate::world::{Ran, World, devices_csv, fleetform};

const DIM: &str = "{target: {query: '*'}, action: {property: {light: {level: 40}}}, delivery: {batchSize: 2}}";

/// A fleet with an import, jobs of several kinds, a schedule, a held job and a warning that shows a line of a file.
fn busy() -> World {
    let world = World::with_devices("{}", 6);
    world.job("dim", DIM);
    world.job("reboot", "{target: {query: \"tags.parity = 'odd'\"}, action: {command: {name: reboot}}}");
    world.job("unset", "{target: {query: '*'}, action: {tags: {n: null}}, after: [dim]}");
    world.job("waits", "{target: {query: '*'}, action: {tags: {ring: a}}, suspend: true}");
    world.job("named", "{target: {devices: [d-001, d-077]}, action: {tags: {ring: b}}}");
    world.declare(
        "nightly.yaml",
        "Schedule",
        "nightly",
        "{start: 2026-12-01T02:30:00, timeZone: Europe/Amsterdam, recurrence: daily, job: {target: {query: '*'}, \
         action: {command: {name: reboot}}}}",
    );
    world.commit("nightly");
    world
}

fn saved(world: &World, name: &str) -> String {
    let file = world.folder_file(name);
    world.run(&["plan", "--out", &file]).expect(0);
    file
}

/// Returns the refusal of an apply of a saved plan.
fn refusal(world: &World, file: &str, code: i32) -> String {
    let ran = world.run(&["apply", file, "--yes"]).expect(code);
    assert!(ran.stdout.is_empty(), "{ran:?}");
    ran.stderr
}

/// Returns the last line that `plan show` says.
fn said(world: &World, file: &str) -> String {
    world.run(&["plan", "show", file]).expect(0).stderr.lines().last().unwrap_or_default().to_string()
}

fn all(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_saved_plan_is_shown_as_it_was_made() {
    let world = busy();
    for round in ["of imported devices", "of applied ones"] {
        let file = world.folder_file("plan.json");
        for form in [&[][..], &["--json"], &["--markdown"], &["-v"], &["--format", "sarif"], &["--format", "junit"]] {
            let made = world.run(&[&["plan", "--out", &file], form].concat()).expect(0);
            let shown = world.run(&[&["plan", "show", &file], form].concat()).expect(0);
            assert_eq!(shown.stdout, made.stdout, "{round} {form:?}");
            if form.is_empty() {
                let found = made.stderr.split("Saved. ").next().unwrap();
                assert!(found.contains(".yaml:4"), "a finding shows its line: {found}");
                assert_eq!(shown.stderr, format!("{found}Still fresh: an apply of it does just this.\n"));
            }
        }
        world.apply().unwrap();
        world.job("again", "{target: {devices: [d-001, d-078]}, action: {property: {light: {level: 0.1}}}}");
    }
}

#[test]
fn a_saved_plan_is_shown_where_no_fleet_is_at_hand() {
    let world = busy();
    let file = saved(&world, "plan.json");
    let made = world.run(&["plan", "--out", &file]).expect(0);
    let folder = crate::world::folder();
    let shown = Ran::of(fleetform().arg("-C").arg(folder.path()).args(["plan", "show", &file])).expect(0);
    assert_eq!(shown.stdout, made.stdout);
    all(&shown.stderr, &["Whether it is still fresh is not known here", "not inside a git repository"]);
}

#[test]
fn a_used_plan_names_what_it_claimed_and_from_which_commit() {
    let world = World::with_devices("{}", 3);
    let import = saved(&world, "import.json");
    world.run(&["apply", &import, "--yes"]).expect(0);
    all(&refusal(&world, &import, 75), &["was applied before: it applied `import/all`", "Test in", "(devices)"]);
    world.job("dim", DIM);
    let file = saved(&world, "plan.json");
    // Nobody is there to be asked, and nobody is.
    world.run(&["apply"]).expect(64);
    world.run(&["apply", &file]).expect(0);
    let head: String = world.head().chars().take(12).collect();
    let words = ["claimed `job/dim` run 1 at 20", "Test in", &head, "(dim)"];
    all(&refusal(&world, &file, 75), &words);
    all(&said(&world, &file), &[&["Used already: it "], &words[..]].concat());
}

#[test]
fn a_plan_that_starts_nothing_is_used_once_too() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {offline: true}}}}}", 3);
    let reboot =
        "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {offline: wait, expiresAfter: 1h}}";
    world.job("reboot", reboot);
    world.run(&["apply", "--yes"]).expect(0);
    // The run waits for a device before and after: nothing that a plan shows has changed.
    let file = saved(&world, "continue.json");
    world.run(&["apply", &file]).expect(0);
    let other = saved(&world, "again.json");
    let words = ["it stopped runs or let them go on at 20"];
    all(&refusal(&world, &file, 75), &["the saved plan was applied before", words[0]]);
    all(&said(&world, &file), &["Used already: it ", words[0]]);
    // One that was made since is another.
    world.run(&["apply", &other]).expect(0);
    world.job("reboot", &reboot.replace("{target", "{suspend: true, target"));
    let file = saved(&world, "stop.json");
    world.run(&["apply", &file]).expect(0);
    all(&refusal(&world, &file, 75), &words);
}

#[test]
fn a_stale_plan_names_what_changed_by_whom_and_in_which_commit() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("dim", DIM);
    world.job("gone", "{target: {query: '*'}, action: {tags: {ring: a}}}");
    world.job("taken", "{target: {query: '*'}, action: {tags: {set: a}}}");
    let file = saved(&world, "plan.json");
    all(&said(&world, &file), &["Still fresh"]);
    // One document is edited, one is removed, and one is of a run that another plan claims.
    world.job("dim", &DIM.replace("40", "41"));
    let edited: String = world.head().chars().take(12).collect();
    fs::remove_file(world.file("jobs/gone.yaml")).unwrap();
    world.commit("no longer wanted");
    let removed: String = world.head().chars().take(12).collect();
    let before = said(&world, &file);
    all(&before, &["Stale", "`job/dim`: `jobs/dim.yaml` was changed by Test in", &edited, "(dim)"]);
    all(
        &before,
        &["`job/gone`: it was a job to run, and nothing", "jobs/gone.yaml` was changed or removed by", &removed],
    );
    assert!(!before.contains("job/taken"), "{before}");
    world.apply().unwrap();
    let text = refusal(&world, &file, 75);
    all(&text, &["`job/taken`: run 1 was claimed meanwhile by", "at 20", "from the commit of Test in", &removed]);
    assert_eq!(world.device("d-001").desired, json!({"light": {"level": 41}}), "what ran is what the other plan had");
}

#[test]
fn a_target_that_moved_is_named_with_its_numbers_and_with_what_moved_it() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("odd", "{target: {query: \"tags.parity = 'odd'\"}, action: {tags: {ring: a}}}");
    let file = saved(&world, "plan.json");
    world.write("devices.csv", devices_csv(9));
    world.commit("six lamps more");
    // The same import, of which the plan has nothing.
    let applied = world.folder_file("import.json");
    fs::rename(world.file("jobs/odd.yaml"), world.file("odd.txt")).unwrap();
    world.commit("without the job");
    world.run(&["plan", "--out", &applied]).expect(0);
    world.run(&["apply", &applied, "--yes"]).expect(0);
    fs::rename(world.file("odd.txt"), world.file("jobs/odd.yaml")).unwrap();
    world.commit("with it again");
    let text = refusal(&world, &file, 75);
    all(&text, &["`job/odd`: this target has 3 devices more: it was 2 devices (digest", "and is 5 (digest"]);
    all(&text, &["`import/all` was applied since, from the commit of Test in", "(without the job)"]);
    // Devices that have the value already: written by a run that came between.
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("dim", DIM);
    let file = saved(&world, "plan.json");
    fs::rename(world.file("jobs/dim.yaml"), world.file("dim.txt")).unwrap();
    world.job("first", &DIM.replace("'*'", "\"deviceId = 'd-001'\""));
    world.run(&["apply", "--yes"]).expect(0);
    fs::rename(world.file("dim.txt"), world.file("jobs/dim.yaml")).unwrap();
    world.commit("dim again");
    let text = refusal(&world, &file, 75);
    all(
        &text,
        &["`job/dim`: devices as desired already: 0 then, 1 now", "`job/first` run 1 has run on 1 device since"],
    );
}

#[test]
fn what_a_saved_plan_held_is_not_run_in_its_name() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("dim", DIM);
    world.job("waits", "{target: {query: '*'}, action: {tags: {ring: a}}, suspend: true}");
    let file = saved(&world, "plan.json");
    world.job("waits", "{target: {query: '*'}, action: {tags: {ring: a}}}");
    world.run(&["apply", &file, "--yes"]).expect(0);
    assert_eq!((world.rows("dim", "1").len(), world.rows("waits", "1").len()), (3, 0));
}

#[test]
fn a_file_that_is_no_plan_of_this_fleet_gets_one_sentence() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("dim", DIM);
    let file = saved(&world, "plan.json");
    let text = fs::read_to_string(&file).unwrap();
    let check = |bytes: &[u8], code: i32, words: &str| {
        fs::write(&file, bytes).unwrap();
        for arguments in [&["apply", &file, "--yes"][..], &["plan", "show", &file]] {
            let ran = world.run(arguments).expect(code);
            all(&ran.stderr, &[words, "help: "]);
            assert_eq!((ran.stderr.lines().count(), ran.stdout.as_str()), (2, ""), "{ran:?}");
        }
    };
    for cut in [1, text.len() / 3, text.len() - 3] {
        check(&text.as_bytes()[..cut], 65, "was cut short");
    }
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut document: Value = serde_json::from_str(&text).unwrap();
        edit(&mut document);
        document.to_string().into_bytes()
    };
    check(b"", 65, "is not a saved plan");
    check(b"[1, 2]", 65, "is not a saved plan");
    check(b"\xff\xfe\0", 65, "is not a saved plan");
    check(&edited(&|plan| plan["format_version"] = json!("2.0")), 65, "has format version 2.0");
    check(&edited(&|plan| plan["changes"][0]["reason"] = json!("because")), 65, "was changed after it was written");
    check(&edited(&|plan| plan["plan_id"] = json!("1")), 65, "was changed after it was written");
    // Of another fleet or registry it can be shown.
    let foreign = |edit: &dyn Fn(&mut Value), words: &str| {
        fs::write(&file, edited(edit)).unwrap();
        let refused = refusal(&world, &file, 65);
        assert!(refused.contains(words) && refused.lines().count() == 2, "{refused}");
        all(&said(&world, &file), &["Not of this fleet", words]);
    };
    foreign(&|plan| plan["saved"]["fleet"] = json!("other"), "is of the fleet `other`, and this is `acme`");
    foreign(&|plan| plan["saved"]["registry"] = json!("0123456789"), "made with the registry 01234567, and this one");
    fs::remove_file(&file).unwrap();
    let ran = world.run(&["plan", "show", &file]).expect(64);
    all(&ran.stderr, &["cannot be read"]);
    world.run(&["apply", world.path().to_str().unwrap(), "--yes"]).expect(65);
    assert!(world.rows("dim", "1").is_empty());
}

#[test]
fn a_plan_of_an_older_version_and_one_judged_by_policies_are_read() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("dim", DIM);
    let file = saved(&world, "plan.json");
    let text = fs::read_to_string(&file).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    assert!(document["saved"].get("policy_digest").is_none(), "absent without policies");
    document["saved"]["policy_digest"] = json!("0".repeat(64));
    fs::write(&file, document.to_string()).unwrap();
    all(&refusal(&world, &file, 75), &["at the policies"]);
    // Before there was a member `saved`.
    document.as_object_mut().unwrap().remove("saved");
    fs::write(&file, document.to_string()).unwrap();
    all(&said(&world, &file), &["Still fresh"]);
    world.run(&["apply", &file, "--yes"]).expect(0);
    assert_eq!(world.rows("dim", "1").len(), 3);
}
