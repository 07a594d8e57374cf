//! The filter of an IoT Central device group, a dialect of SQL, to a condition of ours.
//!
//! `SELECT * FROM devices WHERE $template = "dtmi:a:b;1" AND "thermostat1"."targetTemperature" > 20` has the device
//! template in a condition, strings in double quotes, and properties by their bare names, in quotes, or behind the id
//! of their interface (`"dtmi:a:c;1"/name`, `"dtmi:a:c;1".name`). The place of a quoted text decides what it is: a path
//! when it is joined to another name, or when it is compared and stands on the left; a value anywhere else.

use crate::query::PathRef;
use crate::query::ast::Root;

/// A filter taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The id of the template that every device of the group has.
    pub template: Option<String>,
    /// The rest, without what `template` says; empty for every device.
    pub condition: Vec<FilterToken>,
}

/// A piece of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterToken {
    /// A bare name, keyword or number.
    Word(String),
    /// A text in quotes, without them and with its escapes resolved.
    Quoted { text: String, is_double: bool },
    /// An operator or punctuation.
    Symbol(&'static str),
}

/// Operators and punctuation; longer ones before their prefixes.
const SYMBOLS: [&str; 18] =
    ["!=", "<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", ".", ",", "(", ")", "[", "]"];
const COMPARISONS: [&str; 7] = ["=", "!=", "<>", "<", "<=", ">", ">="];

/// What a property of a device is called here.
pub struct Properties<'a> {
    /// Returns where a property is kept, by the names of its component and its own; `None` when that is not known.
    pub root: &'a dyn Fn(&[String]) -> Option<Root>,
    /// Returns the name of a device template of ours.
    pub template: &'a mut dyn FnMut(&str) -> Result<String, String>,
    /// Returns the name of an organization of ours.
    pub organization: &'a dyn Fn(&str) -> String,
    /// The properties whose root was guessed, as they are written here.
    pub guessed: Vec<String>,
}

/// Takes a filter apart; the error is a sentence.
pub fn parse(text: &str) -> Result<Filter, String> {
    let tokens = tokens(text)?;
    let (mut template, condition) = match tokens.as_slice() {
        [select, FilterToken::Symbol("*"), from, what, rest @ ..] if select.is("SELECT") && from.is("FROM") => {
            let template = match what {
                FilterToken::Word(word) if word.eq_ignore_ascii_case("devices") => None,
                FilterToken::Word(id) | FilterToken::Quoted { text: id, .. } => Some(id.clone()),
                FilterToken::Symbol(_) => return Err("A name is missing after FROM.".to_string()),
            };
            match rest {
                [] => (template, Vec::new()),
                [word, condition @ ..] if word.is("WHERE") => (template, condition.to_vec()),
                [..] => return Err("Only a WHERE can stand behind `SELECT * FROM devices`.".to_string()),
            }
        }
        [select, ..] if select.is("SELECT") => return Err("A filter starts with `SELECT * FROM devices`.".to_string()),
        condition => (None, condition.to_vec()),
    };
    let mut kept: Vec<FilterToken> = Vec::new();
    for part in conjuncts(&condition) {
        match template_of(part) {
            Some(id) if template.as_deref().is_none_or(|known| known == id) => template = Some(id.to_string()),
            Some(_) | None => {
                if !kept.is_empty() {
                    kept.push(FilterToken::Word("AND".to_string()));
                }
                kept.extend_from_slice(part);
            }
        }
    }
    Ok(Filter { template, condition: kept })
}

/// Returns the condition in our language; the error is a sentence.
pub fn condition(filter: &Filter, properties: &mut Properties<'_>) -> Result<String, String> {
    let tokens = &filter.condition;
    if tokens.is_empty() {
        return Ok("*".to_string());
    }
    let mut text = String::new();
    let mut at = 0;
    // What the last path was: a comparison with the template or organization has an id on its right.
    let mut compared = String::new();
    while at < tokens.len() {
        let length = path_length(tokens, at);
        let piece = match &tokens[at] {
            _ if length > 0 => {
                let segments = segments(&tokens[at..at + length]);
                compared = segments[0].to_ascii_lowercase();
                path(&segments, properties)
            }
            FilterToken::Quoted { text, .. } => match compared.as_str() {
                "$template" => quoted(&(properties.template)(text)?),
                "$organization" | "$organizations" => quoted(&(properties.organization)(text)),
                _ => quoted(text),
            },
            FilterToken::Word(word) => {
                if is_keyword(word, &["AND", "OR", "NOT"]) {
                    compared.clear();
                }
                word.clone()
            }
            FilterToken::Symbol(symbol) => (*symbol).to_string(),
        };
        let is_tight = matches!(piece.as_str(), ")" | "]" | ",") || text.ends_with(['(', '[']);
        let is_call = piece == "("
            && at > 0
            && matches!(&tokens[at - 1], FilterToken::Word(word) if !is_keyword(word, &KEYWORDS));
        if !text.is_empty() && !is_tight && !is_call {
            text.push(' ');
        }
        text.push_str(&piece);
        at += length.max(1);
    }
    Ok(text)
}

