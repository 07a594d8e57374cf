//! Policies: what they refuse, who judges a change, and when nothing starts.

use std::time::Duration;

use fleetform::model::outcome::RunStatus;

use crate::world::{Ran, World};

const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

fn with_policy(spec: &str) -> World {
    let world = World::with_devices("{}", 20);
    world.apply().unwrap();
    policy(&world, "guard", spec);
    world
}

fn policy(world: &World, name: &str, spec: &str) {
    world.declare(&format!("policies/{name}.yaml"), "Policy", name, spec);
    world.commit(&format!("policy {name}"));
}

/// A plan is refused with 77, and what it says has each of the words.
fn refused(ran: Ran, words: &[&str]) {
    let ran = ran.expect(77);
    let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    words.iter().for_each(|word| assert!(said.contains(word), "{word}: {}", ran.stderr));
}

/// Rules, a job that breaks them, one that keeps them, and what is said of the first.
type Case = (&'static str, String, String, &'static [&'static str]);

fn delivery(fields: &str) -> String {
    format!("{{target: {{query: '*'}}, action: {{tags: {{ring: a}}}}, delivery: {{{fields}}}}}")
}

fn action(fields: &str) -> String {
    format!("{{target: {{query: '*'}}, action: {{{fields}}}}}")
}

fn cases() -> Vec<Case> {
    vec![
        (
            "{limits: {devicesPerJob: 5}}",
            REBOOT.to_string(),
            "{target: {devices: [d-001, d-002]}, action: {command: {name: reboot}}}".to_string(),
            &["policy `guard`", "20 devices", "`limits.devicesPerJob` allows at most 5"],
        ),
        (
            "{limits: {devicesPerJob: 25%}}",
            REBOOT.to_string(),
            "{target: {devices: [d-001, d-002, d-003, d-004, d-005]}, action: {tags: {a: 1}}}".to_string(),
            &["20 devices", "at most 5 (25%)"],
        ),
        (
            "{require: {expect: true}}",
            REBOOT.to_string(),
            "{target: {query: '*', expect: {max: 20}}, action: {tags: {a: 1}}}".to_string(),
            &["no `expect`", "`require.expect`"],
        ),
        (
            "{require: {canary: 3}}",
            delivery("batchSize: 4"),
            delivery("canary: 3, batchSize: 10"),
            &["a first batch of 4 devices", "at most 3"],
        ),
        (
            "{require: {cancellationThreshold: 10%}}",
            delivery("batchSize: 4"),
            delivery("cancellationThreshold: {failures: 2}"),
            &["no `cancellationThreshold`", "at most 10%"],
        ),
        (
            "{require: {cancellationThreshold: 10%}}",
            delivery("cancellationThreshold: {failures: 3}"),
            delivery("cancellationThreshold: {failures: 10%}"),
            &["a threshold of 3", "at most 10%"],
        ),
        (
            "{require: {batchSize: 25%}}",
            delivery("batchSize: 6"),
            delivery("batchSize: 5"),
            &["batches of 6 devices", "at most 5 (25%)"],
        ),
    ]
}

fn cases_of_forbidden() -> Vec<Case> {
    vec![
        (
            "{forbid: {properties: [\"network.**\"]}}",
            action("property: {network: {wifi: {ssid: a}}, level: 1}"),
            action("property: {level: 1, net: {work: 2}}"),
            &["`network.wifi.ssid` is set", "nothing that is `network.**`"],
        ),
        (
            "{forbid: {properties: [network.wifi]}}",
            action("property: {network: null}"),
            action("property: {network: {lte: 1}}"),
            &["`network` is set"],
        ),
        (
            "{forbid: {tags: [owner]}}",
            action("tags: {owner: {name: a}}"),
            action("property: {owner: 1}"),
            &["owner.name"],
        ),
        (
            "{forbid: {tags: [owner]}}",
            action("twin: {tags: {owner: a}, property: {level: 1}}"),
            action("twin: {tags: {ring: a}, property: {owner: 1}}"),
            &["`owner` is set", "twin: {tags: {owner: a}"],
        ),
        (
            "{forbid: {actions: [property]}}",
            action("twin: {tags: {ring: a}, property: {level: 1}}"),
            action("tags: {ring: a}"),
            &["the action `property`"],
        ),
        (
            "{forbid: {commands: [\"*Reset\"]}}",
            action("command: {name: factoryReset}"),
            action("command: {name: resetCounters}"),
            &["the command `factoryReset`", "none that is `*Reset`"],
        ),
        ("{forbid: {actions: [command]}}", REBOOT.to_string(), action("tags: {a: 1}"), &["the action `command`"]),
    ]
}

#[test]
fn each_rule_refuses_what_breaks_it_and_nothing_else() {
    for (rules, breaks, keeps, words) in cases().into_iter().chain(cases_of_forbidden()) {
        let world = with_policy(rules);
        world.job("one", &breaks);
        refused(world.run(&["plan"]), words);
        refused(world.run(&["apply", "--yes"]), words);
        assert!(world.subjects().iter().all(|subject| !subject.contains("job one")), "{rules}: something was claimed");
        world.job("one", &keeps);
        world.run(&["plan", "--detailed-exitcode"]).expect(2);
    }
}

#[test]
fn an_import_is_judged_too() {
    let world = with_policy("{limits: {removalsPerImport: 10%}, forbid: {removed: [delete]}, require: {expect: true}}");
    world.write("more.csv", "IOTC_DEVICEID\nextra\n");
    world.declare("import.yaml", "DeviceImport", "more", "{file: more.csv}");
    world.commit("an import");
    refused(world.run(&["plan"]), &["Import `more`", "no `expect`"]);
    world.declare("import.yaml", "DeviceImport", "more", "{file: more.csv, removed: delete, expect: {min: 1}}");
    world.commit("with delete");
    refused(world.run(&["plan"]), &["`removed: delete`", "`forbid.removed`"]);
    world.declare("import.yaml", "DeviceImport", "more", "{file: more.csv, removed: block, expect: {min: 1}}");
    world.commit("with block");
    world.run(&["apply", "--yes"]).expect(0);
}

#[test]
fn an_import_changes_no_forbidden_tag() {
    let world = World::new("{}");
    let central = |owner: &str, ring: &str| {
        world.declare("import.yaml", "DeviceImport", "all", "{file: devices.csv}");
        world.write("devices.csv", format!("IOTC_DEVICEID,TAG.owner.name,TAG.ring\nd-1,ann,a\nd-2,{owner},{ring}\n"));
        world.commit("rows");
    };
    central("bob", "a");
    world.apply().unwrap();
    policy(&world, "guard", "{forbid: {tags: [\"owner.**\"]}}");
    // What the devices have already may be in the file.
    central("bob", "b");
    world.run(&["apply", "--yes"]).expect(0);
    let said = ["Import `all`", "`owner.name` of 1 device is set (devices.csv:3)", "nothing that is `owner.**`"];
    for owner in ["eve", ""] {
        central(owner, "b");
        refused(world.run(&["plan"]), &said);
        refused(world.run(&["apply", "--yes"]), &said);
    }
    central("bob", "c");
    world.run(&["apply", "--yes"]).expect(0);
    // Lines of IoT Hub are looked at too, and new devices.
    let hub = |tags: &str| {
        world.declare("hub.yaml", "DeviceImport", "hub", "{file: devices.jsonl}");
        world.write("devices.jsonl", format!("{{\"id\":\"h-1\",\"importMode\":\"createOrUpdate\",\"tags\":{tags}}}\n"));
        world.commit("lines");
    };
    hub("{\"owner\":{\"name\":\"eve\"}}");
    refused(world.run(&["plan"]), &["Import `hub`", "`owner.name` of 1 device is set (devices.jsonl:1)"]);
    hub("{\"ring\":\"a\"}");
    world.run(&["apply", "--yes"]).expect(0);
}

#[test]
fn removals_are_counted_over_the_fleet() {
    let world = World::new("{}");
    let rows = |count: usize| crate::world::devices_csv(count);
    world.declare("import.yaml", "DeviceImport", "all", "{file: devices.csv, removed: block}");
    world.write("devices.csv", rows(20));
    world.commit("an import");
    world.apply().unwrap();
    policy(&world, "guard", "{limits: {removalsPerImport: 10%}}");
    world.write("devices.csv", rows(17));
    world.commit("three leave");
    refused(world.run(&["plan"]), &["3 devices blocked or deleted", "at most 2 (10%)"]);
    world.write("devices.csv", rows(18));
    world.commit("two leave");
    world.run(&["apply", "--yes"]).expect(0);
    // A row that blocks its device takes it away too, but only once.
    let blocked = |count: usize| {
        let row = |(at, id): (usize, &str)| format!("{id},{}\n", if at < count { "true" } else { "" });
        let ids = rows(18);
        let ids = ids.lines().skip(1).map(|line| line.split(',').next().unwrap());
        format!("IOTC_DEVICEID,BLOCKED\n{}", ids.enumerate().map(row).collect::<String>())
    };
    world.write("devices.csv", blocked(3));
    world.commit("three are blocked");
    refused(world.run(&["plan"]), &["3 devices blocked or deleted", "at most 2 (10%)"]);
    world.write("devices.csv", blocked(2));
    world.commit("two are blocked");
    world.run(&["apply", "--yes"]).expect(0);
    world.write("devices.csv", blocked(4));
    world.commit("two more are blocked");
    world.run(&["apply", "--yes"]).expect(0);
    let blocked = world.devices().iter().filter(|device| device.blocked).count();
    assert_eq!(blocked, 6, "two left the file, and four are blocked by their rows");
}

#[test]
fn a_day_has_so_many_devices() {
    let world = with_policy("{limits: {devicesPerDay: 30}}");
    world.job("one", REBOOT);
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Completed);
    world.job("two", REBOOT);
    let error = world.apply().unwrap_err().to_string();
    let findings = format!("{error:?}");
    world.pass(Duration::from_secs(25 * 3_600));
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Completed, "{findings}");
}

