use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use lamplighter_types::Hash;
use lamplighter_types::merkle::sparse::{EMPTY, shared_bits};

use super::nodes::{InnerNode, LeafNode, NO_NODE, NodeKind, NodeRef, Nodes, number};
use super::page_file::{PageFile, Place, StoredPage};
use super::{LeafChange, PAGE_KEYS_MAX};
use crate::StateError;

/// A subtree of 1 to [`PAGE_KEYS_MAX`] keys.
#[derive(Debug)]
struct Page {
    hash: Hash,
    /// Its nodes, if they are in memory.
    root: NodeRef,
    /// Where it was written, if it ever was.
    place: Option<Place>,
    keys: u8,
    /// It is not what is in its place.
    changed: bool,
    /// It was used since it was last looked at for space.
    used: bool,
    /// It stands in the queue of those in memory, perhaps from an earlier use of its number.
    queued: bool,
}

/// The end of a path to a key.
#[derive(Debug)]
pub(super) enum PathEnd {
    /// The leaf there, if any.
    Found(Option<LeafNode>),
    /// The page with the rest of the path, at a depth of the tree and with this hash.
    Stored {
        page: StoredPage,
        depth: usize,
        hash: Hash,
    },
}

impl PathEnd {
    /// The leaf at the end, after the rest of the way past the given siblings.
    pub fn leaf(
        self,
        key: &Hash,
        pass: &mut dyn FnMut(Hash),
    ) -> Result<Option<LeafNode>, StateError> {
        match self {
            Self::Found(leaf) => Ok(leaf),
            Self::Stored { page, depth, hash } => {
                let mut nodes = Nodes::default();
                let root = grow_page(&mut nodes, depth, &page.read()?, &hash)?;
                Ok(nodes.descend(root, depth, key, pass))
            }
        }
    }
}

/// The result of one subtree while pages are cut.
enum Cut {
    /// Few enough keys for a page, which is not made yet.
    Small(NodeRef, usize),
    /// Pages with nodes above.
    Large(NodeRef),
}

/// All pages of a tree, with all nodes. A page that is not in memory is in the file, unless there
/// is none: then all stay.
#[derive(Debug)]
pub(super) struct PageTable {
    pub nodes: Nodes,
    /// Number of keys of all pages.
    pub keys: usize,
    /// Pages that were read ahead of the change that is going on.
    pub fetched: BTreeMap<usize, Vec<LeafChange>>,
    pages: Vec<Page>,
    free_pages: Vec<u32>,
    /// Pages in memory; the one that is next looked at for space is first.
    in_memory: VecDeque<u32>,
    keys_in_memory_max: usize,
    file: Option<PageFile>,
}

impl PageTable {
    pub fn in_memory() -> Self {
        Self::with(None, usize::MAX)
    }

    pub fn on_disk(dir: PathBuf, keys_in_memory_max: usize) -> Self {
        Self::with(Some(PageFile::new(dir)), keys_in_memory_max)
    }

    pub fn empty_like(&self) -> Self {
        let file = self.dir().map(PageFile::new);
        Self::with(file, self.keys_in_memory_max)
    }

    fn with(file: Option<PageFile>, keys_in_memory_max: usize) -> Self {
        Self {
            nodes: Nodes::default(),
            keys: 0,
            fetched: BTreeMap::new(),
            pages: Vec::new(),
            free_pages: Vec::new(),
            in_memory: VecDeque::new(),
            keys_in_memory_max,
            file,
        }
    }

