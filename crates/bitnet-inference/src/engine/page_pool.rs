//! The pages of a KV cache: who holds which, and which are kept for prompts to come.

use super::prefix_tree::{NodeId, PrefixTree};
use crate::backend::{PAGE, Page};

/// All pages of a session.
///
/// A page is held by sequences, by the tree of prefixes, by both, or is free. Who holds a page of the tree holds those in
/// front of it as well. A sequence writes only to pages that no other sequence holds, behind what the tree knows of them.
#[derive(Debug)]
pub(super) struct PagePool {
    owners: Vec<Owners>,
    free: Vec<Page>,
    /// Pages that sequences hold.
    in_use: usize,
    tree: PrefixTree,
}

#[derive(Debug, Clone, Copy, Default)]
struct Owners {
    sequences: u32,
    is_in_tree: bool,
}

/// The pages of one sequence.
#[derive(Debug, Default)]
pub(super) struct Pages {
    all: Vec<Page>,
    /// How many of them are in the tree, and the node of the last.
    entered: usize,
    node: Option<NodeId>,
}

impl Pages {
    /// In the order of the positions.
    pub(super) fn as_slice(&self) -> &[Page] {
        &self.all
    }
}

impl PagePool {
    /// A pool of free pages.
    pub(super) fn new(pages: usize) -> Self {
        Self {
            owners: vec![Owners::default(); pages],
            free: (0..pages as u32).rev().map(Page).collect(),
            in_use: 0,
            tree: PrefixTree::default(),
        }
    }

    /// Number of pages.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Pages that sequences hold.
    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Pages that can be had without taking any from a sequence.
    pub(super) fn available(&self) -> usize {
        self.len() - self.in_use
    }

    /// Tokens of the beginning of `tokens` that need not be computed.
    pub(super) fn held(&mut self, tokens: &[u32]) -> usize {
        self.tree.find(tokens).tokens()
    }

    /// Starts a sequence with what is held of the beginning of `tokens`, and says how many that are. A page that is the
    /// sequence's in part is copied by `copy(from, to)`.
    pub(super) fn start(&mut self, tokens: &[u32], copy: impl FnOnce(Page, Page)) -> (Pages, usize) {
        let found = self.tree.find(tokens);
        let mut pages = Pages { entered: found.pages.len(), node: found.node, all: found.pages };
        let mut held = pages.all.len() * PAGE;
        for page in &pages.all {
            self.hold(*page);
        }
        if let Some((from, tokens)) = found.partial {
            // The page must not be given away for its own copy.
            self.hold(from);
            if let Some(to) = self.take() {
                copy(from, to);
                pages.all.push(to);
                held += tokens;
            }
            self.release(from);
        }
        (pages, held)
    }

    /// Gives a sequence pages for `positions`; false when there are not enough, and those there were are its.
    pub(super) fn grow(&mut self, pages: &mut Pages, positions: usize) -> bool {
        while pages.all.len() < Page::count(positions) {
            let Some(page) = self.take() else { return false };
            pages.all.push(page);
        }
        true
    }

    /// Keeps the pages that are full of `tokens`, all that a sequence has computed, for others. Where another one computed
    /// the same before, its page takes the place of this one.
    pub(super) fn enter(&mut self, pages: &mut Pages, tokens: &[u32]) {
        for (index, tokens) in tokens.chunks_exact(PAGE).enumerate().skip(pages.entered) {
            let page = pages.all[index];
            let node = match self.tree.enter(pages.node, tokens, page) {
                Ok(node) => {
                    self.owners[page.0 as usize].is_in_tree = true;
                    node
                }
                Err((node, held)) => {
                    self.hold(held);
                    self.release(page);
                    pages.all[index] = held;
                    node
                }
            };
            (pages.node, pages.entered) = (Some(node), index + 1);
        }
    }

    /// [`Self::enter`], and the last page with what it has so far: its sequence goes on to write behind that.
    pub(super) fn enter_all(&mut self, pages: &mut Pages, tokens: &[u32]) {
        self.enter(pages, tokens);
        let rest = tokens.get(pages.entered * PAGE..).unwrap_or(&[]);
        let last = pages.all.get(pages.entered).filter(|_| !rest.is_empty());
        if let Some(&page) = last.filter(|page| self.tree.enter(pages.node, rest, **page).is_ok()) {
            self.owners[page.0 as usize].is_in_tree = true;
        }
    }

    /// Takes the pages of a sequence back, keeping those of its `tokens`, all that it has computed, as long as nobody
    /// needs them.
    pub(super) fn finish(&mut self, mut pages: Pages, tokens: &[u32]) {
        self.enter_all(&mut pages, tokens);
        for page in pages.all {
            self.release(page);
        }
    }

    /// A page that nobody holds; the one of the tree that was not used for longest where there is no other.
    fn take(&mut self) -> Option<Page> {
        let page = self.free.pop().or_else(|| {
            let owners = &mut self.owners;
            let page = self.tree.evict(|page| owners[page.0 as usize].sequences == 0)?;
            owners[page.0 as usize].is_in_tree = false;
            Some(page)
        })?;
        self.hold(page);
        Some(page)
    }

    fn hold(&mut self, page: Page) {
        let owners = &mut self.owners[page.0 as usize];
        self.in_use += usize::from(owners.sequences == 0);
        owners.sequences += 1;
    }

