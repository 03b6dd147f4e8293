//! Which layers bear which precision: errors of candidates on a calibration run, and the rule that picks.

use std::fmt;
use std::str::FromStr;

use bitnet_core::{DisjointSlice, FloatKernels, ThreadPool};

use crate::{
    Error, ErrorMeter, ErrorMetrics, IntMatrix, IntOptions, Result, TernaryOptions, TernaryRule,
    quantize_matrix,
};

/// What weights may be stored as. A scale per matrix for ternary ones, per row for whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// -1, 0 and 1 by a rule.
    Ternary(TernaryRule),
    /// Symmetric whole numbers of 2, 4 or 8 bits.
    Int(u8),
    /// As they are.
    Float,
}

impl Precision {
    /// Bits of a weight, by information.
    pub fn bits(self) -> f64 {
        match self {
            Self::Ternary(TernaryRule::Sign) => 1.0,
            Self::Ternary(_) => 3.0_f64.log2(),
            Self::Int(bits) => f64::from(bits),
            Self::Float => 32.0,
        }
    }

    /// The weights as they would be stored, as floats again.
    fn apply(self, pool: &ThreadPool, rows: usize, cols: usize, w: &[f32]) -> Result<Vec<f32>> {
        match self {
            Self::Ternary(rule) => {
                let options = TernaryOptions { rule, ..TernaryOptions::default() };
                Ok(quantize_matrix(pool, w, cols, &options)?.dequantize())
            }
            Self::Int(bits) => {
                let options = IntOptions::new(bits);
                let read_row = |row: usize, out: &mut [f32]| out.copy_from_slice(&w[row * cols..][..cols]);
                Ok(IntMatrix::quantize(pool, rows, cols, &options, read_row)?.dequantize())
            }
            Self::Float => Ok(w.to_vec()),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ternary(rule) => f.pad(rule.name()),
            Self::Int(bits) => f.pad(&format!("int{bits}")),
            Self::Float => f.pad("float"),
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let ternary = TernaryRule::ALL.into_iter().map(Self::Ternary);
        let mut all = ternary.chain([2, 4, 8].map(Self::Int)).chain([Self::Float]);
        all.find(|precision| precision.to_string() == name)
            .ok_or_else(|| Error::UnknownPrecision(name.to_owned()))
    }
}

/// The error of a layer at some precisions.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerErrors {
    /// Name of the layer.
    pub name: String,
    /// In the order they were asked for.
    pub errors: Vec<(Precision, ErrorMetrics)>,
}

impl LayerErrors {
    /// Quantizes `w`, `[rows, cols]`, to each of `precisions` and measures the error: of the outputs `x W^T` for the
    /// inputs `x`, `[tokens, cols]`, of a calibration run, or of the weights themselves without one.
    ///
    /// Errors: [`Error::Length`] when `w` or `x` do not fit, [`Error::NotFinite`], [`Error::InvalidBits`].
    pub fn measure(
        pool: &ThreadPool,
        floats: &FloatKernels,
        name: &str,
        (w, cols): (&[f32], usize),
        x: Option<&[f32]>,
        precisions: &[Precision],
    ) -> Result<Self> {
        let x = x.unwrap_or_default();
        for (what, len) in [("weights, in whole rows", w.len()), ("inputs, in whole tokens", x.len())] {
            if cols == 0 || !len.is_multiple_of(cols) {
                let expected = len.checked_next_multiple_of(cols.max(1)).unwrap_or(len);
                return Err(Error::Length { what, expected, got: len });
            }
        }
        if let Some(at) = x.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { row: at / cols });
        }
        let measure = |precision: &Precision| {
            let approximation = precision.apply(pool, w.len() / cols, cols, w)?;
            Ok((*precision, output_error(pool, floats, w, &approximation, x, cols)))
        };
        Ok(Self { name: name.to_owned(), errors: precisions.iter().map(measure).collect::<Result<_>>()? })
    }
}

/// The error of `x V^T` against `x W^T`, or of V against W for no x: W and V are `[rows, cols]`, x is `[tokens, cols]`.
///
/// Row by row, added in order: the same for any number of threads.
#[expect(unsafe_code, reason = "threads write disjoint rows")]
pub fn output_error(
    pool: &ThreadPool,
    floats: &FloatKernels,
    w: &[f32],
    v: &[f32],
    x: &[f32],
    cols: usize,
) -> ErrorMetrics {
    let mut meters = vec![ErrorMeter::default(); w.len() / cols];
    let shared = DisjointSlice::new(&mut meters);
    pool.split(w.len() / cols, 1, |range| {
        for row in range {
            let (w, v) = (&w[row * cols..][..cols], &v[row * cols..][..cols]);
            let mut meter = ErrorMeter::default();
            if x.is_empty() {
                meter.add(w, v);
            }
            for x in x.chunks_exact(cols) {
                meter.add(&[floats.dot_f32(w, x)], &[floats.dot_f32(v, x)]);
            }
            // SAFETY: each row belongs to one thread.
            unsafe { shared.write(row, meter) };
        }
    });
    let mut all = ErrorMeter::default();
    for meter in &meters {
        all.merge(meter);
    }
    all.metrics()
}

