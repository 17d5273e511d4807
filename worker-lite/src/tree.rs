//! The files of a task in the tree form, at the client's own paths: a skeleton of
//! folders in which inputs are further names of what the store keeps, to be mounted
//! for reading only; and a folder for each one that outputs are written in, whose
//! inputs are copies. What a compile can write to is never the store's. Unaware of
//! mounts and of the link.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hg_proto::digest::Digest;

use crate::blobs::Sink;
use crate::log::{self, Level};
use crate::root::{Entry, Layout, TASK, below, open_folder};
use crate::state::{make_private, remove_tree};
use crate::store::{self, Store};
use crate::validate::{Input, Order};

/// Folders of one task, those that lead to others too.
const FOLDERS_MAX: usize = 8192;

/// Where trees are made, and what they are made of.
#[derive(Debug)]
pub struct Trees {
    folder: PathBuf,
    store: Store,
}

impl Trees {
    /// In the worker's folder `state`, with at most `bytes_max` bytes of contents
    /// kept. What a crash left is cleared.
    ///
    /// # Errors
    /// The file system says no.
    pub fn open(state: &Path, bytes_max: u64) -> io::Result<Self> {
        // On one file system: a file has no two names on two.
        let folder = state.join("trees");
        remove_tree(&folder)?;
        make_private(&folder)?;
        Ok(Trees {
            folder: folder.canonicalize()?,
            store: Store::open(&state.join("blobs"), bytes_max)?,
        })
    }

    /// The contents that are kept.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Why a tree can't be made.
#[derive(Debug)]
pub enum TreeError {
    /// The sender's fault.
    Refused(String),
    /// This machine's.
    Io(io::Error),
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        TreeError::Io(error)
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::Refused(why) => f.write_str(why),
            TreeError::Io(error) => error.fmt(f),
        }
    }
}

/// What is to be mounted where, after what was named before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// A folder of this machine.
    pub source: PathBuf,
    /// A path in the root.
    pub target: PathBuf,
    /// Outputs are written in it.
    pub writable: bool,
}

/// One task's; gone when dropped.
#[derive(Debug)]
pub struct Tree {
    folder: PathBuf,
    /// The folder of all writable ones, each by its number.
    scratch: PathBuf,
    /// Their paths in the root. Sorted: outer ones first.
    writable: Vec<PathBuf>,
    binds: Vec<Bind>,
    /// This machine's own folders in which the task has something instead.
    taken: Vec<PathBuf>,
    /// Inputs in writable folders.
    copied: BTreeSet<PathBuf>,
    /// By content: the first input that has it.
    first: HashMap<Digest, usize>,
}

