//! Routes of the hub: `FROM <source> [WHERE <condition>] INTO <sink>`.
//!
//! The grammar is `Route.g4` of Azure/iotedge: white space counts nowhere, and a part of a path is a name, so no number
//! and no word of the language. A condition is in the routing language of IoT Hub, of which only quotes and parentheses
//! are checked: the rest is up to the hub.

use std::ops::Range;

use crate::diag::{nearest, shown};

/// The modules that a route is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// The module whose messages it takes; `None` for a source that is about none or all.
    pub from: Option<&'a str>,
    /// The module that gets them; `None` for the cloud.
    pub into: Option<&'a str>,
}

/// Why a text is no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// Whole sentences.
    pub message: String,
    /// A near word, where there is one.
    pub near: Option<&'static str>,
}

impl RouteError {
    fn new(message: impl Into<String>) -> RouteError {
        RouteError { message: message.into(), near: None }
    }
}

/// A part of a route: its bytes, and what it is.
#[derive(Debug, Clone)]
struct Token {
    range: Range<usize>,
    kind: TokenKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    /// `(`, `)` or `/`.
    Mark,
    Quoted,
    /// Everything else up to white space.
    Word,
}

/// Words that mean something else than a name, in any case.
const KEYWORDS: [&str; 7] = ["SELECT", "FROM", "WHERE", "INTO", "AND", "OR", "NOT"];
/// The same in this case.
const LITERALS: [&str; 4] = ["true", "false", "null", "undefined"];
/// What no name in a path has.
const NO_NAME: &str = "()<>@,;:\\\"[]?={}";

/// Returns the modules of a route.
///
/// # Errors
/// It is not of the form of a route.
pub fn parse(text: &str) -> Result<Route<'_>, RouteError> {
    let tokens = tokens_of(text)?;
    let word = |at: usize| tokens.get(at).map_or("", |token| &text[token.range.clone()]);
    let is = |at: usize, wanted: &str| {
        tokens.get(at).is_some_and(|token| token.kind == TokenKind::Word) && word(at).eq_ignore_ascii_case(wanted)
    };
    // `SELECT *` may stand in front.
    let start = if is(0, "SELECT") && is(1, "*") { 2 } else { 0 };
    if !is(start, "FROM") {
        return Err(slip("A route begins with `FROM`", word(start), "FROM"));
    }
    let first = tokens.get(start + 1).ok_or_else(|| RouteError::new("Its source is missing."))?;
    let behind = behind_source(text, &tokens, start + 1);
    let source = &text[first.range.start..tokens[behind - 1].range.end];
    // The last one: a condition may compare with a property that is called so.
    let into = (behind..tokens.len()).rev().find(|at| is(*at, "INTO"));
    let Some(into) = into else {
        let next = if is(behind, "WHERE") { "" } else { word(behind) };
        return Err(slip("A route has `INTO` and a sink behind its source", next, "INTO"));
    };
    if into > behind {
        if !is(behind, "WHERE") {
            return Err(slip("`WHERE` or `INTO` is needed behind the source", word(behind), "WHERE"));
        }
        if into == behind + 1 {
            return Err(RouteError::new("The condition behind `WHERE` is missing."));
        }
    }
    let from = source_of(source)?;
    let into = sink_of(text[tokens[into].range.end..].trim())?;
    Ok(Route { from, into })
}

/// Returns the place behind the source that begins at a place: `/` and a part, again and again, or one word.
fn behind_source(text: &str, tokens: &[Token], begin: usize) -> usize {
    let is_slash = |at: usize| tokens.get(at).is_some_and(|token| &text[token.range.clone()] == "/");
    let is_part = |at: usize| {
        tokens.get(at).is_some_and(|token| {
            let word = &text[token.range.clone()];
            token.kind == TokenKind::Word && !["INTO", "WHERE"].iter().any(|key| word.eq_ignore_ascii_case(key))
        })
    };
    let mut at = begin;
    // A word in front is told as what it is.
    if !is_slash(at) {
        at += 1;
    }
    while is_slash(at) {
        at += if is_part(at + 1) { 2 } else { 1 };
    }
    at
}

