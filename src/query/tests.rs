use serde_json::json;

use super::*;
use crate::model::device::{ConnectionState, DeviceState};

pub fn device() -> Device {
    Device {
        device_id: "sim-1".to_string(),
        device_name: "Chiller 1".to_string(),
        template: Some("chiller".to_string()),
        organization: None,
        state: DeviceState::Provisioned,
        blocked: false,
        simulated: true,
        iot_edge: true,
        connection_state: ConnectionState::Disconnected,
        last_activity: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        edge_manifest: None,
        tags: json!({
            "location": {"region": "US"}, "building": 9, "environment": "test", "serviceCode": "x", "deviceModelCode": "y",
            "deviceType": "chiller", "nothing": null, "on": true, "off": false, "list": [1, 2], "real": 1.5, "group": "g", "in": 1,
            "my-tag": "dash", "a.b": "dot", "word": "h\u{e9}Llo", "one": "1", "big": 9_007_199_254_740_993_i64
        }),
        cloud: json!({"owner": "ops"}),
        desired: json!({"fan": 3}),
        desired_version: 7,
        reported: json!({
            "telemetryConfig": {"sendFrequencyInSecs": 60}, "connectivity": "wifi", "settings": {"syncIntervalSec": 60},
            "chillerProperties": {"model": "4000x"}, "chillerWaterSettings": {"status": "pending"},
            "lastDesiredVersion": 7, "lastDesiredStatus": {"code": 200}, "status": "scanning", "fan": 3
        }),
        reported_version: 2,
    }
}