const KEYWORDS: [&str; 9] = ["AND", "OR", "NOT", "IN", "NIN", "TRUE", "FALSE", "NULL", "UNDEFINED"];

fn is_keyword(word: &str, words: &[&str]) -> bool {
    words.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// Returns the number of tokens of the path that starts at a place; 0 when none does.
fn path_length(tokens: &[FilterToken], at: usize) -> usize {
    let is_name = |at: usize| match tokens.get(at) {
        Some(FilterToken::Word(word)) => !word.starts_with(|c: char| c.is_ascii_digit()),
        Some(FilterToken::Quoted { .. }) => true,
        Some(FilterToken::Symbol(_)) | None => false,
    };
    let mut length = 1;
    while matches!(tokens.get(at + length), Some(FilterToken::Symbol("." | "/")))
        && is_name(at)
        && is_name(at + length + 1)
    {
        length += 2;
    }
    if length > 1 {
        return length;
    }
    let next = tokens.get(at + 1);
    let is_compared = matches!(next, Some(FilterToken::Symbol(symbol)) if COMPARISONS.contains(symbol))
        || matches!(next, Some(FilterToken::Word(word)) if is_keyword(word, &["IN", "NIN"]));
    let before = at.checked_sub(1).map(|before| &tokens[before]);
    let is_on_the_right = matches!(before, Some(FilterToken::Symbol(symbol)) if COMPARISONS.contains(symbol));
    // `f("name", "text")`: what a function is asked about is a path.
    let is_argument = matches!(before, Some(FilterToken::Symbol("(")))
        && at >= 2
        && matches!(&tokens[at - 2], FilterToken::Word(word) if !is_keyword(word, &KEYWORDS));
    let is_path = match &tokens[at] {
        FilterToken::Word(word) => {
            is_name(at) && !is_keyword(word, &KEYWORDS) && !matches!(next, Some(FilterToken::Symbol("(")))
        }
        FilterToken::Quoted { is_double, .. } => *is_double && (is_argument || (is_compared && !is_on_the_right)),
        FilterToken::Symbol(_) => false,
    };
    usize::from(is_path)
}

/// Returns the names of a path, without the id of the interface before them.
fn segments(tokens: &[FilterToken]) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    for token in tokens {
        match token {
            FilterToken::Word(text) => segments.push(text.clone()),
            FilterToken::Quoted { text, .. } if is_model(text) => segments.push(text.clone()),
            FilterToken::Quoted { text, .. } => segments.extend(text.split(['.', '/']).map(str::to_string)),
            FilterToken::Symbol(_) => {}
        }
    }
    if segments.len() > 1 && is_model(&segments[0]) {
        segments.remove(0);
    }
    segments.retain(|segment| !segment.is_empty());
    if segments.is_empty() { vec!["undefined".to_string()] } else { segments }
}

fn is_model(text: &str) -> bool {
    text.starts_with("dtmi:") || text.starts_with("urn:")
}

fn path(segments: &[String], properties: &mut Properties<'_>) -> String {
    let first = segments[0].as_str();
    let system = match first.to_ascii_lowercase().as_str() {
        "$id" => Some("deviceId"),
        "$displayname" => Some("deviceName"),
        "$template" => Some("template"),
        "$organization" | "$organizations" => Some("organization"),
        "$simulated" => Some("simulated"),
        _ if first.starts_with('$') => Some(first),
        _ => None,
    };
    if let (Some(system), [_]) = (system, segments) {
        return system.to_string();
    }
    let known = (properties.root)(segments);
    let text = PathRef { root: known.unwrap_or(Root::Reported), keys: segments.to_vec() }.to_string();
    if known.is_none() && !properties.guessed.contains(&text) {
        properties.guessed.push(text.clone());
    }
    text
}

/// Returns the id of a condition that is nothing but `$template = "id"`.
fn template_of(tokens: &[FilterToken]) -> Option<&str> {
    match tokens {
        [FilterToken::Symbol("("), inner @ .., FilterToken::Symbol(")")] => template_of(inner),
        [FilterToken::Word(word), FilterToken::Symbol("="), FilterToken::Quoted { text, .. }]
            if word.eq_ignore_ascii_case("$template") =>
        {
            Some(text)
        }
        _ => None,
    }
}

/// Returns the conditions that are joined by AND outside of all brackets; the whole when an OR stands there.
fn conjuncts(tokens: &[FilterToken]) -> Vec<&[FilterToken]> {
    let mut depth = 0_usize;
    let mut ends = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            FilterToken::Symbol("(" | "[") => depth += 1,
            FilterToken::Symbol(")" | "]") => depth = depth.saturating_sub(1),
            FilterToken::Word(word) if depth == 0 && is_keyword(word, &["OR"]) => return vec![tokens],
            FilterToken::Word(word) if depth == 0 && is_keyword(word, &["AND"]) => ends.push(at),
            FilterToken::Word(_) | FilterToken::Quoted { .. } | FilterToken::Symbol(_) => {}
        }
    }
    ends.push(tokens.len());
    let mut start = 0;
    let mut found = Vec::new();
    for end in ends {
        found.push(&tokens[start..end]);
        start = end + 1;
    }
    found.retain(|part| !part.is_empty());
    found
}