/// Returns the error of a word that is not there; the near word only when it is a slip.
fn slip(message: &str, word: &str, wanted: &'static str) -> RouteError {
    let near = nearest(word, [wanted]).filter(|_| !word.is_empty());
    let found = if word.is_empty() { String::new() } else { format!(", and `{}` is there", shown(word)) };
    RouteError { message: format!("{message}{found}."), near }
}

fn tokens_of(text: &str) -> Result<Vec<Token>, RouteError> {
    let (mut tokens, mut depth, mut letters) = (Vec::new(), 0_usize, text.char_indices().peekable());
    while let Some((at, letter)) = letters.next() {
        let mut end = at + letter.len_utf8();
        let kind = match letter {
            _ if letter.is_whitespace() => continue,
            '"' | '\'' => {
                let mut is_closed = false;
                while let Some((at, next)) = letters.next() {
                    end = at + next.len_utf8();
                    if next == letter {
                        is_closed = true;
                        break;
                    }
                    // What is behind it stands for itself.
                    if next == '\\' {
                        letters.next();
                    }
                }
                if !is_closed {
                    return Err(RouteError::new(format!("A {letter} is not closed.")));
                }
                TokenKind::Quoted
            }
            '(' => {
                depth += 1;
                TokenKind::Mark
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or_else(|| RouteError::new("A `)` has no `(`."))?;
                TokenKind::Mark
            }
            '/' => TokenKind::Mark,
            _ => {
                let ends = |next: char| next.is_whitespace() || matches!(next, '"' | '\'' | '(' | ')' | '/');
                while let Some((at, next)) = letters.next_if(|(_, next)| !ends(*next)) {
                    end = at + next.len_utf8();
                }
                TokenKind::Word
            }
        };
        tokens.push(Token { range: at..end, kind });
    }
    if depth > 0 {
        return Err(RouteError::new("A `(` is not closed."));
    }
    Ok(tokens)
}

/// Returns why a part of a source is no name in the grammar of routes; `None` when it is one.
fn fault_of_part(part: &str) -> Option<String> {
    if let Some(letter) = part.chars().find(|letter| NO_NAME.contains(*letter)) {
        return Some(format!("has a `{letter}`, and no part can have one"));
    }
    let is_word = KEYWORDS.iter().any(|word| part.eq_ignore_ascii_case(word)) || LITERALS.contains(&part);
    if is_word {
        return Some(format!("has the part `{part}`, which is a word of the language of routes"));
    }
    is_number(part).then(|| format!("has the part `{part}`, which is read as a number"))
}

/// `-12`, `0x1f`, `.5`, `e1`: what the grammar has as numbers.
fn is_number(part: &str) -> bool {
    let is_hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")).is_some_and(is_hex) {
        return true;
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let text = part.strip_prefix('-').unwrap_or(part);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if exponent.is_empty() || !digits(exponent) {
                return false;
            }
            (mantissa, true)
        }
        None => (text, false),
    };
    match mantissa.split_once('.') {
        Some((whole, fraction)) => digits(whole) && !fraction.is_empty() && digits(fraction),
        None => digits(mantissa) && (exponent || !mantissa.is_empty()),
    }
}

