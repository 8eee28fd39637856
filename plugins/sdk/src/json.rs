//! JSON whose every value knows where it stood, so that a remark can name line and column.
//!
//! The same parser reads Python literals (single quotes, tuples, `None`), which some exporters
//! print instead of JSON. A [`Tree`] is one list of small entries, whatever the text holds; a [`Node`] points
//! into it, and what a value says is looked up in the text when it is asked for.

use std::borrow::Cow;

use crate::digits::short_number;
use crate::marks::same;
use crate::parser::{self, Entry, Kind, Values};

/// Which notation a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 8259.
    Json,
    /// The literals of Python: JSON's values, and what `repr` makes of lists, tuples, strings.
    Python,
}

/// A text that was read, and its values.
#[derive(Clone, Debug)]
pub struct Tree<'a> {
    text: &'a str,
    values: Cow<'a, Values>,
}

/// A value in a [`Tree`].
#[derive(Clone, Copy, Debug)]
pub struct Node<'t> {
    tree: &'t Tree<'t>,
    /// Its entry, and those of what is in it.
    entries: &'t [Entry],
}

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Value<'t> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number as written.
    Number(&'t str),
    /// A string, unescaped.
    Text(&'t str),
    /// An array, or a Python tuple.
    Array(Items<'t>),
    /// An object.
    Object(Members<'t>),
}

/// The elements of an array.
#[derive(Clone, Debug)]
pub struct Items<'t> {
    tree: &'t Tree<'t>,
    /// The entries of those that are left.
    entries: &'t [Entry],
}

/// The members of an object, name and value, in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Members<'t>(Items<'t>);

/// A text that is not in the [`Dialect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Bytes of the text before the fault.
    pub at: usize,
    /// What was expected.
    pub message: String,
}

/// Reads the one value that `text` consists of.
pub fn parse(text: &str, dialect: Dialect) -> Result<Tree<'_>, SyntaxError> {
    let values = parser::read(
        text.as_bytes(),
        dialect,
        false,
        parser::room_for(text.len()),
    )?;
    let mut rest = text[values.end..].bytes();
    match rest.position(|byte| !parser::is_blank(byte)) {
        None => Ok(Tree::of(text, Cow::Owned(values))),
        Some(blanks) => Err(SyntaxError {
            at: values.end + blanks,
            message: "expected the end of the text".to_owned(),
        }),
    }
}

/// The first value of a file whose first bytes are `head`; where they are cut off, everything that is
/// open ends. This is what a file is recognised by.
pub fn beginning(head: &[u8]) -> Option<Tree<'_>> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(fault) => std::str::from_utf8(&head[..fault.valid_up_to()]).ok()?,
    };
    let values = parser::read(text.as_bytes(), Dialect::Json, true, 0).ok()?;
    Some(Tree::of(text, Cow::Owned(values)))
}

/// The first record of a file whose first bytes are `head`, and whether it is the first of an array.
pub fn first_record(head: &[u8]) -> Option<(Tree<'_>, bool)> {
    let tree = beginning(head)?;
    if !tree.root().is_array() {
        return Some((tree, false));
    }
    let first = Values {
        entries: tree.root().items().next()?.entries.to_vec(),
        ..tree.values.clone().into_owned()
    };
    Some((Tree::of(tree.text, Cow::Owned(first)), true))
}

impl<'a> Tree<'a> {
    /// The values that were read from `text`.
    pub(crate) fn of(text: &'a str, values: Cow<'a, Values>) -> Self {
        Self { text, values }
    }
}

impl Tree<'_> {
    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node {
            tree: self,
            entries: &self.values.entries,
        }
    }

    /// The string of an entry that is one.
    #[inline(always)]
    fn string(&self, entry: Entry) -> &str {
        if entry.kind == Kind::Unescaped {
            return &self.values.unescaped[entry.size as usize];
        }
        let start = entry.at as usize + 1;
        &self.text[start..start + entry.size as usize]
    }

    /// The bytes of a string's entry.
    #[inline(always)]
    fn string_bytes(&self, entry: Entry) -> &[u8] {
        if entry.kind == Kind::Unescaped {
            return self.values.unescaped[entry.size as usize].as_bytes();
        }
        let start = entry.at as usize + 1;
        &self.text.as_bytes()[start..start + entry.size as usize]
    }

    /// The digits of a number's entry.
    #[inline(always)]
    fn number(&self, entry: Entry) -> &str {
        let start = entry.at as usize;
        &self.text[start..start + entry.size as usize]
    }
}

impl<'t> Node<'t> {
    #[inline(always)]
    fn entry(self) -> Entry {
        // There always is one.
        self.entries.first().copied().unwrap_or(Entry::NOTHING)
    }

