//! Losses over steps, as a drawing.

use std::collections::BTreeMap;

use bitnet_inference::drawing::{Align, BLACK, COLORS, Chart, Color, GREY, LETTER, PALE};

use super::record::Metrics;
use super::smoothed::smoothed;

const WIDTH: i32 = 860;
const HEIGHT: i32 = 480;
/// Of the plot inside.
const LEFT: i32 = 76;
const RIGHT: i32 = WIDTH - 24;
const TOP: i32 = 84;
const BOTTOM: i32 = HEIGHT - 40;

/// Half-lives of the average in the length of a run.
const HALF_LIVES: usize = 50;

/// Losses of a run, or of several to be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What is written above.
    pub title: String,
    /// The losses; later ones lie above earlier ones.
    pub series: Vec<Series>,
}

/// Losses under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// Step and loss, by their steps. What is no finite number is left out.
    pub points: Vec<(u64, f64)>,
    /// Whether it is the background of others: thin and pale.
    pub is_faint: bool,
}

impl Curve {
    /// The curve of a run: the loss of every step, the same smoothed, and that of evaluation where there is one.
    pub fn of_run(title: impl Into<String>, metrics: &[Metrics]) -> Self {
        let series = |name: &str, points, is_faint| Series { name: name.to_owned(), points, is_faint };
        let half_life = metrics.len().div_ceil(HALF_LIVES).max(1) as f64;
        let average = smoothed(metrics.iter().map(|of| of.loss), half_life);
        let steps = metrics.iter().map(|of| of.step);
        let eval: Vec<_> = metrics.iter().filter_map(|of| Some((of.step, of.eval_loss?))).collect();
        let mut all = vec![
            series("loss", metrics.iter().map(|of| (of.step, of.loss)).collect(), true),
            series("smoothed", steps.zip(average).collect(), false),
        ];
        if !eval.is_empty() {
            all.push(series("evaluation", eval, false));
        }
        Self { title: title.into(), series: all }
    }

    /// The drawing, for [`bitnet_inference::drawing::svg`] and [`bitnet_inference::drawing::png`].
    pub fn chart(&self) -> Chart {
        let points =
            || self.series.iter().flat_map(|series| &series.points).filter(|(_, loss)| loss.is_finite());
        let steps = Scale::new(points().map(|(step, _)| *step as f64), (LEFT, RIGHT));
        let losses = Scale::new(points().map(|(_, loss)| *loss), (BOTTOM, TOP));
        let mut chart = Chart::new(WIDTH, HEIGHT);
        chart.text((16, 26), Align::Left, BLACK, self.title.as_str());
        axes(&mut chart, &steps, &losses);
        let mut colors = COLORS.into_iter().cycle();
        let mut x = 16;
        for series in &self.series {
            let (color, width) =
                if series.is_faint { (PALE, 1) } else { (colors.next().unwrap_or(BLACK), 2) };
            chart.rect((x, 44), (12, 12), color);
            chart.text((x + 18, 55), Align::Left, BLACK, series.name.as_str());
            x += 18 + LETTER * (series.name.chars().count() as i32 + 2);
            draw(&mut chart, &series.points, (&steps, &losses), width, color);
        }
        chart
    }
}

/// A grid with its figures, and what they are.
fn axes(chart: &mut Chart, steps: &Scale, losses: &Scale) {
    for (tick, text) in losses.ticks(6) {
        let y = losses.at(tick);
        chart.rect((LEFT, y), (RIGHT - LEFT, 1), PALE);
        chart.text((LEFT - 8, y + 5), Align::Right, GREY, text);
    }
    for (tick, text) in steps.ticks(8) {
        let x = steps.at(tick);
        chart.rect((x, BOTTOM), (1, 5), GREY);
        chart.text((x, BOTTOM + 20), Align::Middle, GREY, text);
    }
    chart.rect((LEFT, BOTTOM), (RIGHT - LEFT, 1), GREY);
    chart.text((LEFT, TOP - 12), Align::Left, GREY, "nats per token, by step");
}