impl FilterToken {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, FilterToken::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// Returns a text as a string of our language.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

fn tokens(text: &str) -> Result<Vec<FilterToken>, String> {
    // The colon and the semicolon are of the ids of models, which stand bare behind FROM.
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':' | ';');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' || first == '\'' {
            let (token, length) = string(rest, first)?;
            tokens.push(token);
            length
        } else if first.is_ascii_digit() {
            let is_part = |c: char| is_word(c) || c == '.';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push(FilterToken::Word(rest[..length].to_string()));
            length
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(FilterToken::Word(rest[..length].to_string()));
            length
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(*symbol));
            let symbol = symbol.ok_or_else(|| format!("The character {first:?} has no meaning in it."))?;
            tokens.push(FilterToken::Symbol(symbol));
            symbol.len()
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// Reads a string with its quotes; a backslash or a second quote makes a quote a part of it.
fn string(text: &str, quote: char) -> Result<(FilterToken, usize), String> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        if c == '\\' && next.is_some_and(|next| matches!(next, '\\' | '"' | '\'')) || c == quote && next == Some(quote)
        {
            value.extend(next);
            characters.next();
        } else if c == quote {
            return Ok((FilterToken::Quoted { text: value, is_double: quote == '"' }, at + c.len_utf8()));
        } else {
            value.push(c);
        }
    }
    Err(format!("A string in it has no closing {quote}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(text: &str) -> Result<(Option<String>, String, usize), String> {
        let filter = parse(text)?;
        let root = |segments: &[String]| match segments[0].as_str() {
            "owner" => Some(Root::Cloud),
            "target" | "light" => Some(Root::Desired),
            _ => None,
        };
        let mut template = |id: &str| Ok(format!("t-{}", id.len()));
        let organization = |id: &str| id.to_ascii_lowercase();
        let mut properties =
            Properties { root: &root, template: &mut template, organization: &organization, guessed: Vec::new() };
        let condition = condition(&filter, &mut properties)?;
        assert_eq!(crate::query::parse(&condition).err(), None, "{condition}");
        Ok((filter.template, condition, properties.guessed.len()))
    }

    fn check(text: &str, template: Option<&str>, condition: &str) {
        let (found, text, _) = convert(text).unwrap();
        assert_eq!((found.as_deref(), text.as_str()), (template, condition));
    }

    #[test]
    fn the_template_is_taken_out_of_the_condition() {
        let all = "SELECT * FROM devices WHERE $template = \"dtmi:modelDefinition:dtdlv2\"";
        check(all, Some("dtmi:modelDefinition:dtdlv2"), "*");
        check(&format!("{all} AND $provisioned = true"), Some("dtmi:modelDefinition:dtdlv2"), "$provisioned = true");
        check("select * from devices where $simulated = false and ($template = 'a')", Some("a"), "simulated = false");
        check("SELECT * FROM dtmi:a:b;1 WHERE level > 5", Some("dtmi:a:b;1"), "properties.reported.level > 5");
        check("SELECT * FROM devices", None, "*");
        check(
            "SELECT * FROM devices WHERE $template = \"a\" OR $template = \"bb\"",
            None,
            "template = 't-1' OR template = 't-2'",
        );
        check("SELECT * FROM devices WHERE $template = \"a\" AND $template = \"bb\"", Some("a"), "template = 't-2'");
        check("$template != \"abc\"", None, "template != 't-3'");
    }

    #[test]
    fn quoted_text_is_a_path_or_a_value_by_its_place() {
        check("\"level\" > 5", None, "properties.reported.level > 5");
        check("\"owner\" = \"north\"", None, "cloud.owner = 'north'");
        check("\"dtmi:a:c;1\"/target = 5", None, "properties.desired.target = 5");
        check("\"dtmi:a:c;1\".\"light\".\"level\" <= 1.5e3", None, "properties.desired.light.level <= 1.5e3");
        check("\"light.level\" = -3", None, "properties.desired.light.level = - 3");
        check("light.level <> 'it''s'", None, "properties.desired.light.level <> 'it\\'s'");
        check("$id IN [\"a\", \"b\"]", None, "deviceId IN ['a', 'b']");
        check(
            "STARTS_WITH(\"owner\", \"n\") AND NOT (x = 1 OR (y = 2))",
            None,
            "STARTS_WITH(cloud.owner, 'n') AND NOT (properties.reported.x = 1 OR (properties.reported.y = 2))",
        );
        check(
            "$organizations = \"Seattle\" AND $displayName = \"a\\\"b\"",
            None,
            "organization = 'seattle' AND deviceName = 'a\"b'",
        );
        check("\"a b\" = 1", None, "properties.reported.[[a b]] = 1");
    }

    #[test]
    fn guessed_roots_are_counted_once() {
        assert_eq!(convert("x > 1 AND x < 5 AND owner = 'n'").unwrap().2, 1);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for bad in [
            "SELECT $id FROM devices",
            "SELECT * FROM devices ORDER BY x",
            "x = \"a",
            "x = 1; DROP #",
            "SELECT * FROM (",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
