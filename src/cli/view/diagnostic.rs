//! A diagnostic as text with a caret, and as JSON.

use std::borrow::Cow;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::wrapped;
use crate::diag::{Diagnostic, Position, Severity, SourceMap, Span};
use crate::model::text::{sanitize, sanitize_line};

/// Characters of a source line that are shown; a longer one is cut around the place.
const LINE_CHARS_MAX: usize = 160;
/// Characters that are shown before the place in a line that is cut.
const LINE_CHARS_BEFORE: usize = 60;
/// Places beside the main one that are shown.
const LABELS_MAX: usize = 5;

/// Columns before the text of a note, with room for a line number.
const NOTE_INDENT: usize = 13;

/// Returns a diagnostic for people, without a line feed at its end, in so many columns of a terminal.
pub fn render(diagnostic: &Diagnostic, sources: &SourceMap, color: bool, most: Option<usize>) -> String {
    let most = most.map(|most| most.saturating_sub(NOTE_INDENT));
    let fitted = |text: &str| -> String {
        let text = sanitize(text);
        text.lines().map(|line| wrapped(line, 0, most)).collect::<Vec<_>>().join("\n")
    };
    let Diagnostic { severity, code, summary, detail, help, span, labels } = diagnostic;
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(*summary).id(code.0));
    let mut excerpts = Vec::new();
    if let Some(span) = span {
        group = group.element(origin(*span, sources));
        excerpts.push(Excerpt::of(*span, sources, AnnotationKind::Primary, ""));
        for (span, label) in labels.iter().take(LABELS_MAX) {
            excerpts.push(Excerpt::of(*span, sources, AnnotationKind::Context, label));
        }
    }
    let main = span.map(|span| span.file);
    for snippet in snippets(excerpts, main) {
        group = group.element(snippet);
    }
    group = group.element(Level::NOTE.message(fitted(detail)));
    if let Some(help) = help {
        group = group.element(Level::HELP.message(fitted(help)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let text = renderer.term_width(LINE_CHARS_MAX * 2).render(&[group]);
    text.lines().filter(|line| !is_gap(line)).collect::<Vec<_>>().join("\n")
}

/// Returns true for the line that the renderer puts before a snippet whose path was already named: `:::` and nothing
/// else.
fn is_gap(line: &str) -> bool {
    let line = anstream::adapter::strip_str(line).to_string();
    line.trim() == ":::"
}

/// Returns a line with the passwords of its URLs masked: the log of a pipeline has more readers than the repository. It
/// is as long as before.
fn without_passwords(line: &str) -> Cow<'_, str> {
    let mut line = Cow::Borrowed(line);
    let begins: Vec<usize> = line.match_indices("://").map(|(at, scheme)| at + scheme.len()).collect();
    for begin in begins {
        let ends = |c: char| matches!(c, '/' | '"' | '\'' | ' ' | '\t');
        let end = line[begin..].find(ends).map_or(line.len(), |at| begin + at);
        let Some((user, _)) = line[begin..end].rsplit_once('@') else { continue };
        let Some((name, password)) = user.split_once(':') else { continue };
        let start = begin + name.len() + 1;
        let (range, stars) = (start..start + password.len(), "*".repeat(password.len()));
        line.to_mut().replace_range(range, &stars);
    }
    line
}

/// Returns a diagnostic as the JSON object that every command prints with `--json`.
pub fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    let place = diagnostic.span.map(|span| (sources.path(span.file), sources.position(span)));
    json!({
        "severity": diagnostic.severity.as_str(),
        "code": diagnostic.code.0,
        "summary": diagnostic.summary,
        "detail": sanitize(&diagnostic.detail),
        "file": place.map(|(path, _)| sanitize_line(path)),
        "line": place.map(|(_, position)| position.line),
        "column": place.map(|(_, position)| position.column),
        "help": diagnostic.help.as_deref().map(sanitize),
    })
}

