//! YAML text to spanned trees. The only file that names the YAML crate.
//!
//! It drives the event parser of serde-saphyr (`granit_parser`): only events carry exact byte ranges for keys and
//! scalars, the style of a scalar, and a way to go on at the next document after an error. To leave the crate, feed the
//! [`Builder`] from another event parser.
//!
//! Scalars follow the core schema of YAML 1.2.2 (section 10.3): `yes`, `on` and `012` of YAML 1.1 are strings. Merge
//! keys and custom tags are refused, duplicate keys too, and every size has a bound of [`limits`].

use std::collections::BTreeMap;

use serde_yaml::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};

use super::node::{Content, Key, Node};
use super::scalar::{Unrepresentable, core_type, resolve};
use crate::diag::{self, Diagnostic, Diagnostics, FileId, Span, code};
use crate::model::limits;

/// The documents of one file.
#[derive(Debug, Default)]
pub struct Parsed {
    pub documents: Vec<Document>,
    /// False when part of the file could not be read: what it declares is not known.
    pub is_complete: bool,
}

/// One document.
#[derive(Debug)]
pub struct Document {
    pub root: Node,
    /// False when it has a diagnostic that makes further checks of its content pointless.
    pub is_sound: bool,
}

/// Syntax errors of one file after which the rest is not read: they are seldom independent.
const SYNTAX_ERRORS_MAX: usize = 5;

/// Returns every document that can be read, the ones behind a syntax error included.
pub fn parse(file: FileId, text: &str) -> (Parsed, Diagnostics) {
    let mut options = granit_parser::options! {
        flow_nesting_limit: limits::YAML_DEPTH_MAX,
        block_nesting_limit: limits::YAML_DEPTH_MAX,
    };
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::new(file, text);
    let mut errors = 0;
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => {
                let range = builder.span(span.start.byte_offset(), span.end.byte_offset());
                let tag_span = span.tag_span().map(|tag| builder.span(tag.start.byte_offset(), tag.end.byte_offset()));
                if builder.event(event, range, tag_span).is_err() {
                    builder.is_complete = false;
                    break;
                }
            }
            Some(Err(error)) => {
                errors += 1;
                builder.syntax_error(&error);
                let is_last = errors == SYNTAX_ERRORS_MAX || conflict_mark(text).is_some();
                if is_last || !matches!(parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
        }
    }
    (Parsed { documents: builder.documents, is_complete: builder.is_complete }, builder.diagnostics)
}

/// Returns a value as YAML text; `None` when the crate cannot write it.
pub fn to_text<T: serde::Serialize>(value: &T) -> Option<String> {
    serde_yaml::to_string(value).ok()
}

/// A limit was broken and has been reported: the rest of the file is not read.
struct Stop;

enum Frame {
    Seq { items: Vec<Node> },
    Map { entries: Vec<(Key, Node)>, key: Option<Option<Key>> },
}

struct Open {
    frame: Frame,
    start: usize,
    anchor: usize,
}

/// An anchored node with what using it again costs.
struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

struct Builder<'a> {
    file: FileId,
    text: &'a str,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    aliases: usize,
    is_sound: bool,
    is_complete: bool,
    documents: Vec<Document>,
    diagnostics: Diagnostics,
}

