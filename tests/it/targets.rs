//! What a plan says about targets: paths that devices lack, targets that are the whole fleet, groups whose size
//! changed.

use fleetform::diag::Diagnostic;

use crate::world::World;

const LEVEL: &str = "action: {property: {level: 3}}";

/// Returns the warnings of the plan with a code, as their details.
fn warned(world: &World, code: &str) -> Vec<String> {
    let findings = world.plan().unwrap().findings;
    assert!(!findings.diagnostics.has_errors());
    let of_code = |found: &&Diagnostic| found.code.0 == code;
    findings.diagnostics.sorted().into_iter().filter(of_code).map(|found| found.detail.clone()).collect()
}

/// Twenty devices in `acme/eu` and `acme/us`; those of 1 to 5 have a ring.
fn ringed_world() -> World {
    let world = World::new("{}");
    let rows = |range: std::ops::RangeInclusive<u32>| -> String {
        range
            .map(|n| {
                format!(
                    "d-{n:03},{}\n",
                    if n > 5 {
                        ""
                    } else if n == 1 {
                        "canary"
                    } else {
                        "stable"
                    }
                )
            })
            .collect()
    };
    world.write("eu.csv", format!("IOTC_DEVICEID,TAG.ring\n{}", rows(1..=12)));
    world.write("us.csv", format!("IOTC_DEVICEID,TAG.ring\n{}", rows(13..=20)));
    world.declare("o1.yaml", "Organization", "acme", "{}");
    world.declare("o2.yaml", "Organization", "eu", "{parent: acme}");
    world.declare("o3.yaml", "Organization", "us", "{parent: acme}");
    world.declare("i1.yaml", "DeviceImport", "eu", "{file: eu.csv, organization: eu}");
    world.declare("i2.yaml", "DeviceImport", "us", "{file: us.csv, organization: us}");
    world.commit("devices");
    world
}

#[test]
fn a_negated_path_is_warned_about_with_the_number_of_devices_that_lack_it() {
    let check = |condition: &str, organization: &str, expect: &[(&str, &str)]| {
        let world = ringed_world();
        world.job("dim", &format!("{{{organization} target: {{query: \"{condition}\"}}, {LEVEL}}}"));
        let found = warned(&world, "FF665");
        assert_eq!(found.len(), expect.len(), "{condition}: {found:#?}");
        for (found, (devices, path)) in found.iter().zip(expect) {
            let start = format!("{devices} `{path}`, which this condition has under `!=`, NOT or NIN");
            assert!(found.starts_with(&start), "{condition}: {found}");
        }
    };
    check("tags.ring != 'canary'", "", &[("15 devices lack", "tags.ring")]);
    check("NOT (tags.ring = 'canary')", "", &[("15 devices lack", "tags.ring")]);
    check("tags.ring NIN ['canary']", "", &[("15 devices lack", "tags.ring")]);
    check("tags.ring != 'canary'", "organization: eu,", &[("7 devices lack", "tags.ring")]);
    check("tags.ring != 'canary' AND startswith(deviceId, 'd-01')", "", &[("10 devices lack", "tags.ring")]);
    check("tags.ring != 'canary' AND deviceId < 'd-007'", "", &[("1 device lacks", "tags.ring")]);
    check("tags.ring != 'x' AND tags.zone != 'x'", "", &[("5 devices lack", "tags.zone")]);
    check(
        "NOT (tags.ring = 'x' OR tags.zone = 'x')",
        "",
        &[("15 devices lack", "tags.ring"), ("20 devices lack", "tags.zone")],
    );
    check("tags.ring != 'canary' OR deviceId <= 'd-010'", "", &[("10 devices lack", "tags.ring")]);
    check("tags.ring != 'canary' OR deviceId > 'd'", "", &[]);
    check("tags.ring = 'canary'", "", &[]);
    check("tags.ring != 'canary' AND tags.ring > 'a' AND deviceId < 'd-005'", "", &[]);
    check("NOT is_defined(tags.ring) OR tags.ring != 'canary'", "", &[]);
    check("status != 'disabled' AND NOT blocked", "", &[]);
    check("template != 'lamp'", "", &[("20 devices lack", "template")]);
}

#[test]
fn the_warning_points_at_the_condition_of_the_group_and_comes_once() {
    let world = ringed_world();
    world.declare(
        "groups/stable.yaml",
        "DeviceGroup",
        "stable",
        "{query: \"tags.ring != 'canary'\", organization: eu}",
    );
    world.job("dim", &format!("{{target: {{group: stable}}, {LEVEL}}}"));
    world.job("tag", "{target: {group: stable}, action: {tags: {seen: true}}}");
    let told = world.run(&["plan"]).expect(0).stderr;
    assert_eq!(told.matches("FF665").count(), 1, "{told}");
    assert!(told.contains("groups/stable.yaml:4:"), "{told}");
    assert!(told.contains("7 devices lack `tags.ring`"), "{told}");
    assert!(told.contains("`NOT is_defined(tags.ring) OR …`"), "{told}");
}