    fn release(&mut self, page: Page) {
        let owners = &mut self.owners[page.0 as usize];
        owners.sequences -= 1;
        if owners.sequences == 0 {
            self.in_use -= 1;
            if !owners.is_in_tree {
                self.free.push(page);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a page holds: all tokens up to each of its positions.
    type Contents = Vec<Vec<Vec<u32>>>;

    /// A sequence whose tokens are computed as far as it has them.
    struct Sequence {
        pages: Pages,
        tokens: Vec<u32>,
        computed: usize,
    }

    /// Writes what each position depends on, and checks that nobody else holds its page.
    fn compute(pool: &PagePool, contents: &mut Contents, sequence: &mut Sequence) {
        for position in sequence.computed..sequence.tokens.len() {
            let page = sequence.pages.as_slice()[position / PAGE];
            let owners = pool.owners[page.0 as usize];
            assert_eq!(owners.sequences, 1, "{page:?} is written, and held by others");
            let slots = &mut contents[page.0 as usize];
            slots.truncate(position % PAGE);
            slots.push(sequence.tokens[..=position].to_vec());
        }
        sequence.computed = sequence.tokens.len();
    }

    fn check(pool: &PagePool, contents: &Contents, sequences: &[Sequence]) {
        for Sequence { pages, tokens, computed } in sequences {
            for position in 0..*computed {
                let page = pages.as_slice()[position / PAGE];
                assert_eq!(contents[page.0 as usize][position % PAGE], tokens[..=position]);
            }
        }
        let held = pool.owners.iter().filter(|owners| owners.sequences > 0).count();
        let in_tree = pool.owners.iter().filter(|owners| owners.is_in_tree).count();
        let somewhere = pool.owners.iter().filter(|owners| owners.sequences > 0 || owners.is_in_tree).count();
        assert_eq!((held, in_tree), (pool.in_use(), pool.tree.len()));
        assert_eq!(somewhere + pool.free.len(), pool.len());
    }

    /// A few texts that begin alike.
    fn text(kind: u8, len: usize) -> Vec<u32> {
        let parts = [kind & 1, kind >> 1 & 1, kind >> 2].map(u32::from);
        (0..len as u32).map(|i| i * 10 + parts[(i as usize / 50).min(2)]).collect()
    }

    proptest! {
        #[test]
        fn pages_hold_what_their_sequences_computed(
            steps in prop::collection::vec((0_u8..16, 0_u8..3, 1_usize..200), 1..60),
        ) {
            let mut pool = PagePool::new(9);
            let mut contents: Contents = vec![Vec::new(); 9];
            let mut sequences: Vec<Sequence> = Vec::new();
            for (kind, action, len) in steps {
                match action {
                    // A new one.
                    0 => {
                        let tokens = text(kind, len);
                        let (pages, computed) = pool.start(&tokens[..len - 1], |from, to| {
                            contents[to.0 as usize] = contents[from.0 as usize].clone();
                        });
                        sequences.push(Sequence { pages, tokens, computed });
                    }
                    // One goes on, or gives up.
                    1 if !sequences.is_empty() => {
                        let at = kind as usize % sequences.len();
                        let next = sequences[at].tokens.len() as u32;
                        sequences[at].tokens.push(next + u32::from(kind));
                    }
                    2 if !sequences.is_empty() => {
                        let Sequence { pages, tokens, computed } =
                            sequences.swap_remove(kind as usize % sequences.len());
                        pool.finish(pages, &tokens[..computed]);
                    }
                    _ => {}
                }
                if let Some(sequence) = sequences.last_mut()
                    && pool.grow(&mut sequence.pages, sequence.tokens.len())
                {
                        compute(&pool, &mut contents, sequence);
                        match kind % 2 {
                            0 => pool.enter(&mut sequence.pages, &sequence.tokens),
                            _ => pool.enter_all(&mut sequence.pages, &sequence.tokens),
                        }
                }
                check(&pool, &contents, &sequences);
            }
            for Sequence { pages, tokens, computed } in sequences {
                pool.finish(pages, &tokens[..computed]);
            }
            prop_assert_eq!(pool.available(), pool.len());
        }
    }

    #[test]
    fn what_was_computed_is_held_until_its_pages_are_needed() {
        let mut pool = PagePool::new(4);
        let tokens = text(0, 2 * PAGE + 5);
        let (mut pages, held) = pool.start(&tokens, |_, _| unreachable!("nothing is held"));
        assert_eq!(held, 0);
        assert!(pool.grow(&mut pages, tokens.len()));
        pool.finish(pages, &tokens);
        assert_eq!((pool.held(&tokens), pool.available()), (tokens.len(), 4));
        let mut copied = None;
        let (pages, held) = pool.start(&tokens, |from, to| copied = Some((from, to)));
        assert_eq!((held, pages.as_slice().len(), copied.is_some()), (tokens.len(), 3, true));
        pool.finish(pages, &tokens);
        let mut other = Pages::default();
        assert!(pool.grow(&mut other, 4 * PAGE) && !pool.grow(&mut other, 5 * PAGE));
        assert_eq!((pool.held(&tokens), pool.available()), (0, 0));
    }
}
