//! Rows of a float matrix: lent where they lie in memory as float32, else widened one at a time.

/// Where the rows of a matrix come from.
pub(crate) trait Rows: Sync {
    /// One row; `scratch` has its length, and holds it where it is not lent.
    fn row<'a>(&'a self, row: usize, scratch: &'a mut [f32]) -> &'a [f32];
}

/// `read_row(row, out)` widens a row.
impl<F: Fn(usize, &mut [f32]) + Sync> Rows for F {
    fn row<'a>(&'a self, row: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        self(row, scratch);
        scratch
    }
}

/// A matrix in memory, row-major.
pub(crate) struct Lent<'w> {
    pub(crate) values: &'w [f32],
    pub(crate) cols: usize,
}

impl Rows for Lent<'_> {
    fn row<'a>(&'a self, row: usize, _: &'a mut [f32]) -> &'a [f32] {
        &self.values[row * self.cols..][..self.cols]
    }
}
