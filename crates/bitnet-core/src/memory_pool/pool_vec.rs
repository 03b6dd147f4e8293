//! Elements in memory of a pool.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

use super::HybridMemoryPool;
use super::block::Block;
use super::size_class::LINE;
use crate::{Error, Result};

/// A number of elements, 64-byte aligned, whose memory goes back to its pool.
pub struct PoolVec<T> {
    block: Block,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> PoolVec<T> {
    pub(super) fn uncleared(pool: &HybridMemoryPool, len: usize) -> Result<Self> {
        Ok(Self::new(Block::uncleared(pool, Self::bytes(len)?)?, len))
    }

    pub(super) fn zeroed(pool: &HybridMemoryPool, len: usize) -> Result<Self> {
        Ok(Self::new(Block::zeroed(pool, Self::bytes(len)?)?, len))
    }

    pub(super) fn pages(pool: &HybridMemoryPool, len: usize) -> Result<Self> {
        Ok(Self::new(Block::pages(pool, Self::bytes(len)?, true)?, len))
    }

    fn new(block: Block, len: usize) -> Self {
        const { assert!(align_of::<T>() <= LINE, "blocks are aligned to a cache line") };
        Self { block, len, element: PhantomData }
    }

    fn bytes(len: usize) -> Result<usize> {
        len.checked_mul(size_of::<T>()).ok_or(Error::OutOfMemory { bytes: usize::MAX })
    }

    /// Elements that the block holds: as many fit without another.
    pub fn capacity(&self) -> usize {
        self.block.len() / size_of::<T>().max(1)
    }

    /// Makes it `len` elements long: the first stay, new ones are zeros. In place where the block is long enough.
    ///
    /// Errors: [`Error::OutOfMemory`], [`Error::MemoryLimit`]; the elements are as they were then.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        if Self::bytes(len)? > self.block.len() {
            let mut longer = Self::zeroed(&self.block.pool(), len)?;
            longer[..self.len].copy_from_slice(self);
            *self = longer;
            return Ok(());
        }
        let old = std::mem::replace(&mut self.len, len);
        self[old.min(len)..].fill(T::zeroed());
        Ok(())
    }
}

impl<T: Pod> Deref for PoolVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.block.as_slice()[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for PoolVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes = self.len * size_of::<T>();
        bytemuck::cast_slice_mut(&mut self.block.as_mut_slice()[..bytes])
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for PoolVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
