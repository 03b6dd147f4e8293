//! The report as one HTML page that needs nothing beside it.

use std::fmt::Write;

use bitnet_inference::drawing::svg::{self, escaped};
use bitnet_inference::report::{Layer, LinearInput, Report};

use super::table::{decibels, short_name, summary};
use super::{histogram, ranking};

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th { font-weight: 600; vertical-align: bottom } .name { text-align: left }
.facts td, .facts th { text-align: left; white-space: normal }
.inputs { display: grid; grid-template-columns: repeat(auto-fill, minmax(18.5rem, 1fr)); gap: 1.5rem }
.inputs p { margin: 0; font-size: 0.85rem }
.inputs svg { max-width: 100%; height: auto }";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let model = escaped(&report.model);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Quantization of {model}</title>\n\
         <style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>Quantization of {model}</h1>\n\
         {facts}\
         <h2>Linears, the most sensitive first</h2>\n\
         <p>Each linear multiplies what it multiplied in the float model: its outputs with weights of each precision \
         against its outputs with the floats.</p>\n<div class=\"wide\">\n{plot}</div>\n\
         <h2>All figures</h2>\n\
         <p>SQNR = 10 log10(&Sigma; x&sup2; / &Sigma; (x &minus; y)&sup2;) in dB; cosine = x&middot;y / (|x| |y|); \
         MSE = mean of (x &minus; y)&sup2;. &ldquo;Input int8&rdquo; is the SQNR of the input itself, rounded to int8 with \
         a scale for each token.</p>\n<div class=\"wide\">\n{table}</div>\n\
         <h2>Inputs</h2>\n\
         <p>How many values of an input have which magnitude |x|, on a logarithmic axis up to the largest; the first bar \
         has all that are smaller, and zeros are left out.</p>\n<div class=\"inputs\">\n{inputs}</div>\n</body>\n</html>\n",
        facts = facts(report),
        plot = svg::element(&ranking::chart(report)),
        table = table(report),
        inputs = report.inputs.iter().map(input).collect::<String>(),
    )
}

fn facts(report: &Report) -> String {
    let mut html = "<table class=\"facts\">\n".to_owned();
    for (name, value) in summary(report) {
        let _ = writeln!(html, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    html + "</table>\n"
}

fn table(report: &Report) -> String {
    let first = report.layers.first();
    let of_model = first.and_then(|layer| layer.quantized).map(|_| "the model".to_owned());
    let errors = first.into_iter().flat_map(|layer| &layer.errors);
    let kinds: Vec<String> =
        of_model.into_iter().chain(errors.map(|(precision, _)| precision.to_string())).collect();
    let mut html = "<table>\n<tr><th rowspan=\"2\">#</th><th rowspan=\"2\" class=\"name\">linear</th>\
                    <th rowspan=\"2\">shape</th>"
        .to_owned();
    for kind in &kinds {
        let _ = write!(html, "<th colspan=\"3\">{kind}</th>");
    }
    html += "<th rowspan=\"2\">input int8<br>SQNR</th><th rowspan=\"2\" class=\"name\">recommended</th></tr>\n<tr>";
    html += &"<th>SQNR</th><th>cosine</th><th>MSE</th>".repeat(kinds.len());
    html += "</tr>\n";
    for (index, layer) in report.layers.iter().enumerate() {
        html += &row(index + 1, layer, report.inputs.get(layer.input));
    }
    html + "</table>\n"
}

fn row(rank: usize, layer: &Layer, input: Option<&LinearInput>) -> String {
    let (name, rows, cols) = (escaped(&short_name(&layer.name)), layer.rows, layer.cols);
    let mut html = format!("<tr><td>{rank}</td><td class=\"name\">{name}</td><td>{rows}&times;{cols}</td>");
    for error in layer.quantized.iter().chain(layer.errors.iter().map(|(_, error)| error)) {
        let (sqnr, cosine, mse) = (decibels(error.sqnr_db), error.cosine, error.mse);
        let _ = write!(html, "<td>{sqnr}</td><td>{cosine:.4}</td><td>{mse:.2e}</td>");
    }
    let int8 = input.map(|input| decibels(input.int8.sqnr_db)).unwrap_or_default();
    let recommended = layer.recommended;
    let _ = writeln!(html, "<td>{int8}</td><td class=\"name\">{recommended}</td></tr>");
    html
}

fn input(input: &LinearInput) -> String {
    let names: Vec<String> = input.linears.iter().map(|name| escaped(&short_name(name))).collect();
    let (statistics, int8) = (&input.statistics, decibels(input.int8.sqnr_db));
    let (mean, std, zeros) = (statistics.mean(), statistics.std(), 100.0 * statistics.zero_share());
    format!(
        "<div><p>{}</p>\n{}<p>mean {mean:.3}, std {std:.3}, {zeros:.1} % zeros; int8 {int8} dB</p></div>\n",
        names.join("<br>"),
        histogram::element(input),
    )
}