impl<'a> Builder<'a> {
    fn new(file: FileId, text: &'a str) -> Builder<'a> {
        Builder {
            file,
            text,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            nodes: 0,
            aliases: 0,
            is_sound: true,
            is_complete: true,
            documents: Vec::new(),
            diagnostics: Diagnostics::new(),
        }
    }

    fn span(&self, start: Option<usize>, end: Option<usize>) -> Span {
        let start = start.unwrap_or(0).min(self.text.len());
        Span { file: self.file, start, end: end.unwrap_or(start).clamp(start, self.text.len()) }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.is_sound = false;
        self.diagnostics.push(diagnostic);
    }

    fn event(&mut self, event: Event<'_>, span: Span, tag_span: Option<Span>) -> Result<(), Stop> {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(..) => {
                self.open.clear();
                self.anchors.clear();
                self.is_sound = true;
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, span)?;
                if self.awaits_key() {
                    let is_merge = text == "<<" && matches!(style, ScalarStyle::Plain);
                    self.key(text.into_owned(), span, is_merge);
                    return Ok(());
                }
                let content = self.scalar(&text, style, tag.as_deref(), span, tag_span);
                self.value(Node { span: trimmed(self.text, span, style), content }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.start(Frame::Seq { items: Vec::new() }, span, anchor, tag.as_deref(), tag_span)
            }
            Event::MappingStart(_, anchor, tag) => {
                let frame = Frame::Map { entries: Vec::new(), key: None };
                self.start(frame, span, anchor, tag.as_deref(), tag_span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(id) => self.alias(id, span),
            // Neither occurs: an unknown anchor is a syntax error, and comments are not emitted.
            Event::Anchor(..) | Event::UnresolvedAlias(_) => Ok(()),
            #[allow(unreachable_patterns, reason = "the comment event exists only with a feature of the crate")]
            _ => Ok(()),
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { frame: Frame::Map { key: None, .. }, .. }))
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= limits::YAML_NODES_MAX {
            return Ok(());
        }
        let detail = format!(
            "This file has more than {} values once its aliases are expanded. Split it into several files, and \
             repeat less by alias.",
            limits::YAML_NODES_MAX
        );
        self.report(Diagnostic::new(code::TOO_MANY_NODES, span, detail));
        Err(Stop)
    }

    fn check_depth(&mut self, height: usize, span: Span) -> Result<(), Stop> {
        if self.open.len() + height <= limits::YAML_DEPTH_MAX {
            return Ok(());
        }
        self.report(Diagnostic::new(code::TOO_DEEP, span, too_deep()));
        Err(Stop)
    }

    fn start(
        &mut self,
        frame: Frame,
        span: Span,
        anchor: usize,
        tag: Option<&Tag>,
        tag_span: Option<Span>,
    ) -> Result<(), Stop> {
        self.count(1, span)?;
        self.check_depth(1, span)?;
        if let Some(tag) = tag {
            let legal = match &frame {
                Frame::Seq { .. } => "seq",
                Frame::Map { .. } => "map",
            };
            if tag.core_suffix() != Some(legal) {
                self.refuse_tag(tag, tag_span.unwrap_or(span));
            }
        }
        if self.awaits_key() {
            self.refuse_key(span);
        }
        self.open.push(Open { frame, start: span.start, anchor });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), Stop> {
        let Some(Open { frame, start, anchor }) = self.open.pop() else {
            return Ok(());
        };
        let (content, last) = match frame {
            Frame::Seq { items } => {
                let last = items.last().map(|item| item.span.end);
                (Content::Seq(items), last)
            }
            Frame::Map { mut entries, .. } => {
                let last = entries.last().map(|(key, node)| node.span.end.max(key.span.end));
                self.remove_duplicates(&mut entries);
                (Content::Map(entries), last)
            }
        };
        // The end of a block collection is an empty place in front of whatever follows it; a flow one ends with its
        // bracket.
        let end = if span.end > span.start { span.end } else { last.unwrap_or(start) };
        let span = Span { file: self.file, start, end: end.max(start) };
        self.value(Node { span, content }, anchor)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Stop> {
        self.aliases += 1;
        if self.aliases > limits::YAML_ALIASES_MAX {
            let detail = format!("This file has more than {} aliases.", limits::YAML_ALIASES_MAX);
            self.report(Diagnostic::new(code::TOO_MANY_NODES, span, detail));
            return Err(Stop);
        }
        let Some(Anchored { nodes, height, .. }) = self.anchors.get(&id) else {
            let detail = "This alias stands inside the value that it repeats.";
            self.report(Diagnostic::new(code::YAML_SYNTAX, span, detail));
            return Err(Stop);
        };
        let (nodes, height) = (*nodes, *height);
        self.count(nodes, span)?;
        self.check_depth(height, span)?;
        let node = self.anchors[&id].node.clone();
        if self.awaits_key() {
            match node.content {
                Content::String(text) => self.key(text, span, false),
                Content::Null | Content::Bool(_) | Content::Number(_) | Content::Seq(_) | Content::Map(_) => {
                    self.refuse_key(span);
                    self.skip_key();
                }
            }
            return Ok(());
        }
        self.value(node, 0)
    }

    fn key(&mut self, text: String, span: Span, is_merge: bool) {
        if is_merge {
            let detail = "Merge keys (`<<`) are not supported: they were dropped from YAML 1.2, and what they add \
                          cannot be seen in a review. Write the fields out, or repeat a whole value with an alias.";
            self.report(Diagnostic::new(code::MERGE_KEY, span, detail));
        }
        if let Some(Open { frame: Frame::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(if is_merge { None } else { Some(Key { text, span }) });
        }
    }

    fn refuse_key(&mut self, span: Span) {
        let detail = "A key must be plain text, and this one is a list, a map or an alias of something else.";
        self.report(Diagnostic::new(code::KEY_NOT_TEXT, span, detail));
    }

    fn skip_key(&mut self) {
        if let Some(Open { frame: Frame::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(None);
        }
    }

    /// Puts a finished value where it belongs: under the key that waits for it, into the list, or as the document.
    fn value(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            let (nodes, height) = (count_nodes(&node), height(&node));
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, height });
        }
        match self.open.last_mut() {
            None => self.documents.push(Document { root: node, is_sound: self.is_sound }),
            Some(Open { frame: Frame::Seq { items }, .. }) => items.push(node),
            Some(Open { frame: Frame::Map { entries, key }, .. }) => match key.take() {
                Some(Some(key)) => entries.push((key, node)),
                // The value of a key that was refused.
                Some(None) => {}
                // A collection as a key, refused when it began.
                None => *key = Some(None),
            },
        }
        Ok(())
    }

