//! A whole query of IoT Hub: `SELECT … FROM … WHERE … GROUP BY …`. Its condition is a condition as everywhere.

use super::lex::{QueryToken, Symbol, TokenKind, tokens};

/// What a query reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    Devices,
    /// The devices of jobs.
    Jobs,
    Modules,
}

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// At most so many rows.
    pub top: Option<u64>,
    pub columns: Columns,
    pub from: Collection,
    /// What stands after WHERE; `None` for all.
    pub condition: Option<String>,
    /// The paths of GROUP BY, each as its names.
    pub group_by: Vec<Vec<String>>,
}

/// What a query returns of each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Columns {
    All,
    Listed(Vec<Column>),
}

/// One value of a row, and its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub value: ColumnValue,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ColumnValue {
    Path(Vec<String>),
    Count,
    Aggregate(Aggregate, Vec<String>),
}

/// A function over the rows of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Avg,
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(word: &str) -> Option<Aggregate> {
        [("avg", Aggregate::Avg), ("sum", Aggregate::Sum), ("min", Aggregate::Min), ("max", Aggregate::Max)]
            .into_iter()
            .find_map(|(name, function)| name.eq_ignore_ascii_case(word).then_some(function))
    }
}

impl Select {
    /// Returns true when it returns one row a group, or one in all.
    pub fn is_aggregate(&self) -> bool {
        let Columns::Listed(columns) = &self.columns else { return false };
        !self.group_by.is_empty() || columns.iter().any(|column| !matches!(column.value, ColumnValue::Path(_)))
    }
}

/// Parses a query.
///
/// # Errors
/// A phrase with the place of what is wrong. The condition is not looked at.
pub fn parse_select(text: &str) -> Result<Select, String> {
    let mut parser = Parser { text, tokens: tokens(text), at: 0 };
    parser.query()
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<QueryToken>,
    at: usize,
}

impl Parser<'_> {
    fn query(&mut self) -> Result<Select, String> {
        if !self.take_word("select") {
            return self.fail("a query begins with `SELECT`");
        }
        let top = if self.take_word("top") { Some(self.number()?) } else { None };
        let columns = if self.take(Symbol::Star) { Columns::All } else { Columns::Listed(self.columns()?) };
        if !self.take_word("from") {
            return self.fail("`FROM` is expected here");
        }
        let from = self.collection()?;
        let condition = if self.take_word("where") { Some(self.condition()?) } else { None };
        let mut group_by = Vec::new();
        if self.take_word("group") {
            if !self.take_word("by") {
                return self.fail("`BY` is expected here");
            }
            group_by.push(self.path()?);
            while self.take(Symbol::Comma) {
                group_by.push(self.path()?);
            }
        }
        if !matches!(self.peek(), TokenKind::End) {
            return self.fail("the query ends before this: ORDER BY, LIMIT and joins do not exist");
        }
        let select = Select { top, columns, from, condition, group_by };
        match (&select.columns, select.group_by.is_empty()) {
            (Columns::All, false) => Err("`SELECT *` and `GROUP BY` do not go together".to_string()),
            (Columns::Listed(_), _) if from != Collection::Devices => {
                Err("only `SELECT *` is possible of `devices.jobs` and `devices.modules`".to_string())
            }
            (Columns::Listed(columns), _) if select.is_aggregate() => {
                let is_grouped = |column: &Column| match &column.value {
                    ColumnValue::Path(path) => select.group_by.iter().any(|group| is_same(group, path)),
                    ColumnValue::Count | ColumnValue::Aggregate(..) => true,
                };
                match columns.iter().find(|column| !is_grouped(column)) {
                    Some(column) => Err(format!("`{}` is neither an aggregate nor in `GROUP BY`", column.name)),
                    None => Ok(select),
                }
            }
            _ => Ok(select),
        }
    }

    fn columns(&mut self) -> Result<Vec<Column>, String> {
        let mut columns = vec![self.column()?];
        while self.take(Symbol::Comma) {
            columns.push(self.column()?);
        }
        Ok(columns)
    }

    fn column(&mut self) -> Result<Column, String> {
        let is_call =
            matches!(self.tokens.get(self.at + 1).map(|token| &token.kind), Some(TokenKind::Symbol(Symbol::ParenOpen)));
        let (value, name) = match self.peek().clone() {
            TokenKind::Word(word) if is_call => {
                self.at += 2;
                let value = if word.eq_ignore_ascii_case("count") {
                    // `COUNT(*)` and `COUNT(1)` are written as well.
                    if !self.take(Symbol::Star) && matches!(self.peek(), TokenKind::Number(_)) {
                        self.at += 1;
                    }
                    ColumnValue::Count
                } else {
                    let Some(function) = Aggregate::parse(&word) else {
                        self.at -= 2;
                        return self.fail("the functions of a query are COUNT, AVG, SUM, MIN and MAX");
                    };
                    ColumnValue::Aggregate(function, self.path()?)
                };
                if !self.take(Symbol::ParenClose) {
                    return self.fail("`)` is expected here");
                }
                (value, "$1".to_string())
            }
            _ => {
                let path = self.path()?;
                let name = path.last().cloned().unwrap_or_default();
                (ColumnValue::Path(path), name)
            }
        };
        let name = if self.take_word("as") { self.name()? } else { name };
        Ok(Column { value, name })
    }

    fn collection(&mut self) -> Result<Collection, String> {
        let path = self.path()?;
        let words: Vec<String> = path.iter().map(|part| part.to_ascii_lowercase()).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["devices"] => Ok(Collection::Devices),
            ["devices", "jobs"] => Ok(Collection::Jobs),
            ["devices", "modules"] => Ok(Collection::Modules),
            _ => {
                self.at -= 1;
                self.fail("a query is of `devices` or `devices.jobs`")
            }
        }
    }

    /// Returns the text up to `GROUP BY` or the end.
    fn condition(&mut self) -> Result<String, String> {
        let start = self.token().start;
        let mut end = start;
        while !matches!(self.peek(), TokenKind::End) {
            let is_group = self.is_word(self.at, "group") && self.is_word(self.at + 1, "by");
            // After a dot it is a name.
            let is_name = self.at > 0 && matches!(self.tokens[self.at - 1].kind, TokenKind::Symbol(Symbol::Dot));
            if is_group && !is_name {
                break;
            }
            end = self.token().end;
            self.at += 1;
        }
        if end == start {
            return self.fail("a condition is expected here");
        }
        Ok(self.text[start..end].to_string())
    }

    fn path(&mut self) -> Result<Vec<String>, String> {
        let mut path = vec![self.name()?];
        while self.take(Symbol::Dot) {
            path.push(self.name()?);
        }
        Ok(path)
    }

    fn name(&mut self) -> Result<String, String> {
        match self.peek().clone() {
            TokenKind::Word(name) | TokenKind::Escaped(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.fail("a name is expected here"),
        }
    }

    fn number(&mut self) -> Result<u64, String> {
        let found = match self.peek() {
            TokenKind::Number(number) => Some(number.to_f64()).filter(|real| *real >= 1.0 && real.fract() == 0.0),
            _ => None,
        };
        let Some(number) = found else { return self.fail("a number of rows is expected here") };
        self.at += 1;
        Ok(number as u64)
    }

    fn token(&self) -> &QueryToken {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at).map(|token| &token.kind), Some(TokenKind::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_it = self.is_word(self.at, word);
        self.at += usize::from(is_it);
        is_it
    }

    fn take(&mut self, symbol: Symbol) -> bool {
        let is_it = *self.peek() == TokenKind::Symbol(symbol);
        self.at += usize::from(is_it);
        is_it
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        let before = self.text.get(..self.token().start).unwrap_or(self.text);
        Err(format!("at character {}: {what}", before.chars().count() + 1))
    }
}

