//! The options that a container is created with, as the agent reads them: JSON, mostly as text, which may be cut into
//! parts.
//!
//! The members are those of `POST /containers/create` of the Docker Engine API
//! (<https://docs.docker.com/reference/api/engine/>). The agent reads them into types (Docker.DotNet) with Json.NET.
//! That takes one scalar for another, names in any case, and members that it does not know. A list in place of an
//! object, and the like, stop the whole deployment.

use serde_json::{Map, Value};

use super::members::{Members, Problems, Trail, described};
use crate::diag::{code, shown};

pub const OPTIONS: &str = "createOptions";

/// What a member has to be.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Text, a number or a boolean.
    Scalar,
    Scalars,
    Object,
    Objects,
    /// An object with scalars.
    OfScalars,
    /// An object with lists of objects.
    OfObjects,
    Host,
}

use Shape::{Host, Object, Objects, OfObjects, OfScalars, Scalar, Scalars};

const CONTAINER: [(&str, Shape); 18] = [
    ("Cmd", Scalars),
    ("Domainname", Scalar),
    ("Entrypoint", Scalars),
    ("Env", Scalars),
    ("ExposedPorts", Object),
    ("Healthcheck", Object),
    ("HostConfig", Host),
    ("Hostname", Scalar),
    ("Image", Scalar),
    ("Labels", OfScalars),
    ("NetworkingConfig", Object),
    ("OpenStdin", Scalar),
    ("StopSignal", Scalar),
    ("StopTimeout", Scalar),
    ("Tty", Scalar),
    ("User", Scalar),
    ("Volumes", Object),
    ("WorkingDir", Scalar),
];

const HOST: [(&str, Shape); 30] = [
    ("AutoRemove", Scalar),
    ("Binds", Scalars),
    ("CapAdd", Scalars),
    ("CapDrop", Scalars),
    ("DeviceCgroupRules", Scalars),
    ("DeviceRequests", Objects),
    ("Devices", Objects),
    ("Dns", Scalars),
    ("DnsOptions", Scalars),
    ("DnsSearch", Scalars),
    ("ExtraHosts", Scalars),
    ("GroupAdd", Scalars),
    ("IpcMode", Scalar),
    ("Links", Scalars),
    ("LogConfig", Object),
    ("Memory", Scalar),
    ("Mounts", Objects),
    ("NetworkMode", Scalar),
    ("PidMode", Scalar),
    ("PortBindings", OfObjects),
    ("Privileged", Scalar),
    ("PublishAllPorts", Scalar),
    ("ReadonlyRootfs", Scalar),
    ("RestartPolicy", Object),
    ("Runtime", Scalar),
    ("SecurityOpt", Scalars),
    ("ShmSize", Scalar),
    ("Sysctls", OfScalars),
    ("Ulimits", Objects),
    ("VolumesFrom", Scalars),
];

