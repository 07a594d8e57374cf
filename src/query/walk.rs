//! The properties that a query reads, for indexes and for the plan's warning about devices that lack one.

use std::collections::BTreeSet;

use super::Query;
use super::ast::{Comparison, Expr, ExprKind, Function, Literal, Membership, PathRef, Root};

/// Returns every property that the query reads, sorted, without duplicates; system properties included.
pub fn paths(query: &Query) -> Vec<PathRef> {
    paths_of(query.condition())
}

/// Returns every property that an expression reads, sorted, without duplicates.
pub(crate) fn paths_of(expr: &Expr) -> Vec<PathRef> {
    let mut found = BTreeSet::new();
    collect(expr, &mut |path| {
        found.insert(path.clone());
    });
    found.into_iter().collect()
}

/// Returns the properties under `!=`, NOT or NIN, sorted, without duplicates: a device that lacks one is not selected,
/// though the words suggest it.
///
/// A property that is asked about with `is_defined` anywhere in the query is left out, since its author thought of it;
/// so is a property directly inside another `is_…` function, which is never undefined.
pub fn negated_paths(query: &Query) -> Vec<PathRef> {
    let mut found = BTreeSet::new();
    let mut guarded = BTreeSet::new();
    collect_negated(query.condition(), Polarity::Plain, &mut found, &mut guarded);
    found.difference(&guarded).cloned().collect()
}

/// Returns the keyed properties by which a search for the devices can begin, sorted, without duplicates: those that are
/// compared with constant numbers or strings (`=`, `<`, `>`, `IN`, `startswith` …), at the top or under nothing but
/// AND, so that no device is selected without it.
pub fn searched_paths(query: &Query) -> Vec<PathRef> {
    let mut found = BTreeSet::new();
    collect_searched(query.condition(), &mut found);
    found.into_iter().collect()
}

fn collect_searched(expr: &Expr, found: &mut BTreeSet<PathRef>) {
    let searched = match &expr.kind {
        ExprKind::And(operands) => {
            operands.iter().for_each(|operand| collect_searched(operand, found));
            None
        }
        ExprKind::Compare(operator, left, right) if *operator != Comparison::NotEqual => match (left, right) {
            (path, constant) | (constant, path) if is_searchable(constant) => keyed_path(path),
            _ => None,
        },
        ExprKind::Member(Membership::In, item, elements) if elements.iter().all(is_searchable) => keyed_path(item),
        ExprKind::Call(Function::StartsWith, arguments) => match arguments.as_slice() {
            [path, Expr { kind: ExprKind::Literal(Literal::String(prefix)), .. }] if !prefix.is_empty() => {
                keyed_path(path)
            }
            _ => None,
        },
        ExprKind::All
        | ExprKind::Literal(_)
        | ExprKind::Path(_)
        | ExprKind::Array(_)
        | ExprKind::Or(_)
        | ExprKind::Not(_)
        | ExprKind::Negate(_)
        | ExprKind::Compare(_, _, _)
        | ExprKind::Arithmetic(_, _, _)
        | ExprKind::Member(_, _, _)
        | ExprKind::Call(_, _) => None,
    };
    found.extend(searched.cloned());
}

fn is_searchable(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Literal(Literal::Number(_) | Literal::String(_)))
}

fn keyed_path(expr: &Expr) -> Option<&PathRef> {
    match &expr.kind {
        ExprKind::Path(path) if path.root.section().is_some() && !path.keys.is_empty() => Some(path),
        _ => None,
    }
}

/// Returns the texts that a system property is compared with by `=` and IN, but not under NOT, sorted, without
/// duplicates.
pub fn compared_texts(query: &Query, root: Root) -> Vec<String> {
    let mut found = BTreeSet::new();
    collect_compared(query.condition(), root, &mut found);
    found.into_iter().collect()
}

