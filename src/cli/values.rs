//! Values of options that are not plain text.

/// Reads a time of at least a second.
pub fn parse_seconds(text: &str) -> Result<std::time::Duration, String> {
    let time = crate::manifest::parse_duration(text)?;
    if time < std::time::Duration::from_secs(1) { Err("it is shorter than 1s".to_string()) } else { Ok(time) }
}

/// Reads a name and a value with `=` between them.
pub fn parse_property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    if name.is_empty() || name.starts_with("$.") {
        return Err("it is NAME=VALUE, and the name does not begin with `$.`".to_string());
    }
    Ok((name.to_string(), value.to_string()))
}

pub fn parse_probability(text: &str) -> Result<crate::model::fleet::Probability, String> {
    crate::manifest::parse_probability(text)
}

pub fn parse_source(word: &str) -> Result<crate::convert::Source, String> {
    let words = crate::convert::Source::ALL.map(crate::convert::Source::as_str);
    crate::convert::Source::parse(word).ok_or_else(|| format!("it is one of {}", words.join(", ")))
}

pub fn parse_run_status(word: &str) -> Result<crate::ops::job::ListedStatus, String> {
    use crate::ops::job::ListedStatus;
    ListedStatus::parse(word).ok_or_else(|| format!("it is one of {}", ListedStatus::words()))
}

pub fn parse_device_status(word: &str) -> Result<crate::model::outcome::DeviceStatus, String> {
    crate::model::outcome::DeviceStatus::parse(word)
        .ok_or_else(|| "it is one of pending, completed, failed".to_string())
}
