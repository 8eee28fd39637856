//! Options: the JSON object a user gives a plugin, read with errors that name the member.

use crate::Error;
use crate::json::{self, Dialect, Node, Tree, Value};

/// A user's options.
pub struct Options<'a>(Tree<'a>);

impl<'a> Options<'a> {
    /// Reads `text`, an object that may have the members `known` and no others.
    pub fn parse(text: &'a str, known: &[&str]) -> Result<Self, Error> {
        let tree = json::parse(text, Dialect::Json).map_err(|fault| {
            Error::InvalidOptions(format!("{} at byte {}", fault.message, fault.at))
        })?;
        let Value::Object(mut members) = tree.root().value() else {
            return Err(Error::InvalidOptions("expected a JSON object".into()));
        };
        if let Some((name, _)) = members.find(|(name, _)| !known.contains(name)) {
            let known = match known {
                [] => "none".to_owned(),
                known => known.join(", "),
            };
            let message = format!("/{name}: there is no such option; there are {known}");
            return Err(Error::InvalidOptions(message));
        }
        Ok(Self(tree))
    }

    /// The text `name`, if given.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        let member = self.member(name, "a text", Node::is_text)?;
        Ok(member.and_then(Node::text))
    }

    /// The flag `name`; `default` if not given. The texts `true` and `false` count as well.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Error> {
        let read = |node| flag(node).is_some();
        let member = self.member(name, "true or false", read)?;
        Ok(member.and_then(flag).unwrap_or(default))
    }

    /// The text `name`, one of `allowed`; the first of them if not given.
    pub fn choice<'c>(&self, name: &str, allowed: &[&'c str]) -> Result<&'c str, Error> {
        let Some(given) = self.text(name)? else {
            return Ok(allowed[0]);
        };
        let found = allowed.iter().find(|&&choice| choice == given);
        found.copied().ok_or_else(|| {
            let allowed = allowed.join(", ");
            Error::InvalidOptions(format!("/{name}: {given:?} is none of {allowed}"))
        })
    }

    /// The texts `name`: one, or several in an array; none if not given.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Error> {
        let texts = |node: Node<'_>| match node.value() {
            Value::Text(text) => Some(vec![text.to_owned()]),
            Value::Array(items) => {
                let texts = items.map(|item| item.text().map(str::to_owned));
                texts.collect()
            }
            _ => None,
        };
        let expected = "a text or an array of texts";
        let member = self.member(name, expected, |node| texts(node).is_some())?;
        Ok(member.and_then(texts).unwrap_or_default())
    }

    /// The object `name`, whose members are texts; empty if not given.
    pub fn map(&self, name: &str) -> Result<Vec<(String, String)>, Error> {
        let map = |node: Node<'_>| match node.value() {
            Value::Object(members) => {
                let pair = |(key, value): (&str, Node<'_>)| {
                    Some((key.to_owned(), value.text()?.to_owned()))
                };
                members.map(pair).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        let expected = "an object of texts";
        let member = self.member(name, expected, |node| map(node).is_some())?;
        Ok(member.and_then(map).unwrap_or_default())
    }

    /// The number `name`, from `least` to `most`; `default` if not given.
    pub fn number(&self, name: &str, default: f64, least: f64, most: f64) -> Result<f64, Error> {
        let read = |node: Node<'_>| node.number().is_some_and(|n| n >= least && n <= most);
        let expected = format!("a number from {least} to {most}");
        let member = self.member(name, &expected, read)?;
        Ok(member.and_then(Node::number).unwrap_or(default))
    }

    fn member<'s>(
        &'s self,
        name: &str,
        expected: &str,
        fits: impl Fn(Node<'s>) -> bool,
    ) -> Result<Option<Node<'s>>, Error> {
        match self.0.root().get_any(&[name]) {
            Some(node) if !fits(node) => {
                let message = format!("/{name}: expected {expected}");
                Err(Error::InvalidOptions(message))
            }
            member => Ok(member),
        }
    }
}

fn flag(node: Node<'_>) -> Option<bool> {
    match node.value() {
        Value::Bool(flag) => Some(flag),
        Value::Text("true") => Some(true),
        Value::Text("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_and_faults_are_named() {
        let text = r#"{"a": "x", "b": "true", "c": null}"#;
        let options = Options::parse(text, &["a", "b", "c"]).unwrap();
        assert_eq!(options.text("a").unwrap(), Some("x"));
        assert_eq!(options.text("c").unwrap(), None);
        assert!(options.flag("b", false).unwrap());
        assert!(options.flag("c", true).unwrap());
        assert_eq!(options.choice("a", &["y", "x"]).unwrap(), "x");
        assert_eq!(options.choice("c", &["y", "x"]).unwrap(), "y");
        assert!(options.choice("a", &["y"]).is_err());
        assert!(options.flag("a", false).is_err());
        let text = r#"{"a": "x", "b": ["y", "z"], "c": {"k": "v"}, "d": [1]}"#;
        let options = Options::parse(text, &["a", "b", "c", "d"]).unwrap();
        assert_eq!(options.texts("a").unwrap(), ["x"]);
        assert_eq!(options.texts("b").unwrap(), ["y", "z"]);
        assert_eq!(options.map("c").unwrap(), [("k".into(), "v".into())]);
        assert!(options.texts("d").is_err() && options.map("b").is_err());
        assert!(options.texts("c").is_err() && options.map("a").is_err());
        let numbers = Options::parse(r#"{"d": 0.25, "e": 1e999}"#, &["d", "e"]).unwrap();
        assert_eq!(numbers.number("d", 0.5, 0.0, 1.0).unwrap(), 0.25);
        assert_eq!(numbers.number("f", 0.5, 0.0, 1.0).unwrap(), 0.5);
        assert!(numbers.number("d", 0.5, 0.3, 1.0).is_err());
        assert!(numbers.number("e", 0.5, 0.0, 1.0).is_err());
        for bad in ["", "[]", "{", r#"{"z": 1}"#] {
            assert!(Options::parse(bad, &["a"]).is_err(), "{bad}");
        }
    }
}
