//! What a condition means: the reference that every SQL lowering must agree with.
//!
//! Three-valued. A missing property is undefined; an operator or function that cannot take its operands is undefined;
//! AND, OR and NOT follow Kleene; only true selects a device.

use std::borrow::Cow;

use serde_json::Value;

use super::ast::{Arithmetic, Comparison, Expr, ExprKind, Function, Literal, Membership, Number, PathRef, Root};
use crate::model::device::{Device, DeviceState};

/// The value of an expression for one device.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<'a> {
    /// A property that is not there, or an operation without a meaning.
    Undefined,
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    /// Arrays have a length and are otherwise opaque.
    Array {
        length: usize,
    },
    /// Objects are opaque: they are not comparable.
    Object,
}

/// Returns the value of an expression for a device.
pub fn evaluate<'a>(expr: &'a Expr, device: &'a Device) -> Answer<'a> {
    evaluate_with(expr, &|path| device_value(path, device))
}

/// Returns the value of an expression when `lookup` gives the values of its paths.
pub(crate) fn evaluate_with<'a>(expr: &'a Expr, lookup: &dyn Fn(&PathRef) -> Answer<'a>) -> Answer<'a> {
    match &expr.kind {
        ExprKind::All => Answer::Bool(true),
        ExprKind::Literal(literal) => literal_value(literal),
        ExprKind::Path(path) => lookup(path),
        ExprKind::Array(elements) => Answer::Array { length: elements.len() },
        ExprKind::And(operands) => junction(operands, false, lookup),
        ExprKind::Or(operands) => junction(operands, true, lookup),
        ExprKind::Not(operand) => match evaluate_with(operand, lookup) {
            Answer::Bool(value) => Answer::Bool(!value),
            _ => Answer::Undefined,
        },
        ExprKind::Negate(operand) => match evaluate_with(operand, lookup) {
            Answer::Number(number) => arithmetic(Arithmetic::Subtract, Number::Integer(0), number),
            _ => Answer::Undefined,
        },
        ExprKind::Compare(operator, left, right) => {
            truth(compare(*operator, &evaluate_with(left, lookup), &evaluate_with(right, lookup)))
        }
        ExprKind::Arithmetic(operator, left, right) => {
            match (evaluate_with(left, lookup), evaluate_with(right, lookup)) {
                (Answer::Number(left), Answer::Number(right)) => arithmetic(*operator, left, right),
                _ => Answer::Undefined,
            }
        }
        ExprKind::Member(membership, item, elements) => {
            let found = member(&evaluate_with(item, lookup), elements, lookup);
            truth(found.map(|is_in| is_in == (*membership == Membership::In)))
        }
        ExprKind::Call(function, arguments) => call(*function, arguments, lookup),
    }
}

fn truth<'a>(value: Option<bool>) -> Answer<'a> {
    value.map_or(Answer::Undefined, Answer::Bool)
}

fn literal_value(literal: &Literal) -> Answer<'_> {
    match literal {
        Literal::Undefined => Answer::Undefined,
        Literal::Null => Answer::Null,
        Literal::Bool(value) => Answer::Bool(*value),
        Literal::Number(number) => Answer::Number(*number),
        Literal::String(text) => Answer::String(Cow::Borrowed(text)),
    }
}

/// AND and OR: `decisive` (false for AND, true for OR) wins over undefined, undefined over the other value.
fn junction<'a>(operands: &'a [Expr], decisive: bool, lookup: &dyn Fn(&PathRef) -> Answer<'a>) -> Answer<'a> {
    let mut answer = Answer::Bool(!decisive);
    for operand in operands {
        match evaluate_with(operand, lookup) {
            Answer::Bool(value) if value == decisive => return Answer::Bool(decisive),
            Answer::Bool(_) => {}
            _ => answer = Answer::Undefined,
        }
    }
    answer
}

/// Compares two values; `None` is undefined. Strings compare by code point, which is also the order of UTF-8 bytes.
fn compare(operator: Comparison, left: &Answer, right: &Answer) -> Option<bool> {
    let equality_only = matches!(operator, Comparison::Equal | Comparison::NotEqual);
    match (left, right) {
        (Answer::Null, Answer::Null) if equality_only => Some(operator == Comparison::Equal),
        (Answer::Bool(left), Answer::Bool(right)) if equality_only => Some(operator.holds(left.cmp(right))),
        (Answer::Number(left), Answer::Number(right)) => Some(operator.holds(left.compare(*right))),
        (Answer::String(left), Answer::String(right)) => Some(operator.holds(left.as_bytes().cmp(right.as_bytes()))),
        _ => None,
    }
}

/// True when equal to an element, false when comparable with one, else undefined (`None`).
fn member<'a>(item: &Answer, elements: &'a [Expr], lookup: &dyn Fn(&PathRef) -> Answer<'a>) -> Option<bool> {
    let mut answer = None;
    for element in elements {
        match compare(Comparison::Equal, item, &evaluate_with(element, lookup)) {
            Some(true) => return Some(true),
            Some(false) => answer = Some(false),
            None => {}
        }
    }
    answer
}

/// Integers stay integers while they fit; `/` is always real; what is not finite is undefined.
fn arithmetic<'a>(operator: Arithmetic, left: Number, right: Number) -> Answer<'a> {
    if matches!(operator, Arithmetic::Divide | Arithmetic::Remainder) && right.to_f64() == 0.0 {
        return Answer::Undefined;
    }
    if let (Number::Integer(left), Number::Integer(right)) = (left, right) {
        let exact = match operator {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide => None,
            Arithmetic::Remainder => Some(left.wrapping_rem(right)),
        };
        if let Some(exact) = exact {
            return Answer::Number(Number::Integer(exact));
        }
    }
    let (left, right) = (left.to_f64(), right.to_f64());
    let real = match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => left % right,
    };
    if real.is_finite() { Answer::Number(Number::Real(real)) } else { Answer::Undefined }
}

