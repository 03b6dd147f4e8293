//! The algorithms compiled for one instruction set: a table of functions.

use crate::PackedMatrix;
use crate::kernel::dense::PanelSums;
use crate::kernel::finish::{Finish, Sums};
use crate::kernel::planes::TOGETHER;
use crate::kernel::tile::TileProduct;
use crate::kernel::unpack::TileSource;

/// `(data, bytes of a row, vectors, out)`: see `planes.rs`.
type Planes<const N: usize> = unsafe fn(&[u8], usize, &[&[i8]; N], &mut [&mut [i32]; N]);
/// `(weights, columns, x, scratch, out)`: see `sparse_columns.rs`.
type Columns = unsafe fn(&PackedMatrix, &[u32], &[i8], &mut [i32], &mut [i32]);

/// Everything that `TernaryKernel` calls. Each function may be called where the CPU has the instruction set.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) bits2: OneToken,
    /// Absent where products of bytes of 8 bits are.
    pub(super) base3: Option<OneToken>,
    /// Whether the functions of `base3` give `(t - 1) . x` rather than `t . x`.
    pub(super) centres_trits: bool,
    /// Planes of three bits, with one vector of activations, the two of 16 bits, and several.
    pub(super) octals: Planes<1>,
    pub(super) octals_wide: Planes<2>,
    pub(super) octals_together: Planes<TOGETHER>,
    /// Planes of one bit.
    pub(super) bits: Planes<1>,
    /// See `tile.rs`.
    pub(super) tile: unsafe fn(&mut TileProduct<'_>),
    /// See `unpack.rs`.
    pub(super) unpack: unsafe fn(TileSource<'_>, usize, std::ops::Range<usize>, &mut [u8]),
    /// See `finish.rs`.
    pub(super) finish: unsafe fn(&Sums<'_>, &Finish<'_>),
    /// See `peak.rs`.
    pub(super) peak: unsafe fn(usize) -> i32,
    /// Products of one instruction of `peak`.
    pub(super) products_per_step: usize,
}

/// The products of one token, for one packing.
#[derive(Debug)]
pub(super) struct OneToken {
    /// See `dense.rs`; of any number of tokens.
    pub(super) dense: unsafe fn(&[u8], &[&[i8]], &mut [PanelSums]),
    /// See `sparse_rows.rs`.
    pub(super) rows: unsafe fn(&PackedMatrix, &[u32], &[i8], &mut [i32]),
    /// See `sparse_columns.rs`.
    pub(super) columns: Columns,
}

/// Declares `TABLE` for a vector type. `panels` (tokens), `rows`, `groups` and `tile` fill the registers of the instruction set; one with
/// a product of its own for tiles names the function and, where that uses another instruction, what measures its peak,
/// and its products an instruction.
macro_rules! table {
    ($vector:ty, #[$features:meta], panels $panels:literal, rows $rows:literal, groups $groups:literal,
     tile $tile_rows:literal x $tokens:literal) => {
        table!($vector, #[$features], panels $panels, rows $rows, groups $groups, tile_fn tile_of);

        table!(@function #[$features] tile_of(p: &mut TileProduct<'_>)
            = $crate::kernel::tile::tile::<$vector, $tile_rows, $tokens>(p));
    };
    ($vector:ty, #[$features:meta], panels $panels:literal, rows $rows:literal, groups $groups:literal, tile_fn $tile:path) => {
        table!($vector, #[$features], panels $panels, rows $rows, groups $groups,
            tile_fn $tile, peak_fn peak_of, products <$vector>::BYTES);

        table!(@function #[$features] peak_of(steps: usize) -> i32 = peak::steps::<$vector>(steps));
    };
    ($vector:ty, #[$features:meta], panels $panels:literal, rows $rows:literal, groups $groups:literal,
     tile_fn $tile:path, peak_fn $peak:path, products $products:expr) => {
        use $crate::PackedMatrix;
        use $crate::kernel::dense::PanelSums;
        use $crate::kernel::finish::{Finish, Sums};
        use $crate::kernel::planes::TOGETHER;
        use $crate::kernel::table::{OneToken, Table};
        use $crate::kernel::tile::TileProduct;
        use $crate::kernel::unpack::TileSource;
        use $crate::kernel::{dense, peak, planes, sparse_columns, sparse_rows, unpack};

        pub(in $crate::kernel) static TABLE: Table = Table {
            bits2: OneToken { dense: dense_bits2, rows: rows_bits2, columns: columns_bits2 },
            base3: if <$vector>::HAS_WIDE_DOT {
                Some(OneToken { dense: dense_base3, rows: rows_base3, columns: columns_base3 })
            } else {
                None
            },
            centres_trits: <$vector>::CENTRES_TRITS,
            octals: octals_of,
            octals_wide: octals_wide_of,
            octals_together: octals_together_of,
            bits: bits_of,
            tile: $tile,
            unpack: unpack_of,
            finish: finish_of,
            peak: $peak,
            products_per_step: $products,
        };

        table!(@function #[$features] dense_bits2(panel: &[u8], tokens: &[&[i8]], out: &mut [PanelSums])
            = dense::bits2::<$vector, $panels>(panel, tokens, out));
        table!(@function #[$features] dense_base3(panel: &[u8], tokens: &[&[i8]], out: &mut [PanelSums])
            = dense::base3::<$vector, $panels>(panel, tokens, out));
        table!(@function #[$features] rows_bits2(w: &PackedMatrix, rows: &[u32], x: &[i8], out: &mut [i32])
            = sparse_rows::bits2::<$vector, $rows>(w.data(), w.unit_bytes(), rows, x, out));
        table!(@function #[$features] rows_base3(w: &PackedMatrix, rows: &[u32], x: &[i8], out: &mut [i32])
            = sparse_rows::base3::<$vector, $rows>(w.data(), w.unit_bytes(), rows, x, out));
        table!(@function #[$features]
            columns_bits2(w: &PackedMatrix, columns: &[u32], x: &[i8], scratch: &mut [i32], out: &mut [i32])
            = sparse_columns::bits2::<$vector, $groups>(w.data(), w.unit_bytes(), columns, x, scratch, out));
        table!(@function #[$features]
            columns_base3(w: &PackedMatrix, columns: &[u32], x: &[i8], scratch: &mut [i32], out: &mut [i32])
            = sparse_columns::base3::<$vector, $groups>(w.data(), w.unit_bytes(), columns, x, scratch, out));
        table!(@function #[$features]
            octals_of(data: &[u8], row_bytes: usize, x: &[&[i8]; 1], out: &mut [&mut [i32]; 1])
            = planes::planes::<$vector, 3, 1>(data, row_bytes, x, out));
        table!(@function #[$features]
            octals_wide_of(data: &[u8], row_bytes: usize, x: &[&[i8]; 2], out: &mut [&mut [i32]; 2])
            = planes::planes::<$vector, 3, 2>(data, row_bytes, x, out));
        table!(@function #[$features]
            octals_together_of(data: &[u8], row_bytes: usize, x: &[&[i8]; TOGETHER], out: &mut [&mut [i32]; TOGETHER])
            = planes::planes::<$vector, 3, TOGETHER>(data, row_bytes, x, out));
        table!(@function #[$features]
            bits_of(data: &[u8], row_bytes: usize, x: &[&[i8]; 1], out: &mut [&mut [i32]; 1])
            = planes::planes::<$vector, 1, 1>(data, row_bytes, x, out));
        table!(@function #[$features]
            unpack_of(w: TileSource<'_>, row: usize, cols: std::ops::Range<usize>, tile: &mut [u8])
            = unpack::unpack::<$vector>(w, row, cols, tile));
        table!(@function #[$features] finish_of(sums: &Sums<'_>, finish: &Finish<'_>) = finish.run(sums));
    };
    (@function #[$features:meta] $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $body:expr) => {
        #[$features]
        #[allow(unused_unsafe, reason = "some of the algorithms are safe code")]
        unsafe fn $name($($arg: $type),*) $(-> $ret)? {
            // SAFETY: this function is compiled for the instruction set that its caller has found.
            unsafe { $body }
        }
    };
}
pub(super) use table;