/// A line of at most two points in each column of pixels: the least and the largest loss.
fn draw(
    chart: &mut Chart,
    points: &[(u64, f64)],
    (steps, losses): (&Scale, &Scale),
    width: u32,
    color: Color,
) {
    let mut columns: BTreeMap<i32, (i32, i32)> = BTreeMap::new();
    for (step, loss) in points.iter().filter(|(_, loss)| loss.is_finite()) {
        let y = losses.at(*loss);
        let (least, most) = columns.entry(steps.at(*step as f64)).or_insert((y, y));
        (*least, *most) = (y.min(*least), y.max(*most));
    }
    let mut line: Vec<(i32, i32)> = columns.into_iter().flat_map(|(x, (a, b))| [(x, a), (x, b)]).collect();
    line.dedup();
    chart.line(line, width, color);
}

/// From values to pixels.
struct Scale {
    low: f64,
    high: f64,
    /// Where both lie.
    pixels: (i32, i32),
}

impl Scale {
    /// The least value lies at the first of `pixels`, the largest at the second.
    fn new(values: impl Iterator<Item = f64>, pixels: (i32, i32)) -> Self {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        // Of no value, or of one, there is a scale around it.
        let (low, high) = if low < high {
            (low, high)
        } else if low == high {
            (low - 0.5, low + 0.5)
        } else {
            (0.0, 1.0)
        };
        Self { low, high, pixels }
    }

    fn at(&self, value: f64) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        let (start, end) = (f64::from(self.pixels.0), f64::from(self.pixels.1));
        (start + share * (end - start)).round() as i32
    }

    /// About `count` round values with their figures.
    fn ticks(&self, count: u32) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / f64::from(count);
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|of| of * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last)
            .map(|tick| tick as f64 * step)
            .map(|tick| (tick, format!("{tick:.decimals$}")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bitnet_inference::drawing::{Shape, png, svg};

    use super::*;
    use crate::metrics::LossParts;

    fn metrics(step: u64, eval_loss: Option<f64>) -> Metrics {
        let loss = if step == 500 { f64::NAN } else { 2.0 + 4.0 / step as f64 };
        let parts = LossParts::default();
        Metrics { step, loss, lr: 1e-3, grad_norm: 1.0, parts, tokens_per_s: 1.0, eval_loss }
    }

    fn lines(chart: &Chart) -> Vec<&[(i32, i32)]> {
        let lines = chart.shapes.iter().filter_map(|shape| match shape {
            Shape::Line { points, .. } => Some(&points[..]),
            _ => None,
        });
        lines.collect()
    }

    #[test]
    fn a_run_has_its_loss_smoothed_and_evaluated() {
        let run: Vec<Metrics> = (1..=20_000).map(|s| metrics(s, (s % 5000 == 0).then_some(2.5))).collect();
        let chart = Curve::of_run("tiny <1>", &run).chart();
        let [raw, smooth, eval] = lines(&chart)[..] else { panic!("three lines") };
        // From the upper left to the lower right, whatever lies between.
        assert_eq!(raw.first(), Some(&(LEFT, TOP)));
        assert_eq!(raw.last(), Some(&(RIGHT, BOTTOM)));
        assert!(raw.len() <= 2 * (RIGHT - LEFT + 1) as usize && smooth.len() > 700);
        // 2.5 on a scale from 2.0002 to 6.
        let y = BOTTOM - ((0.4998 / 3.9998) * f64::from(BOTTOM - TOP)).round() as i32;
        assert!(eval.len() == 4 && eval.iter().all(|point| point.1 == y), "{eval:?} {y}");
        let page = svg::element(&chart);
        for text in ["tiny &lt;1&gt;", "loss", "smoothed", "evaluation", ">10000<", ">3<", ">6<"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(png::encode(&chart).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn figures_are_round_and_apart() {
        let ticks = |low, high, count| -> Vec<String> {
            let scale = Scale::new([low, high].into_iter(), (0, 100));
            scale.ticks(count).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(ticks(3.12, 3.19, 6), ["3.12", "3.14", "3.16", "3.18"]);
        assert_eq!(ticks(1.0, 1000.0, 8), ["200", "400", "600", "800", "1000"]);
        assert_eq!(ticks(-0.4, 2.3, 6), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
    }

    #[test]
    fn a_run_of_a_step_or_none_has_a_curve() {
        for run in [vec![], vec![metrics(1, None)], vec![metrics(500, Some(f64::INFINITY))]] {
            let chart = Curve::of_run("short", &run).chart();
            assert!(lines(&chart).is_empty());
            png::encode(&chart).unwrap();
        }
    }
}