/// What a precision must reach to be picked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Least signal to noise, dB; negative infinity asks for nothing.
    pub min_sqnr_db: f64,
    /// Least cosine; -1 asks for nothing.
    pub min_cosine: f64,
}

impl Threshold {
    fn is_met(&self, error: &ErrorMetrics) -> bool {
        error.sqnr_db >= self.min_sqnr_db && error.cosine >= self.min_cosine
    }
}

/// The precision picked for a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// The layer, with all errors.
    pub layer: LayerErrors,
    /// The fewest bits that meet the threshold; [`Precision::Float`] when none do.
    pub precision: Precision,
}

/// For each layer the precision of fewest bits that meets `threshold`, of several the one of least noise; the most
/// sensitive layers first, by the signal to noise of the first precision that was measured.
pub fn recommend(layers: &[LayerErrors], threshold: &Threshold) -> Vec<Recommendation> {
    let mut ranked: Vec<&LayerErrors> = layers.iter().collect();
    let sensitivity = |layer: &LayerErrors| layer.errors.first().map_or(f64::INFINITY, |(_, e)| e.sqnr_db);
    ranked.sort_by(|a, b| sensitivity(a).total_cmp(&sensitivity(b)));
    let pick = |layer: &LayerErrors| {
        let met = layer.errors.iter().filter(|(_, error)| threshold.is_met(error));
        let fewest = met.min_by(|(a, a_error), (b, b_error)| {
            a.bits().total_cmp(&b.bits()).then(b_error.sqnr_db.total_cmp(&a_error.sqnr_db))
        });
        let precision = fewest.map_or(Precision::Float, |(precision, _)| *precision);
        Recommendation { layer: layer.clone(), precision }
    };
    ranked.into_iter().map(pick).collect()
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;

    use super::*;

    const COLS: usize = 64;

    fn measure(name: &str, w: &[f32], x: Option<&[f32]>) -> LayerErrors {
        let pool = ThreadPool::new(2).unwrap();
        let floats = FloatKernels::new(Isa::Scalar).unwrap();
        let precisions = [Precision::Ternary(TernaryRule::Absmean), Precision::Int(4), Precision::Int(8)];
        LayerErrors::measure(&pool, &floats, name, (w, COLS), x, &precisions).unwrap()
    }

    #[test]
    fn each_layer_gets_the_fewest_bits_that_do() {
        let wave: Vec<f32> = (0..32 * COLS).map(|i| (i as f32 * 0.731).sin()).collect();
        let ternary: Vec<f32> = (0..32 * COLS).map(|i| (i % 3) as f32 - 1.0).map(|w| w * 0.5).collect();
        let mut outlier = wave.clone();
        outlier.iter_mut().step_by(COLS).for_each(|w| *w = 100.0);
        let x: Vec<f32> = (0..4 * COLS).map(|i| (i as f32 * 0.37).cos()).collect();
        let layers = [
            measure("ternary", &ternary, Some(&x)),
            measure("wave", &wave, None),
            measure("outlier", &outlier, None),
        ];
        let pick = |min_sqnr_db| {
            let threshold = Threshold { min_sqnr_db, min_cosine: -1.0 };
            let picked = recommend(&layers, &threshold).into_iter();
            picked.map(|one| (one.layer.name, one.precision.to_string())).collect::<Vec<_>>()
        };
        let names: Vec<String> = pick(20.0).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[0], "outlier");
        let of = |min_sqnr_db, name: &str| {
            pick(min_sqnr_db).into_iter().find(|(layer, _)| layer == name).unwrap().1
        };
        assert_eq!(of(20.0, "wave"), "int4");
        assert_eq!(of(40.0, "wave"), "int8");
        assert_eq!(of(90.0, "wave"), "float");
        assert_eq!(of(-1.0, "wave"), "absmean");
        assert!(layers[0].errors[0].1.cosine > 0.9999);
    }

    #[test]
    fn names_round_trip_and_shapes_are_checked() {
        for name in ["absmean", "absmedian", "threshold", "sign", "int2", "int4", "int8", "float"] {
            assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
        }
        assert_eq!("int5".parse::<Precision>(), Err(Error::UnknownPrecision("int5".to_owned())));
        let pool = ThreadPool::new(1).unwrap();
        let floats = FloatKernels::new(Isa::Scalar).unwrap();
        let run = |w: &[f32], x: &[f32]| LayerErrors::measure(&pool, &floats, "w", (w, 2), Some(x), &[]);
        assert!(matches!(run(&[1.0; 3], &[]), Err(Error::Length { expected: 4, got: 3, .. })));
        assert!(matches!(run(&[1.0; 4], &[1.0]), Err(Error::Length { .. })));
        assert_eq!(run(&[1.0; 4], &[1.0, f32::NAN]).unwrap_err(), Error::NotFinite { row: 0 });
    }
}