impl Tree {
    /// Makes all folders of `order`, beside a toolchain that is laid out like
    /// `layout`; the writable ones in `scratch`, which is empty. No input is there
    /// yet. `name` is the task's.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn make(
        trees: &Trees,
        name: &str,
        order: &Order,
        layout: &Layout,
        scratch: &Path,
    ) -> Result<Self, TreeError> {
        let (folders, writable) = plan(order, layout).map_err(TreeError::Refused)?;
        let is_taken = |path: &&Path| order.inputs.iter().any(|i| i.path.starts_with(path));
        let mut tree = Tree {
            folder: trees.folder.join(name),
            scratch: scratch.to_path_buf(),
            writable: writable.into_iter().collect(),
            binds: Vec::new(),
            taken: layout
                .yielding()
                .filter(is_taken)
                .map(Path::to_path_buf)
                .collect(),
            copied: BTreeSet::new(),
            first: HashMap::new(),
        };
        for (at, input) in order.inputs.iter().enumerate() {
            tree.first.entry(input.digest).or_insert(at);
            if tree.writable_of(&input.path).is_some() {
                tree.copied.insert(input.path.clone());
            }
        }
        make_private(&tree.folder)?;
        fs::create_dir(tree.place())?;
        fs::create_dir(tree.inbox())?;
        let skeleton = tree.skeleton();
        layout.write_without(&skeleton, &tree.taken)?;
        let own = ["home", "tmp"].map(|name| Path::new(TASK).join(name));
        for path in folders.iter().chain(&own) {
            match open_folder(&below(&skeleton, path)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        tree.bind(&folders, layout)?;
        Ok(tree)
    }

    /// Makes the writable folders, with places in them for the folders below.
    fn bind(&mut self, folders: &BTreeSet<PathBuf>, layout: &Layout) -> io::Result<()> {
        let leading = |(path, entry)| matches!(entry, &Entry::Folder).then_some(path);
        let all = folders.iter().map(PathBuf::as_path);
        let all: BTreeSet<&Path> = all.chain(layout.entries().filter_map(leading)).collect();
        let (skeleton, mut binds) = (self.skeleton(), Vec::new());
        for (at, folder) in self.writable.iter().enumerate() {
            let source = self.scratch.join(at.to_string());
            fs::create_dir(&source)?;
            let inner = all.iter().filter(|path| path.parent() == Some(folder));
            for path in inner.clone() {
                fs::create_dir(source.join(path.file_name().unwrap_or_default()))?;
            }
            binds.push(Bind {
                source,
                target: folder.clone(),
                writable: true,
            });
            // What is in those can be read, and is the same file for all.
            let read = inner.filter(|path| self.writable.iter().all(|other| other != *path));
            binds.extend(read.map(|path| Bind {
                source: below(&skeleton, path),
                target: path.to_path_buf(),
                writable: false,
            }));
        }
        self.binds = binds;
        Ok(())
    }

    /// Where the root is to be mounted.
    pub fn place(&self) -> PathBuf {
        self.folder.join("at")
    }

    /// What is to be mounted there, for reading only.
    pub fn skeleton(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// What is to be mounted in it, in this order.
    pub fn binds(&self) -> &[Bind] {
        &self.binds
    }

    /// Whether the task has something of its own in a folder that would yield to it.
    pub fn has_below(&self, path: &Path) -> bool {
        self.taken.iter().any(|taken| taken == path)
    }

    fn inbox(&self) -> PathBuf {
        self.folder.join("in")
    }

    /// Where a path of a writable folder lies on this machine; `None`: it is in none.
    pub fn writable_of(&self, path: &Path) -> Option<PathBuf> {
        let folder = path.parent()?;
        let at = self.writable.binary_search_by(|w| w.as_path().cmp(folder));
        let at = at.ok()?;
        Some(self.scratch.join(at.to_string()).join(path.file_name()?))
    }

    /// The path in the root of what lies at `path` below the writable folders' own.
    pub fn path_of(&self, path: &Path) -> PathBuf {
        let mut parts = path.components();
        let at = parts
            .next()
            .and_then(|at| at.as_os_str().to_str()?.parse().ok());
        let folder = at.and_then(|at: usize| self.writable.get(at));
        folder.map_or_else(|| path.to_path_buf(), |folder| folder.join(parts.as_path()))
    }

    /// Whether an input is at `path`, in a writable folder.
    pub fn is_copied(&self, path: &Path) -> bool {
        self.copied.contains(path)
    }

    /// Where a content that is wanted by input number `at` first of all is put: in
    /// its own place if that can only be read.
    fn file_of(&self, at: usize, input: &Input) -> PathBuf {
        match self.copied.contains(&input.path) {
            true => self.inbox().join(at.to_string()),
            false => below(&self.skeleton(), &input.path),
        }
    }

    /// Takes what the store has. The numbers of inputs that are lacking, each
    /// content once.
    ///
    /// # Errors
    /// The file system says no.
    pub fn take(&self, store: &Store, order: &Order) -> io::Result<Vec<usize>> {
        let mut lacking = Vec::new();
        for (at, input) in order.inputs.iter().enumerate() {
            let is_first = self.first.get(&input.digest) == Some(&at);
            if is_first && !store.take(input.digest, input.size, &self.file_of(at, input))? {
                lacking.push(at);
            }
        }
        Ok(lacking)
    }

    /// The first input that has the same content as input number `at`.
    pub fn first_of(&self, order: &Order, at: usize) -> Option<usize> {
        self.first.get(&order.inputs.get(at)?.digest).copied()
    }

    /// Where the content of input number `at`, which is lacking, goes as it comes.
    ///
    /// # Errors
    /// The file system says no, or zstd can't be had.
    pub fn sink(&self, order: &Order, at: usize) -> io::Result<Sink<File>> {
        let input = &order.inputs[at];
        let first = self.first.get(&input.digest).copied().unwrap_or(at);
        let file = File::create_new(self.file_of(first, &order.inputs[first]))?;
        Sink::new(
            file,
            input.encoding,
            input.encoded_size,
            input.size,
            input.digest,
        )
    }

    /// All of the content of input number `at` came, into `file`.
    ///
    /// # Errors
    /// The file system says no.
    pub fn came(&self, store: &Store, order: &Order, at: usize, file: &File) -> io::Result<()> {
        let input = &order.inputs[at];
        let first = self.first.get(&input.digest).copied().unwrap_or(at);
        store::settle(file)?;
        let path = self.file_of(first, &order.inputs[first]);
        store.keep(input.digest, input.size, &path)
    }

    /// Every content is there: puts copies where they belong. Two inputs with one
    /// content are two files: compilers may ask whether they are the same.
    ///
    /// # Errors
    /// The file system says no.
    pub fn complete(&self, order: &Order) -> io::Result<()> {
        for (at, input) in order.inputs.iter().enumerate() {
            let first = self.first.get(&input.digest).copied().unwrap_or(at);
            let from = self.file_of(first, &order.inputs[first]);
            match self.writable_of(&input.path) {
                Some(to) => store::copy(&from, &to)?,
                None if first != at => store::copy(&from, &below(&self.skeleton(), &input.path))?,
                None => {}
            }
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // No compile could write in it: there are no traps in it.
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            let path = self.folder.display();
            log::line(Level::Warn, format_args!("{path}: {error}"));
        }
    }
}

/// All folders that `order` needs, and those of them that outputs are written in.
fn plan(order: &Order, layout: &Layout) -> Result<(BTreeSet<PathBuf>, BTreeSet<PathBuf>), String> {
    let mut folders = BTreeSet::new();
    let mut add = |folder: &Path| {
        for above in folder.ancestors() {
            // What leads to a folder that is known is known.
            if above.parent().is_none() || !folders.insert(above.to_path_buf()) {
                break;
            }
        }
        match folders.len() <= FOLDERS_MAX {
            true => Ok(()),
            false => Err("too many folders".to_owned()),
        }
    };
    let ours = |path: &Path| format!("{path:?} is a place of the worker's own");
    let inputs = order.inputs.iter().map(|input| &input.path);
    let mut writable = BTreeSet::new();
    for path in inputs.chain(&order.outputs) {
        if !layout.takes(path, true) {
            return Err(ours(path));
        }
        add(path.parent().unwrap_or(path))?;
    }
    for folder in order.folders.iter().chain([&order.working_directory]) {
        if !layout.takes(folder, false) {
            return Err(ours(folder));
        }
        add(folder)?;
    }
    for path in &order.outputs {
        let folder = path.parent().unwrap_or(path);
        if folder == Path::new("/") || layout.occupies(folder) {
            return Err(ours(path));
        }
        writable.insert(folder.to_path_buf());
    }
    Ok((folders, writable))
}
