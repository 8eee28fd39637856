//! Parts of a data set: the same measure once more for each value of an attribute.
//!
//! A score of a part is called `metric[attribute=value]`, as `accuracy[answer_type=number]`; graft
//! takes it under the metric before the bracket.

use std::collections::BTreeMap;

use crate::{Error, Sample, Score, reference};

/// Most parts that are kept.
const MOST: usize = 1000;
/// Most characters of a value; longer ones are cut.
const LONGEST: usize = 60;

/// The attributes by which a data set falls into parts.
#[derive(Clone, Debug, Default)]
pub struct Breakdown(Vec<String>);

/// Something that is added up over a data set, and over each of its parts.
#[derive(Clone, Debug, Default)]
pub struct Parts<T> {
    whole: T,
    parts: BTreeMap<String, T>,
}

/// A mean while it grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    /// Sum of the values.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
}

impl Breakdown {
    /// By the attributes named in `names`, between commas.
    pub fn by(names: &str) -> Self {
        let names = names.split(',').map(str::trim);
        Self(
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    /// The parts that a sample belongs to: `attribute=value`, one for each value.
    ///
    /// # Errors
    /// If an attribute holds something else than texts, see [`reference::texts`].
    pub fn parts(&self, sample: &Sample) -> Result<Vec<String>, Error> {
        let mut parts = Vec::new();
        for name in &self.0 {
            for value in reference::texts(sample, name)?.unwrap_or_default() {
                let part = part(name, &value);
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        Ok(parts)
    }
}

/// The part of the samples whose attribute `name` is `value`.
pub fn part(name: &str, value: &str) -> String {
    let plain = |c: char| match c {
        '[' => '(',
        ']' => ')',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut characters = value.chars().map(plain);
    let mut value: String = characters.by_ref().take(LONGEST).collect();
    if characters.next().is_some() {
        value.push('…');
    }
    format!("{name}={value}")
}

impl<T: Default> Parts<T> {
    /// Lets `change` work on the whole and on each of `parts`. Parts beyond the first thousand are
    /// not kept.
    pub fn update(&mut self, parts: &[String], mut change: impl FnMut(&mut T)) {
        change(&mut self.whole);
        for part in parts {
            let room = self.parts.len() < MOST;
            match self.parts.get_mut(part) {
                Some(known) => change(known),
                None if room => change(self.parts.entry(part.clone()).or_default()),
                None => {}
            }
        }
    }

    /// The whole, called nothing, and then every part in the order of its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let parts = self.parts.iter().map(|(part, sum)| (part.as_str(), sum));
        std::iter::once(("", &self.whole)).chain(parts)
    }
}

impl Parts<Mean> {
    /// The mean of the whole and of every part as scores of `metric`; none of nothing.
    pub fn scores(&self, metric: &str) -> Vec<Score> {
        let means = self.iter().filter(|(_, mean)| mean.count > 0);
        let score = |(part, mean): (&str, &Mean)| {
            let count = mean.count as f64;
            score_of(metric, part, mean.sum / count, count)
        };
        means.map(score).collect()
    }
}

impl Mean {
    /// Takes a value in.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }
}

/// A score of `metric` for one sample.
pub fn score(metric: &str, value: f64) -> Score {
    score_of(metric, "", value, 1.0)
}

/// A score of `metric` for the part of a data set called `part`, or all of it if that is empty.
pub fn score_of(metric: &str, part: &str, value: f64, weight: f64) -> Score {
    let metric = match part {
        "" => metric.to_owned(),
        part => format!("{metric}[{part}]"),
    };
    Score {
        metric,
        value,
        weight,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    fn sample(kind: &str) -> Sample {
        Sample {
            id: "s".into(),
            images: vec![],
            turns: vec![],
            origin: None,
            extra: vec![("kind".into(), Value::Json(kind.into()))],
        }
    }

    #[test]
    fn every_value_of_an_attribute_is_a_part() {
        let breakdown = Breakdown::by(" kind, ,other");
        let mut means = Parts::<Mean>::default();
        for (kind, value) in [
            (r#"["a", "b", "a"]"#, 1.0),
            (r#"["b"]"#, 0.0),
            ("null", 0.5),
        ] {
            let parts = breakdown.parts(&sample(kind)).unwrap();
            means.update(&parts, |mean| mean.add(value));
        }
        let scores = means.scores("m");
        let told: Vec<_> = scores
            .iter()
            .map(|s| (s.metric.as_str(), s.value, s.weight))
            .collect();
        let hoped = [
            ("m", 0.5, 3.0),
            ("m[kind=a]", 1.0, 1.0),
            ("m[kind=b]", 0.5, 2.0),
        ];
        assert_eq!(told, hoped);
        assert!(breakdown.parts(&sample("[[]]")).is_err());
        assert!(Parts::<Mean>::default().scores("m").is_empty());
    }

    #[test]
    fn names_of_parts_stay_readable_and_few() {
        assert_eq!(part("k", "a[1]\u{7}\n"), "k=a(1)  ");
        assert_eq!(part("k", &"x".repeat(1000)).chars().count(), 63);
        let mut counts = Parts::<u64>::default();
        for value in 0..5000 {
            counts.update(&[part("k", &value.to_string())], |count| *count += 1);
        }
        assert_eq!(counts.iter().next(), Some(("", &5000)));
        assert_eq!(counts.iter().count(), 1 + MOST);
    }
}
