//! Checks of edge deployment manifests: the parts of `modulesContent` that IoT Edge reads.
//!
//! The shapes are those of "Deploy modules and establish routes" and "Properties of the IoT Edge agent and IoT Edge hub
//! module twins" of the IoT Edge documentation. Members that IoT Edge does not know are ignored, unless they look like
//! a misspelling of a name that it does know.

mod agent;
mod hub;
mod image;
mod members;
mod names;
mod options;
mod route;

use serde_json::{Map, Value};

use self::members::{Members, Problems, Trail};
use crate::diag::{Code, code, nearest};
use crate::model::limits;
use crate::model::patch::{Section, TwinRule, Violation, violations};

/// The module twin of the agent, which starts modules.
const AGENT: &str = "$edgeAgent";
/// The newest minor version and patch of the schema that the agent and the hub read (Azure/iotedge, `EdgeAgentConnection` and
/// `EdgeHubConfigParser`).
const AGENT_SCHEMA_MAX: (u32, u32) = (1, 0);
const HUB_SCHEMA_MAX: (u32, u32) = (3, u32::MAX);
/// The module twin of the hub, which routes messages.
const HUB: &str = "$edgeHub";
/// The key of an entry of `modulesContent` under which all of its properties are.
const DESIRED: &str = "properties.desired";

/// A problem that makes a manifest unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    /// A JSON pointer (RFC 6901) into the file; empty for the file as a whole.
    pub pointer: String,
    /// It is about the key rather than the value.
    pub is_key: bool,
    /// Whole sentences that begin with the path in the file.
    pub message: String,
    pub help: Option<String>,
}

/// Returns what is wrong with a deployment manifest, in the order of its parts; at most [`limits::EDGE_PROBLEMS_MAX`]
/// problems.
pub fn check(content: &Value) -> Vec<Problem> {
    let mut found = Problems::default();
    let Some(modules) = content.get("modulesContent").and_then(Value::as_object) else {
        let is_within = content.pointer("/content/modulesContent").is_some_and(Value::is_object);
        let help = match content.get("moduleContent") {
            Some(Value::Object(_)) => "Rename `moduleContent`, which is from before 2019: it is `modulesContent`.",
            _ if is_within => {
                "The manifest is below `content`, as some tools write it: commit what `content` has alone."
            }
            _ => "It is an object with `modulesContent`, in which `$edgeAgent` and `$edgeHub` are.",
        };
        found
            .push(Trail::start().value(code::EDGE_MODULES, "The file has no object `modulesContent`.").with_help(help));
        return found.into_problems();
    };
    let root = Trail::root("modulesContent");
    let (agent, hub) = (whole(modules, AGENT, &root, &mut found), whole(modules, HUB, &root, &mut found));
    let known = agent.and_then(|(members, trail)| agent::check(members, &trail, &mut found));
    if let Some((members, trail)) = hub {
        hub::check(members, &trail, known.as_deref(), &mut found);
    }
    for name in modules.keys().filter(|name| *name != AGENT && *name != HUB) {
        if let Some(known) = &known {
            check_module_name(name, known, &root, &mut found);
        }
        whole(modules, name, &root, &mut found);
    }
    found.into_problems()
}

/// Returns the desired properties of a module, which must be written as one object; they are checked as the part of a
/// twin.
fn whole<'a>(
    modules: &'a Map<String, Value>,
    name: &str,
    root: &Trail,
    found: &mut Problems,
) -> Option<(&'a Map<String, Value>, Trail)> {
    let trail = root.with(name);
    let is_system = name == AGENT || name == HUB;
    let Some(entry) = modules.get(name) else {
        let near = nearest(name, modules.keys().map(String::as_str).filter(|other| *other != AGENT && *other != HUB));
        let message = format!("It lacks `{name}`, without which the runtime of IoT Edge does not start.");
        found.push(root.value(code::EDGE_MODULES, &message).with_near(near));
        return None;
    };
    let of_shape = if is_system { code::EDGE_MODULES } else { code::EDGE_PATHS };
    let entry = Members::any(entry, &trail, of_shape, found)?;
    let mut is_path = false;
    for key in entry.keys().filter(|key| *key != DESIRED) {
        is_path |= check_key(key, &trail, found);
    }
    match entry.get(DESIRED) {
        Some((place, value)) => {
            let members = Members::any(value, &place, of_shape, found)?.members();
            check_twin(members, name == AGENT, &place, found);
            Some((members, place))
        }
        None if is_path => None,
        None if is_system => {
            found.push(trail.value(code::EDGE_MODULES, &format!("It lacks `{DESIRED}`.")));
            None
        }
        None => None,
    }
}

