//! `modelId` of IoT Hub: the id of the DTDL interface that a device has by its template. A registry knows the names of
//! templates and not their models, so a condition is rewritten to one over `template` before it is looked up.
//!
//! Only true selects a device. A part of a condition that reads `modelId` and is true for a model is therefore the same
//! as "the template is one with this model, and the part is true with the model in its place"; joined by OR over all
//! models, and the devices that have none, for which `modelId` is undefined.

use std::collections::{BTreeMap, BTreeSet};

use super::Query;
use super::ast::{Expr, ExprKind, Function, Literal, Membership, PathRef, Root};
use super::eval::{Answer, evaluate_with};
use super::walk::paths_of;

/// Returns a condition that selects the same devices without `modelId`. `models` has the id of the interface of each
/// declared template, by the template's name.
pub fn with_models(query: &Query, models: &BTreeMap<String, String>) -> Query {
    if !reads_model(&query.condition) {
        return query.clone();
    }
    let mut templates: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (template, model) in models {
        templates.entry(model).or_default().insert(template);
    }
    Query { text: query.text.clone(), condition: expanded(&query.condition, &templates) }
}

/// The names of the templates of each model.
type Templates<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn reads_model(expr: &Expr) -> bool {
    paths_of(expr).iter().any(|path| path.root == Root::Model)
}

fn expanded(expr: &Expr, templates: &Templates<'_>) -> Expr {
    let at = |kind| Expr { kind, start: expr.start, end: expr.end };
    let each = |operands: &[Expr]| operands.iter().map(|operand| expanded(operand, templates)).collect();
    match &expr.kind {
        _ if !reads_model(expr) => expr.clone(),
        ExprKind::And(operands) => at(ExprKind::And(each(operands))),
        ExprKind::Or(operands) => at(ExprKind::Or(each(operands))),
        _ => by_template(expr, templates),
    }
}

/// Returns a part of a condition in which nothing above it is negated, by cases.
fn by_template(expr: &Expr, templates: &Templates<'_>) -> Expr {
    let at = |kind| Expr { kind, start: expr.start, end: expr.end };
    let template = || at(ExprKind::Path(PathRef { root: Root::Template, keys: Vec::new() }));
    let text = |name: &&str| at(ExprKind::Literal(Literal::String((*name).to_string())));
    let among = |membership, names: &BTreeSet<&str>| {
        at(ExprKind::Member(membership, Box::new(template()), names.iter().map(text).collect()))
    };
    // Templates for which the part is true whatever else the device has, and the other cases.
    let (mut always, mut cases) = (BTreeSet::new(), Vec::new());
    for (model, names) in templates {
        let part = replaced(expr, &Literal::String((*model).to_string()));
        match constant(&part) {
            Some(true) => always.extend(names),
            Some(false) => {}
            None => cases.push(at(ExprKind::And(vec![among(Membership::In, names), part]))),
        }
    }
    if !always.is_empty() {
        cases.push(among(Membership::In, &always));
    }
    let without = replaced(expr, &Literal::Undefined);
    let known: BTreeSet<&str> = templates.values().flatten().copied().collect();
    let has_none = || {
        let is_defined = at(ExprKind::Call(Function::IsDefined, vec![template()]));
        let none = at(ExprKind::Not(Box::new(is_defined)));
        if known.is_empty() {
            let any = at(ExprKind::Call(Function::IsDefined, vec![template()]));
            return at(ExprKind::Or(vec![none, any]));
        }
        at(ExprKind::Or(vec![none, among(Membership::NotIn, &known)]))
    };
    match constant(&without) {
        Some(true) => cases.push(has_none()),
        Some(false) => {}
        None => cases.push(at(ExprKind::And(vec![has_none(), without]))),
    }
    match cases.len() {
        0 => at(ExprKind::Literal(Literal::Bool(false))),
        1 => cases.remove(0),
        _ => at(ExprKind::Or(cases)),
    }
}

/// Returns whether an expression is true, when it reads nothing of a device.
fn constant(expr: &Expr) -> Option<bool> {
    paths_of(expr).is_empty().then(|| evaluate_with(expr, &|_| Answer::Undefined) == Answer::Bool(true))
}