fn origin(span: Span, sources: &SourceMap) -> Origin<'static> {
    let path = sanitize_line(sources.path(span.file)).into_owned();
    if sources.text(span.file).is_empty() {
        return Origin::path(path);
    }
    let Position { line, column } = sources.position(span);
    Origin::path(path).line(line).char_column(column)
}

/// One line of a file with one place in it, safe to show.
struct Excerpt {
    span: Span,
    path: String,
    line: usize,
    text: String,
    range: std::ops::Range<usize>,
    kind: AnnotationKind,
    label: String,
}

impl Excerpt {
    fn of(span: Span, sources: &SourceMap, kind: AnnotationKind, label: &str) -> Option<Excerpt> {
        let text = sources.text(span.file);
        if text.is_empty() {
            return None;
        }
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = &*without_passwords(text[line_start..line_end].trim_end_matches('\r'));
        let bom = if line_start == 0 && line.starts_with('\u{feff}') { 3 } else { 0 };
        let start = (start - line_start).clamp(bom, line.len().max(bom));
        let end = floor(text, span.end).saturating_sub(line_start).clamp(start, line.len().max(start));
        let (before, inside, after) = crop(&line[bom..start], &line[start..end], &line[end..]);
        let (before, inside) = (sanitize(&before).into_owned(), sanitize(&inside).into_owned());
        let range = before.len()..before.len() + inside.len();
        Some(Excerpt {
            span,
            path: sanitize_line(sources.path(span.file)).into_owned(),
            line: sources.position(span).line,
            text: format!("{before}{inside}{}", sanitize(&after)),
            range,
            kind,
            label: sanitize(label).into_owned(),
        })
    }
}

impl Excerpt {
    /// Returns true when both show the same text of the same line, and so can share it.
    fn is_beside(&self, other: &Excerpt) -> bool {
        (self.span.file, self.line, &self.text) == (other.span.file, other.line, &other.text)
    }
}

/// Returns the three parts of a line cut to what is shown.
fn crop(before: &str, inside: &str, after: &str) -> (String, String, String) {
    let count = |text: &str| text.chars().count();
    if count(before) + count(inside) + count(after) <= LINE_CHARS_MAX {
        return (before.to_string(), inside.to_string(), after.to_string());
    }
    let hidden = count(before).saturating_sub(LINE_CHARS_BEFORE);
    let before: String = if hidden > 0 {
        std::iter::once('…').chain(before.chars().skip(hidden)).collect()
    } else {
        before.to_string()
    };
    let left = LINE_CHARS_MAX - count(&before).min(LINE_CHARS_MAX);
    let shown: String = inside.chars().take(left).collect();
    let left = left - count(&shown);
    let mut rest: String = after.chars().take(left).collect();
    if count(&shown) + count(&rest) < count(inside) + count(after) {
        rest.push('…');
    }
    (before, shown, rest)
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Returns one snippet for each line, the main file first, in the order of the file.
fn snippets(
    excerpts: Vec<Option<Excerpt>>,
    main: Option<crate::diag::FileId>,
) -> Vec<Snippet<'static, annotate_snippets::Annotation<'static>>> {
    let mut excerpts: Vec<Excerpt> = excerpts.into_iter().flatten().collect();
    excerpts.sort_by_key(|excerpt| (Some(excerpt.span.file) != main, excerpt.span.file, excerpt.span.start));
    let mut snippets = Vec::new();
    for line in excerpts.chunk_by(|left, right| left.is_beside(right)) {
        let first = &line[0];
        let mut snippet = Snippet::source(first.text.clone()).line_start(first.line).fold(false);
        for Excerpt { range, kind, label, .. } in line {
            let annotation = kind.span(range.clone());
            snippet = snippet.annotation(if label.is_empty() { annotation } else { annotation.label(label.clone()) });
        }
        if Some(first.span.file) != main {
            snippet = snippet.path(first.path.clone());
        }
        snippets.push(snippet);
    }
    snippets
}