    /// Keeps the first of equal keys, so that one slip does not become two problems.
    fn remove_duplicates(&mut self, entries: &mut Vec<(Key, Node)>) {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|left, right| entries[*left].0.text.cmp(&entries[*right].0.text).then(left.cmp(right)));
        let mut again: Vec<(usize, usize)> = Vec::new();
        let mut first = 0;
        for at in 1..order.len() {
            if entries[order[at]].0.text == entries[order[first]].0.text {
                again.push((order[at], order[first]));
            } else {
                first = at;
            }
        }
        again.sort_unstable();
        for (second, first) in &again {
            let (key, earlier) = (&entries[*second].0, &entries[*first].0);
            let detail = format!(
                "The key `{}` is already in this map, and only one of the two values could count.",
                shown(&key.text)
            );
            let diagnostic =
                Diagnostic::new(code::DUPLICATE_KEY, key.span, detail).with_label(earlier.span, "first written here");
            self.diagnostics.push(diagnostic.with_help("Remove one of the two."));
        }
        for (second, _) in again.iter().rev() {
            entries.remove(*second);
        }
    }

    fn refuse_tag(&mut self, tag: &Tag, span: Span) {
        let detail = format!(
            "The tag `{}` is not supported: values have the types of JSON and nothing else.",
            shown(&tag.original())
        );
        self.report(Diagnostic::new(code::YAML_TAG, span, detail).with_help("Remove the tag."));
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
        tag_span: Option<Span>,
    ) -> Content {
        let is_plain = matches!(style, ScalarStyle::Plain);
        let content = match tag {
            Some(tag) if tag.core_suffix() == Some("str") => Ok(Content::String(text.to_string())),
            Some(tag) => {
                let content = resolve(text);
                let word = content.as_ref().ok().map(core_type);
                if word.is_some() && tag.core_suffix() != word {
                    self.refuse_tag(tag, tag_span.unwrap_or(span));
                }
                content
            }
            None if is_plain => resolve(text),
            None => Ok(Content::String(text.to_string())),
        };
        content.unwrap_or_else(|Unrepresentable| {
            let detail = format!(
                "`{}` cannot be kept without changing it: numbers are those of JSON, integers of 64 bits or finite \
                 fractions.",
                shown(text)
            );
            self.report(
                Diagnostic::new(code::NUMBER, span, detail).with_help("Put it in quotes if it is meant as text."),
            );
            Content::Null
        })
    }

    fn syntax_error(&mut self, error: &ScanError) {
        if let Some((at, mark)) = conflict_mark(self.text) {
            self.is_complete = false;
            self.open.clear();
            let detail = "Git has left the marks of a merge conflict in this file.";
            let diagnostic = Diagnostic::new(code::YAML_SYNTAX, self.span(Some(at), Some(at + mark.len())), detail);
            let help = "Keep what is right of both sides, and remove the lines of marks: `<<<<<<<`, `|||||||`, \
                        `=======` and `>>>>>>>`.";
            self.diagnostics.push(diagnostic.with_help(help));
            return;
        }
        let start = self.span(error.marker().byte_offset(), None).start;
        let span = Span { file: self.file, start, end: start };
        self.is_complete = false;
        self.open.clear();
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum of the crate has 60 variants and may grow")]
        let diagnostic = match error.kind() {
            ErrorKind::RecursionLimitExceeded => Diagnostic::new(code::TOO_DEEP, span, too_deep()),
            ErrorKind::UnknownAnchor => {
                let detail = "This alias repeats an anchor that is not defined before it in this document.";
                Diagnostic::new(code::YAML_SYNTAX, span, detail).with_help("Put text that starts with `*` in quotes.")
            }
            kind => {
                let detail = format!("This is not valid YAML: {}.", shown(&error.info()));
                let diagnostic = Diagnostic::new(code::YAML_SYNTAX, span, detail);
                match kind {
                    ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
                        diagnostic.with_help("Indent with spaces, not with tabs.")
                    }
                    _ => match unspaced_colon(self.text, start) {
                        Some(help) => diagnostic.with_help(help),
                        None => diagnostic,
                    },
                }
            }
        };
        self.diagnostics.push(diagnostic);
    }
}