fn collect_compared(expr: &Expr, root: Root, found: &mut BTreeSet<String>) {
    let is_it = |expr: &Expr| matches!(&expr.kind, ExprKind::Path(path) if path.root == root && path.keys.is_empty());
    let mut add = |expr: &Expr| {
        if let ExprKind::Literal(Literal::String(text)) = &expr.kind {
            found.insert(text.clone());
        }
    };
    if let ExprKind::Compare(Comparison::Equal, left, right) = &expr.kind
        && (is_it(left) || is_it(right))
    {
        [left, right].into_iter().for_each(|side| add(side));
    } else if let ExprKind::Member(Membership::In, item, elements) = &expr.kind
        && is_it(item)
    {
        elements.iter().for_each(add);
    } else if !matches!(expr.kind, ExprKind::Not(_)) {
        children(expr).into_iter().for_each(|child| collect_compared(child, root, found));
    }
}

/// A property under `!=`, NOT or NIN, and the devices that lack it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lack {
    pub path: PathRef,
    /// A device that meets all of these lacks the property and meets all demands of the query that do not use the
    /// property.
    pub conditions: Vec<Query>,
}

/// Returns the devices that lack each of the [`negated_paths`] of a query, in their order.
pub fn lacks(query: &Query) -> Vec<Lack> {
    let mut demands = Vec::new();
    collect_demands(query.condition(), &mut demands);
    let lack = |path: PathRef| {
        let others = demands.iter().filter(|demand| !paths_of(demand).contains(&path));
        let texts = others.map(|demand| query.text()[demand.start..demand.end].to_string());
        let conditions = texts.chain([format!("NOT is_defined({path})")]).map(Query::assembled).collect();
        Lack { path, conditions }
    };
    negated_paths(query).into_iter().map(lack).collect()
}

/// Finds the conditions that a device must all meet: the operands of AND at the top.
fn collect_demands<'a>(expr: &'a Expr, found: &mut Vec<&'a Expr>) {
    match &expr.kind {
        ExprKind::And(operands) => operands.iter().for_each(|operand| collect_demands(operand, found)),
        _ => found.push(expr),
    }
}

/// Whether a `!=`, NOT or NIN is above a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polarity {
    Plain,
    Negated,
}

fn collect(expr: &Expr, found: &mut dyn FnMut(&PathRef)) {
    if let ExprKind::Path(path) = &expr.kind {
        found(path);
    }
    for child in children(expr) {
        collect(child, found);
    }
}

fn collect_negated(expr: &Expr, polarity: Polarity, found: &mut BTreeSet<PathRef>, guarded: &mut BTreeSet<PathRef>) {
    let below = match &expr.kind {
        ExprKind::Not(_)
        | ExprKind::Compare(Comparison::NotEqual, _, _)
        | ExprKind::Member(Membership::NotIn, _, _) => Polarity::Negated,
        ExprKind::Path(path) => {
            if polarity == Polarity::Negated {
                found.insert(path.clone());
            }
            polarity
        }
        ExprKind::Call(function, arguments) if function.is_type_test() => {
            if let (Function::IsDefined, [Expr { kind: ExprKind::Path(path), .. }]) = (function, arguments.as_slice()) {
                guarded.insert(path.clone());
            }
            return;
        }
        ExprKind::All
        | ExprKind::Literal(_)
        | ExprKind::Array(_)
        | ExprKind::And(_)
        | ExprKind::Or(_)
        | ExprKind::Negate(_)
        | ExprKind::Compare(_, _, _)
        | ExprKind::Arithmetic(_, _, _)
        | ExprKind::Member(Membership::In, _, _)
        | ExprKind::Call(_, _) => polarity,
    };
    for child in children(expr) {
        collect_negated(child, below, found, guarded);
    }
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::All | ExprKind::Literal(_) | ExprKind::Path(_) => Vec::new(),
        ExprKind::Array(items) | ExprKind::And(items) | ExprKind::Or(items) | ExprKind::Call(_, items) => {
            items.iter().collect()
        }
        ExprKind::Not(operand) | ExprKind::Negate(operand) => vec![operand],
        ExprKind::Compare(_, left, right) | ExprKind::Arithmetic(_, left, right) => vec![left, right],
        ExprKind::Member(_, item, elements) => std::iter::once(item.as_ref()).chain(elements).collect(),
    }
}
