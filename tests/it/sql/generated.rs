//! Devices and conditions to hold a dialect of SQL against the reference, and what any dialect must get right.

use fleetform::model::device::{ConnectionState, Device, DeviceState};
use fleetform::query::{self, Answer, Query};
use serde_json::{Map, Value, json};

/// [`check_parity`] compares each of these conditions on each of these devices: half a million pairs take 1 s in debug.
const PARITY_CONDITIONS: usize = 5_000;
const PARITY_DEVICES: usize = 100;
/// Each kind of answer must be at least one in this many, or the conditions are not mixed well.
const PARITY_SHARE: usize = 10;

/// Returns a device with nothing but its id.
pub fn device(device_id: &str) -> Device {
    Device {
        device_id: device_id.to_string(),
        device_name: device_id.to_uppercase(),
        template: None,
        organization: None,
        state: DeviceState::Provisioned,
        blocked: false,
        simulated: false,
        iot_edge: false,
        connection_state: ConnectionState::Connected,
        last_activity: None,
        edge_manifest: None,
        tags: json!({}),
        cloud: json!({}),
        desired: json!({}),
        desired_version: 1,
        reported: json!({}),
        reported_version: 1,
    }
}

/// A seeded generator (xorshift64*), so that a failure repeats.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

pub const KEYS: [&str; 14] =
    ["a", "b", "c", "n", "in", "my-key", "it's", "q\"t", "b\\s", "\u{e9}\u{1f600}", "\0", "A", "0", "\u{1}"];
pub const TEXTS: [&str; 30] = [
    "\u{c9}cole",
    "stra\u{df}e",
    "\u{130}\u{3a3}",
    "",
    "a",
    "ab",
    "A",
    "abc",
    "1",
    "true",
    "null",
    "{",
    "[",
    "{\"a\":1}",
    "[1]",
    "it's",
    "\u{e9}a",
    "\u{1f600}",
    "\u{d7ff}",
    "\u{10ffff}x",
    "a\\b",
    "a\nb",
    "\u{c9}Ab",
    "a\0b",
    "\0",
    "\u{1}",
    "\u{2}",
    "\0\u{2}a",
    "a\u{1}",
    "\u{212a}",
];
const NUMBERS: [&str; 29] = [
    "0",
    "1",
    "2",
    "-1",
    "1.0",
    "1.5",
    "0.0",
    "-0.5",
    "1e3",
    "1000",
    "9007199254740993",
    "9007199254740992.0",
    "4503599627370495",
    "9223372036854775807",
    "18446744073709551615",
    "1e300",
    "0.1",
    "123456789.12345679",
    "-9223372036854775808",
    "-7",
    "3",
    "4611686018427387905",
    "-1e308",
    "5e-324",
    "0.30000000000000004",
    "18446744073709551616.0",
    "18446744073709549568.0",
    "9223372036854775808",
    "1152921504606846976.0",
];

fn twin_value(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 9 } else { 12 }) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3..=5 => serde_json::from_str(dice.pick(&NUMBERS)).unwrap(),
        6..=8 => json!(dice.pick(&TEXTS)),
        9 => Value::Array((0..dice.below(3)).map(|_| twin_value(dice, depth - 1)).collect()),
        _ => section(dice, depth - 1),
    }
}

pub fn section(dice: &mut Dice, depth: usize) -> Value {
    let members: Map<String, Value> =
        (0..dice.below(7)).map(|_| (KEYS[dice.below(KEYS.len())].to_string(), twin_value(dice, depth))).collect();
    Value::Object(members)
}

pub fn random_device(dice: &mut Dice, at: usize) -> Device {
    let optional = |dice: &mut Dice| (dice.below(2) == 0).then(|| dice.pick(&TEXTS).to_string());
    let ids = ["a", "ab", "dev-1", "1", "A", "\u{1f600}", "abc", "b"];
    Device {
        device_id: if at < ids.len() { ids[at].to_string() } else { format!("{}{at}", dice.pick(&["a", "b", "ab"])) },
        device_name: dice.pick(&TEXTS).to_string(),
        template: optional(dice),
        organization: optional(dice),
        state: DeviceState::ALL[dice.below(4)],
        blocked: dice.below(2) == 0,
        simulated: dice.below(2) == 0,
        iot_edge: dice.below(2) == 0,
        connection_state: if dice.below(2) == 0 { ConnectionState::Connected } else { ConnectionState::Disconnected },
        last_activity: (dice.below(2) == 0).then(|| jiff::Timestamp::from_second(dice.below(1 << 30) as i64).unwrap()),
        tags: section(dice, 3),
        cloud: section(dice, 2),
        desired: section(dice, 2),
        desired_version: dice.below(3) as u64 + 1,
        reported: section(dice, 2),
        reported_version: dice.below(3) as u64 + 1,
        ..device("")
    }
}

fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    if text.contains('\'') { json } else { format!("'{}'", json[1..json.len() - 1].replace("\\\"", "\"")) }
}

fn random_path(dice: &mut Dice) -> String {
    const SYSTEM: [&str; 16] = [
        "deviceId",
        "id",
        "deviceName",
        "template",
        "organization",
        "status",
        "connectionState",
        "lastActivityTime",
        "simulated",
        "blocked",
        "capabilities.iotEdge",
        "$provisioned",
        "properties.desired.$version",
        "properties.reported.$version",
        "moduleId",
        "configurations.[[c-1]].status",
    ];
    if dice.below(4) == 0 {
        return dice.pick(&SYSTEM).to_string();
    }
    let mut path = dice.pick(&["tags", "tags", "cloud", "properties.desired", "properties.reported"]).to_string();
    for _ in 0..[0, 1, 1, 1, 1, 1, 2, 2, 3][dice.below(9)] {
        path.push_str(&format!(".[[{}]]", KEYS[dice.below(KEYS.len())]));
    }
    path
}

fn random_literal(dice: &mut Dice) -> String {
    match dice.below(10) {
        0 => dice.pick(&["true", "false"]).to_string(),
        1 => dice.pick(&["null", "undefined"]).to_string(),
        2..=5 => dice.pick(&NUMBERS).to_string(),
        _ => quoted(dice.pick(&TEXTS)),
    }
}

fn random_operand(dice: &mut Dice, depth: usize) -> String {
    match dice.below(if depth == 0 { 6 } else { 10 }) {
        0..=3 => random_path(dice),
        4 | 5 => random_literal(dice),
        6 => format!("{}({})", dice.pick(&["lower", "upper", "length"]), random_operand(dice, depth - 1)),
        7 => format!("-{}", random_operand(dice, depth - 1)),
        _ => format!(
            "({} {} {})",
            random_operand(dice, depth - 1),
            dice.pick(&["+", "-", "*", "/", "%"]),
            random_operand(dice, depth - 1)
        ),
    }
}

/// Returns a condition that compares the values of one device with each other and with calculations.
fn random_calculation(dice: &mut Dice) -> String {
    let number = |dice: &mut Dice| match dice.below(4) {
        0 => dice.pick(&NUMBERS).to_string(),
        1 => format!("length({})", random_path(dice)),
        _ => random_path(dice),
    };
    match dice.below(4) {
        0 => random_path(dice),
        1 => format!("{} % {}", number(dice), number(dice)),
        2 => format!("length({})", random_path(dice)),
        _ => format!("{} {} {}", number(dice), dice.pick(&["+", "-", "*", "/"]), number(dice)),
    }
}

fn random_atom(dice: &mut Dice, depth: usize) -> String {
    let operator = dice.pick(&["=", "!=", "<>", "<", "<=", ">", ">="]);
    match dice.below(15) {
        12 => format!("{} {operator} {}", random_path(dice), random_calculation(dice)),
        13 => format!("{} {operator} {}", random_calculation(dice), random_calculation(dice)),
        14 => format!("{} {operator} {}", random_calculation(dice), dice.pick(&NUMBERS)),
        0..=3 => format!("{} {operator} {}", random_path(dice), random_literal(dice)),
        4 => format!("{} {operator} {}", random_literal(dice), random_path(dice)),
        5 => format!("{} {operator} {}", random_operand(dice, 2), random_operand(dice, 2)),
        6 | 7 => {
            let list: Vec<_> = (0..dice.below(5)).map(|_| random_literal(dice)).collect();
            format!("{} {} [{}]", random_operand(dice, 1), dice.pick(&["IN", "NIN"]), list.join(", "))
        }
        8 => {
            let test = dice.pick(&[
                "is_defined",
                "is_null",
                "is_string",
                "is_number",
                "is_bool",
                "is_object",
                "is_array",
                "is_primitive",
            ]);
            format!("{test}({})", random_operand(dice, 1))
        }
        9 => {
            let test = dice.pick(&["startswith", "endswith", "contains"]);
            format!("{test}({}, {})", random_operand(dice, 1), quoted(dice.pick(&TEXTS)))
        }
        10 => random_path(dice),
        _ if depth > 0 => format!("({}) = {}", random_condition(dice, depth - 1), dice.pick(&["true", "tags.a"])),
        _ => dice.pick(&["true", "false"]).to_string(),
    }
}