fn parsed(text: &str) -> Query {
    parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

/// `Some` is true or false, `None` undefined: an undefined condition and its negation both select nothing.
#[test]
fn values_follow_three_valued_logic() {
    let device = device();
    let check = |text: &str, expect: Option<bool>| {
        let query = parsed(text);
        let expect = expect.map_or(Answer::Undefined, Answer::Bool);
        assert_eq!(evaluate(query.condition(), &device), expect, "{text}");
    };
    let (yes, no, undefined) = (Some(true), Some(false), None);
    check("tags.gone = 'a'", undefined);
    check("tags.gone != 'a'", undefined);
    check("NOT tags.gone = 'a'", undefined);
    check("NOT (tags.gone = 'a')", undefined);
    check("tags.building = 'US'", undefined);
    check("tags.building != '9'", undefined);
    check("tags.one = 1", undefined);
    check("tags.on = 1", undefined);
    check("tags.location = tags.location", undefined);
    check("tags.list = tags.list", undefined);
    check("tags.nothing = null", yes);
    check("tags.nothing != null", no);
    check("tags.nothing < null", undefined);
    check("tags.gone = null", undefined);
    check("tags.on = true", yes);
    check("tags.on != true", no);
    check("tags.on > false", undefined);
    check("tags.gone = 1 AND tags.building = 8", no);
    check("tags.gone = 1 AND tags.building = 9", undefined);
    check("tags.gone = 1 OR tags.building = 9", yes);
    check("tags.gone = 1 OR tags.building = 8", undefined);
    check("tags.building AND tags.off", no);
    check("tags.building AND tags.on", undefined);
    check("NOT tags.building", undefined);
    check("NOT tags.off", yes);
    check("tags.building IN [8, 9]", yes);
    check("tags.building IN [8, 'x']", no);
    check("tags.building IN ['9', true]", undefined);
    check("tags.building IN []", undefined);
    check("tags.building NIN [8]", yes);
    check("tags.building NIN [9]", no);
    check("tags.building NIN ['9']", undefined);
    check("tags.gone NIN ['9']", undefined);
    check("tags.nothing IN [null]", yes);
    check("tags.list IN [1]", undefined);
    check("tags.building IN [tags.gone, tags.building]", yes);
    check("moduleId = 'a' OR configurations.c.status = 'b'", undefined);
    check("organization = 'acme'", undefined);
}

#[test]
fn operators_and_functions_compute() {
    let device = device();
    let check = |text: &str, expect: bool| assert_eq!(matches(&parsed(text), &device), expect, "{text}");
    check("tags.building + 1 * 2 = 11", true);
    check("(tags.building + 1) * 2 = 20", true);
    check("10 - 4 - 3 = 3", true);
    check("tags.building / 2 = 4.5", true);
    check("tags.building % 4 = 1", true);
    check("-7 % 4 = -3", true);
    check("-tags.building = -9", true);
    check("- -tags.building = 9", true);
    check("tags.building / 0 = 0 OR tags.building % 0 = 0", false);
    check("NOT is_defined(tags.building / 0)", true);
    check("NOT is_defined(1e308 * 10)", true);
    check("NOT is_defined(tags.one + 1)", true);
    check("tags.big = 9007199254740993 AND tags.big != 9007199254740992.0", true);
    check("tags.building = 9.0 AND tags.building = 0x9 AND tags.building = 9e0", true);
    check("tags.environment > 'tess' AND tags.environment < 'tesu'", true);
    check("NOT tags.off AND tags.on", true);
    check("tags.off = NOT tags.on", true);
    check("true OR false AND false", true);
    check("is_null(tags.nothing) AND is_defined(tags.nothing) AND NOT is_null(tags.gone)", true);
    check("is_string(tags.one) AND is_number(tags.real) AND is_bool(tags.on)", true);
    check("is_object(tags) AND is_object(tags.location) AND is_array(tags.list)", true);
    check("is_primitive(tags.nothing) AND NOT is_primitive(tags.list) AND NOT is_primitive(tags.gone)", true);
    check("StartsWith(tags.word, 'h') AND starts_with(tags.word, '') AND ENDS_WITH(tags.word, 'Llo')", true);
    check("contains(tags.word, '\\u00e9L') AND NOT contains(tags.word, 'el')", true);
    check("contains(tags.building, '9') OR NOT contains(tags.building, '9')", false);
    check("length(tags.word) = 5 AND length(tags.list) = 2", true);
    check("lower(tags.word) = 'h\u{e9}llo' AND upper(tags.word) = 'H\u{c9}LLO'", true);
    check("tags.group = 'g' AND tags.in = 1 AND tags.[[my-tag]] = 'dash' AND tags.[[a.b]] = 'dot'", true);
    check("tags.Group = 'g' OR TAGS.group = 'x'", false);
    check("Properties.Desired.fan = PROPERTIES.reported.fan", true);
    check("properties.desired.$version = 7 AND properties.reported.$version = 2", true);
    check("lastActivityTime >= '2026-01-01' AND cloud.owner = 'ops'", true);
    check("simulated AND NOT blocked AND deviceName = 'Chiller 1'", true);
    check("/* all */ tags.building /* nine */ = 9", true);
    check("(tags.building = 9) = true", true);
}

#[test]
fn a_blocked_device_is_disabled() {
    let blocked = Device { blocked: true, ..device() };
    assert!(matches(&parsed("status = 'disabled' AND blocked = true"), &blocked));
    assert!(!matches(&parsed("status = 'enabled'"), &blocked));
}

#[test]
fn help_says_what_to_write() {
    let check = |text: &str, expect: &str| {
        assert_eq!(parse(text).unwrap_err()[0].help().as_deref(), Some(expect), "{text}");
    };
    check("", "Write `*` for every device.");
    check("tags.a == 1", "Write =.");
    check("tags.a && tags.b", "Write AND.");
    check("tags.a LIKE 'x%'", "Write startswith(x, 'a'), endswith(x, 'a') or contains(x, 'a').");
    check("tags.a NOT IN ['x']", "Write NIN.");
    check("SELECT * FROM devices WHERE tags.a = 1", "Give only the condition: what stands after WHERE.");
    check(
        "from devices.modules where tags.building=9",
        "Jobs are for devices, not for their modules: ask for what the devices themselves have.",
    );
    check("SELECT * FROM devices.jobs", "`fleetform job list --device ID` lists the runs of a device.");
    check("tags.a = 'x", "Write ' at its end, and \\' for a quote inside.");
    check("tag.building = '43'", "Did you mean `tags.building`?");
    check("building = '43'", "Did you mean `tags.building`? Text needs quotes.");
    check("tags.a = US", "Did you mean `tags.US`? Text needs quotes.");
    check("conectionState = 'Connected'", "Did you mean `connectionState`?");
    check("startwith(tags.a, 'x')", "Did you mean `startswith`?");
    check("tags.my-tag = 'a'", "Write the name as `[[my-tag]]`.");
    check("blocked = 'true'", "Write true and false without quotes.");
    check("template = null", "Write NOT is_defined(x) for a property that is not there.");
    check("tags.a IN ('x', 'y')", "Write IN ['a', 'b'].");
    check("deviceId.x = 'a'", "Write just `deviceId`.");
}

/// One mistake in each operand: each is found, and none causes another.
#[test]
fn all_errors_of_a_text_are_found() {
    let check = |text: &str, expect: &[(usize, usize)]| {
        let found: Vec<_> = parse(text).unwrap_err().iter().map(|error| (error.start, error.end)).collect();
        assert_eq!(found, expect, "{text}");
    };
    check("tag.a = 1 AND is_define(tags.b) OR 1 = 'x'", &[(0, 5), (14, 23), (35, 42)]);
    check("tags.a == 1 AND tags.b == 2", &[(7, 9), (23, 25)]);
    check("(tags.a == 1 OR x = 1) AND tags.b LIKE 'x'", &[(8, 10), (16, 17), (34, 38)]);
    check("tags.a = 1) AND x = 2", &[(10, 11), (16, 17)]);
    check("tags.a = AND tags.b = ", &[(9, 12), (22, 22)]);
}

#[test]
fn length_and_depth_are_bounded() {
    let check = |text: &str, expect: Option<QueryErrorKind>| {
        let found = parse(text).err().map(|errors| errors[0].kind.clone());
        assert_eq!(found, expect, "{}…", &text[..40]);
    };
    let nested = |count: usize| format!("{}tags.a = 1{}", "(".repeat(count), ")".repeat(count));
    check(&nested(64), None);
    check(&nested(65), Some(QueryErrorKind::Deep));
    check(&"(".repeat(8_000), Some(QueryErrorKind::Deep));
    check(&"NOT ".repeat(2_000), Some(QueryErrorKind::Deep));
    check(&format!("tags.a = {}1", "-".repeat(8_000)), Some(QueryErrorKind::Deep));
    check(&format!("tags.a = 1{}", "+1".repeat(4_000)), Some(QueryErrorKind::Deep));
    check(&format!("tags.a IN {}", "[".repeat(8_000)), Some(QueryErrorKind::Deep));
    check(&format!("tags.a{}", " = tags.a".repeat(800)), Some(QueryErrorKind::Deep));
    check(&format!("tags.a = '{}'", "x".repeat(8_181)), None);
    check(&format!("tags.a = '{}'", "\u{e9}".repeat(8_182)), Some(QueryErrorKind::Long { chars: 8_193 }));
}

/// Chains are as long as the text may be, and do not count as nesting.
#[test]
fn long_chains_are_flat() {
    let device = device();
    let or = parsed(&vec!["tags.on"; 700].join(" OR "));
    assert!(matches(&or, &device));
    let mixed = parsed(&vec!["a IN[1]".replace('a', "tags.in"); 450].join(" AND "));
    assert!(matches(&mixed, &device));
}

#[test]
fn paths_are_sorted_and_distinct() {
    let names = |paths: Vec<PathRef>| paths.iter().map(PathRef::to_string).collect::<Vec<_>>();
    let query = parsed("tags.b = 1 AND (tags.a IN [tags.b, 2] OR NOT startswith(id, 'x')) AND cloud.[[x y]] > 1");
    assert_eq!(names(paths(&query)), ["deviceId", "tags.a", "tags.b", "cloud.[[x y]]"]);
    let check = |text: &str, expect: &[&str]| assert_eq!(names(negated_paths(&parsed(text))), expect, "{text}");
    check("tags.a = 1", &[]);
    check("tags.a != 1 AND tags.b = 2", &["tags.a"]);
    check("NOT (tags.a = 1 OR tags.b > 2)", &["tags.a", "tags.b"]);
    check("tags.a NIN [1]", &["tags.a"]);
    check("NOT is_defined(tags.a) OR tags.a != 1", &[]);
    check("NOT is_null(tags.a)", &[]);
}

/// Devices that lack the property are counted among those that meet the rest of the condition.
#[test]
fn who_lacks_a_property_meets_the_rest() {
    let check = |text: &str, expect: &[&[&str]]| {
        let found: Vec<Vec<String>> = lacks(&parsed(text))
            .iter()
            .map(|lack| lack.conditions.iter().map(|query| query.text().to_string()).collect())
            .collect();
        assert_eq!(found, expect, "{text}");
    };
    check("tags.a = 1", &[]);
    check("tags.a != 1", &[&["NOT is_defined(tags.a)"]]);
    check(
        "tags.[[b c]] != 1 AND (tags.d = 2 AND (status = 'x' OR blocked))",
        &[&["tags.d = 2", "status = 'x' OR blocked", "NOT is_defined(tags.[[b c]])"]],
    );
    check(
        "tags.a != 1 AND NOT tags.b = 2",
        &[&["NOT tags.b = 2", "NOT is_defined(tags.a)"], &["tags.a != 1", "NOT is_defined(tags.b)"]],
    );
    check("tags.a != 1 OR tags.b = 2", &[&["NOT is_defined(tags.a)"]]);
    check("is_defined(tags.a) AND tags.a != 1", &[]);
    let long = format!("tags.{} != 1", "x".repeat(8_180));
    assert_eq!(lacks(&parsed(&long)).len(), 1);
}

#[test]
fn a_search_begins_by_what_every_selected_device_meets() {
    let check = |text: &str, expect: &[&str]| {
        let found: Vec<String> = searched_paths(&parsed(text)).iter().map(PathRef::to_string).collect();
        assert_eq!(found, expect, "{text}");
    };
    check("tags.line = '3'", &["tags.line"]);
    check("3 < properties.reported.battery", &["properties.reported.battery"]);
    check(
        "startswith(cloud.owner, 'n') AND (tags.b IN [1, 'x'] AND tags.a >= 2)",
        &["tags.a", "tags.b", "cloud.owner"],
    );
    check("tags.a = 1 AND tags.a < 5 AND deviceId = 'x' AND template = 'y'", &["tags.a"]);
    check("tags.a = 1 AND (tags.b = 2 OR tags.c = 3) AND NOT tags.d = 4", &["tags.a"]);
    check("tags.a != 1", &[]);
    check("tags.a NIN [1]", &[]);
    check("tags.a IN [1, true]", &[]);
    check("tags.a = true", &[]);
    check("tags.a = tags.b", &[]);
    check("tags.a + 1 = 2", &[]);
    check("lower(tags.a) = 'x'", &[]);
    check("startswith(tags.a, '')", &[]);
    check("endswith(tags.a, 'x')", &[]);
    check("*", &[]);
}

#[test]
fn ranges_are_those_of_the_text() {
    let query = parsed("tags.\u{e9} = (1 + 2) AND NOT tags.b");
    let ast::ExprKind::And(operands) = &query.condition().kind else { panic!("{:?}", query.condition()) };
    let parts: Vec<_> = operands.iter().map(|operand| &query.text()[operand.start..operand.end]).collect();
    assert_eq!(parts, ["tags.\u{e9} = (1 + 2)", "NOT tags.b"]);
}

/// Whatever the text, the parser ends, its ranges lie on characters of the text, and every error is a sentence.
#[test]
fn any_text_gets_an_answer() {
    const WORDS: [&str; 40] = [
        "tags.a",
        "tags",
        "deviceId",
        "x",
        "1",
        "2.5",
        "'s'",
        "\"",
        "'",
        "true",
        "null",
        "undefined",
        "AND",
        "OR",
        "NOT",
        "IN",
        "NIN",
        "=",
        "!=",
        "<",
        "+",
        "-",
        "*",
        "/",
        "%",
        "(",
        ")",
        "[",
        "]",
        "[[",
        "]]",
        ".",
        ",",
        "/*",
        "*/",
        "==",
        "is_defined(",
        "startswith(",
        "\u{e9}",
        "\\",
    ];
    let mut state = 0x5EED_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..(state >> 40) % 12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
            text.push_str(if state >> 62 == 0 { "" } else { " " });
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match parse(&text) {
            Ok(query) => {
                matches(&query, &device());
            }
            Err(errors) => {
                assert!(!errors.is_empty(), "{text}");
                for error in errors {
                    assert!(text.get(error.start..error.end).is_some(), "{text}: {error:?}");
                    assert!(error.to_string().ends_with('.'), "{text}: {error}");
                    assert!(error.help().is_none_or(|help| help.ends_with(['.', '?'])), "{text}: {:?}", error.help());
                }
            }
        }
    }
}