#[test]
fn jobs_at_once_are_those_that_the_fleet_lets_run() {
    let world = with_policy("{limits: {runningJobs: 2}}");
    for name in ["one", "two", "three"] {
        world.job(name, &format!("{{target: {{devices: [d-001]}}, action: {{tags: {{{name}: 1}}}}}}"));
    }
    refused(world.run(&["plan"]), &["3 jobs at once with this one", "at most 2"]);
    world.declare("fleetform.yaml", "Fleet", "acme", "{limits: {runningJobs: 2}}");
    world.commit("fewer at once");
    world.run(&["plan"]).expect(0);
}

#[test]
fn a_policy_of_other_organizations_and_kinds_says_nothing() {
    let world = World::with_devices("{}", 4);
    world.declare("eu.yaml", "Organization", "eu", "{}");
    world.declare("us.yaml", "Organization", "us", "{}");
    policy(&world, "guard", "{appliesTo: {organizations: [eu], kinds: [Job]}, forbid: {actions: [tags]}}");
    let job = |organization: &str| format!("{{{organization}target: {{query: '*'}}, action: {{tags: {{ring: a}}}}}}");
    world.apply().unwrap();
    world.job("one", &job("organization: us, "));
    world.run(&["plan"]).expect(0);
    for within in ["organization: eu, ", ""] {
        world.job("one", &job(within));
        refused(world.run(&["plan"]), &["the action `tags`"]);
    }
    world.job("one", &job("organization: us, "));
    let schedule = "{start: 2030-01-01T00:00:00, timeZone: UTC, recurrence: daily,
        job: {target: {query: '*'}, action: {tags: {ring: a}}}}";
    world.declare("nightly.yaml", "Schedule", "nightly", schedule);
    world.commit("a schedule");
    world.run(&["plan"]).expect(0);
    policy(&world, "all", "{forbid: {actions: [tags]}}");
    refused(world.run(&["plan"]), &["Schedule `nightly`", "policy `all`"]);
}

