//! What is held, for people and as it is in `status`.

use crate::model::fleet::Hold;
use crate::model::status::HeldDocument;
use crate::model::text::sanitize_line;

/// Returns the row of something that is held, by its address.
pub fn row((address, hold): (String, &Hold)) -> HeldDocument {
    HeldDocument {
        address,
        code: hold.code.map(str::to_string),
        file: hold.place.as_ref().map(|place| place.path.clone()),
        line: hold.place.as_ref().map(|place| place.line),
        reason: hold.why.clone(),
    }
}

/// Returns a row as a line, such as ``jobs/dim.yaml:12: FF401 job/dim: There is no device group named `hall-d`.``
pub fn line(held: &HeldDocument) -> String {
    let safe = |text: &str| sanitize_line(text).into_owned();
    let HeldDocument { address, code, file, line, reason } = held;
    let mut text = match (file, line) {
        (Some(file), Some(line)) => format!("{}:{line}: ", safe(file)),
        (Some(file), None) => format!("{}: ", safe(file)),
        (None, _) => String::new(),
    };
    text.extend(code.as_ref().map(|code| format!("{} ", safe(code))));
    // For a file, the path already names it.
    if file.as_ref().is_none_or(|file| *address != format!("file/{file}")) {
        text.push_str(&format!("{}: ", safe(address)));
    }
    text + &safe(reason)
}
