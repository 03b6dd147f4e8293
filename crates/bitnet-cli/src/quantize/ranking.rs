//! The plot: the signal to noise of every linear at every precision, the most sensitive first.

use std::path::Path;

use bitnet_inference::drawing::{Align, BLACK, COLORS, Chart, GREY, LETTER, PALE};
use bitnet_inference::report::{Layer, Report};

use super::table::short_name;

/// A plot of more linears than this has the most sensitive ones alone.
const MOST: usize = 60;

const ROW: i32 = 22;
const TOP: i32 = 104;
const PLOT: i32 = 620;
const MARGIN: i32 = 16;
/// Between the plot and the column right of it.
const GAP: i32 = 28;

/// What has a bar or marks: a name, and the signal to noise of a linear.
struct Series {
    name: String,
    sqnr_db: Box<dyn Fn(&Layer) -> f64>,
}

/// The plot of a report.
pub(super) fn chart(report: &Report) -> Chart {
    let layers = &report.layers[..report.layers.len().min(MOST)];
    let series = series(report);
    let scale = Scale::new(layers, &series);
    let names: Vec<String> = layers.iter().map(|layer| short_name(&layer.name)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
    let left = MARGIN + longest * LETTER + 12;
    let bottom = TOP + ROW * layers.len() as i32;
    let mut chart = Chart::new(left + PLOT + GAP + LETTER * 11 + MARGIN, bottom + MARGIN);

    let which = match report.layers.len() {
        all if all > layers.len() => format!("the {} most sensitive of {all} linears", layers.len()),
        all => format!("{all} linears"),
    };
    let model = Path::new(&report.model).file_name().unwrap_or(report.model.as_ref()).to_string_lossy();
    let title = format!("{model}: signal to noise of outputs, dB, {which}");
    chart.text((MARGIN, 26), Align::Left, BLACK, title);
    legend(&mut chart, &series, report.min_sqnr_db);
    let at = |db: f64| left + scale.at(db);
    for tick in scale.ticks() {
        chart.rect((at(tick), TOP - 4), (1, bottom - TOP + 4), PALE);
        chart.text((at(tick), TOP - 10), Align::Middle, GREY, format!("{tick:.0}"));
    }
    chart.text((left + PLOT + GAP, TOP - 10), Align::Left, GREY, "recommended");
    for (index, (layer, name)) in layers.iter().zip(&names).enumerate() {
        let y = TOP + ROW * index as i32;
        chart.text((left - 12, y + 15), Align::Right, BLACK, name.as_str());
        chart.text((left + PLOT + GAP, y + 15), Align::Left, BLACK, layer.recommended.to_string());
        for (index, (series, color)) in series.iter().zip(COLORS.into_iter().cycle()).enumerate() {
            let x = at((series.sqnr_db)(layer));
            if index == 0 {
                let zero = at(0.0);
                chart.rect((x.min(zero), y + 4), ((x - zero).abs().max(1), ROW - 8), color);
            } else {
                chart.rect((x - 3, y + 2), (6, ROW - 4), color);
            }
        }
    }
    if scale.range().contains(&report.min_sqnr_db) {
        chart.rect((at(report.min_sqnr_db), TOP - 4), (1, bottom - TOP + 4), BLACK);
    }
    chart
}

fn series(report: &Report) -> Vec<Series> {
    let Some(first) = report.layers.first() else { return Vec::new() };
    let of_model = first.quantized.map(|_| Series {
        name: "the model".to_owned(),
        sqnr_db: Box::new(|layer: &Layer| layer.quantized.map_or(f64::NAN, |error| error.sqnr_db)),
    });
    let of_precisions = first.errors.iter().enumerate().map(|(index, (precision, _))| Series {
        name: precision.to_string(),
        sqnr_db: Box::new(move |layer: &Layer| {
            layer.errors.get(index).map_or(f64::NAN, |(_, error)| error.sqnr_db)
        }),
    });
    of_model.into_iter().chain(of_precisions).collect()
}

fn legend(chart: &mut Chart, series: &[Series], min_sqnr_db: f64) {
    let mut x = MARGIN;
    for (series, color) in series.iter().zip(COLORS.into_iter().cycle()) {
        chart.rect((x, 44), (12, 12), color);
        chart.text((x + 18, 55), Align::Left, BLACK, series.name.as_str());
        x += 18 + LETTER * (series.name.len() as i32 + 2);
    }
    chart.rect((x + 5, 42), (1, 16), BLACK);
    chart.text((x + 18, 55), Align::Left, BLACK, format!("at least {min_sqnr_db} dB"));
}

/// From dB to pixels: from 0, or the multiple of 10 below the least value, to the one above the largest.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn new(layers: &[Layer], series: &[Series]) -> Self {
        let values = layers.iter().flat_map(|layer| series.iter().map(|series| (series.sqnr_db)(layer)));
        let (mut low, mut high) = (0.0_f64, 10.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        Self { low: (low / 10.0).floor() * 10.0, high: (high / 10.0).ceil() * 10.0 }
    }

    fn range(&self) -> std::ops::RangeInclusive<f64> {
        self.low..=self.high
    }

    /// What is beyond the scale, as no error at all is, is drawn at its end.
    fn at(&self, db: f64) -> i32 {
        let share = (db.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        (share * f64::from(PLOT)).round() as i32
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let step = if self.high - self.low > 120.0 { 50.0 } else { 10.0 };
        let first = (self.low / step).ceil() * step;
        let count = ((self.high - first) / step) as usize;
        (0..=count).map(move |index| first + step * index as f64)
    }
}
