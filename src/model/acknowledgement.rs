//! How a device acknowledges new desired properties: the convention of IoT Plug and Play for writable properties.
//!
//! For each property that was written the device reports, under the same name,
//! `{"value": …, "ac": 200, "av": 4, "ad": "done"}`: `ac` is a code like that of HTTP, `av` the version of the desired
//! section that it answers, `ad` a text. The properties of a component lie one level deeper, in an object that is
//! marked with `"__t": "c"`.
//!
//! Source: Microsoft, "IoT Plug and Play conventions", writable properties.

use serde_json::{Map, Value, json};

use super::patch::COMPONENT_MARK;

/// A code that means "not yet": the device is still working on it.
const PENDING: u64 = 202;

/// A device's answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Some property is not answered yet, or the device is still working on it.
    Pending,
    /// Every property is answered: the worst code, and the text that came with it, which is untrusted.
    Given { code: u16, text: String },
}

/// Returns the answer in a device's reported section to a merge patch of its desired section. An answer counts when it
/// is for the version that the patch made, or for a later one.
pub fn acknowledgement(patch: &Value, version: u64, reported: &Value) -> Acknowledgement {
    let mut worst: Option<(u16, String)> = None;
    for answer in properties(patch).map(|path| answer_at(reported, &path, version)) {
        match answer {
            None => return Acknowledgement::Pending,
            Some((code, text)) => {
                if worst.as_ref().is_none_or(|(known, _)| *known < code) {
                    worst = Some((code, text));
                }
            }
        }
    }
    worst.map_or(Acknowledgement::Pending, |(code, text)| Acknowledgement::Given { code, text })
}

/// Returns the reported section of a device that answers every property of a merge patch alike.
pub fn acknowledge(patch: &Value, version: u64, code: u16, text: &str) -> Value {
    let answer = |value: &Value| {
        let value = if value.is_null() { json!({}) } else { json!({"value": value}) };
        let mut members = value.as_object().cloned().unwrap_or_default();
        members.insert("ac".into(), json!(code));
        members.insert("av".into(), json!(version));
        members.insert("ad".into(), json!(text));
        Value::Object(members)
    };
    let answers = members(patch).map(|(name, value)| {
        let answered = if is_component(value) {
            let marked = std::iter::once((COMPONENT_MARK.0.to_string(), json!(COMPONENT_MARK.1)));
            Value::Object(marked.chain(members(value).map(|(name, value)| (name.clone(), answer(value)))).collect())
        } else {
            answer(value)
        };
        (name.clone(), answered)
    });
    Value::Object(answers.collect::<Map<String, Value>>())
}

/// Returns the paths of the properties of a patch: one name, or a component's and the property's.
fn properties(patch: &Value) -> impl Iterator<Item = Vec<&str>> {
    members(patch).flat_map(|(name, value)| {
        if is_component(value) {
            members(value).map(|(inner, _)| vec![name.as_str(), inner.as_str()]).collect()
        } else {
            vec![vec![name.as_str()]]
        }
    })
}

/// Returns the members of an object but for the mark of a component.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten().filter(|(name, _)| *name != COMPONENT_MARK.0)
}

fn is_component(value: &Value) -> bool {
    value.get(COMPONENT_MARK.0).and_then(Value::as_str) == Some(COMPONENT_MARK.1)
}

/// Returns the code and the text of a property's answer; `None` when there is none for this version, or none that is
/// final.
fn answer_at(reported: &Value, path: &[&str], version: u64) -> Option<(u16, String)> {
    let answer = path.iter().try_fold(reported, |value, name| value.get(name))?;
    let code = answer.get("ac")?.as_u64()?;
    if answer.get("av")?.as_u64()? < version || code == PENDING {
        return None;
    }
    let text = answer.get("ad").and_then(Value::as_str).unwrap_or_default();
    Some((u16::try_from(code).unwrap_or(u16::MAX), text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_acknowledged_property_by_property() {
        let patch = json!({"light": {"level": 3}, "fan": null});
        let check = |reported: Value, expect: Option<(u16, &str)>| {
            let expect = expect.map_or(Acknowledgement::Pending, |(code, text)| Acknowledgement::Given {
                code,
                text: text.to_string(),
            });
            assert_eq!(acknowledgement(&patch, 4, &reported), expect, "{reported}");
        };
        let ok = |version: u64| json!({"value": {"level": 3}, "ac": 200, "av": version, "ad": "done"});
        check(json!({}), None);
        check(json!({"light": ok(4)}), None);
        check(json!({"light": ok(4), "fan": {"ac": 203, "av": 5}}), Some((203, "")));
        check(json!({"light": ok(3), "fan": {"ac": 200, "av": 4}}), None);
        check(json!({"light": ok(4), "fan": {"ac": 202, "av": 4}}), None);
        check(json!({"light": ok(4), "fan": {"ac": 400, "av": 4, "ad": "no fan"}}), Some((400, "no fan")));
        check(json!({"light": {"level": 3}, "fan": {}}), None);
        check(json!({"light": "on", "fan": 7}), None);
        check(json!({"light": ok(4), "fan": {"ac": 1e9, "av": -1}}), None);
    }

    #[test]
    fn the_properties_of_a_component_lie_one_level_deeper() {
        let patch = json!({"thermostat1": {"__t": "c", "target": 21.5, "unit": "C"}, "name": "x"});
        let reported = acknowledge(&patch, 2, 200, "done");
        let target = json!({"value": 21.5, "ac": 200, "av": 2, "ad": "done"});
        assert_eq!(reported["thermostat1"]["target"], target);
        assert_eq!(reported["thermostat1"]["__t"], "c");
        let given = Acknowledgement::Given { code: 200, text: "done".to_string() };
        assert_eq!(acknowledgement(&patch, 2, &reported), given);
        assert_eq!(acknowledgement(&patch, 3, &reported), Acknowledgement::Pending);
        let partly = json!({"thermostat1": {"target": target}, "name": {"ac": 200, "av": 2}});
        assert_eq!(acknowledgement(&patch, 2, &partly), Acknowledgement::Pending, "the unit is not answered");
    }
}