/// Refuses a key of an entry that is not [`DESIRED`]; true when it is one of a layered deployment, or near enough to
/// what is missing.
fn check_key(key: &str, trail: &Trail, found: &mut Problems) -> bool {
    let place = trail.with(key);
    let path = key.strip_prefix(DESIRED).and_then(|path| path.strip_prefix('.'));
    if let Some(path) = path {
        let shape = path.rsplit('.').fold("…".to_string(), |inner, key| format!("{{\"{key}\": {inner}}}"));
        let message = "It is the path of a layered deployment, which changes a part of another one. A job assigns a \
                       manifest as a whole, so nothing would be below this part.";
        let help = format!("Merge it with its base, and write `\"{DESIRED}\": {}`.", crate::diag::shown(&shape));
        found.push(place.key(code::EDGE_PATHS, message).with_help(help));
        return true;
    }
    let near = nearest(key, [DESIRED]);
    let message = format!("A module has nothing but `{DESIRED}` in a manifest.");
    found.push(place.key(code::EDGE_PATHS, &message).with_near(near));
    near.is_some()
}

fn check_module_name(name: &str, known: &[&str], root: &Trail, found: &mut Problems) {
    if known.contains(&name) {
        return;
    }
    let trail = root.with(name);
    if let Some(near) = nearest(name, [AGENT, HUB].into_iter().filter(|_| name.starts_with('$'))) {
        found.push(trail.key(code::EDGE_UNKNOWN_MODULE, "It is no module.").with_near(Some(near)));
        return;
    }
    let message = "No module of this name is in `modules` of `$edgeAgent`, so nobody would read its properties.";
    let near = nearest(name, known.iter().copied());
    let problem = trail.key(code::EDGE_UNKNOWN_MODULE, message).with_near(near);
    found.push(if near.is_none() { problem.with_help("Declare the module there, or remove this.") } else { problem });
}

/// Checks the rules that every module twin has.
fn check_twin(members: &Map<String, Value>, is_agent: bool, trail: &Trail, found: &mut Problems) {
    for Violation { path, rule } in violations(members, Section::Desired) {
        // The names of modules have a rule of their own.
        let is_module_name = is_agent && path.len() == 2 && path[0] == "modules";
        if is_module_name && matches!(rule, TwinRule::KeyCharacter(_) | TwinRule::KeyEmpty | TwinRule::KeyLong) {
            continue;
        }
        let place = path.iter().fold(trail.clone(), |trail, key| trail.with(key));
        let is_key =
            matches!(rule, TwinRule::KeyCharacter(_) | TwinRule::KeyEmpty | TwinRule::KeyLong | TwinRule::Deep);
        let (message, code) = (sentence(&rule.to_string()), code::EDGE_TWIN);
        let problem = if is_key { place.key(code, &message) } else { place.value(code, &message) };
        let is_options = path.iter().any(|key| key == "createOptions");
        let help = match rule {
            TwinRule::StringLong if is_options => Some(
                "Cut the text into `createOptions`, `createOptions01`, `createOptions02` and so on, which are put \
                    together again.",
            ),
            TwinRule::KeyCharacter(_) | TwinRule::Deep if is_options => {
                Some("Write the create options as text that is JSON, which has no such limit.")
            }
            _ => None,
        };
        found.push(match help {
            Some(help) => problem.with_help(help),
            None => problem,
        });
    }
}

/// Returns a text as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map_or(String::new(), |first| first.to_uppercase().to_string());
    format!("{first}{}.", letters.as_str())
}

/// Checks the version of a schema and returns its minor number: the agent and the hub of IoT Edge run nothing at all
/// with a version that they do not know.
fn check_version(members: &Members<'_>, newest: (u32, u32), found: &mut Problems) -> Option<u32> {
    let (trail, value) = members.need("schemaVersion", found)?;
    let version = value.as_str().and_then(|text| text.strip_prefix("1.")).and_then(|text| {
        let (minor, patch) = text.split_once('.').unwrap_or((text, "0"));
        let number = |part: &str| {
            let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse::<u32>().ok()).flatten()
        };
        Some((number(minor)?, number(patch)?))
    });
    let known = version.filter(|version| *version <= newest).map(|(minor, _)| minor);
    if known.is_none() {
        let written = crate::diag::shown(&value.to_string());
        let message =
            format!("IoT Edge does not read the version {written}: it is text, \"1.0\" to \"1.{}\".", newest.0);
        found.push(trail.value(members.code(), &message));
    }
    known
}

/// Reports more modules than a deployment can have.
fn check_count(count: usize, trail: &Trail, found: &mut Problems) {
    if count > limits::EDGE_MODULES_MAX {
        let message = format!("It has {count} modules, and a deployment has at most {}.", limits::EDGE_MODULES_MAX);
        found.push(trail.key(code::EDGE_TWIN, &message));
    }
}

#[cfg(test)]
mod tests;
