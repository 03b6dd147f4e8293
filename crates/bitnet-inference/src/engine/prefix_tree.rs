//! Which pages hold which tokens: prompts that begin alike are computed once.
//!
//! A node is a page of tokens behind those of its parent. What a page holds depends on all tokens in front of it, so a
//! prompt is looked up from the root. Tokens are compared, not hashed: what is found is never another prompt's.

use crate::backend::{PAGE, Page};

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(usize);

/// A tree of pages.
#[derive(Debug, Default)]
pub(super) struct PrefixTree {
    /// Places of nodes that are gone are used again.
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    roots: Vec<usize>,
    clock: u64,
}

#[derive(Debug)]
struct Node {
    page: Page,
    parent: Option<usize>,
    children: Vec<usize>,
    /// A page of them, or fewer at the end of a text.
    tokens: Box<[u32]>,
    last_used: u64,
}

/// What a tree holds of a prompt.
#[derive(Debug, Default)]
pub(super) struct Match {
    /// Pages whose tokens are all those of the prompt.
    pub(super) pages: Vec<Page>,
    /// The node of the last of them.
    pub(super) node: Option<NodeId>,
    /// A page that begins with the next tokens of the prompt, and how many of them it holds.
    pub(super) partial: Option<(Page, usize)>,
}

impl Match {
    /// Tokens of the prompt that are held.
    pub(super) fn tokens(&self) -> usize {
        self.pages.len() * PAGE + self.partial.map_or(0, |(_, tokens)| tokens)
    }
}

impl PrefixTree {
    /// The longest beginning of `tokens` that is held.
    pub(super) fn find(&mut self, tokens: &[u32]) -> Match {
        self.clock += 1;
        let mut found = Match::default();
        let mut rest = tokens;
        loop {
            let parent = found.node.map(|node| node.0);
            let common = |child: usize| common_prefix(&self.node(child).tokens, rest);
            let best = self.children(parent).iter().map(|&child| (common(child), child)).max();
            let Some((held, child)) = best.filter(|(held, _)| *held > 0) else { return found };
            self.touch(child);
            let page = self.node(child).page;
            if held < PAGE {
                found.partial = Some((page, held));
                return found;
            }
            found.pages.push(page);
            found.node = Some(NodeId(child));
            rest = &rest[PAGE..];
        }
    }

    /// Enters a page with its `tokens`, behind the node `parent`, or what it has got since it was entered. Where the tree
    /// has another page with the same tokens, that one is given back instead; a page of which this is only the beginning is
    /// one, too.
    pub(super) fn enter(
        &mut self,
        parent: Option<NodeId>,
        tokens: &[u32],
        page: Page,
    ) -> Result<NodeId, (NodeId, Page)> {
        self.clock += 1;
        let parent = parent.map(|node| node.0);
        let holds = |child: &&usize| self.node(**child).tokens.starts_with(tokens);
        if let Some(&child) = self.children(parent).iter().find(holds) {
            self.touch(child);
            return Err((NodeId(child), self.node(child).page));
        }
        if let Some(&child) = self.children(parent).iter().find(|child| self.node(**child).page == page) {
            self.touch(child);
            self.node_mut(child).tokens = tokens.into();
            return Ok(NodeId(child));
        }
        let (tokens, last_used) = (tokens.into(), self.clock);
        let node = Node { page, parent, children: Vec::new(), tokens, last_used };
        let id = self.free.pop().unwrap_or(self.nodes.len());
        if id == self.nodes.len() {
            self.nodes.push(None);
        }
        self.nodes[id] = Some(node);
        self.children_mut(parent).push(id);
        Ok(NodeId(id))
    }