/// Returns the names of the parts behind the first one, sorted.
pub fn parts_of(settings: &Map<String, Value>) -> Vec<&String> {
    let is_part = |key: &str| {
        key.strip_prefix(OPTIONS)
            .is_some_and(|number| number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut parts: Vec<&String> = settings.keys().filter(|key| is_part(key)).collect();
    parts.sort();
    parts
}

/// Checks the options among the settings of a module, which are at `trail`.
pub fn check(settings: &Members<'_>, trail: &Trail, parts: &[&String], found: &mut Problems) {
    let lacks = |part: &str| format!("The agent puts the parts together in order, and `{part}` is missing.");
    let Some((trail, options)) = settings.get(OPTIONS) else {
        if !parts.is_empty() {
            found.push(trail.value(code::EDGE_AGENT, &lacks(OPTIONS)));
        }
        return;
    };
    let mut text = match options {
        Value::Object(options) if parts.is_empty() => return check_members(options, &trail, found),
        Value::String(text) => text.clone(),
        other => {
            let message = format!("It is an object, or text that is JSON, not {}.", described(other));
            found.push(trail.value(code::EDGE_AGENT, &message));
            return;
        }
    };
    for (at, part) in parts.iter().enumerate() {
        let expected = format!("{OPTIONS}{:02}", at + 1);
        if **part != expected {
            found.push(trail.value(code::EDGE_AGENT, &lacks(&expected)));
            return;
        }
        match settings.get(part) {
            Some((_, Value::String(more))) => text.push_str(more),
            Some((trail, other)) => {
                let message = format!("It is a part of the text of `{OPTIONS}`, and this is {}.", described(other));
                found.push(trail.value(code::EDGE_AGENT, &message));
                return;
            }
            None => {}
        }
    }
    if text.trim().is_empty() || text.trim().eq_ignore_ascii_case("null") {
        return;
    }
    // The agent is not as strict.
    let read = serde_json::from_str::<Value>(&text).or_else(|_| serde_json::from_str(&as_the_agent_reads(&text)));
    let problem = match read {
        Ok(Value::Object(options)) => return check_members(&options, &trail, found),
        Ok(other) => format!("Its text is {} as JSON, and an object is needed.", described(&other)),
        Err(error) => format!("Its text is not valid JSON: {error}."),
    };
    found.push(trail.value(code::EDGE_AGENT, &problem));
}

fn check_members(options: &Map<String, Value>, trail: &Trail, found: &mut Problems) {
    if let Some(Misfit { path, needed, is }) = misfit(options, &CONTAINER, "") {
        let message = format!("`{}` of the options is {}, and {needed} is needed.", shown(&path), is);
        found.push(trail.value(code::EDGE_AGENT, &message));
    }
}

/// A member that has not the shape that it needs.
struct Misfit {
    path: String,
    needed: &'static str,
    /// What it is instead.
    is: &'static str,
}

/// Returns the first misfit among some members.
fn misfit(members: &Map<String, Value>, known: &[(&str, Shape)], path: &str) -> Option<Misfit> {
    members.iter().find_map(|(name, value)| {
        let (_, shape) = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        misfit_of(value, *shape, &format!("{path}{name}"))
    })
}

fn misfit_of(value: &Value, shape: Shape, path: &str) -> Option<Misfit> {
    let needed = match (shape, value) {
        // Json.NET reads empty text as null where no text is meant.
        (_, Value::String(text)) if text.is_empty() => return None,
        (_, Value::Null) | (Scalar, Value::String(_) | Value::Number(_) | Value::Bool(_)) => return None,
        (Object, Value::Object(_)) => return None,
        (Host, Value::Object(members)) => return misfit(members, &HOST, &format!("{path}.")),
        (Scalars | Objects, Value::Array(items)) => {
            let shape = if matches!(shape, Scalars) { Scalar } else { Object };
            let mut items = items.iter().enumerate();
            return items.find_map(|(at, item)| misfit_of(item, shape, &format!("{path}[{at}]")));
        }
        (OfScalars | OfObjects, Value::Object(members)) => {
            let shape = if matches!(shape, OfScalars) { Scalar } else { Objects };
            let mut members = members.iter();
            return members.find_map(|(name, value)| misfit_of(value, shape, &format!("{path}.{name}")));
        }
        (Scalar, _) => "text, a number or a boolean",
        (Scalars | Objects, _) => "a list",
        (Object | Host | OfScalars | OfObjects, _) => "an object",
    };
    Some(Misfit { path: path.to_string(), needed, is: described(value) })
}

/// Returns JSON without what Json.NET, which the agent reads with, takes beyond it: comments, text in single quotes,
/// names without quotes, line breaks in text, a comma behind the last member, and no-break spaces. Lines stay where
/// they are.
fn as_the_agent_reads(text: &str) -> String {
    let mut strict = String::with_capacity(text.len());
    let (mut letters, mut quote) = (text.chars(), None);
    while let Some(letter) = letters.next() {
        let rest = letters.as_str();
        match (quote, letter) {
            (Some(_), '\\') => match letters.next() {
                Some('\'') => strict.push('\''),
                next => {
                    strict.push(letter);
                    strict.extend(next);
                }
            },
            (Some(begun), _) if letter == begun => {
                quote = None;
                strict.push('"');
            }
            (Some(_), '"') => strict.push_str("\\\""),
            (Some(_), '\n' | '\r' | '\t') => strict.extend(letter.escape_default()),
            (None, '"' | '\'') => {
                quote = Some(letter);
                strict.push('"');
            }
            (None, '/') if rest.starts_with(['/', '*']) => {
                let behind = behind_comment(rest);
                let comment = &rest[..rest.len() - behind.len()];
                strict.extend(comment.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
                letters = behind.chars();
            }
            (None, _) if letter.is_alphabetic() || letter == '_' || letter == '$' => {
                let end = rest.find(|letter: char| !(letter.is_alphanumeric() || "_$".contains(letter)));
                let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
                let mark = if behind.trim_start().starts_with(':') { "\"" } else { "" };
                strict.push_str(&format!("{mark}{letter}{word}{mark}"));
                letters = behind.chars();
            }
            (None, '\u{a0}') => strict.push(' '),
            (None, ',') if is_last(rest) => strict.push(' '),
            _ => strict.push(letter),
        }
    }
    strict
}

/// Returns what is behind a comment, of which the first letter was read.
fn behind_comment(rest: &str) -> &str {
    match rest.strip_prefix('*') {
        Some(comment) => comment.split_once("*/").map_or("", |(_, behind)| behind),
        None => rest.find(['\r', '\n']).map_or("", |end| &rest[end..]),
    }
}

/// Returns true behind the comma of a last member.
fn is_last(mut rest: &str) -> bool {
    loop {
        rest = rest.trim_start();
        match rest.strip_prefix('/').filter(|comment| comment.starts_with(['/', '*'])) {
            Some(comment) => rest = behind_comment(comment),
            None => return rest.starts_with(['}', ']']),
        }
    }
}
