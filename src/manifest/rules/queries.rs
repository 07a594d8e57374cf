//! Every condition is a legal query; problems point into the YAML scalar.

use super::Set;
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, code};
use crate::manifest::lower::Doc;
use crate::manifest::node::Node;
use crate::manifest::{QueryCheck, QueryProblem};
use crate::model::kind::Kind;

/// Reports every problem of every condition of groups, jobs and schedules.
pub fn check(set: &Set, check_query: QueryCheck, sources: &SourceMap) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    for doc in &set.docs {
        let found = doc.query_problems.get_or_init(|| problems_of(doc, check_query, sources.text(doc.file)));
        found.iter().for_each(|found| diagnostics.push(found.clone().placed(doc.file)));
    }
    diagnostics
}

fn problems_of(doc: &Doc, check_query: QueryCheck, file: &str) -> Vec<Diagnostic> {
    let Some((node, text)) = condition(doc).and_then(|node| Some((node, node.as_str()?))) else { return Vec::new() };
    let diagnostic = |problem: QueryProblem| {
        let indent = node.span.start - file[..node.span.start].rfind('\n').map_or(0, |at| at + 1);
        let source = &file[node.span.start..node.span.end];
        let span = within(node.span, indent, source, text, problem.start, problem.end);
        let mut detail = problem.message;
        if !detail.ends_with(['.', '?', '!']) {
            detail.push('.');
        }
        let mut diagnostic = Diagnostic::new(code::QUERY, span, detail);
        diagnostic.help = problem.help;
        diagnostic
    };
    check_query(text).into_iter().map(diagnostic).collect()
}

fn condition(doc: &Doc) -> Option<&Node> {
    match doc.kind {
        Kind::DeviceGroup => doc.root.at("/spec/query"),
        Kind::Job => doc.root.at("/spec/target/query"),
        Kind::Schedule => doc.root.at("/spec/job/target/query"),
        Kind::Fleet
        | Kind::Organization
        | Kind::DeviceTemplate
        | Kind::EdgeManifest
        | Kind::DeviceImport
        | Kind::Policy
        | Kind::Access => None,
    }
}

/// Returns the place in the file of the bytes `start..end` of a scalar's text; the scalar's start when it is not known.
fn within(scalar: Span, indent: usize, source: &str, text: &str, start: usize, end: usize) -> Span {
    let empty = Span { end: scalar.start, ..scalar };
    let Some(offsets) = align(source, text, indent) else { return empty };
    let at = |byte: usize| offsets.get(byte.min(text.len())).copied().map(|offset| scalar.start + offset);
    match (at(start), at(end)) {
        (Some(start), Some(end)) => Span { start, end: end.max(start), ..scalar },
        (_, _) => empty,
    }
}

/// Returns, for each byte of a scalar's text and its end, the byte of its source that it comes from.
///
/// It walks both at once through quotes, indentation and folded lines; the source of a block starts behind its header,
/// at column `indent`. `None` when they part ways, as at an escape by number.
fn align(source: &str, text: &str, indent: usize) -> Option<Vec<usize>> {
    let quote = source.chars().next().filter(|first| matches!(first, '\'' | '"'));
    let mut at = usize::from(quote.is_some());
    let mut offsets = Vec::with_capacity(text.len() + 1);
    for c in text.chars() {
        let rest = source.get(at..)?;
        let next = rest.chars().next();
        let (from, to) = if quote == Some('\'') && c == '\'' && rest.starts_with("''") {
            (at, at + 2)
        } else if quote == Some('"') && rest.starts_with('\\') {
            let escaped = rest[1..].chars().next()?;
            let meant = match escaped {
                't' => '\t',
                'n' => '\n',
                '"' | '\\' | '/' | ' ' => escaped,
                _ => return None,
            };
            if meant != c {
                return None;
            }
            (at, at + 1 + escaped.len_utf8())
        } else if c.is_whitespace() && matches!(next, Some('\n' | '\r')) {
            let line = at + rest.find('\n')? + 1;
            // A line of a literal block keeps its own indentation, a folded line has none.
            (at, if c == '\n' { skip_indentation(source, line, indent) } else { skip_white_space(source, at) })
        } else if c == ' ' && rest.trim_start_matches(' ').starts_with(['\n', '\r']) {
            (at, skip_white_space(source, at))
        } else if next == Some(c) {
            (at, at + c.len_utf8())
        } else if c == '\n' && next.is_none() {
            (at, at)
        } else {
            return None;
        };
        offsets.extend(std::iter::repeat_n(from, c.len_utf8()));
        at = to;
    }
    offsets.push(at);
    Some(offsets)
}

fn skip_indentation(source: &str, at: usize, indent: usize) -> usize {
    at + source[at..].bytes().take(indent).take_while(|byte| *byte == b' ').count()
}

fn skip_white_space(source: &str, at: usize) -> usize {
    let rest = &source[at..];
    at + (rest.len() - rest.trim_start().len())
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn text_is_found_in_its_source() {
        let check = |source: &str, text: &str, word: &str, expect: Option<usize>| {
            let at = text.find(word).unwrap();
            assert_eq!(align(source, text, 4).map(|offsets| offsets[at]), expect, "{source}");
        };
        check("a = b", "a = b", "b", Some(4));
        check("'a = ''b'' c'", "a = 'b' c", "c", Some(11));
        check("\"a = \\\"b\\\" c\"", "a = \"b\" c", "c", Some(11));
        check("a\n    AND b", "a AND b", "b", Some(10));
        check("a\n      AND b\n", "a\n  AND b\n", "b", Some(12));
        check("a\r\n    AND b", "a AND b", "b", Some(11));
        check("\"\\u0061 = b\"", "a = b", "b", None);
    }
}