/// Returns true when two paths are one: the first name in any case, the others as they are.
pub fn is_same(one: &[String], two: &[String]) -> bool {
    one.len() == two.len()
        && one
            .iter()
            .zip(two)
            .enumerate()
            .all(|(at, (one, two))| one == two || at == 0 && one.eq_ignore_ascii_case(two))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_the_documentation_are_read() {
        let select = |text: &str| parse_select(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let all = select("SELECT * FROM devices WHERE tags.location.region = 'US' AND tags.group = 1");
        assert_eq!((all.columns, all.from), (Columns::All, Collection::Devices));
        assert_eq!(all.condition.as_deref(), Some("tags.location.region = 'US' AND tags.group = 1"));
        assert_eq!(select("select * from devices.jobs").from, Collection::Jobs);
        let counted = select("SELECT COUNT() as totalNumberOfDevices FROM devices");
        assert!(counted.is_aggregate());
        let grouped = select(
            "SELECT properties.reported.telemetryConfig.status AS status, COUNT() AS numberOfDevices FROM devices \
             WHERE tags.a = ' group by ' GROUP BY properties.reported.telemetryConfig.status",
        );
        assert_eq!(grouped.group_by.len(), 1);
        assert_eq!(grouped.condition.as_deref(), Some("tags.a = ' group by '"));
        let listed = select("SELECT TOP 5 DeviceId, LastActivityTime FROM devices");
        assert_eq!(listed.top, Some(5));
        assert!(!listed.is_aggregate());
        assert_eq!(
            select("SELECT tags.[[my-tag]].x AS y FROM devices").columns,
            Columns::Listed(vec![Column {
                value: ColumnValue::Path(vec!["tags".into(), "my-tag".into(), "x".into()]),
                name: "y".into(),
            }])
        );
    }

    #[test]
    fn what_is_no_query_is_said_with_its_place() {
        for (text, expect) in [
            ("", "at character 1"),
            ("SELECT", "at character 7"),
            ("SELECT * FROM nowhere", "a query is of"),
            ("SELECT * FROM devices ORDER BY x", "ORDER BY"),
            ("SELECT * FROM devices WHERE", "a condition is expected"),
            ("SELECT TOP 0 * FROM devices", "a number of rows"),
            ("SELECT * FROM devices GROUP BY tags.x", "do not go together"),
            ("SELECT tags.x, COUNT() AS n FROM devices", "neither an aggregate"),
            ("SELECT median(tags.x) AS n FROM devices", "the functions of a query"),
            ("SELECT deviceId FROM devices.jobs", "only `SELECT *`"),
        ] {
            let error = parse_select(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        }
    }
}