    /// Removes the page that has not been used for longest, of those that nothing is behind and that may go.
    pub(super) fn evict(&mut self, may_go: impl Fn(Page) -> bool) -> Option<Page> {
        let leaves = self.nodes.iter().enumerate().filter_map(|(id, node)| Some((id, node.as_ref()?)));
        let leaves = leaves.filter(|(_, node)| node.children.is_empty() && may_go(node.page));
        let (id, _) = leaves.min_by_key(|(_, node)| node.last_used)?;
        let node = self.nodes[id].take()?;
        self.free.push(id);
        self.children_mut(node.parent).retain(|child| *child != id);
        Some(node.page)
    }

    /// Number of pages.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    fn touch(&mut self, id: usize) {
        self.node_mut(id).last_used = self.clock;
    }

    fn node(&self, id: usize) -> &Node {
        self.nodes[id].as_ref().expect("ids in the tree are those of nodes")
    }

    fn node_mut(&mut self, id: usize) -> &mut Node {
        self.nodes[id].as_mut().expect("ids in the tree are those of nodes")
    }

    fn children(&self, parent: Option<usize>) -> &[usize] {
        parent.map_or(&self.roots, |parent| &self.node(parent).children)
    }

    fn children_mut(&mut self, parent: Option<usize>) -> &mut Vec<usize> {
        match parent {
            Some(parent) => &mut self.node_mut(parent).children,
            None => &mut self.roots,
        }
    }
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(len: usize, end: u32) -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..len as u32).collect();
        tokens[len - 1] = end;
        tokens
    }

    #[test]
    fn what_was_entered_is_found_as_far_as_it_is_the_same() {
        let mut tree = PrefixTree::default();
        let text = tokens(PAGE + 10, 999);
        let first = tree.enter(None, &text[..PAGE], Page(5)).unwrap();
        tree.enter(Some(first), &text[PAGE..], Page(6)).unwrap();
        let found = tree.find(&text);
        assert_eq!(
            (found.pages.as_slice(), found.partial, found.tokens()),
            (&[Page(5)][..], Some((Page(6), 10)), 74)
        );
        assert_eq!(tree.find(&tokens(PAGE + 10, 3)).partial, Some((Page(6), 9)));
        let other = tree.find(&tokens(PAGE, 7));
        assert_eq!((other.pages.len(), other.partial), (0, Some((Page(5), PAGE - 1))));
        assert_eq!(tree.find(&[7]).tokens(), 0);
        assert_eq!(tree.find(&[]).tokens(), 0);
    }

    #[test]
    fn the_same_tokens_are_held_once() {
        let mut tree = PrefixTree::default();
        let first = tree.enter(None, &[1, 2, 3], Page(0)).unwrap();
        assert_eq!(tree.enter(None, &[1, 2, 3], Page(1)), Err((first, Page(0))));
        assert_eq!(tree.enter(None, &[1, 2], Page(1)), Err((first, Page(0))));
        let second = tree.enter(None, &[1, 2, 4], Page(1)).unwrap();
        assert_eq!(tree.enter(None, &[1, 2, 4, 5], Page(1)), Ok(second), "it has got one more");
        assert_eq!((tree.len(), tree.find(&[1, 2, 4, 5]).tokens()), (2, 4));
    }

    #[test]
    fn the_leaf_that_was_not_used_for_longest_goes_first() {
        let mut tree = PrefixTree::default();
        let text = tokens(2 * PAGE, 0);
        let root = tree.enter(None, &text[..PAGE], Page(0)).unwrap();
        tree.enter(Some(root), &text[PAGE..], Page(1)).unwrap();
        tree.enter(None, &[500], Page(2)).unwrap();
        tree.find(&text);
        assert_eq!(tree.evict(|_| true), Some(Page(2)));
        assert_eq!(tree.evict(|page| page != Page(1)), None, "its child keeps the root");
        assert_eq!(tree.evict(|_| true), Some(Page(1)));
        assert_eq!(tree.evict(|_| true), Some(Page(0)));
        assert_eq!((tree.evict(|_| true), tree.len()), (None, 0));
        assert!(tree.enter(None, &[1], Page(3)).is_ok(), "places are used again");
        assert_eq!(tree.nodes.len(), 3);
    }
}
