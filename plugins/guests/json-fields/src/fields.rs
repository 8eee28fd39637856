//! A JSON value as a multiset of fields: where each value stands, and the value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use graft_plugin::blanks::collapse;
use graft_plugin::json::{Node, Value};

/// A value in a form in which equal ones compare equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plain {
    /// A text.
    Text(String),
    /// A number, by its bits.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
}

/// How values are made alike before they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Not at all: type and value must be the same.
    Exact,
    /// Upper and lower case and runs of blanks do not count, and a number is the same written as a
    /// text, with or without commas between its thousands.
    Normalised,
}

/// How often each value stands at each path.
pub type Fields = BTreeMap<String, BTreeMap<Plain, u64>>;

/// Most bytes of all different paths of a value: long names above many members would fill the memory.
const PATH_BYTES: usize = 16 << 20;

/// The fields of a value by their paths: JSON pointers with `*` for the elements of an array. Null
/// and empty arrays and objects are no fields; of members with the same name the last counts.
/// None if the paths take more than 16 MiB.
pub fn fields(node: &Node<'_>, how: Match) -> Option<Fields> {
    let mut gathering = Gathering {
        how,
        path: String::new(),
        room: PATH_BYTES,
        found: Fields::new(),
    };
    gathering.gather(node)?;
    Some(gathering.found)
}

struct Gathering {
    how: Match,
    /// Where the walk is.
    path: String,
    /// Bytes that further paths may take.
    room: usize,
    found: Fields,
}

impl Gathering {
    fn gather(&mut self, node: &Node<'_>) -> Option<()> {
        let end = self.path.len();
        match &node.value {
            Value::Null => {}
            Value::Array(items) => {
                self.path.push_str("/*");
                items.iter().try_for_each(|item| self.gather(item))?;
            }
            Value::Object(members) => {
                let last: BTreeMap<&str, &Node<'_>> = members
                    .iter()
                    .map(|(name, value)| (&**name, value))
                    .collect();
                for (name, value) in last {
                    self.path.push('/');
                    self.path.push_str(&escaped(name));
                    self.gather(value)?;
                    self.path.truncate(end);
                }
            }
            Value::Bool(flag) => self.take(match self.how {
                Match::Exact => Plain::Flag(*flag),
                Match::Normalised => Plain::Text(flag.to_string()),
            })?,
            Value::Number(digits) => self.take(number(digits))?,
            Value::Text(text) => self.take(match self.how {
                Match::Exact => Plain::Text(text.clone().into_owned()),
                Match::Normalised => normalised(text),
            })?,
        }
        self.path.truncate(end);
        Some(())
    }

    fn take(&mut self, value: Plain) -> Option<()> {
        let values = match self.found.get_mut(&self.path) {
            Some(values) => values,
            None => {
                self.room = self.room.checked_sub(self.path.len())?;
                self.found.entry(self.path.clone()).or_default()
            }
        };
        *values.entry(value).or_default() += 1;
        Some(())
    }
}

/// A member's name in a JSON pointer.
fn escaped(name: &str) -> Cow<'_, str> {
    match name.contains(['~', '/']) {
        true => name.replace('~', "~0").replace('/', "~1").into(),
        false => name.into(),
    }
}

fn number(digits: &str) -> Plain {
    let value: f64 = digits.parse().unwrap_or(f64::NAN);
    // Minus zero is zero.
    Plain::Number((value + 0.0).to_bits())
}

fn normalised(text: &str) -> Plain {
    let text = collapse(&text.to_lowercase());
    match without_thousands(&text) {
        Some(digits) => number(&digits),
        None => Plain::Text(text),
    }
}

/// The digits of a decimal number, if that is what `text` is; commas between groups of three are
/// taken out.
fn without_thousands(text: &str) -> Option<Cow<'_, str>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(fraction) {
        return None;
    }
    if is_digits(whole) {
        return Some(text.into());
    }
    let mut groups = whole.split(',');
    let first = groups
        .next()
        .filter(|first| is_digits(first) && first.len() <= 3);
    let rest = groups.all(|group| is_digits(group) && group.len() == 3);
    (first.is_some() && rest).then(|| text.replace(',', "").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::json::{Dialect, parse};

    fn paths(text: &str, how: Match) -> Vec<(String, u64)> {
        let found = fields(&parse(text, Dialect::Json).unwrap(), how).unwrap();
        let count = |(path, values): (String, BTreeMap<_, u64>)| (path, values.values().sum());
        found.into_iter().map(count).collect()
    }

    #[test]
    fn a_value_is_found_under_its_path() {
        let text = r#"{"a": {"b/c": 1, "~": null}, "items": [{"x": 1, "y": "2"}, {"x": 1}, [3]],
            "none": [], "a2": 1, "a2": {"z": true}}"#;
        let hoped = [
            ("/a/b~1c", 1),
            ("/a2/z", 1),
            ("/items/*/*", 1),
            ("/items/*/x", 2),
            ("/items/*/y", 1),
        ];
        let hoped: Vec<_> = hoped.iter().map(|(p, n)| ((*p).to_owned(), *n)).collect();
        assert_eq!(paths(text, Match::Exact), hoped);
        assert_eq!(paths("3", Match::Exact), [(String::new(), 1)]);
        assert!(paths("{}", Match::Exact).is_empty());
        let members: Vec<_> = (0..100).map(|i| format!("\"{i}\": 1")).collect();
        let long = format!("{{\"{}\": {{{}}}}}", "x".repeat(1 << 20), members.join(","));
        assert_eq!(
            fields(&parse(&long, Dialect::Json).unwrap(), Match::Exact),
            None
        );
    }

    #[test]
    fn values_are_made_alike_if_asked() {
        let same = |a: &str, b: &str, how| {
            let read = |text| fields(&parse(text, Dialect::Json).unwrap(), how);
            read(a) == read(b)
        };
        for (a, b) in [
            (r#""Main  Street ""#, r#""main street""#),
            (r#""1,234.50""#, "1234.5"),
            (r#""+7""#, "7"),
            (r#""007""#, "7"),
            ("true", r#""TRUE""#),
        ] {
            assert!(
                same(a, b, Match::Normalised) && !same(a, b, Match::Exact),
                "{a} {b}"
            );
        }
        for (a, b) in [
            (r#""1,23""#, "123"),
            (r#""1.""#, "1"),
            (r#""$5""#, "5"),
            (r#"",123""#, "123"),
            (r#""1e3""#, "1000"),
        ] {
            assert!(!same(a, b, Match::Normalised), "{a} {b}");
        }
        assert!(same("1.0", "1", Match::Exact) && same("-0", "0.0", Match::Exact));
    }
}