#[test]
fn a_change_cannot_loosen_the_rule_that_judges_it() {
    let world = with_policy("{limits: {devicesPerJob: 5}}");
    // In one commit: the rule of before counts.
    world.declare("policies/guard.yaml", "Policy", "guard", "{limits: {devicesPerJob: 50}}");
    world.job("one", REBOOT);
    refused(world.run(&["plan"]), &["at most 5", "as it is in the commit"]);
    refused(world.run(&["apply", "--yes"]), &["at most 5"]);
    // What is changed in a later commit is judged by the loosened rule.
    world.job("one", &REBOOT.replace("reboot", "restart"));
    world.run(&["apply", "--yes"]).expect(0);
}

#[test]
fn a_policy_that_leaves_with_the_job_judges_it() {
    let world = with_policy("{forbid: {actions: [command]}}");
    std::fs::remove_file(world.file("policies/guard.yaml")).unwrap();
    world.job("one", REBOOT);
    refused(world.run(&["plan"]), &["the action `command`", "as it is in the commit"]);
    // Nor does it help to hide it.
    let world = with_policy("{forbid: {actions: [command]}}");
    world.declare(
        "policies/guard.yaml",
        "Policy",
        "guard",
        "{appliesTo: {kinds: [DeviceImport]}, forbid: {removed: [delete]}}",
    );
    world.job("one", REBOOT);
    refused(world.run(&["plan"]), &["the action `command`"]);
}

