//! What the codes of a matrix stand for: one scale for all of it, one per row, or one per group of columns.

use std::fmt;
use std::ops::Range;

use crate::{Error, Result};

/// How much of a matrix shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// All of it.
    Tensor,
    /// Each row (output).
    Row,
    /// Each run of so many columns of a row; the last run of a row may be shorter.
    Group(usize),
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor => f.write_str("one scale"),
            Self::Row => f.write_str("a scale per row"),
            Self::Group(cols) => write!(f, "a scale per {cols} columns"),
        }
    }
}

/// Scales of a matrix: `W[r, c] = codes[r, c] * scale(r, c)`. All are positive and finite.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// One for the whole matrix.
    Tensor(f32),
    /// One per row.
    Rows(Vec<f32>),
    /// One per row and group of columns.
    Groups {
        /// Columns of a group.
        cols: usize,
        /// `[rows, ceil(matrix columns / cols)]`, row-major.
        values: Vec<f32>,
    },
}

impl From<f32> for Scales {
    fn from(scale: f32) -> Self {
        Self::Tensor(scale)
    }
}

impl Scales {
    /// Scales of this granularity.
    ///
    /// Errors: those of [`Self::check`].
    pub fn new(granularity: Granularity, rows: usize, cols: usize, values: Vec<f32>) -> Result<Self> {
        let scales = match (granularity, &values[..]) {
            (Granularity::Tensor, &[scale]) => Self::Tensor(scale),
            (Granularity::Tensor, values) => {
                return Err(Error::Length { what: "scales", expected: 1, got: values.len() });
            }
            (Granularity::Row, _) => Self::Rows(values),
            (Granularity::Group(cols), _) => Self::Groups { cols, values },
        };
        scales.check(rows, cols)?;
        Ok(scales)
    }

    /// Whether these are scales of a `rows x cols` matrix.
    ///
    /// Errors: [`Error::Length`] for a wrong number of them or for groups of no columns, [`Error::InvalidScale`] for
    /// the first that is not positive and finite.
    pub fn check(&self, rows: usize, cols: usize) -> Result<()> {
        let expected = match self {
            Self::Tensor(_) => 1,
            Self::Rows(_) => rows,
            Self::Groups { cols: 0, .. } => {
                return Err(Error::Length { what: "columns of a group, at least", expected: 1, got: 0 });
            }
            Self::Groups { cols: group, .. } => rows.saturating_mul(cols.div_ceil(*group)),
        };
        if self.values().len() != expected {
            return Err(Error::Length { what: "scales", expected, got: self.values().len() });
        }
        match self.values().iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            Some(&scale) => Err(Error::InvalidScale(scale)),
            None => Ok(()),
        }
    }

    /// How much of the matrix shares a scale.
    pub fn granularity(&self) -> Granularity {
        match self {
            Self::Tensor(_) => Granularity::Tensor,
            Self::Rows(_) => Granularity::Row,
            Self::Groups { cols, .. } => Granularity::Group(*cols),
        }
    }

    /// All scales, in the order of rows and columns.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Tensor(scale) => std::slice::from_ref(scale),
            Self::Rows(values) | Self::Groups { values, .. } => values,
        }
    }

    /// The scales of one row of `cols` columns, with the columns that each stands for.
    pub fn of_row(&self, row: usize, cols: usize) -> impl Iterator<Item = (Range<usize>, f32)> + '_ {
        let (width, scales) = match self {
            Self::Tensor(scale) => (cols, std::slice::from_ref(scale)),
            Self::Rows(values) => (cols, &values[row..=row]),
            Self::Groups { cols: group, values } => {
                let count = cols.div_ceil(*group);
                (*group, &values[row * count..][..count])
            }
        };
        let spans = (0..cols).step_by(width.max(1)).map(move |start| start..(start + width).min(cols));
        spans.zip(scales.iter().copied())
    }

    /// The one scale of `columns` of a row, unless they have several.
    pub(crate) fn over(&self, row: usize, columns: Range<usize>, cols: usize) -> Option<f32> {
        match self {
            Self::Tensor(scale) => Some(*scale),
            Self::Rows(values) => Some(values[row]),
            Self::Groups { cols: group, values } => {
                let first = columns.start / group;
                let is_within = columns.end <= (first + 1) * group;
                is_within.then(|| values[row * cols.div_ceil(*group) + first])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_a_row_cover_it() {
        let groups = Scales::Groups { cols: 3, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        groups.check(2, 7).unwrap();
        let row: Vec<_> = groups.of_row(1, 7).collect();
        assert_eq!(row, [(0..3, 4.0), (3..6, 5.0), (6..7, 6.0)]);
        assert_eq!(groups.over(1, 3..6, 7), Some(5.0));
        assert_eq!(groups.over(1, 2..4, 7), None);
        assert_eq!(Scales::from(2.0).of_row(5, 7).collect::<Vec<_>>(), [(0..7, 2.0)]);
        assert_eq!(Scales::Rows(vec![1.0, 2.0]).of_row(1, 7).collect::<Vec<_>>(), [(0..7, 2.0)]);
    }

    #[test]
    fn scales_that_do_not_fit_are_refused() {
        let error = |granularity, values| Scales::new(granularity, 2, 7, values).unwrap_err().to_string();
        assert_eq!(error(Granularity::Row, vec![1.0]), "scales: expected 2, got 1");
        assert_eq!(error(Granularity::Tensor, vec![]), "scales: expected 1, got 0");
        assert_eq!(error(Granularity::Group(4), vec![1.0; 3]), "scales: expected 4, got 3");
        assert_eq!(error(Granularity::Group(0), vec![]), "columns of a group, at least: expected 1, got 0");
        let not_positive = "weight scale 0 is not a positive finite number";
        assert_eq!(error(Granularity::Row, vec![1.0, 0.0]), not_positive);
    }
}
