//! A JSON value as a multiset of fields: where each value stands, and the value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use graft_plugin::blanks::collapse;
use graft_plugin::json::{Members, Node, Value};

/// A value in a form in which equal ones compare equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plain<'v> {
    /// A text.
    Text(Cow<'v, str>),
    /// A number, by its bits.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Leaf<'v> {
    /// Its path, in [`Fields::paths`].
    path: Range<usize>,
    /// As it is: type and value must be the same.
    pub exact: Plain<'v>,
    /// Made alike: upper and lower case and runs of blanks do not count, and a number is the same
    /// written as a text, with or without commas between its thousands.
    pub normalised: Plain<'v>,
}

/// The fields of a value, those with the same path beside each other.
#[derive(Clone, Debug, Default)]
pub struct Fields<'v> {
    paths: String,
    leaves: Vec<Leaf<'v>>,
}

/// Most bytes of all paths of a value: long names above many members would fill the memory.
const PATH_BYTES: usize = 16 << 20;

/// Members of an object up to which names are compared one by one.
const FEW: usize = 16;

impl<'v> Fields<'v> {
    /// The fields of a value by their paths: JSON pointers with `*` for the elements of an array.
    /// Null and empty arrays and objects are no fields; of members with the same name the last
    /// counts. None if the paths take more than 16 MiB.
    pub fn of(node: Node<'v>) -> Option<Self> {
        let mut fields = Self::default();
        fields.gather(node, &mut String::new())?;
        let paths = fields.paths.as_str();
        let leaves = &mut fields.leaves;
        leaves.sort_by(|one, other| paths[one.path.clone()].cmp(&paths[other.path.clone()]));
        Some(fields)
    }

    /// The values of each path, in the order of the paths.
    pub fn groups(&mut self) -> impl Iterator<Item = (&str, &mut [Leaf<'v>])> {
        let paths = self.paths.as_str();
        let path = move |leaf: &Leaf<'v>| &paths[leaf.path.clone()];
        let groups = self
            .leaves
            .chunk_by_mut(move |one, other| path(one) == path(other));
        groups.map(move |group| (path(&group[0]), group))
    }

    fn gather(&mut self, node: Node<'v>, path: &mut String) -> Option<()> {
        let end = path.len();
        match node.value() {
            Value::Null => {}
            Value::Array(mut items) => {
                path.push_str("/*");
                items.try_for_each(|item| self.gather(item, path))?;
            }
            Value::Object(members) => {
                for (name, value) in last_of_each_name(members) {
                    path.push('/');
                    path.push_str(&escaped(name));
                    self.gather(value, path)?;
                    path.truncate(end);
                }
            }
            Value::Bool(flag) => {
                let text = if flag { "true" } else { "false" };
                self.take(path, Plain::Flag(flag), Plain::Text(text.into()))?;
            }
            Value::Number(digits) => self.take(path, number(digits), number(digits))?,
            Value::Text(text) => self.take(path, Plain::Text(text.into()), normalised(text))?,
        }
        path.truncate(end);
        Some(())
    }

    fn take(&mut self, path: &str, exact: Plain<'v>, normalised: Plain<'v>) -> Option<()> {
        let last = self.leaves.last().map(|leaf| leaf.path.clone());
        // The elements of an array share theirs.
        let path = match last.filter(|last| self.paths[last.clone()] == *path) {
            Some(last) => last,
            None => {
                let start = self.paths.len();
                self.paths.push_str(path);
                start..self.paths.len()
            }
        };
        self.leaves.push(Leaf {
            path,
            exact,
            normalised,
        });
        (self.paths.len() <= PATH_BYTES).then_some(())
    }
}

type Member<'v> = (&'v str, Node<'v>);

fn last_of_each_name(members: Members<'_>) -> Vec<Member<'_>> {
    let members: Vec<_> = members.collect();
    if members.len() > FEW {
        let last: BTreeMap<&str, Node<'_>> = members.into_iter().collect();
        return last.into_iter().collect();
    }
    let is_last = |&at: &usize| {
        members[at + 1..]
            .iter()
            .all(|(name, _)| *name != members[at].0)
    };
    let last = (0..members.len()).filter(is_last);
    last.map(|at| members[at]).collect()
}

/// A member's name in a JSON pointer.
fn escaped(name: &str) -> Cow<'_, str> {
    match name.contains(['~', '/']) {
        true => name.replace('~', "~0").replace('/', "~1").into(),
        false => name.into(),
    }
}

fn number(digits: &str) -> Plain<'static> {
    let value: f64 = digits.parse().unwrap_or(f64::NAN);
    // Minus zero is zero.
    Plain::Number((value + 0.0).to_bits())
}

fn normalised(text: &str) -> Plain<'_> {
    let is_plain = |b: u8| matches!(b, b'!'..=b'~') && !b.is_ascii_uppercase();
    let text: Cow<'_, str> = match text.bytes().all(is_plain) {
        true => text.into(),
        false => collapse(&text.to_lowercase()).into(),
    };
    let number = without_thousands(&text).map(|digits| number(&digits));
    number.unwrap_or(Plain::Text(text))
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

    fn paths(text: &str) -> Vec<(String, usize)> {
        let node = parse(text, Dialect::Json).unwrap();
        let mut fields = Fields::of(node.root()).unwrap();
        let groups = fields.groups();
        groups
            .map(|(path, leaves)| (path.to_owned(), leaves.len()))
            .collect()
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
        assert_eq!(paths(text), hoped);
        assert_eq!(paths("3"), [(String::new(), 1)]);
        assert!(paths("{}").is_empty());
        let members: Vec<_> = (0..100).map(|i| format!("\"{i}\": 1")).collect();
        let long = format!("{{\"{}\": {{{}}}}}", "x".repeat(1 << 20), members.join(","));
        assert!(Fields::of(parse(&long, Dialect::Json).unwrap().root()).is_none());
        let many: Vec<_> = (0..40).map(|i| format!("\"{}\": {i}", i % 20)).collect();
        assert_eq!(paths(&format!("{{{}}}", many.join(","))).len(), 20);
    }

    #[test]
    fn values_are_made_alike_if_asked() {
        let same = |a: &str, b: &str, exact: bool| {
            let nodes = [a, b].map(|text| parse(text, Dialect::Json).unwrap());
            let [a, b] = [0, 1].map(|i| Fields::of(nodes[i].root()).unwrap().leaves.remove(0));
            match exact {
                true => a.exact == b.exact,
                false => a.normalised == b.normalised,
            }
        };
        for (a, b) in [
            (r#""Main  Street ""#, r#""main street""#),
            (r#""1,234.50""#, "1234.5"),
            (r#""+7""#, "7"),
            (r#""007""#, "7"),
            ("true", r#""TRUE""#),
        ] {
            assert!(same(a, b, false) && !same(a, b, true), "{a} {b}");
        }
        for (a, b) in [
            (r#""1,23""#, "123"),
            (r#""1.""#, "1"),
            (r#""$5""#, "5"),
            (r#"",123""#, "123"),
            (r#""1e3""#, "1000"),
        ] {
            assert!(!same(a, b, false), "{a} {b}");
        }
        assert!(same("1.0", "1", true) && same("-0", "0.0", true));
    }
}
