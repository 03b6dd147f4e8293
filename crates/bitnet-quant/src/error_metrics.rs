//! How far an approximation is from what it stands for.

/// Measures of an error, over all elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorMetrics {
    /// Mean of the squared differences.
    pub mse: f64,
    /// Signal to quantization noise, `10 log10(sum x^2 / sum (x - y)^2)`: infinite without a difference.
    pub sqnr_db: f64,
    /// `x . y / (|x| |y|)`; 1 when both are zero, 0 when one is.
    pub cosine: f64,
    /// The largest difference.
    pub max_abs: f64,
}

/// Sums over pieces of a reference and its approximation, in float64.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ErrorMeter {
    count: u64,
    signal: f64,
    noise: f64,
    approximation: f64,
    dot: f64,
    max_abs: f64,
}

impl ErrorMeter {
    /// Takes a piece in. Panics when the lengths differ.
    pub fn add(&mut self, reference: &[f32], approximation: &[f32]) {
        assert_eq!(reference.len(), approximation.len(), "reference and approximation");
        self.count += reference.len() as u64;
        for (&x, &y) in reference.iter().zip(approximation) {
            let (x, y) = (f64::from(x), f64::from(y));
            self.signal += x * x;
            self.approximation += y * y;
            self.dot += x * y;
            self.noise += (x - y) * (x - y);
            self.max_abs = self.max_abs.max((x - y).abs());
        }
    }

    /// Takes in what another has measured.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.signal += other.signal;
        self.noise += other.noise;
        self.approximation += other.approximation;
        self.dot += other.dot;
        self.max_abs = self.max_abs.max(other.max_abs);
    }

    /// The measures so far; of no elements, those of no error.
    pub fn metrics(&self) -> ErrorMetrics {
        let norms = self.signal.sqrt() * self.approximation.sqrt();
        let cosine = match (self.signal, self.approximation) {
            (0.0, 0.0) => 1.0,
            (0.0, _) | (_, 0.0) => 0.0,
            _ => (self.dot / norms).clamp(-1.0, 1.0),
        };
        let sqnr_db =
            if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() };
        ErrorMetrics { mse: self.noise / self.count.max(1) as f64, sqnr_db, cosine, max_abs: self.max_abs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(x: &[f32], y: &[f32]) -> ErrorMetrics {
        let mut meter = ErrorMeter::default();
        meter.add(x, y);
        meter.metrics()
    }

    #[test]
    fn measures_by_hand() {
        let error = metrics(&[3.0, 4.0], &[3.0, 3.0]);
        assert_eq!((error.mse, error.max_abs), (0.5, 1.0));
        assert!((error.sqnr_db - 10.0 * 25.0_f64.log10()).abs() < 1e-12);
        assert!((error.cosine - 21.0 / (5.0 * 18.0_f64.sqrt())).abs() < 1e-12);
        let none = metrics(&[1.0, 2.0], &[1.0, 2.0]);
        assert_eq!((none.mse, none.sqnr_db, none.max_abs), (0.0, f64::INFINITY, 0.0));
        assert!((none.cosine - 1.0).abs() < 1e-12);
        assert_eq!(metrics(&[0.0], &[0.0]).cosine, 1.0);
        assert_eq!(metrics(&[0.0], &[1.0]).cosine, 0.0);
        assert_eq!(metrics(&[0.0], &[1.0]).sqnr_db, f64::NEG_INFINITY);
        assert_eq!(metrics(&[1.0], &[-1.0]).cosine, -1.0);
    }

    #[test]
    fn pieces_add_up() {
        let (x, y) = ([1.0, -2.0, 3.0, 0.5], [0.5, -2.5, 2.0, 1.0]);
        let mut meter = ErrorMeter::default();
        meter.add(&x[..1], &y[..1]);
        let mut rest = ErrorMeter::default();
        rest.add(&x[1..], &y[1..]);
        meter.merge(&rest);
        assert_eq!(meter.metrics(), metrics(&x, &y));
    }
}
