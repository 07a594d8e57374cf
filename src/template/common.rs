//! What holds for every element of a model: `@id`, `@type`, `@context`, `comment`, `description` and `displayName`.

use serde_json::Value;

use super::json::{below, each, has_type, is_dtmi};
use super::literal::{Kind, literal_of, texts};
use super::read::ModelReader;
use crate::diag::shown;
use crate::model::limits;

/// The beginnings of identifiers that no model may define.
const RESERVED: [&str; 2] = ["dtmi:dtdl:", "dtmi:standard:"];

const CONTEXT: &str = "an `@context` is an identifier such as `dtmi:dtdl:context;2`, or a list of such";

impl<'a> ModelReader<'a> {
    /// Checks the members that every element may have.
    pub(super) fn common(&mut self, element: &'a Value, pointer: &str) {
        self.id(element, pointer);
        self.types(element, pointer);
        if let Some(context) = element.get("@context") {
            self.context_words(context, &below(pointer, "@context"));
        }
        let version = self.language.version;
        if let Some(comment) = element.get("comment").filter(|value| !is_empty_list(value)) {
            let text = literal_of(comment, Kind::Text, version).and_then(Value::as_str);
            self.text_problem(text.map(|text| vec![text]), pointer, "comment", "a text");
        }
        for key in ["description", "displayName"] {
            if let Some(value) = element.get(key) {
                let what = "a text, or texts by language such as `{\"en\": \"Lamp\", \"de\": \"Lampe\"}`";
                self.text_problem(texts(value, version), pointer, key, what);
            }
        }
        for key in element.as_object().into_iter().flat_map(|members| members.keys()).filter(|key| key.starts_with('@'))
        {
            let is_one = matches!(key.as_str(), "@id" | "@type" | "@context");
            if key == "@graph" || (version == 3 && !is_one) {
                self.report(&below(pointer, key), format!("`{}` has no meaning in DTDL", shown(key)));
            }
        }
    }

    fn text_problem(&mut self, texts: Option<Vec<&str>>, pointer: &str, key: &str, what: &str) {
        let most = match (key, self.language.version) {
            ("displayName", 2) => limits::DTDL_2_NAME_CHARS_MAX,
            _ => limits::DTDL_TEXT_CHARS_MAX,
        };
        match texts {
            None => self.report(&below(pointer, key), format!("`{key}` must be {what}")),
            Some(texts) if texts.iter().any(|text| text.chars().count() > most) => {
                self.report(&below(pointer, key), format!("`{key}` has at most {most} characters"));
            }
            Some(_) => {}
        }
    }

    /// Interfaces need an identifier. Those of interfaces and schemas are known to be there once.
    fn id(&mut self, element: &'a Value, pointer: &str) {
        let is_interface = has_type(element, "Interface");
        let is_version_3 = self.language.version == 3;
        let Some(id) = element.get("@id") else {
            if is_interface {
                self.report(pointer, "it needs an `@id` such as `dtmi:contoso:Thermostat;1`");
            }
            return;
        };
        let pointer = below(pointer, "@id");
        let Some(id) = id.as_str().filter(|id| is_dtmi(id, is_version_3)) else {
            let what = if is_interface { "it needs an `@id`" } else { "an `@id` is an identifier" };
            if !is_interface && self.language.is_central {
                return;
            }
            self.report(&pointer, format!("{what} such as `dtmi:contoso:Thermostat;1`"));
            return;
        };
        let most = if is_interface { limits::DTMI_INTERFACE_CHARS_MAX } else { limits::DTMI_CHARS_MAX };
        if id.len() > most {
            self.report(&pointer, format!("this `@id` has {} characters, and at most {most} are allowed", id.len()));
        }
        if let Some(prefix) = RESERVED.iter().find(|prefix| id.starts_with(**prefix)) {
            self.report(&pointer, format!("an `@id` that begins with `{prefix}` is reserved"));
        }
        if self.is_taken(id, element, &pointer) {
            self.report(&pointer, format!("the `@id` `{}` is used twice", shown(id)));
        }
    }

    fn types(&mut self, element: &'a Value, pointer: &str) {
        let Some(types) = element.get("@type") else { return };
        let pointer = below(pointer, "@type");
        if types.is_null() {
            self.report(&pointer, "an `@type` is a word, or a list of words");
        }
        for (at, word) in each(Some(types), &pointer) {
            let Some(word) = word.as_str() else {
                self.report(&at, "an `@type` is a word, or a list of words");
                continue;
            };
            let is_dtmi = is_dtmi(word, true);
            if word.starts_with("dtmi:") && !is_dtmi || self.language.version == 3 && word.contains(':') && !is_dtmi {
                self.report(&at, format!("`{}` is no identifier of a type", shown(word)));
            }
        }
    }

    /// Checks the words of an `@context`, of an outermost element or one inside of it.
    fn context_words(&mut self, context: &'a Value, pointer: &str) {
        let words = each(Some(context), pointer);
        let is_of_dtdl = |word: &Value| word.as_str().is_some_and(|word| word.starts_with("dtmi:dtdl:context;"));
        let element = pointer.strip_suffix("/@context").unwrap_or(pointer);
        let is_outermost = self.languages.contains_key(element);
        if is_outermost && !words.iter().any(|(_, word)| is_of_dtdl(word)) {
            // That an outermost element lacks it was told.
            return;
        }
        if context.is_null() {
            self.report(pointer, CONTEXT);
        }
        let mut has_other = false;
        for (at, word) in words {
            let is_version_3 = self.language.version == 3;
            let Some(word) = word.as_str().filter(|word| word.contains(';') && is_dtmi(word, is_version_3)) else {
                self.report(&at, CONTEXT);
                continue;
            };
            match word.strip_prefix("dtmi:dtdl:context;") {
                Some(_) if has_other => {
                    self.report(&at, "the `@context` of DTDL comes before those of other languages");
                }
                Some("3") if self.language.version == 2 => {
                    self.report(&at, "version 3 of DTDL cannot be inside of version 2");
                }
                Some("2") if is_version_3 && is_bound(element) => {
                    self.report(&at, "this part of an element of version 3 cannot be of version 2");
                }
                Some("2" | "3") => {}
                Some(_) if is_outermost => {}
                Some(version) => {
                    let message = format!("version {} of DTDL cannot be read, versions 2 and 3 can", shown(version));
                    self.report(&at, message);
                }
                // IoT Central writes its own first.
                None => has_other |= !word.starts_with("dtmi:iotcentral:context;"),
            }
        }
    }
}

/// Returns true for the place of an element that is of the version of the one around it.
fn is_bound(pointer: &str) -> bool {
    let mut keys = pointer.rsplit('/').skip_while(|key| key.bytes().all(|byte| byte.is_ascii_digit()));
    keys.next().is_some_and(|key| matches!(key, "fields" | "enumValues" | "mapKey" | "mapValue" | "schemas"))
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}