    /// Bytes of the parsed text before the value.
    pub fn at(self) -> usize {
        self.entry().at as usize
    }

    /// The value.
    pub fn value(self) -> Value<'t> {
        let entry = self.entry();
        match entry.kind {
            Kind::Null => Value::Null,
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            Kind::Number => Value::Number(self.tree.number(entry)),
            Kind::Text | Kind::Unescaped => Value::Text(self.tree.string(entry)),
            Kind::Array => Value::Array(self.within()),
            Kind::Object => Value::Object(Members(self.within())),
        }
    }

    /// What is in it.
    #[inline(always)]
    fn within(self) -> Items<'t> {
        Items {
            tree: self.tree,
            entries: self.entries.get(1..).unwrap_or_default(),
        }
    }

    /// Whether it is `null`.
    #[inline]
    pub fn is_null(self) -> bool {
        self.entry().kind == Kind::Null
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.entry().kind == Kind::Array
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.entry().kind == Kind::Object
    }

    /// Whether it is a string.
    pub fn is_text(self) -> bool {
        matches!(self.entry().kind, Kind::Text | Kind::Unescaped)
    }

    /// The elements of an array; none for anything else.
    pub fn items(self) -> Items<'t> {
        match self.entry().kind {
            Kind::Array => self.within(),
            _ => Items::default(),
        }
    }

    /// The elements of an array; anything else alone.
    pub fn each(self) -> Items<'t> {
        match self.entry().kind {
            Kind::Array => self.within(),
            _ => Items {
                tree: self.tree,
                entries: self.entries,
            },
        }
    }

    /// The members of an object; none for anything else.
    pub fn members(self) -> Members<'t> {
        match self.entry().kind {
            Kind::Object => Members(self.within()),
            _ => Members::default(),
        }
    }

    /// The same with the bytes of their names, which are compared sooner.
    #[inline]
    pub fn byte_members(self) -> impl Iterator<Item = (&'t [u8], Node<'t>)> {
        let mut members = self.members();
        std::iter::from_fn(move || {
            let (name, node) = members.next_pair()?;
            Some((name.tree.string_bytes(name.entry()), node))
        })
    }

    /// The member called `key`; the last if there are several.
    pub fn get(self, key: &str) -> Option<Node<'t>> {
        let mut found = None;
        for (name, node) in self.byte_members() {
            if same(name, key.as_bytes()) {
                found = Some(node);
            }
        }
        found
    }

    /// The first of `keys` that is there and not null.
    pub fn get_any(self, keys: &[&str]) -> Option<Node<'t>> {
        let mut found = keys.iter().filter_map(|key| self.get(key));
        found.find(|node| !node.is_null())
    }

    /// The text of a string.
    #[inline]
    pub fn text(self) -> Option<&'t str> {
        let entry = self.entry();
        let is_text = matches!(entry.kind, Kind::Text | Kind::Unescaped);
        is_text.then(|| self.tree.string(entry))
    }

    /// A name: a string, or a number as it is written.
    pub fn name(self) -> Option<&'t str> {
        match self.value() {
            Value::Text(text) => Some(text),
            Value::Number(digits) => Some(digits),
            _ => None,
        }
    }

    /// Whether it is an object with all the members `keys`.
    pub fn has(self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.get(key).is_some())
    }

    /// A whole number, also if written as `7.0` or `"7"`.
    #[inline]
    pub fn index(self) -> Option<usize> {
        match self.short_number() {
            Some(number) => Some(number as usize),
            None => self.other_index(),
        }
    }

    #[cold]
    fn other_index(self) -> Option<usize> {
        let digits = self.name()?;
        let digits = if self.is_text() {
            digits.trim()
        } else {
            digits
        };
        let whole = digits.strip_suffix(".0").unwrap_or(digits);
        whole.parse().ok()
    }

    /// A number.
    #[inline]
    pub fn number(self) -> Option<f64> {
        match self.short_number() {
            Some(number) => Some(f64::from(number)),
            None => self.other_number(),
        }
    }

    #[cold]
    fn other_number(self) -> Option<f64> {
        match self.value() {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The number, if it is whole and short, as nearly all are.
    #[inline]
    fn short_number(self) -> Option<u32> {
        let entry = self.entry();
        if entry.kind != Kind::Number || entry.size > 9 {
            return None;
        }
        let start = entry.at as usize;
        let digits = &self.tree.text.as_bytes()[start..start + entry.size as usize];
        short_number(digits)
    }
}

impl Default for Items<'_> {
    fn default() -> Self {
        static NOTHING: Tree<'static> = Tree {
            text: "",
            values: Cow::Owned(Values::NOTHING),
        };
        Self {
            tree: &NOTHING,
            entries: &[],
        }
    }
}