fn call<'a>(function: Function, arguments: &'a [Expr], lookup: &dyn Fn(&PathRef) -> Answer<'a>) -> Answer<'a> {
    let Some(first) = arguments.first().map(|argument| evaluate_with(argument, lookup)) else {
        return Answer::Undefined;
    };
    let second = || arguments.get(1).map_or(Answer::Undefined, |argument| evaluate_with(argument, lookup));
    match function {
        Function::IsDefined => Answer::Bool(first != Answer::Undefined),
        Function::IsNull => Answer::Bool(first == Answer::Null),
        Function::IsString => Answer::Bool(matches!(first, Answer::String(_))),
        Function::IsNumber => Answer::Bool(matches!(first, Answer::Number(_))),
        Function::IsBool => Answer::Bool(matches!(first, Answer::Bool(_))),
        Function::IsObject => Answer::Bool(first == Answer::Object),
        Function::IsArray => Answer::Bool(matches!(first, Answer::Array { .. })),
        Function::IsPrimitive => Answer::Bool(match first {
            Answer::Null | Answer::Bool(_) | Answer::Number(_) | Answer::String(_) => true,
            Answer::Undefined | Answer::Array { .. } | Answer::Object => false,
        }),
        Function::StartsWith => strings(&first, &second(), |text, part| text.starts_with(part)),
        Function::EndsWith => strings(&first, &second(), |text, part| text.ends_with(part)),
        Function::Contains => strings(&first, &second(), |text, part| text.contains(part)),
        Function::Lower => map_string(&first, str::to_lowercase),
        Function::Upper => map_string(&first, str::to_uppercase),
        Function::Length => match first {
            Answer::String(text) => length(text.chars().count()),
            Answer::Array { length: count } => length(count),
            Answer::Undefined | Answer::Null | Answer::Bool(_) | Answer::Number(_) | Answer::Object => {
                Answer::Undefined
            }
        },
    }
}

fn strings<'a>(text: &Answer, part: &Answer, test: impl Fn(&str, &str) -> bool) -> Answer<'a> {
    match (text, part) {
        (Answer::String(text), Answer::String(part)) => Answer::Bool(test(text, part)),
        _ => Answer::Undefined,
    }
}

fn map_string<'a>(text: &Answer, map: impl Fn(&str) -> String) -> Answer<'a> {
    match text {
        Answer::String(text) => Answer::String(Cow::Owned(map(text))),
        _ => Answer::Undefined,
    }
}

fn length<'a>(count: usize) -> Answer<'a> {
    Answer::Number(Number::Integer(i64::try_from(count).expect("a value in memory has less than 2^63 parts")))
}

pub(super) fn device_value<'a>(path: &PathRef, device: &'a Device) -> Answer<'a> {
    let text = |text: &'a str| Answer::String(Cow::Borrowed(text));
    let optional = |value: &'a Option<String>| value.as_deref().map_or(Answer::Undefined, text);
    let version = |version: u64| json_number(&version.into());
    match path.root {
        Root::DeviceId => text(&device.device_id),
        Root::DeviceName => text(&device.device_name),
        Root::Template => optional(&device.template),
        Root::Organization => optional(&device.organization),
        Root::Status => text(status(device.blocked)),
        Root::ConnectionState => text(device.connection_state.as_str()),
        Root::LastActivityTime => {
            device.last_activity.map_or(Answer::Undefined, |at| Answer::String(Cow::Owned(at.to_string())))
        }
        Root::Simulated => Answer::Bool(device.simulated),
        Root::Blocked => Answer::Bool(device.blocked),
        Root::IotEdge => Answer::Bool(device.iot_edge),
        Root::Provisioned => Answer::Bool(device.state == DeviceState::Provisioned),
        Root::Tags => json_value(&device.tags, &path.keys),
        Root::Cloud => json_value(&device.cloud, &path.keys),
        Root::Desired => json_value(&device.desired, &path.keys),
        Root::Reported => json_value(&device.reported, &path.keys),
        Root::DesiredVersion => version(device.desired_version),
        Root::ReportedVersion => version(device.reported_version),
        Root::Model | Root::ModuleId | Root::Configurations => Answer::Undefined,
    }
}

/// Returns the value of `status`: IoT Hub's word for whether a device may connect.
pub(crate) fn status(blocked: bool) -> &'static str {
    if blocked { "disabled" } else { "enabled" }
}

/// Returns the value below `keys`; undefined when a key is missing or leads into something that is no object.
pub(crate) fn json_value<'a>(section: &'a Value, keys: &[String]) -> Answer<'a> {
    let mut value = section;
    for key in keys {
        match value.as_object().and_then(|members| members.get(key)) {
            Some(inner) => value = inner,
            None => return Answer::Undefined,
        }
    }
    match value {
        Value::Null => Answer::Null,
        Value::Bool(value) => Answer::Bool(*value),
        Value::Number(number) => json_number(number),
        Value::String(text) => Answer::String(Cow::Borrowed(text)),
        Value::Array(items) => Answer::Array { length: items.len() },
        Value::Object(_) => Answer::Object,
    }
}

/// Integers beyond 64 bits with sign are read as floats, as SQLite does.
fn json_number<'a>(number: &serde_json::Number) -> Answer<'a> {
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => Answer::Number(Number::Integer(integer)),
        (None, Some(real)) => Answer::Number(Number::Real(real)),
        (None, None) => Answer::Undefined,
    }
}