/// Returns the first line that git has put before a side of a conflict, and where it is.
fn conflict_mark(text: &str) -> Option<(usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').find_map(|line| {
        let begin = at;
        at += line.len();
        line.starts_with("<<<<<<< ").then(|| (begin, line.trim_end()))
    })
}

/// Returns what to do when the line at a place, or the one above it, has a colon without the space behind it that makes
/// a key of what is before it.
fn unspaced_colon(text: &str, at: usize) -> Option<String> {
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    let mut lines = text[..end].lines().rev().filter(|line| !line.trim().is_empty());
    let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    lines.by_ref().take(2).find_map(|line| {
        let (key, value) = line.trim().trim_start_matches("- ").split_once(':')?;
        let is_unspaced = is_key(key) && !value.is_empty() && !value.starts_with([' ', '/', ':']);
        is_unspaced.then(|| format!("Put a space behind the colon: `{}: {}`.", shown(key), shown(value)))
    })
}

fn too_deep() -> String {
    format!("A document is at most {} levels deep.", limits::YAML_DEPTH_MAX)
}

fn shown(text: &str) -> String {
    diag::shown(text)
}

/// Returns the span without the white space that the parser counts to the end of a scalar.
fn trimmed(text: &str, span: Span, style: ScalarStyle) -> Span {
    let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    if is_block {
        return span;
    }
    let length = text[span.start..span.end].trim_end().len();
    Span { end: span.start + length, ..span }
}

fn count_nodes(node: &Node) -> usize {
    match &node.content {
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::String(_) => 1,
        Content::Seq(items) => 1 + items.iter().map(count_nodes).sum::<usize>(),
        Content::Map(entries) => 1 + entries.iter().map(|(_, node)| 1 + count_nodes(node)).sum::<usize>(),
    }
}

fn height(node: &Node) -> usize {
    match &node.content {
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::String(_) => 0,
        Content::Seq(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Content::Map(entries) => 1 + entries.iter().map(|(_, node)| height(node)).max().unwrap_or(0),
    }
}
