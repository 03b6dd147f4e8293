//! Products with whole matrices, of any number of tokens, on the threads of a pool.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use bitnet_core::{DisjointSlice, ThreadPool};

use super::dense::PanelSums;
use super::finish::{Finish, Sums, Then};
use super::planes::TOGETHER;
use super::tile::TileProduct;
use super::unpack::TileSource;
use super::{LANES, TernaryKernel, check_lengths, planes};
use crate::activation::{MANY_TOKENS, TOKEN_BLOCK};
use crate::packing::LINE;
use crate::{Error, Order, PackedMatrix, Packing, QuantizedActivations, Result, TernaryMatrix};

/// Lines of a row in a tile: few enough for the whole tile, 16 or 25 KiB, to stay in the first-level cache together with
/// the activations of a block of tokens.
const TILE_LINES: usize = 1;

/// One of several products of the same activations.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub w: &'a PackedMatrix,
    /// One value per row, added at the end.
    pub bias: Option<&'a [f32]>,
    /// `[tokens, rows]`.
    pub out: &'a mut [f32],
    /// What becomes of the results.
    pub then: Then,
}

/// A product as the threads see it.
struct Task<'a, O> {
    source: TileSource<'a>,
    scale: f32,
    bias: Option<&'a [f32]>,
    out: O,
    then: Then,
}

