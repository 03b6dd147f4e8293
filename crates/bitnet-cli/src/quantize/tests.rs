//! Tables, drawings and pages of a report made by hand.

use std::io::Cursor;

use bitnet_inference::drawing::{png, svg};
use bitnet_inference::report::{EndToEnd, Layer, LinearInput, Report};
use bitnet_quant::{ErrorMetrics, Precision, Statistics, TernaryRule};

use super::{html, ranking, table};

fn error(sqnr_db: f64) -> ErrorMetrics {
    ErrorMetrics { mse: 0.5, sqnr_db, cosine: 0.75, max_abs: 1.0 }
}

/// Linears whose first signal to noise are these, dB, and the second ones 20 dB more.
fn report(sqnr_db: &[f64]) -> Report {
    let layer = |(index, sqnr_db): (usize, &f64)| Layer {
        name: format!("model.layers.{index}.mlp.up_proj"),
        rows: 2,
        cols: 8,
        input: 0,
        stored_bits: 16.0,
        recommended: if *sqnr_db < 0.0 { Precision::Float } else { Precision::Int(4) },
        quantized: None,
        errors: vec![
            (Precision::Ternary(TernaryRule::Absmean), error(*sqnr_db)),
            (Precision::Int(4), error(sqnr_db + 20.0)),
        ],
    };
    let mut statistics = Statistics::default();
    statistics.add(&[0.0, 0.5, -2.0, 1e-9]).unwrap();
    Report {
        model: "./<b>model</b>".to_owned(),
        quantized: "weights made ternary by absmean, int8 activations".to_owned(),
        reference: "./<b>model</b>".to_owned(),
        tokens: 1000,
        sampled_tokens: 64,
        min_sqnr_db: 10.0,
        end_to_end: EndToEnd {
            reference_perplexity: 10.0,
            quantized_perplexity: 20.0,
            kl_mean: 0.5,
            kl_max: 2.0,
            top1_agreement: 0.75,
        },
        recommended_bits: 4.0,
        layers: sqnr_db.iter().enumerate().map(layer).collect(),
        inputs: vec![LinearInput {
            linears: vec!["model.layers.0.mlp.up_proj".to_owned()],
            statistics,
            int8: error(40.0),
        }],
    }
}

/// Width, height and pixels.
fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = ::png::Decoder::new(Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

#[test]
fn the_table_has_a_line_for_each_linear_in_columns() {
    let text = table::ranked(&report(&[-3.25, 5.0, f64::INFINITY]));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["#", "linear", "shape", "absmean", "dB"]);
    let first = ["1", "layers.0.mlp.up_proj", "2x8", "-3.25", "16.75", "0.7500", "5.00e-1", "40.00", "float"];
    assert_eq!(lines[1], first);
    assert_eq!(lines[3][3..5], ["exact", "exact"]);
}

#[test]
fn the_summary_says_what_follows() {
    let row = |report: &Report, name: &str| {
        let rows = table::summary(report).into_iter();
        rows.filter(|(found, _)| *found == name).map(|(_, value)| value).collect::<String>()
    };
    let mut report = report(&[-3.25, 5.0, 6.0]);
    assert_eq!(row(&report, "perplexity"), "20.0000 quantized, 10.0000 float");
    assert_eq!(row(&report, "tokens"), "1,000, linears on 64 of them");
    assert_eq!(row(&report, "recommended"), "int4 2, float 1; 4.00 bits per weight, for at least 10 dB");
    assert_eq!(row(&report, "note"), "");
    report.end_to_end.quantized_perplexity = 9.0;
    assert!(row(&report, "note").contains("trained to be ternary"));
}

#[test]
fn the_page_has_every_figure_and_no_markup_of_others() {
    let report = report(&[-3.25, 5.0]);
    let page = html::page(&report);
    assert!(page.contains("./&lt;b&gt;model&lt;/b&gt;") && !page.contains("<b>"), "{page}");
    for fact in ["-3.25", "16.75", "0.7500", "5.00e-1", "20.0000 quantized", "25.0 % zeros", "2.000</text>"] {
        assert!(page.contains(fact), "{fact}");
    }
    // A page that stands alone: no address but the name of the SVG format.
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http"));
    for element in ["html", "body", "table", "svg", "div", "tr", "td", "th"] {
        let opened =
            page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn bars_are_as_long_as_the_signal_to_noise() {
    // On a scale from -10 to 40 dB, 620 pixels wide.
    let chart = ranking::chart(&report(&[-5.0, 20.0]));
    let (width, height, pixels) = decode(&png::encode(&chart).unwrap());
    assert_eq!((width as i32, height as i32), (chart.width, chart.height));
    let blue = |row: usize| {
        let y = 104 + 22 * row + 11;
        let line = &pixels[3 * y * width as usize..][..3 * width as usize];
        line.chunks(3).filter(|pixel| *pixel == [0x00, 0x72, 0xb2]).count()
    };
    // The line of what is to be reached crosses the second one.
    assert_eq!((blue(0), blue(1)), (62, 248 - 1));
}

#[test]
fn a_plot_of_many_linears_has_the_worst_and_says_so() {
    let many: Vec<f64> = (0..200).map(f64::from).collect();
    let svg = svg::element(&ranking::chart(&report(&many)));
    assert!(svg.contains("the 60 most sensitive of 200 linears"));
    assert!(svg.contains("layers.59.") && !svg.contains("layers.60."));
    // No error at all, and no number at all, have their place.
    ranking::chart(&report(&[f64::NEG_INFINITY, f64::INFINITY]));
}

#[test]
fn a_report_without_figures_is_written_all_the_same() {
    let empty = report(&[]);
    let mut bare = report(&[1.0, 2.0]);
    bare.layers[0].errors.clear();
    bare.inputs.clear();
    for report in [empty, bare] {
        let header = table::ranked(&report);
        assert!(header.starts_with("#  linear"), "{header}");
        png::encode(&ranking::chart(&report)).unwrap();
        assert!(html::page(&report).contains(&format!("{} linears", report.layers.len())));
    }
}