#[test]
fn a_policy_judges_however_its_kind_is_written() {
    for kind in [r#""Pol\x69cy""#, "\"Pol\\\n  icy\"", "'Policy'", ">-\n  Policy"] {
        let world = World::with_devices("{}", 4);
        world.apply().unwrap();
        let text = format!(
            "apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: guard}}\nspec: {{forbid: {{actions: [command]}}}}\n"
        );
        world.write("guard.yaml", text);
        world.commit("a policy");
        std::fs::remove_file(world.file("guard.yaml")).unwrap();
        world.job("one", REBOOT);
        refused(world.run(&["plan"]), &["the action `command`", "as it is in the commit"]);
    }
}

#[test]
fn a_tighter_rule_counts_at_once() {
    let world = World::with_devices("{}", 20);
    world.apply().unwrap();
    world.job("one", REBOOT);
    policy(&world, "guard", "{limits: {devicesPerJob: 5}}");
    refused(world.run(&["plan"]), &["at most 5"]);
}

#[test]
fn a_work_tree_is_judged_by_head_and_a_change_by_its_base() {
    let world = with_policy("{limits: {devicesPerJob: 5}}");
    let base = world.head();
    world.declare("policies/guard.yaml", "Policy", "guard", "{limits: {devicesPerJob: 50}}");
    world.declare("jobs/one.yaml", "Job", "one", REBOOT);
    refused(world.run(&["plan"]), &["at most 5"]);
    world.commit("a looser rule and a job");
    // Two commits of one change: alone the second would do, as a change it does not.
    world.job("one", &REBOOT.replace("reboot", "restart"));
    world.run(&["plan"]).expect(0);
    refused(world.run(&["plan", "--base", &base]), &["at most 5"]);
}

#[test]
fn a_merge_is_one_change_of_the_branch_that_it_goes_into() {
    let world = with_policy("{limits: {devicesPerJob: 5}}");
    let repository = world.repository();
    let main = repository.head().unwrap().peel_to_commit().unwrap();
    world.declare("policies/guard.yaml", "Policy", "guard", "{limits: {devicesPerJob: 50}}");
    world.commit("a looser rule");
    world.job("one", REBOOT);
    let topic = repository.head().unwrap().peel_to_commit().unwrap();
    let author = topic.author();
    let merge = repository.commit(None, &author, &author, "merge", &topic.tree().unwrap(), &[&main, &topic]).unwrap();
    // As two commits of one push the loosening comes before the job, and counts.
    world.run(&["plan"]).expect(0);
    repository.reference("refs/heads/main", merge, true, "merged").unwrap();
    repository.set_head("refs/heads/main").unwrap();
    refused(world.run(&["plan", "--rev", &merge.to_string()]), &["at most 5"]);
}

#[test]
fn a_broken_policy_opens_no_door() {
    // In the tree the files are invalid.
    let world = with_policy("{limits: {devicesPerJob: many}}");
    world.job("one", REBOOT);
    world.run(&["apply", "--yes"]).expect(65);
    // In the tree before, what was written against it is held.
    policy(&world, "guard", "{limits: {devicesPerJob: 50}}");
    world.run(&["plan"]).expect(77);
    refused(world.run(&["apply", "--yes"]), &["Job `one` is held", "cannot be read"]);
    world.job("one", &REBOOT.replace("reboot", "restart"));
    world.run(&["apply", "--yes"]).expect(0);
    // A file that may have been a policy, and cannot be read at all.
    let world = World::with_devices("{}", 4);
    world.apply().unwrap();
    world.write("guard.yaml", "apiVersion: fleetform/v1\nkind: Policy\nmetadata: {name: guard\n");
    world.commit("a slip");
    std::fs::remove_file(world.file("guard.yaml")).unwrap();
    world.job("one", REBOOT);
    refused(world.run(&["plan"]), &["Job `one` is held"]);
}

