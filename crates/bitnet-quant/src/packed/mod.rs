//! Ternary matrices as kernels read them: repacked once when a model is prepared.
//!
//! The order follows the use. [`Order::Panels`] for matrices that every token reads whole, [`Order::Rows`] where rows
//! are left out, [`Order::Columns`] where columns are. Each lies in lines of 64 bytes; a byte holds as many codes as
//! the [`Packing`] has digits. The files of this folder say which.

mod columns;
mod panels;
mod rows;
mod source;

use bitnet_core::{Buffer, DisjointSlice, Pages, ThreadPool};

use crate::packing::{LINE, Packing};
use crate::{Result, TernaryMatrix};

/// Which codes lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Panels of rows, for products with all of the matrix.
    Panels,
    /// Rows one after another, for products with some of them.
    Rows,
    /// Columns one after another, for inputs that are often 0.
    Columns,
}

/// A ternary matrix prepared for the kernels of this machine: `W = codes * scale`.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    rows: usize,
    cols: usize,
    scale: f32,
    order: Order,
    packing: Packing,
    data: Buffer,
}

impl PackedMatrix {
    /// Repacks `matrix` with the threads of `pool`, into huge pages where the system has them.
    ///
    /// Errors: [`Error::Granularity`](crate::Error::Granularity) when there are several scales,
    /// [`Error::Core`](crate::Error::Core) without memory.
    #[expect(unsafe_code, reason = "threads write disjoint parts")]
    pub fn new(pool: &ThreadPool, matrix: &TernaryMatrix, order: Order, packing: Packing) -> Result<Self> {
        let (rows, cols, scale) = (matrix.rows(), matrix.cols(), matrix.one_scale()?);
        let (units, unit_bytes) = shape(rows, cols, order, packing);
        let mut pages = Pages::zeroed(units * unit_bytes)?;
        let out = DisjointSlice::new(pages.as_mut_slice());
        match order {
            Order::Panels => pool.split(units, 1, |panels| {
                for panel in panels {
                    // SAFETY: each panel belongs to one thread.
                    let out = unsafe { out.part(panel * unit_bytes..(panel + 1) * unit_bytes) };
                    panels::pack(matrix, panel, packing, out);
                }
            }),
            Order::Rows => pool.split(units, 16, |rows| {
                for row in rows {
                    // SAFETY: each row belongs to one thread.
                    let out = unsafe { out.part(row * unit_bytes..(row + 1) * unit_bytes) };
                    rows::pack(matrix, row, packing, out);
                }
            }),
            Order::Columns => pool.split(units, 64, |columns| {
                // SAFETY: each range of columns belongs to one thread.
                let out = unsafe { out.part(columns.start * unit_bytes..columns.end * unit_bytes) };
                columns::pack(matrix, columns, packing, out);
            }),
        }
        Ok(Self { rows, cols, scale, order, packing, data: Buffer::from_owner(pages) })
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What a code of 1 stands for.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Which codes lie together.
    pub fn order(&self) -> Order {
        self.order
    }

    /// How many codes a byte holds.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// All lines.
    pub fn data(&self) -> &Buffer {
        &self.data
    }

    /// Bytes of a panel, row or column.
    pub fn unit_bytes(&self) -> usize {
        shape(self.rows, self.cols, self.order, self.packing).1
    }

    /// Rows that are unpacked together: see `kernel/unpack.rs`.
    pub(crate) fn tile_rows(&self) -> usize {
        match self.order {
            Order::Panels => 16 * self.packing.digits(),
            Order::Rows | Order::Columns => LINE,
        }
    }
}

/// How many panels, rows or columns there are, and the bytes of one.
fn shape(rows: usize, cols: usize, order: Order, packing: Packing) -> (usize, usize) {
    let line_codes = LINE * packing.digits();
    match order {
        Order::Panels => (rows.div_ceil(16 * packing.digits()), cols.div_ceil(4) * LINE),
        Order::Rows => (rows, cols.div_ceil(line_codes) * LINE),
        Order::Columns => (cols, rows.div_ceil(line_codes) * LINE),
    }
}