/// Returns the module of a source.
fn source_of(source: &str) -> Result<Option<&str>, RouteError> {
    const SOURCES: [&str; 2] = ["messages", "twinChangeNotifications"];
    let wrong = |why: &str| {
        let message = format!("The source `{}` {why}.", shown(source));
        Err(RouteError::new(message))
    };
    let Some(path) = source.strip_prefix('/') else {
        return wrong("does not begin with `/`; a source is such as `/messages/modules/<module>/outputs/<output>`");
    };
    // White space around `/` does not count.
    let parts: Vec<&str> = path.split('/').map(str::trim).collect();
    if parts.len() > 1 && parts.last() == Some(&"") {
        return wrong("ends with `/`");
    }
    if parts.iter().any(|part| part.is_empty()) {
        return wrong("has an empty part");
    }
    if let Some(why) = parts.iter().find_map(|part| fault_of_part(part)) {
        return wrong(&why);
    }
    if parts[..parts.len() - 1].contains(&"*") {
        return wrong("has a `*` before its end, and only the last part can be one");
    }
    let word = |part: &str, known: &'static str| part.eq_ignore_ascii_case(known);
    match parts.as_slice() {
        ["*"] => Ok(None),
        [first, ..] if word(first, SOURCES[1]) => Ok(None),
        [first, ..] if !word(first, SOURCES[0]) => Err(RouteError {
            message: format!(
                "There is no source `/{}`: it is `/*`, `/messages/…` or `/twinChangeNotifications`.",
                shown(first)
            ),
            near: nearest(first, SOURCES)
                .map(|near| if near == SOURCES[0] { "/messages" } else { "/twinChangeNotifications" }),
        }),
        [_] | [_, "*"] => Ok(None),
        [_, second, ..] if !word(second, "modules") => Err(RouteError {
            message: format!("The source `{}` has `{}` where `modules` is needed.", shown(source), shown(second)),
            near: nearest(second, ["modules"]).map(|_| "/messages/modules"),
        }),
        [_, _] | [_, _, "*"] => Ok(None),
        [_, _, module] | [_, _, module, "*"] => Ok(Some(module)),
        // The hub cuts off a `*` at the end, and takes what is before it as the beginning.
        [_, _, module, outputs] | [_, _, module, outputs, _] | [_, _, module, outputs, _, "*"]
            if word(outputs, "outputs") =>
        {
            Ok(Some(module))
        }
        [_, _, _, outputs, ..] if !word(outputs, "outputs") => Err(RouteError {
            message: format!("The source `{}` has `{}` where `outputs` is needed.", shown(source), shown(outputs)),
            near: nearest(outputs, ["outputs"]).map(|_| "outputs"),
        }),
        _ => wrong("goes on behind its output"),
    }
}

/// Returns the module of a sink.
fn sink_of(sink: &str) -> Result<Option<&str>, RouteError> {
    if sink.is_empty() {
        return Err(RouteError::new("Its sink behind `INTO` is missing."));
    }
    if sink.eq_ignore_ascii_case("$upstream") {
        return Ok(None);
    }
    let (name, argument) = sink.split_once('(').unwrap_or((sink, ""));
    if !name.trim_end().eq_ignore_ascii_case("BrokeredEndpoint") {
        let message = format!("There is no sink `{}`.", shown(name.trim_end()));
        let near = nearest(name.trim_end(), ["$upstream", "BrokeredEndpoint"]);
        let near = near.map(|near| if near == "$upstream" { "$upstream" } else { "BrokeredEndpoint" });
        return Err(RouteError { message, near });
    }
    let quoted = argument.strip_suffix(')').map(str::trim).and_then(|text| {
        let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
        inner('"').or_else(|| inner('\''))
    });
    let Some(path) = quoted else {
        return Err(RouteError::new("The input of `BrokeredEndpoint` stands in quotes, and nothing is behind it."));
    };
    // White space around it does not count, and one `/` on each side.
    let trimmed = path.trim();
    let trimmed = trimmed.strip_prefix('/').unwrap_or(trimmed);
    let parts: Vec<&str> = trimmed.strip_suffix('/').unwrap_or(trimmed).split('/').collect();
    match parts.as_slice() {
        [modules, module, inputs, input]
            if modules.eq_ignore_ascii_case("modules")
                && inputs.eq_ignore_ascii_case("inputs")
                && !module.is_empty()
                && !input.is_empty() =>
        {
            Ok(Some(module))
        }
        _ => {
            let message = format!("The sink \"{}\" is not the input of a module.", shown(path));
            Err(RouteError::new(message))
        }
    }
}