/// Buffers of a thread, grown once.
#[derive(Default)]
struct Scratch {
    tile: Vec<u8>,
    sums: Vec<i32>,
    /// Of each token.
    panel: Vec<PanelSums>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl TernaryKernel {
    /// `out[t, r] = W_q[r] . x_q[t]` in 32-bit integers, `[tokens, rows]`, from the layout of checkpoints.
    ///
    /// Errors: [`Error::Length`] when columns or output do not fit.
    pub fn matmul_i32(
        &self,
        pool: &ThreadPool,
        w: &TernaryMatrix,
        x: &QuantizedActivations,
        out: &mut [i32],
    ) -> Result<()> {
        self.sums_i32(pool, TileSource::Checkpoint(w), x, out)
    }

    /// [`Self::matmul_i32`] with a prepared matrix.
    pub fn packed_matmul_i32(
        &self,
        pool: &ThreadPool,
        w: &PackedMatrix,
        x: &QuantizedActivations,
        out: &mut [i32],
    ) -> Result<()> {
        self.sums_i32(pool, TileSource::Packed(w), x, out)
    }

    /// `out[t, r] = W_q[r] . x_q[t] * weight_scale / activation_scale[t] (+ bias[r])`, `[tokens, rows]`, from the layout
    /// of checkpoints.
    ///
    /// Errors: [`Error::Length`] when columns, bias or output do not fit, [`Error::Granularity`] for several scales.
    pub fn matmul(
        &self,
        pool: &ThreadPool,
        w: &TernaryMatrix,
        x: &QuantizedActivations,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<()> {
        let (source, scale) = (TileSource::Checkpoint(w), w.one_scale()?);
        self.scaled(pool, x, [Task { source, scale, bias, out, then: Then::Store }])
    }

    /// Several products of the same activations with prepared matrices, in one dispatch: see [`Self::matmul`].
    pub fn products<const N: usize>(
        &self,
        pool: &ThreadPool,
        x: &QuantizedActivations,
        products: [Product<'_>; N],
    ) -> Result<()> {
        self.scaled(
            pool,
            x,
            products.map(|Product { w, bias, out, then }| Task {
                source: TileSource::Packed(w),
                scale: w.scale(),
                bias,
                out,
                then,
            }),
        )
    }

    /// Products of neighbouring rows of three bits and one vector of activations: see `planes.rs`.
    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    pub(crate) fn octal_products(&self, data: &[u8], row_bytes: usize, x: &[i8], out: &mut [i32]) {
        // SAFETY: `new` found the instruction set on this CPU.
        unsafe { (self.table.octals)(data, row_bytes, &[x], &mut [out]) }
    }

    /// [`Self::octal_products`] of the two vectors of a token of 16 bits.
    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    pub(crate) fn octal_products_wide(
        &self,
        data: &[u8],
        row_bytes: usize,
        x: &[&[i8]; 2],
        out: &mut [&mut [i32]; 2],
    ) {
        // SAFETY: as above.
        unsafe { (self.table.octals_wide)(data, row_bytes, x, out) }
    }

    /// [`Self::octal_products`] of several vectors.
    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    pub(crate) fn octal_products_together(
        &self,
        data: &[u8],
        row_bytes: usize,
        x: &[&[i8]; TOGETHER],
        out: &mut [&mut [i32]; TOGETHER],
    ) {
        // SAFETY: as above.
        unsafe { (self.table.octals_together)(data, row_bytes, x, out) }
    }

    /// The product of a row of one bit, the sum of `x` where it is set.
    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    pub(crate) fn bit_product(&self, row: &[u8], x: &[i8]) -> i32 {
        let mut product = [0];
        // SAFETY: as above.
        unsafe { (self.table.bits)(row, row.len(), &[x], &mut [&mut product]) }
        product[0] / planes::BIT
    }

    #[expect(unsafe_code, reason = "threads write disjoint outputs")]
    fn sums_i32(
        &self,
        pool: &ThreadPool,
        source: TileSource<'_>,
        x: &QuantizedActivations,
        out: &mut [i32],
    ) -> Result<()> {
        self.check(source, x, out.len())?;
        let x = &*in_blocks(x, &[source]);
        let rows = source.rows();
        let out = DisjointSlice::new(out);
        pool.split(rows.div_ceil(source.tile_rows()), 1, |tiles| {
            for tile in tiles {
                self.tile_sums(source, x, tile, &mut |sums| {
                    for (at, sums, offset) in sums.tokens(rows) {
                        // SAFETY: every token of every tile is visited once, by one thread.
                        let out = unsafe { out.part(at) };
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum - offset);
                    }
                });
            }
        });
        Ok(())
    }

    #[expect(
        unsafe_code,
        reason = "threads write disjoint outputs; calls code compiled for an instruction set"
    )]
    fn scaled<const N: usize>(
        &self,
        pool: &ThreadPool,
        x: &QuantizedActivations,
        products: [Task<'_, &mut [f32]>; N],
    ) -> Result<()> {
        for Task { source, bias, out, .. } in &products {
            self.check(*source, x, out.len())?;
            if let Some(bias) = bias.filter(|bias| bias.len() != source.rows()) {
                return Err(Error::Length { what: "bias", expected: source.rows(), got: bias.len() });
            }
        }
        let x = &*in_blocks(x, &products.each_ref().map(|task| task.source));
        let products = products.map(|Task { source, scale, bias, out, then }| Task {
            source,
            scale,
            bias,
            out: DisjointSlice::new(out),
            then,
        });
        let tiles_of = |source: TileSource<'_>| source.rows().div_ceil(source.tile_rows());
        let tiles = products.iter().map(|task| tiles_of(task.source)).sum();
        pool.split(tiles, 1, |tiles| {
            for mut tile in tiles {
                let mut which = 0;
                while tile >= tiles_of(products[which].source) {
                    tile -= tiles_of(products[which].source);
                    which += 1;
                }
                let Task { source, scale, bias, out, then } = &products[which];
                let finish = Finish {
                    weight_scale: *scale,
                    activation_scales: x.scales(),
                    bias: *bias,
                    then: *then,
                    out,
                    out_rows: source.rows(),
                };
                // SAFETY: `new` found the instruction set on this CPU.
                self.tile_sums(*source, x, tile, &mut |sums| unsafe { (self.table.finish)(sums, &finish) });
            }
        });
        Ok(())
    }

    fn check(&self, source: TileSource<'_>, x: &QuantizedActivations, out: usize) -> Result<()> {
        if let TileSource::Packed(w) = source {
            self.check_packing(w)?;
        }
        check_lengths(source.rows(), source.cols(), x, out)
    }

    pub(super) fn check_packing(&self, w: &PackedMatrix) -> Result<()> {
        let packing = w.packing();
        if self.supports(packing) {
            return Ok(());
        }
        Err(Error::PackingUnavailable { isa: self.isa.name(), packing: packing.name() })
    }

    /// Calls `emit` once for every token and the rows of one tile.
    fn tile_sums(
        &self,
        source: TileSource<'_>,
        x: &QuantizedActivations,
        tile: usize,
        emit: &mut dyn FnMut(&Sums<'_>),
    ) {
        let rows = tile * source.tile_rows()..((tile + 1) * source.tile_rows()).min(source.rows());
        match source {
            TileSource::Packed(w) if reads_panels(source, x) => self.panel_sums(w, x, rows, emit),
            _ => self.unpacked_sums(source, x, rows, emit),
        }
    }

    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    fn panel_sums(
        &self,
        w: &PackedMatrix,
        x: &QuantizedActivations,
        rows: Range<usize>,
        emit: &mut dyn FnMut(&Sums<'_>),
    ) {
        let (kernels, is_centred) = self.one_token(w.packing());
        let data = &w.data()[rows.start / w.tile_rows() * w.unit_bytes()..][..w.unit_bytes()];
        let mut tokens: [&[i8]; MANY_TOKENS] = Default::default();
        let tokens = &mut tokens[..x.tokens()];
        tokens.iter_mut().enumerate().for_each(|(token, codes)| *codes = x.padded_token(token));
        let offsets = if is_centred { &[0; MANY_TOKENS][..x.tokens()] } else { x.sums() };
        SCRATCH.with_borrow_mut(|Scratch { panel, .. }| {
            panel.resize(panel.len().max(tokens.len()), [0; 5 * LANES]);
            let sums = &mut panel[..tokens.len()];
            // SAFETY: `new` found the instruction set on this CPU.
            unsafe { (kernels.dense)(data, tokens, sums) };
            let (values, stride) = (sums.as_flattened(), sums[0].len());
            emit(&Sums { rows, values, stride, offsets });
        });
    }

    /// The functions for a packing that `check_packing` let pass, and whether their results need no offset.
    pub(super) fn one_token(&self, packing: Packing) -> (&'static super::table::OneToken, bool) {
        match (packing, &self.table.base3) {
            (Packing::Base3, Some(base3)) => (base3, self.table.centres_trits),
            _ => (&self.table.bits2, false),
        }
    }

    #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
    fn unpacked_sums(
        &self,
        source: TileSource<'_>,
        x: &QuantizedActivations,
        rows: Range<usize>,
        emit: &mut dyn FnMut(&Sums<'_>),
    ) {
        let (tile_rows, tile_cols) = (source.tile_rows(), TILE_LINES * source.line_codes());
        SCRATCH.with_borrow_mut(|Scratch { tile, sums, .. }| {
            let needed = x.tokens().next_multiple_of(TOKEN_BLOCK) * tile_rows;
            sums.resize(sums.len().max(needed), 0);
            for start in (0..source.cols()).step_by(tile_cols) {
                let cols = start..(start + tile_cols).min(source.cols());
                let blocks = cols.len().div_ceil(4);
                let tile_bytes = tile_rows / 16 * blocks * LINE;
                tile.resize(tile.len().max(tile_bytes), 0);
                let tile = &mut tile[..tile_bytes];
                // SAFETY: `new` found the instruction set on this CPU.
                unsafe { (self.table.unpack)(source, rows.start, cols.clone(), tile) };
                // While the tile is multiplied, the next one comes from memory.
                let columns_from = |start: usize| start..(start + tile_cols).min(source.cols());
                if cols.end < source.cols() {
                    source.prefetch(rows.start, columns_from(cols.end));
                } else if rows.end < source.rows() {
                    source.prefetch(rows.end, columns_from(0));
                }
                let mut product = TileProduct {
                    tile,
                    blocks,
                    x: &x.interleaved()[start * TOKEN_BLOCK..],
                    x_stride: x.stride() * TOKEN_BLOCK,
                    tokens: x.tokens(),
                    is_first: start == 0,
                    out: &mut sums[..needed],
                    out_stride: tile_rows,
                };
                // SAFETY: as above.
                unsafe { (self.table.tile)(&mut product) };
            }
            emit(&Sums { rows, values: &sums[..needed], stride: tile_rows, offsets: x.sums() });
        });
    }
}

/// Whether a product reads panels as they are, once for each token, rather than unpacked.
fn reads_panels(source: TileSource<'_>, x: &QuantizedActivations) -> bool {
    x.tokens() < MANY_TOKENS && matches!(source, TileSource::Packed(w) if w.order() == Order::Panels)
}

/// The activations, in blocks of tokens as well where a product needs them so.
fn in_blocks<'a>(x: &'a QuantizedActivations, sources: &[TileSource<'_>]) -> Cow<'a, QuantizedActivations> {
    if x.tokens() >= MANY_TOKENS || sources.iter().all(|source| reads_panels(*source, x)) {
        return Cow::Borrowed(x);
    }
    Cow::Owned(x.in_blocks())
}
