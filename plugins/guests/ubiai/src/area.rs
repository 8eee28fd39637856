//! Where on a page a span stands.

use graft_plugin::Error;
use graft_plugin::json::{Node, Value};

use crate::Remarks;

/// Names of a corner and its opposite, or of a corner, width and height.
const CORNERS: [[&str; 4]; 3] = [
    ["x0", "y0", "x1", "y1"],
    ["left", "top", "right", "bottom"],
    ["xmin", "ymin", "xmax", "ymax"],
];
const SIZES: [[&str; 4]; 3] = [
    ["x", "y", "width", "height"],
    ["x", "y", "w", "h"],
    ["left", "top", "width", "height"],
];

/// Digits of the largest `u32`.
const MOST_DIGITS: usize = 10;

/// A rectangle in the unit of the export: left, top, right, bottom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area(pub [f64; 4]);

impl Area {
    /// The area that the member `node` of a span says, if there is one; several boxes, one per line, become
    /// the box around them. A box that cannot be read is told and left out; the span stands at `at`.
    pub fn of_span(
        node: Option<Node<'_>>,
        at: usize,
        remarks: &Remarks<'_>,
    ) -> Result<Option<Self>, Error> {
        let area = node.and_then(read);
        if node.is_some() && area.is_none() {
            let message = "its box is not four numbers: left out".to_owned();
            remarks.warn("ubiai-bad-box", message, at, None)?;
        }
        Ok(area)
    }

    /// The area between two opposite corners, if they are numbers. Exporters swap them when a box was
    /// drawn from right to left.
    pub fn between([a, b, c, d]: [f64; 4]) -> Option<Self> {
        let finite = [a, b, c, d].iter().all(|n| n.is_finite());
        finite.then(|| Self([a.min(c), b.min(d), a.max(c), b.max(d)]))
    }

    /// Whether it leaves an image of this size. Boxes may count pixels or thousandths.
    pub fn leaves(&self, width: u32, height: u32) -> bool {
        let [left, top, right, bottom] = self.0;
        let most = |side: u32| f64::from(side.max(1000));
        left < 0.0 || top < 0.0 || right > most(width) || bottom > most(height)
    }

    /// Writes it as JSON.
    pub fn write(&self, out: &mut String) {
        // Pixels are whole numbers, and those are written in a fraction of the time.
        let whole = self.0.map(|side| side as u32);
        let all = whole.iter().zip(self.0);
        if !all
            .clone()
            .all(|(&whole, side)| whole > 0 && f64::from(whole) == side)
        {
            for (opening, side) in ['[', ',', ',', ','].into_iter().zip(self.0) {
                out.push(opening);
                out.push_str(&side.to_string());
            }
            out.push(']');
            return;
        }
        let mut written = [0; 4 * MOST_DIGITS + 5];
        let mut first = written.len() - 1;
        written[first] = b']';
        for mut whole in whole.into_iter().rev() {
            while whole > 0 {
                first -= 1;
                written[first] = b'0' + (whole % 10) as u8;
                whole /= 10;
            }
            first -= 1;
            written[first] = b',';
        }
        written[first] = b'[';
        out.push_str(std::str::from_utf8(&written[first..]).unwrap_or_default());
    }

    /// The smallest area that holds both.
    pub fn around(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a.min(e), b.min(f), c.max(g), d.max(h)])
    }
}

fn read(node: Node<'_>) -> Option<Area> {
    let numbers: [Option<f64>; 4] = match node.value() {
        Value::Array(mut items) => {
            if items.clone().all(|item| item.number().is_none()) {
                let boxes = items.map(read);
                return boxes.reduce(|a, b| Some(a?.around(b?))).flatten();
            }
            let numbers = [(); 4].map(|()| items.next().and_then(Node::number));
            items.is_empty().then_some(numbers)?
        }
        Value::Object(_) => match first_corners(node) {
            whole if whole.iter().all(Option::is_some) => whole,
            _ => by_name(node)?,
        },
        _ => return None,
    };
    let [Some(a), Some(b), Some(c), Some(d)] = numbers else {
        return None;
    };
    Area::between([a, b, c, d])
}

