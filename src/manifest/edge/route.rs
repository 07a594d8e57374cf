//! Routes of the hub: `FROM <source> [WHERE <condition>] INTO <sink>`.
//!
//! A condition is in the routing language of IoT Hub, of which only quotes and parentheses are checked: the rest is up
//! to the hub.

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

/// The words of a route outside of its quotes: their bytes.
type Words = Vec<std::ops::Range<usize>>;

/// Returns the modules of a route.
///
/// # Errors
/// It is not of the form of a route.
pub fn parse(text: &str) -> Result<Route<'_>, RouteError> {
    let words = words_of(text)?;
    let is = |at: usize, word: &str| words.get(at).is_some_and(|range| text[range.clone()].eq_ignore_ascii_case(word));
    // `SELECT *` may stand in front.
    let start = if is(0, "SELECT") && is(1, "*") { 2 } else { 0 };
    if !is(start, "FROM") {
        return Err(slip("A route begins with `FROM`", &text[words.get(start).cloned().unwrap_or(0..0)], "FROM"));
    }
    let source = words.get(start + 1).ok_or_else(|| RouteError::new("Its source is missing."))?;
    // The last one: a condition may compare with a property that is called so.
    let into = (start + 2..words.len()).rev().find(|at| is(*at, "INTO"));
    let next = words.get(start + 2).cloned();
    let Some(into) = into else {
        let word = next.filter(|_| !is(start + 2, "WHERE")).map_or("", |range| &text[range]);
        return Err(slip("A route has `INTO` and a sink behind its source", word, "INTO"));
    };
    let sink_from = words[into].end;
    if into > start + 2 {
        if !is(start + 2, "WHERE") {
            let word = next.map_or("", |range| &text[range]);
            return Err(slip("`WHERE` or `INTO` is needed behind the source", word, "WHERE"));
        }
        if into == start + 3 {
            return Err(RouteError::new("The condition behind `WHERE` is missing."));
        }
    }
    let from = source_of(&text[source.clone()])?;
    let into = sink_of(text[sink_from..].trim())?;
    Ok(Route { from, into })
}

/// Returns the error of a word that is not there; the near word only when it is a slip.
fn slip(message: &str, word: &str, wanted: &'static str) -> RouteError {
    let near = nearest(word, [wanted]).filter(|_| !word.is_empty());
    let found = if word.is_empty() { String::new() } else { format!(", and `{}` is there", shown(word)) };
    RouteError { message: format!("{message}{found}."), near }
}

/// Returns the words outside of quotes; what is in quotes is part of the word that it touches.
fn words_of(text: &str) -> Result<Words, RouteError> {
    let mut words = Words::new();
    let (mut start, mut quote, mut depth) = (None, None, 0_usize);
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '(' => depth += 1,
            None if c == ')' => {
                depth = depth.checked_sub(1).ok_or_else(|| RouteError::new("A `)` has no `(`."))?;
            }
            None => {}
        }
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|from| from..at));
        } else if start.is_none() {
            start = Some(at);
        }
    }
    words.extend(start.map(|from| from..text.len()));
    match (quote, depth) {
        (Some(open), _) => Err(RouteError::new(format!("A {open} is not closed."))),
        (None, 0) => Ok(words),
        (None, _) => Err(RouteError::new("A `(` is not closed.")),
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
    // `/messages/` is the same as `/messages`.
    let parts: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return wrong("has an empty part");
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
    let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
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
