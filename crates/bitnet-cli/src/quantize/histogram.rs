//! Histograms of what linears multiply.

use bitnet_inference::drawing::{Align, BLUE, Chart, GREY, svg};
use bitnet_inference::report::LinearInput;

/// Octaves below the largest magnitude that have bars of their own.
const OCTAVES: i32 = 16;
/// Bars of an octave.
const PARTS: i32 = 2;
const BAR: i32 = 9;
const HEIGHT: i32 = 80;

/// `|x|` on a logarithmic axis, up to the largest one; the first bar has all smaller ones but zeros.
pub(super) fn element(input: &LinearInput) -> String {
    let bars = OCTAVES * PARTS;
    let mut counts = vec![0_u64; bars as usize];
    let absmax = input.statistics.absmax();
    for (bin, count) in input.statistics.histogram().bins().filter(|(bin, _)| bin.start > 0.0) {
        // Bins are an eighth of an octave wide or less, and lie in a bar as their starts do.
        let below = (absmax / bin.start).log2() * PARTS as f32;
        let bar = bars - 1 - (below as i32).clamp(0, bars - 1);
        counts[bar as usize] += count;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut chart = Chart::new(bars * BAR, HEIGHT + 20);
    for (index, count) in counts.into_iter().enumerate() {
        let height = (HEIGHT as f64 * count as f64 / most as f64).round() as i32;
        chart.rect((index as i32 * BAR, HEIGHT - height), (BAR - 1, height), BLUE);
    }
    chart.rect((0, HEIGHT), (chart.width, 1), GREY);
    let lowest = absmax * (-OCTAVES as f32).exp2();
    chart.text((0, HEIGHT + 15), Align::Left, GREY, format!("{lowest:.1e}"));
    chart.text((chart.width, HEIGHT + 15), Align::Right, GREY, format!("{absmax:.3}"));
    svg::element(&chart)
}
