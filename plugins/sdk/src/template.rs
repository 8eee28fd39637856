//! Texts with places to fill in: `What does {field} say?`

use crate::Error;

/// A text with named places; `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(String),
}

impl Template {
    /// Reads the template that the option `option` holds.
    pub fn parse(option: &str, text: &str) -> Result<Self, Error> {
        let fault = |what: &str| Error::InvalidOptions(format!("/{option}: {text:?} {what}"));
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
            } else if brace == "{" {
                let end = rest
                    .find('}')
                    .ok_or_else(|| fault("opens a brace for ever"))?;
                let name = rest[..end].trim();
                if name.is_empty() || name.contains('{') {
                    return Err(fault("has a place without a name"));
                }
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Place(name.to_owned()));
                rest = &rest[end + 1..];
            } else {
                return Err(fault("closes a brace that is not open"));
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// The names of its places.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Place(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The same, if every place is one of `known`.
    pub fn with_places(self, option: &str, known: &[&str]) -> Result<Self, Error> {
        if let Some(name) = self.places().find(|name| !known.contains(name)) {
            let known = known.join("}, {");
            let message = format!("/{option}: there is no {{{name}}}; there is {{{known}}}");
            return Err(Error::InvalidOptions(message));
        }
        Ok(self)
    }

    /// The text with each place replaced by what `value` says of its name.
    pub fn fill<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Place(name) => value(name).unwrap_or_default(),
        });
        pieces.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_faults_are_named() {
        let template = Template::parse("t", "{a} {{x}} {b}{a}!").unwrap();
        assert_eq!(template.places().collect::<Vec<_>>(), ["a", "b", "a"]);
        // What is filled in is not looked at again.
        let filled = template.fill(|name| Some(if name == "a" { "{b}" } else { "é" }));
        assert_eq!(filled, "{b} {x} é{b}!");
        assert!(template.clone().with_places("t", &["a", "b"]).is_ok());
        assert!(template.with_places("t", &["a"]).is_err());
        for bad in ["{", "{}", "}", "a {b", "{a{b}", "{ }"] {
            assert!(Template::parse("t", bad).is_err(), "{bad}");
        }
    }
}