impl Items<'_> {
    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<'t> Iterator for Items<'t> {
    type Item = Node<'t>;

    #[inline(always)]
    fn next(&mut self) -> Option<Node<'t>> {
        let first = self.entries.first()?;
        let (entries, later) = self.entries.split_at_checked(1 + first.within())?;
        self.entries = later;
        let tree = self.tree;
        Some(Node { tree, entries })
    }
}

impl<'t> Members<'t> {
    /// The next name and its value.
    #[inline(always)]
    fn next_pair(&mut self) -> Option<(Node<'t>, Node<'t>)> {
        Some((self.0.next()?, self.0.next()?))
    }
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t str, Node<'t>);

    fn next(&mut self) -> Option<(&'t str, Node<'t>)> {
        let (name, node) = self.next_pair()?;
        Some((name.tree.string(name.entry()), node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_where_it_stood() {
        let text = r#"{"a": [1, "x\u00e9\ud83d\ude00\n"], "b": null, "c": true, "d": -2.5e3}"#;
        let tree = parse(text, Dialect::Json).unwrap();
        let node = tree.root();
        let items: Vec<_> = node.get("a").unwrap().items().collect();
        assert_eq!(items[0].index(), Some(1));
        assert_eq!(items[1].text(), Some("xé😀\n"));
        assert_eq!(&text[items[1].at()..items[1].at() + 2], "\"x");
        assert!(node.get("b").unwrap().is_null());
        let flag = node.get("c").unwrap().value();
        assert!(matches!(flag, Value::Bool(true)));
        assert_eq!(node.get("d").unwrap().number(), Some(-2500.0));
        assert_eq!(node.get_any(&["b", "a"]).unwrap().items().count(), 2);
        let python = parse("[NaN, Infinity, -Infinity]", Dialect::Json).unwrap();
        assert_eq!(python.root().items().count(), 3);
        assert!(python.root().items().all(Node::is_null));
        assert!(node.get("e").is_none());
    }

    #[test]
    fn python_literals_are_read_as_values_never_as_code() {
        let text = r#"[('it\'s', {"entities": [(0, 4, 'LABEL'),]}), None, True, "d\x41"]"#;
        let tree = parse(text, Dialect::Python).unwrap();
        let items: Vec<_> = tree.root().items().collect();
        assert_eq!(items[0].items().next().unwrap().text(), Some("it's"));
        assert!(items[1].is_null());
        assert_eq!(items[3].text(), Some("dA"));
        assert_eq!(items.len(), 4);
        assert!(parse("[exit()]", Dialect::Python).is_err());
        assert!(parse(text, Dialect::Json).is_err());
    }

    #[test]
    fn a_beginning_is_read_as_far_as_it_goes() {
        let text = r#"[{"a": [1, "x\u00e9"], "b": {"c": null}, "d": -1.5e3, "e": true}, {"a": 2}]"#;
        let second = text.find("{\"c").unwrap();
        for cut in 8..text.len() {
            let tree = beginning(&text.as_bytes()[..cut]).unwrap();
            let first = tree.root().items().next().unwrap();
            assert!(first.has(&["a"]), "{}", &text[..cut]);
            assert_eq!(first.has(&["a", "b"]), cut > second, "{}", &text[..cut]);
        }
        assert_eq!(
            beginning(b"\xef\xbb\xbf{\"a\": 1} {\"b\": 2}")
                .unwrap()
                .root()
                .get("a")
                .and_then(Node::index),
            Some(1)
        );
        for bad in [&b""[..], b"x", b"[}", &[b'['; 1000], b"\xff"] {
            assert!(beginning(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_fault_is_named_where_it_is() {
        for (text, at) in [
            ("", 0),
            ("[1, 2", 5),
            ("[1 2]", 3),
            ("[1,]", 3),
            (r#"{"a" 1}"#, 5),
            (r#"{a: 1}"#, 1),
            (r#"["abc]"#, 1),
            (r#"["a\q"]"#, 3),
            (r#"["\u12"]"#, 2),
            ("[1] x", 4),
            ("[--1]", 1),
            ("[nul]", 1),
        ] {
            assert_eq!(parse(text, Dialect::Json).unwrap_err().at, at, "{text}");
        }
        let wide = format!("[{}0]", "[],".repeat(parser::MOST_VALUES as usize));
        assert!(parse(&wide, Dialect::Json).is_err());
        let deep = "[".repeat(100_000);
        assert!(parse(&deep, Dialect::Json).is_err());
    }
}