/// Returns an expression with a constant in place of `modelId`.
fn replaced(expr: &Expr, model: &Literal) -> Expr {
    let one = |inner: &Expr| Box::new(replaced(inner, model));
    let each = |inner: &[Expr]| inner.iter().map(|inner| replaced(inner, model)).collect();
    let kind = match &expr.kind {
        ExprKind::Path(path) if path.root == Root::Model => ExprKind::Literal(model.clone()),
        ExprKind::All | ExprKind::Literal(_) | ExprKind::Path(_) => expr.kind.clone(),
        ExprKind::Array(elements) => ExprKind::Array(each(elements)),
        ExprKind::And(operands) => ExprKind::And(each(operands)),
        ExprKind::Or(operands) => ExprKind::Or(each(operands)),
        ExprKind::Not(operand) => ExprKind::Not(one(operand)),
        ExprKind::Negate(operand) => ExprKind::Negate(one(operand)),
        ExprKind::Compare(operator, left, right) => ExprKind::Compare(*operator, one(left), one(right)),
        ExprKind::Arithmetic(operator, left, right) => ExprKind::Arithmetic(*operator, one(left), one(right)),
        ExprKind::Member(membership, item, elements) => ExprKind::Member(*membership, one(item), each(elements)),
        ExprKind::Call(function, arguments) => ExprKind::Call(*function, each(arguments)),
    };
    Expr { kind, ..*expr }
}

#[cfg(test)]
mod tests {
    use super::super::{eval::evaluate, parse};
    use super::*;

    #[test]
    fn a_condition_over_models_selects_the_same_devices_as_one_over_templates() {
        let models: BTreeMap<String, String> = [
            ("lamp", "dtmi:acme:lamp;1"),
            ("lamp-2", "dtmi:acme:lamp;2"),
            ("gate", "dtmi:acme:gate;1"),
            ("gate-b", "dtmi:acme:gate;1"),
        ]
        .iter()
        .map(|(name, model)| (name.to_string(), model.to_string()))
        .collect();
        for text in [
            "modelId = 'dtmi:acme:gate;1'",
            "NOT modelId = 'dtmi:acme:gate;1'",
            "modelId != 'dtmi:acme:gate;1' AND tags.line = '3'",
            "startswith(modelId, 'dtmi:acme:lamp')",
            "is_defined(modelId)",
            "NOT is_defined(modelId)",
            "modelId IN ['dtmi:acme:lamp;2', 'x'] OR tags.line = '4'",
            "modelId = tags.model",
            "NOT (modelId = tags.model OR tags.line = '3')",
            "modelId NIN ['dtmi:acme:lamp;1']",
            "is_null(modelId)",
            "length(modelId) > 16",
            "modelId = 'nobody'",
        ] {
            let query = parse(text).unwrap();
            let rewritten = with_models(&query, &models);
            assert!(!reads_model(rewritten.condition()), "{text}");
            let none = with_models(&query, &BTreeMap::new());
            for template in [None, Some("lamp"), Some("lamp-2"), Some("gate"), Some("gate-b"), Some("undeclared")] {
                for tags in [r#"{}"#, r#"{"line": "3"}"#, r#"{"line": "4", "model": "dtmi:acme:lamp;1"}"#] {
                    let mut device = super::super::tests::device();
                    device.template = template.map(str::to_string);
                    device.tags = serde_json::from_str(tags).unwrap();
                    let lookup = |models: &BTreeMap<String, String>, path: &PathRef| match path.root {
                        Root::Model => match template.and_then(|name| models.get(name)) {
                            Some(model) => Answer::String(model.clone().into()),
                            None => Answer::Undefined,
                        },
                        _ => super::super::eval::device_value(path, &device),
                    };
                    let selects = |query: &Query| evaluate(query.condition(), &device) == Answer::Bool(true);
                    let wanted = evaluate_with(query.condition(), &|path| lookup(&models, path)) == Answer::Bool(true);
                    assert_eq!(selects(&rewritten), wanted, "{text}: {template:?} {tags}");
                    let wanted = evaluate_with(query.condition(), &|_| Answer::Undefined);
                    let known = evaluate_with(query.condition(), &|path| lookup(&BTreeMap::new(), path));
                    assert_eq!(selects(&none), known == Answer::Bool(true), "{text}: {template:?} {tags} {wanted:?}");
                }
            }
        }
    }

    #[test]
    fn the_usual_condition_becomes_a_plain_one() {
        let models = BTreeMap::from([("lamp".to_string(), "dtmi:a;1".to_string()), ("b".to_string(), "x".to_string())]);
        let rewritten = with_models(&parse("modelId = 'dtmi:a;1' AND tags.line = '3'").unwrap(), &models);
        let plain = parse("template IN ['lamp'] AND tags.line = '3'").unwrap();
        for template in ["lamp", "b"] {
            let mut device = super::super::tests::device();
            device.template = Some(template.to_string());
            device.tags = serde_json::json!({"line": "3"});
            assert_eq!(evaluate(rewritten.condition(), &device), evaluate(plain.condition(), &device));
        }
        let ExprKind::And(operands) = &rewritten.condition().kind else { panic!("{rewritten:?}") };
        assert!(matches!(operands[0].kind, ExprKind::Member(Membership::In, ..)), "{rewritten:?}");
    }
}