pub fn random_condition(dice: &mut Dice, depth: usize) -> String {
    if depth == 0 {
        return random_atom(dice, 0);
    }
    match dice.below(6) {
        0 | 1 => format!("NOT ({})", random_condition(dice, depth - 1)),
        2 => format!("({} AND {})", random_condition(dice, depth - 1), random_condition(dice, depth - 1)),
        3 => format!("({} OR {})", random_condition(dice, depth - 1), random_condition(dice, depth - 1)),
        _ => random_atom(dice, depth),
    }
}

/// Checks that a dialect selects what the reference selects, for generated conditions and devices. `make` makes a table of
/// devices; the result selects with it by a condition, and returns the ids, sorted.
pub fn check_parity<S: FnMut(&Query) -> Vec<String>>(make: impl FnOnce(&[Device]) -> S) {
    let mut dice = Dice(0x5EED_F1EE_7F0B_0001);
    let devices: Vec<Device> = (0..PARITY_DEVICES).map(|at| random_device(&mut dice, at)).collect();
    let mut selected = make(&devices);
    let mut compared = 0;
    // True, false, undefined.
    let mut answers = [0; 3];
    while compared < PARITY_CONDITIONS {
        let depth = dice.below(4);
        let text = random_condition(&mut dice, depth);
        // Some mix types in a way that the check refuses.
        let Ok(query) = query::parse(&text) else { continue };
        assert_eq!(selected(&query), ids_of(&query, &devices), "{text}");
        compared += 1;
        for device in &devices {
            let kind = match query::evaluate(query.condition(), device) {
                Answer::Bool(true) => 0,
                Answer::Bool(false) => 1,
                _ => 2,
            };
            answers[kind] += 1;
        }
    }
    let pairs = PARITY_CONDITIONS * PARITY_DEVICES;
    assert_eq!(answers.iter().sum::<usize>(), pairs);
    assert!(answers.iter().all(|count| count * PARITY_SHARE > pairs), "true, false and undefined: {answers:?}");
}

/// Returns the ids of the devices that the reference selects, sorted.
pub fn ids_of(query: &Query, devices: &[Device]) -> Vec<String> {
    let selected = devices.iter().filter(|device| query::matches(query, device));
    let mut ids: Vec<String> = selected.map(|device| device.device_id.clone()).collect();
    ids.sort();
    ids
}

/// Checks that the longest legal conditions run, as [`check_parity`] checks others: a database refuses expressions that
/// are too deep, and functions with too many arguments.
pub fn check_longest<S: FnMut(&Query) -> Vec<String>>(make: impl FnOnce(&[Device]) -> S) {
    let on = Device { tags: json!({"a": true, "n": 1}), ..device("on") };
    let devices = [on, device("off")];
    let mut selected = make(&devices);
    let mut check = |text: &str| {
        let query = query::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(ids_of(&query, &devices), ["on"], "{text}");
        assert_eq!(selected(&query), ["on"], "{text}");
    };
    check(&vec!["tags.a"; 800].join(" OR "));
    check(&vec!["tags.a"; 740].join(" AND "));
    check(&vec!["tags.n IN [1]"; 450].join(" AND "));
    check(&format!("tags.n IN [1{}]", ",2".repeat(4_000)));
    let paths: Vec<String> = (0..700).map(|at| format!("tags.x{at}")).collect();
    check(&format!("tags.n IN [tags.n, {}]", paths.join(",")));
    let nested = (0..63).fold("tags.a".to_string(), |inner, at| {
        let (open, close) = if at % 2 == 0 { ("cloud.a OR ", "") } else { ("tags.n = 1 AND ", " AND tags.a") };
        format!("({open}{inner}{close})")
    });
    check(&nested);
    check(&format!("{}tags.a{}", "NOT (".repeat(32), ")".repeat(32)));
    check(&vec!["tags.a=tags.a"; 480].join(" OR "));
    check(&vec!["tags.n%tags.n=0"; 400].join(" AND "));
    check(&format!("tags.n{} = 61", "+tags.n".repeat(60)));
    check(&format!("{}tags.n{} >= 1", "length([1])/(".repeat(30), ")".repeat(30)));
}
