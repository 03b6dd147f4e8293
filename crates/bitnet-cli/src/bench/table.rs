//! The report of `bitnet bench` for people. A line is printed when its test is done, so the widths are fixed.

use std::fmt::Write;

use bitnet_benchmarks::Row;
use bitnet_core::{Device, Isa};

use crate::cpu;

const COLUMNS: [(&str, usize); 14] = [
    ("test", 10),
    ("threads", 7),
    ("tokens/s", 9),
    ("min", 9),
    ("max", 9),
    ("x batch 1", 9),
    ("MB/token", 9),
    ("GB/s", 6),
    ("tokens/GB", 9),
    ("GMAC/s", 7),
    ("of peak", 7),
    ("peak MB", 8),
    ("gates > 0", 9),
    ("down in", 8),
];

/// The machine, and the heads of the columns.
pub(super) fn header(isa: Isa, device: Device) -> String {
    let cpu = cpu::name().map_or_else(String::new, |name| name + ", ");
    // The bandwidth and the peak are those of the CPU all the same.
    let device = if device == Device::Cpu { String::new() } else { format!("; on {device}") };
    format!("{cpu}{isa}{device}\n\n") + &cells(COLUMNS.map(|(name, _)| name.to_owned()))
}

/// A result.
pub(super) fn line(row: &Row) -> String {
    let share = |share: Option<f64>| cell(share.map(|share| format!("{:.1} %", 100.0 * share)));
    let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
    let speed = row.tokens_per_s;
    cells([
        row.test.clone(),
        row.threads.to_string(),
        format!("{:.2}", speed.median),
        format!("{:.2}", speed.min),
        format!("{:.2}", speed.max),
        cell(row.batch_speedup.map(|speedup| format!("{speedup:.2}"))),
        format!("{:.2}", row.bytes_per_token / 1e6),
        format!("{:.1}", row.read_bandwidth_gb_s),
        cell(row.decode_score.map(|score| format!("{score:.3}"))),
        format!("{:.0}", row.int8_peak_gmac_s),
        share(row.prefill_share),
        cell(row.peak_memory_bytes.map(megabytes)),
        share(row.positive_gate_share),
        share(row.down_input_share),
    ])
}

fn cell(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// Cells in their columns: the first to the left, numbers to the right.
fn cells(cells: [String; COLUMNS.len()]) -> String {
    let mut line = String::new();
    for (index, (cell, (_, width))) in cells.into_iter().zip(COLUMNS).enumerate() {
        let _ = if index == 0 { write!(line, "{cell:width$}") } else { write!(line, "  {cell:>width$}") };
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use bitnet_benchmarks::Spread;

    use super::*;

    #[test]
    fn columns_line_up_and_what_is_not_known_is_a_dash() {
        let row = Row {
            test: "tg128 x32".to_owned(),
            threads: 2,
            batch: 32,
            tokens_per_s: Spread { median: 12.346, min: 1.0, max: 99.0 },
            batch_speedup: Some(5.678),
            bytes_per_token: 1.5e9,
            read_bandwidth_gb_s: 20.0,
            int8_peak_gmac_s: 400.0,
            decode_score: Some(0.617),
            prefill_share: None,
            peak_memory_bytes: None,
            positive_gate_share: Some(0.5),
            down_input_share: Some(0.125),
            rescored_rows_per_token: None,
        };
        let header = header(Isa::Scalar, Device::Cpu);
        let line = line(&row);
        assert_eq!(header.lines().last().unwrap().len(), line.trim_end().len());
        let cells: Vec<&str> = line.split_whitespace().collect();
        let expected = [
            "tg128", "x32", "2", "12.35", "1.00", "99.00", "5.68", "1500.00", "20.0", "0.617", "400", "-",
            "-", "50.0", "%", "12.5", "%",
        ];
        assert_eq!(cells, expected);
    }
}