#[test]
fn a_freeze_holds_what_has_not_started() {
    let world = with_policy(
        "{appliesTo: {kinds: [Job]}, freeze: [{from: 2001-01-01T00:00:00, until: 2100-01-01T00:00:00, timeZone: UTC,
          reason: holidays}]}",
    );
    world.job("one", REBOOT);
    world.job("two", "{target: {query: '*'}, action: {tags: {ring: a}}, after: [one]}");
    // A plan shows what would start, with a warning; that is no reason to fail a check.
    let plan = world.run(&["plan", "--strict"]).expect(0);
    assert!(plan.stdout.contains("+ run      job/one run 1"), "{plan:?}");
    assert!(plan.stderr.contains("FF683") && plan.stderr.contains("holidays"), "{plan:?}");
    let applied = world.run(&["apply", "--yes"]).expect(75);
    assert!(
        applied.stderr.contains("job/one: frozen until 2100-01-01T00:00:00Z by policy guard: holidays"),
        "{applied:?}"
    );
    assert!(world.subjects().iter().all(|subject| !subject.contains("job one")));
    // What is of another kind is done.
    world.declare("more.yaml", "DeviceImport", "more", "{file: more.csv}");
    world.write("more.csv", "IOTC_DEVICEID\nextra\n");
    world.commit("an import");
    world.run(&["apply", "--yes"]).expect(75);
    assert!(world.devices().iter().any(|device| device.device_id == "extra"));
    // The rule that was loosened counts for what is changed later.
    policy(&world, "guard", "{appliesTo: {kinds: [Job]}, forbid: {commands: [nothing]}}");
    world.run(&["apply", "--yes"]).expect(75);
    world.job("one", &REBOOT.replace("reboot", "restart"));
    world.job("two", "{target: {query: '*'}, action: {tags: {ring: b}}, after: [one]}");
    world.run(&["apply", "--yes"]).expect(0);
}

#[test]
fn a_freeze_ends() {
    let world = World::with_devices("{}", 4);
    world.apply().unwrap();
    let until = world.clock_now().checked_add(Duration::from_secs(3_600)).unwrap();
    let until = until.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string();
    policy(&world, "guard", &format!("{{freeze: [{{from: 2001-01-01T00:00:00, until: {until}, timeZone: UTC}}]}}"));
    world.job("one", REBOOT);
    let applied = world.apply().unwrap();
    assert_eq!((applied.frozen.len(), applied.records.len()), (1, 0));
    world.pass(Duration::from_secs(3_600));
    let applied = world.apply().unwrap();
    assert_eq!((applied.frozen.len(), applied.records[0].status), (0, RunStatus::Completed));
}

#[test]
fn what_is_frozen_is_refused_as_far_as_it_is_known() {
    let world = with_policy(
        "{forbid: {commands: [reboot]}, freeze: [{from: 2001-01-01T00:00:00, until: 2100-01-01T00:00:00, timeZone: UTC}]}",
    );
    world.job("one", REBOOT);
    refused(world.run(&["plan"]), &["the command `reboot`"]);
    refused(world.run(&["apply", "--yes"]), &["the command `reboot`"]);
}

#[test]
fn what_is_written_for_one_device_is_judged_before_it_is_committed() {
    let world = with_policy("{forbid: {commands: [reboot], properties: [\"light.**\"]}}");
    let head = world.head();
    refused(world.run(&["device", "call", "d-001", "reboot"]), &["the command `reboot`"]);
    refused(world.run(&["device", "set", "d-001", "light.level=3"]), &["`light.level` is set"]);
    assert_eq!(world.head(), head);
    world.run(&["device", "set", "d-001", "level=3"]).expect(0);
    // And it says why a job does not run.
    world.job("one", REBOOT);
    let why = world.run(&["job", "show", "one", "--why"]).expect(0).stdout;
    assert!(why.contains("FF681") || why.contains("policy `guard`"), "{why}");
}
