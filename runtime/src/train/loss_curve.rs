//! The course of a run as a picture: an SVG file that any browser shows.

use std::fmt::Write;

/// Size of the picture and of its margins.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;
/// More points than this are averaged in groups.
const MOST_POINTS: usize = 600;

/// Loss on the training data and, where it was measured, on the evaluation data, by update.
#[derive(Clone, Debug, Default)]
pub(super) struct LossCurve {
    pub training: Vec<(u64, f64)>,
    pub evaluation: Vec<(u64, f64)>,
}

impl LossCurve {
    /// The picture; `None` where nothing was measured.
    pub fn svg(&self) -> Option<String> {
        let training = thinned(&self.training);
        let all = || training.iter().chain(&self.evaluation);
        let last = all().map(|&(step, _)| step).max()?;
        let highest = all().map(|&(_, loss)| loss).fold(0.0, f64::max);
        let (tick, top) = ticks(highest);
        let x = |step: f64| LEFT + (WIDTH - LEFT - RIGHT) * step / last as f64;
        let y = |loss: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * loss / top;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" \
             fill=\"#444\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
            );
        };
        let lines = (top / tick).round() as usize;
        for i in 0..=lines {
            let loss = tick * i as f64;
            let label = format!("{loss:.3}");
            let label = label.trim_end_matches('0').trim_end_matches('.');
            text(LEFT - 8.0, y(loss) + 4.0, "end", label);
        }
        text(x(0.0), HEIGHT - BOTTOM + 18.0, "middle", "0");
        text(
            x(last as f64),
            HEIGHT - BOTTOM + 18.0,
            "end",
            &last.to_string(),
        );
        text(WIDTH / 2.0, HEIGHT - 10.0, "middle", "updates");
        text(
            WIDTH - RIGHT,
            TOP + 12.0,
            "end",
            "loss on training data (line), smoothed (bold)",
        );
        if !self.evaluation.is_empty() {
            text(
                WIDTH - RIGHT,
                TOP + 28.0,
                "end",
                "on evaluation data (dots)",
            );
        }
        for i in 0..=lines {
            let y = y(tick * i as f64);
            let right = WIDTH - RIGHT;
            let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>");
        }
        let mut line = |points: &[(u64, f64)], stroke: &str| {
            let points: Vec<String> = points
                .iter()
                .map(|&(step, loss)| format!("{:.1},{:.1}", x(step as f64), y(loss)))
                .collect();
            let points = points.join(" ");
            let _ = writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" {stroke}/>"
            );
        };
        line(&training, "stroke=\"#9bbfe0\"");
        line(
            &smoothed(&training),
            "stroke=\"#1f5f99\" stroke-width=\"2\"",
        );
        for &(step, loss) in &self.evaluation {
            let (x, y) = (x(step as f64), y(loss));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#c8562b\"/>"
            );
        }
        svg.push_str("</svg>\n");
        Some(svg)
    }
}

/// The points, or the means of groups of them.
fn thinned(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let group = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(u64, f64)]| {
        let sum: f64 = points.iter().map(|&(_, loss)| loss).sum();
        (points[points.len() - 1].0, sum / points.len() as f64)
    };
    points.chunks(group).map(mean).collect()
}

/// A running mean that forgets over a twentieth of the points.
fn smoothed(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let keep = 1.0 - 1.0 / (points.len() as f64 / 20.0).max(1.0);
    let mut mean = points.first().map_or(0.0, |&(_, loss)| loss);
    let next = |&(step, loss): &(u64, f64)| {
        mean = keep * mean + (1.0 - keep) * loss;
        (step, mean)
    };
    points.iter().map(next).collect()
}

/// A round distance between lines, and the highest of them.
fn ticks(highest: f64) -> (f64, f64) {
    let highest = if highest > 0.0 { highest } else { 1.0 };
    let power = 10f64.powf((highest / 5.0).log10().floor());
    let rounds = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let tick = rounds.into_iter().find(|tick| tick * 5.0 >= highest);
    let tick = tick.unwrap_or(highest);
    (tick, tick * (highest / tick).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_becomes_a_small_picture_inside_its_frame() {
        let curve = LossCurve {
            training: (1..=100_000).map(|i| (i, 4.0 / i as f64)).collect(),
            evaluation: vec![(100_000, 0.5)],
        };
        let svg = curve.svg().unwrap();
        assert!(
            svg.len() < 40_000 && svg.ends_with("</svg>\n"),
            "{}",
            svg.len()
        );
        assert!(svg.contains("100000") && svg.contains("<circle"));
        for point in svg
            .split(&['"', ' '])
            .filter_map(|word| word.split_once(','))
        {
            let (Ok(x), Ok(y)) = (point.0.parse::<f64>(), point.1.parse::<f64>()) else {
                continue;
            };
            assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x}");
            assert!((TOP..=HEIGHT - BOTTOM).contains(&y), "{y}");
        }
        assert!(LossCurve::default().svg().is_none());
        let flat = LossCurve {
            training: vec![(1, 0.0)],
            evaluation: vec![],
        };
        assert!(!flat.svg().unwrap().contains("NaN"));
    }
}
