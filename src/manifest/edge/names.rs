//! Names of modules.

use crate::model::limits;

/// Returns what is wrong with the name of a module: a module id of IoT Hub that is the key of a twin too.
pub fn problem_of(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_+%*?!(),:=@;'".contains(c);
    if name.is_empty() {
        return Some("The name of a module cannot be empty.".to_string());
    }
    if let Some(bad) = name.chars().find(|c| !legal(*c)) {
        return Some(format!(
            "The name of a module cannot have {bad:?}: letters, digits and - _ + % * ? ! ( ) , : = @ ; ' are allowed."
        ));
    }
    let count = name.len();
    if count > limits::DEVICE_ID_CHARS_MAX {
        return Some(format!(
            "The name of a module has at most {} characters, and this one has {count}.",
            limits::DEVICE_ID_CHARS_MAX
        ));
    }
    let is_system = name == "edgeAgent" || name == "edgeHub";
    is_system.then(|| format!("`{name}` is a system module: it has its place in `systemModules`."))
}