/// The numbers under the first names of [`CORNERS`], those that UBIAI itself writes, found in one pass.
fn first_corners(node: Node<'_>) -> [Option<f64>; 4] {
    let mut corners = [None; 4];
    for (name, node) in node.byte_members() {
        let side = match name {
            b"x0" => 0,
            b"y0" => 1,
            b"x1" => 2,
            b"y1" => 3,
            _ => continue,
        };
        corners[side] = node.number();
    }
    corners
}

/// The corners of `node`, an object, under any of the names.
fn by_name(node: Node<'_>) -> Option<[Option<f64>; 4]> {
    let named = |names: &[&str; 4]| names.map(|name| node.get(name).and_then(Node::number));
    let whole = |numbers: &[Option<f64>; 4]| numbers.iter().all(Option::is_some);
    let corners = CORNERS.iter().map(named).find(whole);
    let sizes = SIZES.iter().map(named).find(whole);
    let sizes = sizes.map(|[x, y, w, h]| {
        let far = |near: Option<f64>, size: Option<f64>| Some(near? + size?);
        [x, y, far(x, w), far(y, h)]
    });
    corners.or(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Fields;
    use graft_plugin::json::{Dialect, parse};

    fn area(json: &str) -> Option<Option<Area>> {
        let span = parse(json, Dialect::Json).unwrap();
        Fields::of(span.root()).area().map(read)
    }

    fn written(area: Area) -> String {
        let mut out = String::new();
        area.write(&mut out);
        out
    }

    #[test]
    fn every_way_to_write_a_box_is_read() {
        for json in [
            r#"{"bbox": [10, 20, 40, 60]}"#,
            r#"{"box": [40, 60, 10, 20]}"#,
            r#"{"boundingBox": {"x": 10, "y": 20, "width": 30, "height": 40}}"#,
            r#"{"bounding_box": {"left": 10, "top": 20, "right": 40, "bottom": 60}}"#,
            r#"{"boxes": [[10, 20, 30, 30], [12, 40, 40, 60]]}"#,
            r#"{"boundingBoxes": [{"xmin": 10, "ymin": 20, "xmax": 40.0, "ymax": 6e1}]}"#,
        ] {
            assert_eq!(
                area(json),
                Some(Some(Area([10.0, 20.0, 40.0, 60.0]))),
                "{json}"
            );
        }
        assert_eq!(area("{}"), None);
        assert_eq!(area(r#"{"box": null}"#), None);
        for json in [
            r#"{"box": [1, 2, 3]}"#,
            r#"{"box": [1, 2, 3, NaN]}"#,
            r#"{"box": [1, 2, 3, 1e999]}"#,
            r#"{"box": "1 2 3 4"}"#,
            r#"{"box": []}"#,
            r#"{"box": [[1, 2], [3, 4]]}"#,
            r#"{"box": {"x": 1, "y": 2}}"#,
        ] {
            assert!(area(json).unwrap().is_none(), "{json}");
        }
    }

    #[test]
    fn pixels_and_thousandths_are_both_inside() {
        let wide = Area([0.0, 0.0, 1600.0, 10.0]);
        assert!(!wide.leaves(1700, 20) && wide.leaves(800, 20));
        assert!(!Area([0.0, 0.0, 1000.0, 1000.0]).leaves(8, 8));
        assert!(Area([-1.0, 0.0, 1.0, 1.0]).leaves(8, 8));
        assert_eq!(written(wide), "[0,0,1600,10]");
        let rest = Area([-0.0, -7.0, 1.5, 4294967296.0]);
        assert_eq!(written(rest), "[-0,-7,1.5,4294967296]");
        assert_eq!(
            written(Area([1.0, 90.0, 4294967295.0, 1e21])),
            "[1,90,4294967295,1000000000000000000000]"
        );
    }
}