#[test]
fn a_target_of_the_whole_fleet_is_warned_about_unless_it_is_meant() {
    let check = |organization: &str, target: &str, expect: usize| {
        let world = ringed_world();
        world.declare("groups/all.yaml", "DeviceGroup", "all", "{query: '*'}");
        world.declare("groups/named.yaml", "DeviceGroup", "named", "{query: \"startswith(deviceId, 'd-')\"}");
        world.job("dim", &format!("{{{organization} target: {{{target}}}, {LEVEL}}}"));
        let found = warned(&world, "FF666");
        assert_eq!(found.len(), expect, "{target}: {found:?}");
        assert!(found.iter().all(|one| one == "Job `dim` selects all 20 devices of the fleet."), "{found:?}");
    };
    check("", "query: is_defined(deviceId)", 1);
    check("", "group: named", 1);
    check("organization: acme,", "query: is_defined(deviceId)", 1);
    check("organization: eu,", "query: is_defined(deviceId)", 0);
    check("", "query: '*'", 0);
    check("", "group: all", 0);
    check("", "query: is_defined(deviceId), expect: {max: 20}", 0);
    check("", "query: \"deviceId != 'd-001'\"", 0);
    check("", "devices: [d-001]", 0);
    // One device is a whole fleet too, but gets no warning.
    let world = World::with_devices("{}", 1);
    world.job("dim", &format!("{{target: {{query: is_defined(deviceId)}}, {LEVEL}}}"));
    assert_eq!(warned(&world, "FF666"), [""; 0]);
}

/// Returns the warnings about a group that had so many devices when a job ran on it and has so many now.
fn resized(before: usize, now: usize, first: &str, second: &str) -> Vec<String> {
    let world = World::with_devices("{}", before);
    world.declare("groups/all.yaml", "DeviceGroup", "all", "{query: '*'}");
    world.job("first", first);
    world.apply().unwrap();
    world.write("devices.csv", crate::world::devices_csv(now));
    // A row that left the file takes its device along.
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.csv, removed: delete}");
    world.commit("devices");
    let (name, spec) = second.split_once(' ').unwrap();
    world.job(name, spec);
    warned(&world, "FF667")
}

#[test]
fn a_group_that_changed_its_size_is_warned_about() {
    let job = format!("{{target: {{group: all}}, {LEVEL}}}");
    let again = format!("first {{run: '2', target: {{group: all}}, {LEVEL}}}");
    let check = |before: usize, now: usize, expect: &[&str]| {
        assert_eq!(resized(before, now, &job, &again), expect, "{before} {now}");
    };
    check(10, 12, &[]);
    check(10, 13, &["Group `all` of job `first` has grown from 10 devices in run 1 of job `first` to 13."]);
    check(20, 16, &[]);
    check(20, 15, &["Group `all` of job `first` has shrunk from 20 devices in run 1 of job `first` to 15."]);
    check(3, 9, &[]);
    check(3, 10, &["Group `all` of job `first` has grown from 3 devices in run 1 of job `first` to 10."]);
}

#[test]
fn the_size_of_a_group_is_compared_with_the_last_run_on_it() {
    let job = format!("{{target: {{group: all}}, {LEVEL}}}");
    let told = resized(10, 30, &job, &format!("second {{target: {{group: all}}, {LEVEL}}}"));
    assert_eq!(told, ["Group `all` of job `second` has grown from 10 devices in run 1 of job `first` to 30."]);
    let expected = format!("second {{target: {{group: all, expect: {{max: 40}}}}, {LEVEL}}}");
    assert_eq!(resized(10, 30, &job, &expected), [""; 0]);
    let other = format!("second {{target: {{query: '*'}}, {LEVEL}}}");
    assert_eq!(resized(10, 30, &job, &other), [""; 0]);
}

#[test]
fn a_target_that_selects_nobody_says_what_nobody_has() {
    let check = |condition: &str, expect: &[&str]| {
        let world = ringed_world();
        world.job("dim", &format!("{{target: {{query: \"{condition}\"}}, {LEVEL}}}"));
        let found = warned(&world, "FF651");
        let causes: Vec<&String> = found.iter().filter(|detail| !detail.starts_with("Job `dim` selects")).collect();
        assert_eq!(causes.len(), expect.len(), "{condition}: {found:#?}");
        for (cause, expect) in causes.iter().zip(expect) {
            assert!(cause.starts_with(expect), "{condition}: {cause}");
        }
    };
    check("tags.rings = 'canary'", &["No row of an import has `tags.rings`"]);
    check("tags.ring = 'canary' AND properties.reported.x > 3", &["No row of an import has `properties.reported.x`"]);
    // It is there, with other values.
    check("tags.ring = 'Canary'", &[]);
    // A device may be selected without it.
    check("tags.ring = 'none' OR tags.rings = 'canary'", &[]);
    check("NOT template = 'old' AND tags.ring = 'none'", &[]);
    check("organization = 'eu'", &["There is no organization with the path `eu`"]);
    check(
        "organization IN ['acme/asia'] OR template = 'lamp'",
        &["There is no organization with the path `acme/asia`", "There is no device template `lamp`"],
    );
    check("organization = 'acme/eu' AND tags.ring = 'none'", &[]);
}