    /// The folder of the file, if pages may go there.
    pub fn dir(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.dir().clone())
    }

    pub fn memory_bytes(&self) -> usize {
        let numbers = self.free_pages.capacity() + self.in_memory.capacity();
        self.nodes.memory_bytes()
            + self.pages.capacity() * size_of::<Page>()
            + numbers * size_of::<u32>()
            + self.file.as_ref().map_or(0, PageFile::memory_bytes)
    }

    pub fn hash(&self, page: usize) -> Hash {
        self.pages[page].hash
    }

    /// The number of keys of nothing or of a page; none for a node above pages.
    pub fn keys_of(&self, at: NodeRef) -> Option<usize> {
        match at.kind() {
            NodeKind::Nothing => Some(0),
            NodeKind::End(page) => Some(self.pages[page].keys.into()),
            NodeKind::Inner(_) => None,
        }
    }

    /// A page that is not in memory.
    pub fn stored(&self, page: usize) -> Option<StoredPage> {
        let Page {
            root, place, keys, ..
        } = self.pages[page];
        let file = self.file.as_ref().filter(|_| root == NO_NODE)?;
        Some(file.stored(place?, keys.into()))
    }

    /// Reads the leaves of a page, unless it is in memory. They are not checked.
    pub fn read(&self, page: usize) -> Result<Option<Vec<LeafChange>>, StateError> {
        let stored = self.stored(page).map(|stored| stored.read());
        Ok(stored.transpose()?)
    }

    /// Walks down the path of `key` in a page at `depth`, past the given siblings. A page that is
    /// not in memory does not come there; it is still to be read.
    pub fn descend(
        &self,
        page: usize,
        depth: usize,
        key: &Hash,
        pass: &mut dyn FnMut(Hash),
    ) -> PathEnd {
        let Page { root, hash, .. } = self.pages[page];
        match self.stored(page) {
            Some(stored) => PathEnd::Stored {
                page: stored,
                depth,
                hash,
            },
            None => PathEnd::Found(self.nodes.descend(root, depth, key, pass)),
        }
    }

    /// Makes the pages of a subtree of changes that are not deletions, where nothing was before.
    pub fn grow(&mut self, depth: usize, changes: &[LeafChange]) -> Result<NodeRef, StateError> {
        let before = self.nodes.leaf_count();
        let root = self.nodes.grow(depth, changes);
        self.keys += self.nodes.leaf_count() - before;
        let cut = self.cut(root);
        self.make_space()?;
        Ok(cut)
    }

    /// Applies sorted changes, each key once, to a page; returns what takes its place.
    pub fn change(
        &mut self,
        page: usize,
        depth: usize,
        changes: &[LeafChange],
    ) -> Result<NodeRef, StateError> {
        let root = self.bring(page, depth)?;
        let before = self.nodes.leaf_count();
        let root = self.nodes.change(root, depth, changes);
        let after = self.nodes.leaf_count();
        self.keys = self.keys + after - before;
        let keys = usize::from(self.pages[page].keys) + after - before;
        let changed = if (1..=PAGE_KEYS_MAX).contains(&keys) {
            self.set(page, root, keys);
            NodeRef::end(page)
        } else {
            self.release(page);
            self.cut(root)
        };
        self.make_space()?;
        Ok(changed)
    }

    /// Makes one page of two small ones, or of one and nothing, below the node `inner` at `depth`.
    pub fn merge(
        &mut self,
        inner: usize,
        depth: usize,
        left: NodeRef,
        right: NodeRef,
    ) -> Result<NodeRef, StateError> {
        let mut roots = [NO_NODE; 2];
        for (root, side) in roots.iter_mut().zip([left, right]) {
            if let NodeKind::End(page) = side.kind() {
                *root = self.bring(page, depth + 1)?;
            }
        }
        for side in [left, right] {
            if let NodeKind::End(page) = side.kind() {
                self.release(page);
            }
        }
        let root = self.nodes.join(Some(inner), roots[0], roots[1]);
        Ok(self.cut(root))
    }

    /// Returns the root of a page, which is in memory now.
    fn bring(&mut self, page: usize, depth: usize) -> Result<NodeRef, StateError> {
        let leaves = match self.fetched.remove(&page) {
            Some(leaves) if self.pages[page].root == NO_NODE => Some(leaves),
            _ => self.read(page)?,
        };
        if let Some(leaves) = leaves {
            let hash = self.pages[page].hash;
            self.pages[page].root = grow_page(&mut self.nodes, depth, &leaves, &hash)?;
            self.queue(page);
        }
        Ok(self.pages[page].root)
    }

    /// Cuts a subtree without pages into pages; returns what is above them.
    fn cut(&mut self, root: NodeRef) -> NodeRef {
        match self.cut_below(root) {
            Cut::Small(root, keys) => self.page_of(root, keys),
            Cut::Large(root) => root,
        }
    }

    fn cut_below(&mut self, at: NodeRef) -> Cut {
        let NodeKind::Inner(inner) = at.kind() else {
            return Cut::Small(at, usize::from(at != NO_NODE));
        };
        let InnerNode { hash, left, right } = self.nodes.inner(inner);
        let sides = [self.cut_below(left), self.cut_below(right)];
        if let [Cut::Small(_, left), Cut::Small(_, right)] = sides
            && left + right <= PAGE_KEYS_MAX
        {
            return Cut::Small(at, left + right);
        }
        let [left, right] = sides.map(|side| match side {
            Cut::Small(root, keys) => self.page_of(root, keys),
            Cut::Large(root) => root,
        });
        let node = InnerNode { hash, left, right };
        self.nodes.set_inner(inner, node);
        Cut::Large(at)
    }

    fn page_of(&mut self, root: NodeRef, keys: usize) -> NodeRef {
        if keys == 0 {
            return NO_NODE;
        }
        let page = match self.free_pages.pop() {
            Some(page) => page as usize,
            None => {
                self.pages.push(Page {
                    hash: EMPTY,
                    root: NO_NODE,
                    place: None,
                    keys: 0,
                    changed: false,
                    used: false,
                    queued: false,
                });
                self.pages.len() - 1
            }
        };
        self.set(page, root, keys);
        self.queue(page);
        NodeRef::end(page)
    }

    /// Gives a page new contents, which are in memory.
    fn set(&mut self, page: usize, root: NodeRef, keys: usize) {
        let hash = self.nodes.hash(root);
        let page = &mut self.pages[page];
        page.changed |= page.hash != hash;
        page.hash = hash;
        page.root = root;
        page.keys = u8::try_from(keys).expect("at most PAGE_KEYS_MAX");
        page.used = true;
    }

    /// Frees the number of a page and its place in the file, but not its nodes.
    fn release(&mut self, page: usize) {
        let released = &mut self.pages[page];
        released.hash = EMPTY;
        released.root = NO_NODE;
        if let (Some(place), Some(file)) = (released.place.take(), &mut self.file) {
            file.free(place);
        }
        self.free_pages.push(number(page));
    }

    fn queue(&mut self, page: usize) {
        if !self.pages[page].queued && self.file.is_some() {
            self.pages[page].queued = true;
            self.in_memory.push_back(number(page));
        }
    }

    /// Takes pages out of memory while there are too many, first those that were not used lately.
    fn make_space(&mut self) -> Result<(), StateError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        while self.nodes.leaf_count() > self.keys_in_memory_max {
            let Some(next) = self.in_memory.pop_front() else {
                break;
            };
            let page = &mut self.pages[next as usize];
            if page.root == NO_NODE {
                page.queued = false;
                continue;
            }
            if page.used {
                page.used = false;
                self.in_memory.push_back(next);
                continue;
            }
            if page.changed {
                let mut leaves = Vec::with_capacity(PAGE_KEYS_MAX);
                self.nodes.collect(page.root, &mut leaves);
                page.place = Some(file.write(page.place.take(), &leaves)?);
                page.changed = false;
            }
            self.nodes.free(page.root);
            page.root = NO_NODE;
            page.queued = false;
        }
        Ok(())
    }
}

/// Makes the nodes of a page at `depth` from leaves that were read, and checks that they are those
/// that were written: what a file says is not believed.
fn grow_page(
    nodes: &mut Nodes,
    depth: usize,
    leaves: &[LeafChange],
    hash: &Hash,
) -> Result<NodeRef, StateError> {
    // Without this order the tree of the keys could be deeper than they have bits.
    let ordered = leaves.is_sorted_by(|a, b| a.0 < b.0);
    let together = match (leaves.first(), leaves.last()) {
        (Some(first), Some(last)) => shared_bits(&first.0, &last.0) >= depth,
        _ => false,
    };
    let root = if ordered && together {
        nodes.grow(depth, leaves)
    } else {
        NO_NODE
    };
    let found = nodes.hash(root);
    if found == *hash {
        return Ok(root);
    }
    nodes.free(root);
    Err(StateError::Mismatch {
        what: "a page of the state tree",
        expected: hash.to_string(),
        got: found.to_string(),
    })
}
