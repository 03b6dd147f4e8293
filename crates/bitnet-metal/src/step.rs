//! What a device is given to do at once: dispatches in their order.

use crate::{Gpu, Memory};

/// The most buffers of a kernel, its parameters not counted.
pub const MOST_BUFFERS: usize = 10;

/// The most words of the parameters of a kernel.
pub const MOST_WORDS: usize = 20;

/// Dispatches for one command buffer. The CPU waits once, for the last of them.
#[derive(Debug)]
pub struct Step<'a, G: Gpu> {
    dispatches: Vec<Dispatch<'a, G>>,
}

/// One run of a kernel over a grid of whole threadgroups.
#[derive(Debug)]
pub struct Dispatch<'a, G: Gpu> {
    /// The kernel.
    pub pipeline: &'a G::Pipeline,
    /// Its buffers; the parameters come behind the last one.
    pub buffers: Bindings<'a, G::Memory>,
    /// Its parameters.
    pub params: Params,
    /// Threadgroups of the grid.
    pub threadgroups: [usize; 3],
    /// Threads of a threadgroup, side by side.
    pub threads: usize,
    /// Bytes of its argument in threadgroup memory; 0 where it has none.
    pub threadgroup_bytes: usize,
    /// Whether it waits for all dispatches in front of it. Those between two that do run side by side, in any
    /// order.
    pub waits: bool,
}

/// The buffers of a dispatch by their indices.
#[derive(Debug)]
pub struct Bindings<'a, M> {
    bindings: [Option<Binding<'a, M>>; MOST_BUFFERS],
    len: usize,
}

/// Memory as an argument of a kernel, from some byte on.
#[derive(Debug)]
pub struct Binding<'a, M> {
    /// The memory.
    pub memory: &'a M,
    /// Where the argument begins.
    pub offset: usize,
}

/// Members of the parameters of a kernel, each of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    words: [u32; MOST_WORDS],
    len: usize,
}

impl<'a, G: Gpu> Step<'a, G> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { dispatches: Vec::new() }
    }

    /// Appends a dispatch that reads what others in front of it write, or writes what they read.
    pub fn then(&mut self, dispatch: Dispatch<'a, G>) {
        self.dispatches.push(Dispatch { waits: true, ..dispatch });
    }

    /// Appends a dispatch that may run beside the one in front of it.
    pub fn beside(&mut self, dispatch: Dispatch<'a, G>) {
        self.dispatches.push(Dispatch { waits: false, ..dispatch });
    }

    /// All dispatches, in order.
    pub fn dispatches(&self) -> &[Dispatch<'a, G>] {
        &self.dispatches
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }
}

impl<'a, G: Gpu> Dispatch<'a, G> {
    /// The same for a device that wraps this one.
    pub fn on<W>(&self) -> Dispatch<'a, W>
    where
        W: Gpu<Memory = G::Memory, Pipeline = G::Pipeline>,
    {
        let Self { pipeline, buffers, params, threadgroups, threads, threadgroup_bytes, waits } = self;
        Dispatch {
            pipeline,
            buffers: Bindings { bindings: buffers.bindings, len: buffers.len },
            params: *params,
            threadgroups: *threadgroups,
            threads: *threads,
            threadgroup_bytes: *threadgroup_bytes,
            waits: *waits,
        }
    }
}

impl<G: Gpu> Default for Step<'_, G> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, M: Memory> Bindings<'a, M> {
    /// These buffers, the one of index 0 first.
    pub fn new<const N: usize>(buffers: [&'a M; N]) -> Self {
        Self::optional(buffers.map(Some))
    }

    /// The same, where some may be left out.
    pub fn optional<const N: usize>(buffers: [Option<&'a M>; N]) -> Self {
        const { assert!(N <= MOST_BUFFERS) };
        let mut bindings = [None; MOST_BUFFERS];
        for (binding, memory) in bindings.iter_mut().zip(buffers) {
            *binding = memory.map(|memory| Binding { memory, offset: 0 });
        }
        Self { bindings, len: N }
    }

    /// Lets the buffer of index `index` begin at the byte `offset`.
    #[must_use]
    pub fn at(mut self, index: usize, offset: usize) -> Self {
        if let Some(binding) = &mut self.bindings[..self.len][index] {
            assert!(
                offset <= binding.memory.size_bytes(),
                "byte {offset} of {}",
                binding.memory.size_bytes()
            );
            binding.offset = offset;
        }
        self
    }

    /// Each buffer, by its index.
    pub fn iter(&self) -> impl Iterator<Item = Option<&Binding<'a, M>>> {
        self.bindings[..self.len].iter().map(Option::as_ref)
    }

    /// The index behind the last one: that of the parameters.
    pub fn params_index(&self) -> usize {
        self.len
    }
}

impl<M> Clone for Binding<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Binding<'_, M> {}

impl<M: Memory> Binding<'_, M> {
    /// Bytes from where it begins.
    pub fn size_bytes(&self) -> usize {
        self.memory.size_bytes() - self.offset
    }
}

impl Params {
    /// These members, the first one first.
    pub fn new<const N: usize>(members: [u32; N]) -> Self {
        const { assert!(N <= MOST_WORDS) };
        let mut words = [0; MOST_WORDS];
        words[..N].copy_from_slice(&members);
        Self { words, len: N }
    }

    /// The members.
    pub fn words(&self) -> &[u32] {
        &self.words[..self.len]
    }
}
