//! The files of a task of the tree form, at the client's own paths: a skeleton of
//! folders in which inputs are hard links into the store, to be mounted read-only; and a
//! writable folder in place of each one that outputs are written to, whose inputs are
//! copies. What a compile can write to is never the store's. Skeletons are used again: the
//! next task has mostly the same headers, and to make a folder or a file costs a disk much
//! more than to link one. Unaware of mounts and of the link.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hg_proto::secure::private::make_folder;
use hg_proto::wire::digest::Digest;

use crate::files::removal::remove_tree;
use crate::files::store::{self, Store};
use crate::inputs::blobs::Sink;
use crate::inputs::layout::{Entry, Layout, TASK, below, make_public_folder};
use crate::inputs::validate::{Input, Order};
use crate::log::{self, Level};

/// Folders of one task, those that only lead to others among them.
const FOLDERS_MAX: usize = 8192;

/// Normalised paths, so that they can be compared as bytes, in a fraction of the time.
/// Folders come before what is in them.
type Paths = BTreeSet<OsString>;

/// What trees are made of: the store of contents, and skeletons to be used again.
#[derive(Debug)]
pub struct Trees {
    folder: PathBuf,
    store: Store,
    /// Skeletons that no task uses, in the order in which they were last used.
    idle: Mutex<Vec<Skeleton>>,
    idle_max: usize,
    made: AtomicU64,
}

impl Trees {
    /// Opens both in the worker's folder `state`, and keeps at most `bytes_max` bytes of
    /// contents and `idle_max` skeletons. What a crash left is cleared.
    ///
    /// # Errors
    /// The file system says no.
    pub fn open(state: &Path, bytes_max: u64, idle_max: usize) -> io::Result<Self> {
        // On the store's file system: hard links don't cross to another.
        let folder = state.join("trees");
        remove_tree(&folder)?;
        make_folder(&folder)?;
        Ok(Trees {
            folder: folder.canonicalize()?,
            store: Store::open(&state.join("blobs"), bytes_max)?,
            idle: Mutex::default(),
            idle_max,
            made: AtomicU64::new(0),
        })
    }

    /// The store of contents that were received once.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Removes the skeletons that no task uses.
    pub fn drop_idle(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Skeleton>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A skeleton for the toolchain of `layout`, without the optional paths that are `taken`
    /// by the task: the one that was used last, or an empty one.
    fn skeleton(&self, layout: &Arc<Layout>, taken: Vec<PathBuf>) -> io::Result<Skeleton> {
        let suits = |s: &Skeleton| Arc::ptr_eq(&s.layout, layout) && s.taken == taken;
        let mut idle = self.idle();
        let at = idle.iter().rposition(suits);
        if let Some(skeleton) = at.map(|at| idle.remove(at)) {
            return Ok(skeleton);
        }
        drop(idle);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Skeleton::new(self.folder.join(number.to_string()), layout, taken)
    }

    fn give_back(&self, skeleton: Skeleton) {
        let mut idle = self.idle();
        idle.push(skeleton);
        let too_many = idle.len() > self.idle_max;
        let oldest = too_many.then(|| idle.remove(0));
        // Without the lock: that takes a while.
        drop(idle);
        drop(oldest);
    }
}

/// An input that is in a skeleton.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    digest: Digest,
    /// It is a copy, and no link into the store: another input has the same content.
    is_copy: bool,
}

/// Folders with the files of the last task that used them; removed when dropped.
#[derive(Debug)]
struct Skeleton {
    folder: PathBuf,
    layout: Arc<Layout>,
    /// Optional paths of the layout that the task has files of its own at.
    taken: Vec<PathBuf>,
    /// Folders of the task that the layout has not.
    folders: Paths,
    files: BTreeMap<OsString, Placed>,
}

impl Skeleton {
    fn new(folder: PathBuf, layout: &Arc<Layout>, taken: Vec<PathBuf>) -> io::Result<Self> {
        make_folder(&folder)?;
        let skeleton = Skeleton {
            folder,
            layout: layout.clone(),
            taken,
            folders: BTreeSet::new(),
            files: BTreeMap::new(),
        };
        fs::create_dir(skeleton.mount_point())?;
        fs::create_dir(skeleton.inbox())?;
        layout.write_without(&skeleton.root(), &skeleton.taken)?;
        for name in ["home", "tmp"] {
            make_public_folder(&below(&skeleton.root(), &Path::new(TASK).join(name)))?;
        }
        Ok(skeleton)
    }

    fn mount_point(&self) -> PathBuf {
        self.folder.join("at")
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn inbox(&self) -> PathBuf {
        self.folder.join("in")
    }

    /// Removes the last task's files that are not in `files`, and makes exactly these
    /// `folders`.
    fn adapt_to(
        &mut self,
        files: &BTreeMap<OsString, Placed>,
        mut folders: Paths,
    ) -> io::Result<()> {
        let root = self.root();
        for entry in fs::read_dir(self.inbox())? {
            fs::remove_file(entry?.path())?;
        }
        let layout = &self.layout;
        let is_its_own = |path: &OsString| {
            let path = Path::new(path);
            !layout.has_folder(path) || self.taken.iter().any(|taken| taken == path)
        };
        folders.retain(is_its_own);
        let is_stale = |path: &OsString, placed: &mut Placed| files.get(path) != Some(placed);
        for (path, _) in self.files.extract_if(.., is_stale) {
            fs::remove_file(below(&root, Path::new(&path)))?;
        }
        let empty: Vec<&OsString> = self.folders.difference(&folders).collect();
        for path in empty.into_iter().rev() {
            fs::remove_dir(below(&root, Path::new(path)))?;
        }
        for path in folders.difference(&self.folders) {
            make_public_folder(&below(&root, Path::new(path)))?;
        }
        self.folders = folders;
        Ok(())
    }
}

impl Drop for Skeleton {
    fn drop(&mut self) {
        // No compile could write to it, so it holds no traps.
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.folder.display();
                log::line(Level::Warn, format_args!("{path}: {error}"));
            }
            _ => {}
        }
    }
}

/// Why a tree can't be made.
#[derive(Debug)]
pub enum TreeError {
    /// The task is at fault: why, in words.
    Refused(String),
    /// This machine is at fault.
    Io(io::Error),
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        TreeError::Io(error)
    }
}

/// A bind mount in the root, to be made after those before it in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Folder of this machine.
    pub source: PathBuf,
    /// Path in the root.
    pub target: PathBuf,
    /// Outputs are written to it.
    pub writable: bool,
}

/// The files of one task. Its skeleton goes back to the idle ones when it is dropped.
#[derive(Debug)]
pub struct Tree<'a> {
    trees: &'a Trees,
    /// `None` only while the tree is dropped.
    skeleton: Option<Skeleton>,
    /// All inputs are in their places.
    is_complete: bool,
    /// Folder of all writable folders, in which each is called by its index.
    scratch: PathBuf,
    /// Paths in the root of writable folders. Sorted: outer ones first.
    writable: Vec<PathBuf>,
    binds: Vec<Bind>,
    /// Paths of inputs in writable folders, which are copies.
    copied: Paths,
    /// Index of the first input with each content.
    first: HashMap<Digest, usize>,
}

impl<'a> Tree<'a> {
    /// Makes all folders of `order`, beside a toolchain that is laid out like `layout`; the
    /// writable ones in `scratch`, which is empty.
    ///
    /// # Errors
    /// The task has paths that it may not have, or the file system says no.
    pub fn make(
        trees: &'a Trees,
        order: &Order,
        layout: &Arc<Layout>,
        scratch: &Path,
    ) -> Result<Self, TreeError> {
        let (folders, writable) = plan(order, layout).map_err(TreeError::Refused)?;
        let is_taken = |path: &&Path| order.inputs.iter().any(|i| i.path.starts_with(path));
        let taken = layout
            .optional_paths()
            .filter(is_taken)
            .map(Path::to_path_buf);
        let mut tree = Tree {
            trees,
            skeleton: Some(trees.skeleton(layout, taken.collect())?),
            is_complete: false,
            scratch: scratch.to_path_buf(),
            writable: writable.into_iter().map(PathBuf::from).collect(),
            binds: Vec::new(),
            copied: BTreeSet::new(),
            first: HashMap::new(),
        };
        let mut files = BTreeMap::new();
        for (at, input) in order.inputs.iter().enumerate() {
            let first = *tree.first.entry(input.digest).or_insert(at);
            if tree.writable_path(&input.path).is_some() {
                tree.copied.insert(input.path.clone().into());
            } else {
                let placed = Placed {
                    digest: input.digest,
                    is_copy: first != at,
                };
                files.insert(input.path.clone().into(), placed);
            }
        }
        tree.make_writable(&folders, layout)?;
        tree.skeleton_mut().adapt_to(&files, folders)?;
        Ok(tree)
    }

    /// Makes the writable folders, with mount points in them for the folders below.
    fn make_writable(&mut self, folders: &Paths, layout: &Layout) -> io::Result<()> {
        let leading = |(path, entry)| matches!(entry, &Entry::Folder).then_some(path);
        let all = || folders.iter().map(Path::new);
        let all = || all().chain(layout.entries().filter_map(leading));
        let (skeleton, mut binds) = (self.skeleton_root(), Vec::new());
        for (at, folder) in self.writable.iter().enumerate() {
            let source = self.scratch.join(at.to_string());
            fs::create_dir(&source)?;
            // Some folders are both the task's and the toolchain's.
            let inner: BTreeSet<&Path> = all().filter(|p| p.parent() == Some(folder)).collect();
            for path in &inner {
                fs::create_dir(source.join(path.file_name().unwrap_or_default()))?;
            }
            binds.push(Bind {
                source,
                target: folder.clone(),
                writable: true,
            });
            // The inner folders stay read-only, and hold links into the store.
            let read = inner.into_iter();
            let read = read.filter(|path| self.writable.iter().all(|other| other != path));
            binds.extend(read.map(|path| Bind {
                source: below(&skeleton, path),
                target: path.to_path_buf(),
                writable: false,
            }));
        }
        self.binds = binds;
        Ok(())
    }

    fn skeleton(&self) -> &Skeleton {
        self.skeleton.as_ref().expect("a tree that is not dropped")
    }

    fn skeleton_mut(&mut self) -> &mut Skeleton {
        self.skeleton.as_mut().expect("a tree that is not dropped")
    }

    /// Folder that the root is to be mounted at.
    pub fn mount_point(&self) -> PathBuf {
        self.skeleton().mount_point()
    }

    /// Folder of the root, to be mounted read-only.
    pub fn skeleton_root(&self) -> PathBuf {
        self.skeleton().root()
    }

    /// What is to be mounted in the root, in this order.
    pub fn binds(&self) -> &[Bind] {
        &self.binds
    }

    /// Whether the task has files of its own at an optional path of the layout.
    pub fn replaces(&self, path: &Path) -> bool {
        self.skeleton().taken.iter().any(|taken| taken == path)
    }

    /// Path on this machine of a `path` that lies directly in a writable folder; `None`: it
    /// does not.
    pub fn writable_path(&self, path: &Path) -> Option<PathBuf> {
        let folder = path.parent()?;
        let at = self
            .writable
            .binary_search_by(|w| w.as_os_str().cmp(folder.as_os_str()));
        let at = at.ok()?;
        Some(self.scratch.join(at.to_string()).join(path.file_name()?))
    }

    /// Path in the root of a file that is at `path` relative to the folder of all writable
    /// folders.
    pub fn path_in_root(&self, path: &Path) -> PathBuf {
        let mut parts = path.components();
        let at = parts
            .next()
            .and_then(|at| at.as_os_str().to_str()?.parse().ok());
        let folder = at.and_then(|at: usize| self.writable.get(at));
        folder.map_or_else(|| path.to_path_buf(), |folder| folder.join(parts.as_path()))
    }

    /// Whether an input is at `path` in a writable folder.
    pub fn is_copied(&self, path: &Path) -> bool {
        self.copied.contains(path.as_os_str())
    }

    /// File that receives the content of input number `at`, the first one that has it: in
    /// the input's own place unless that is writable.
    fn file_for(&self, at: usize, input: &Input) -> PathBuf {
        match self.copied.contains(input.path.as_os_str()) {
            true => self.skeleton().inbox().join(at.to_string()),
            false => below(&self.skeleton_root(), &input.path),
        }
    }

    /// Links what the store has and the skeleton has not. Gives the numbers of inputs that
    /// have to be received, one for each content.
    ///
    /// # Errors
    /// The file system says no.
    pub fn link_stored(&mut self, order: &Order) -> io::Result<Vec<usize>> {
        let mut lacking = Vec::new();
        for (at, input) in order.inputs.iter().enumerate() {
            if self.first.get(&input.digest) != Some(&at)
                || self.skeleton().files.contains_key(input.path.as_os_str())
            {
                continue;
            }
            match self
                .trees
                .store
                .link(input.digest, input.size, &self.file_for(at, input))?
            {
                true => self.note_placed(at, input),
                false => lacking.push(at),
            }
        }
        Ok(lacking)
    }

    /// Notes that an input is in the skeleton now, if its place is in there.
    fn note_placed(&mut self, at: usize, input: &Input) {
        if !self.copied.contains(input.path.as_os_str()) {
            let placed = Placed {
                digest: input.digest,
                is_copy: self.first.get(&input.digest) != Some(&at),
            };
            self.skeleton_mut()
                .files
                .insert(input.path.clone().into(), placed);
        }
    }

    /// Number of the first input with the content of input number `at`.
    pub fn first_with_content_of(&self, order: &Order, at: usize) -> Option<usize> {
        self.first.get(&order.inputs.get(at)?.digest).copied()
    }

    /// Sink for the content of input number `at`, which [`Tree::link_stored`] gave.
    ///
    /// # Errors
    /// The file system says no, or zstd can't be had.
    pub fn sink(&self, order: &Order, at: usize) -> io::Result<Sink<File>> {
        let input = &order.inputs[at];
        let first = self.first.get(&input.digest).copied().unwrap_or(at);
        let file = File::create_new(self.file_for(first, &order.inputs[first]))?;
        Sink::of(file, input)
    }

    /// Stores the content of input number `at`, which is whole in `file`.
    ///
    /// # Errors
    /// The file system says no.
    pub fn store_received(&mut self, order: &Order, at: usize, file: &File) -> io::Result<()> {
        let first = self.first_with_content_of(order, at).unwrap_or(at);
        let input = &order.inputs[first];
        store::seal(file)?;
        let path = self.file_for(first, input);
        self.trees.store.insert(input.digest, input.size, &path)?;
        self.note_placed(first, input);
        Ok(())
    }

    /// Puts copies where they belong, once every content was received. Two inputs with one
    /// content are two files: compilers may ask whether they are the same.
    ///
    /// # Errors
    /// The file system says no.
    pub fn place_copies(&mut self, order: &Order) -> io::Result<()> {
        for (at, input) in order.inputs.iter().enumerate() {
            let first = self.first_with_content_of(order, at).unwrap_or(at);
            let from = self.file_for(first, &order.inputs[first]);
            match self.writable_path(&input.path) {
                Some(to) => store::copy(&from, &to)?,
                None if self.skeleton().files.contains_key(input.path.as_os_str()) => {}
                None => {
                    store::copy(&from, &below(&self.skeleton_root(), &input.path))?;
                    self.note_placed(at, input);
                }
            }
        }
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        // What a skeleton holds that failed half-way is unknown.
        if let Some(skeleton) = self.skeleton.take().filter(|_| self.is_complete) {
            self.trees.give_back(skeleton);
        }
    }
}

/// All folders that `order` needs, and those of them that outputs are written to.
fn plan(order: &Order, layout: &Layout) -> Result<(Paths, Paths), String> {
    let mut folders = Paths::new();
    let mut add = |folder: &Path| {
        for above in folder.ancestors() {
            // The folders that lead to a known one are known too.
            if above.parent().is_none() || !folders.insert(above.into()) {
                break;
            }
        }
        match folders.len() <= FOLDERS_MAX {
            true => Ok(()),
            false => Err("too many folders".to_owned()),
        }
    };
    let reserved = |path: &Path| format!("{path:?} is a place of the worker's own");
    let inputs = order.inputs.iter().map(|input| &input.path);
    let mut writable = Paths::new();
    for path in inputs.chain(&order.outputs) {
        if !layout.admits(path, true) {
            return Err(reserved(path));
        }
        add(path.parent().unwrap_or(path))?;
    }
    for folder in order.folders.iter().chain([&order.working_directory]) {
        if !layout.admits(folder, false) {
            return Err(reserved(folder));
        }
        add(folder)?;
    }
    for path in &order.outputs {
        let folder = path.parent().unwrap_or(path);
        if folder == Path::new("/") || layout.has_files_in(folder) {
            return Err(reserved(path));
        }
        writable.insert(folder.into());
    }
    Ok((folders, writable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::layout::Tools;
    use crate::inputs::validate::{Accepts, validate};
    use hg_proto::compiler::toolchain::{Family, Language};
    use hg_proto::options::args::Dialect;
    use hg_proto::v1;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    struct Bench {
        place: tempfile::TempDir,
        trees: Trees,
        layout: Arc<Layout>,
    }

    impl Bench {
        /// Its toolchain is a file at `PLACE/tool/bin/cc`.
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let here = place.path().canonicalize().unwrap();
            fs::create_dir_all(here.join("tool/bin")).unwrap();
            fs::write(here.join("tool/bin/cc"), "").unwrap();
            Bench {
                trees: Trees::open(&here.join("state"), 1 << 20, 2).unwrap(),
                layout: Arc::new(
                    Layout::without_headers(&Tools::Own(vec![here.join("tool/bin/cc")])).unwrap(),
                ),
                place,
            }
        }

        fn here(&self) -> PathBuf {
            self.place.path().canonicalize().unwrap()
        }

        fn make(&self, order: &Order) -> Result<Tree<'_>, TreeError> {
            let scratch = self.here().join("scratch");
            let _ = fs::remove_dir_all(&scratch);
            fs::create_dir(&scratch).unwrap();
            Tree::make(&self.trees, order, &self.layout, &scratch)
        }

        fn gather(&self, tree: &mut Tree<'_>, order: &Order, contents: &[&str]) -> Vec<usize> {
            let lacking = tree.link_stored(order).unwrap();
            for &at in &lacking {
                let mut sink = tree.sink(order, at).unwrap();
                sink.push(contents[at].as_bytes()).unwrap();
                let file = sink.finish().unwrap();
                tree.store_received(order, at, &file).unwrap();
            }
            tree.place_copies(order).unwrap();
            lacking
        }
    }

    /// `in.c` in `folder`, compiled to `object`, with these headers.
    fn order(folder: &str, object: &str, inputs: &[(&str, &str)], folders: &[&str]) -> Order {
        let input = |(path, content): &(&str, &str)| v1::Input {
            path: path.as_bytes().to_vec(),
            digest: Digest::of(content.as_bytes()).as_bytes().to_vec(),
            size: content.len() as u64,
            encoded_size: content.len() as u64,
            ..v1::Input::default()
        };
        let task = v1::Task {
            toolchain: Some(v1::Toolchain {
                digest: vec![7; 32],
                ..v1::Toolchain::default()
            }),
            arguments: vec![
                b"-c".into(),
                b"in.c".into(),
                [b"-o", object.as_bytes()].concat(),
            ],
            working_directory: folder.into(),
            inputs: inputs.iter().map(input).collect(),
            outputs: vec![object.into()],
            folders: folders.iter().map(|folder| (*folder).into()).collect(),
            tree: true,
            ..v1::Task::default()
        };
        let accepts = Accepts {
            dialect: Dialect {
                family: Family::Gcc,
                cxx_driver: false,
            },
            language: Language::C,
            tree: true,
        };
        validate(task, |_| Some(accepts)).unwrap()
    }

    #[test]
    fn what_can_be_written_to_is_never_the_stores() {
        let bench = Bench::new();
        let inputs = [
            ("/w/in.c", "source"),
            ("/w/beside.h", "beside"),
            ("/w/inner/a.h", "inner"),
            ("/w/inner/same.h", "inner"),
            ("/usr/include/b.h", "system"),
            ("/w/same.h", "system"),
        ];
        let contents = inputs.map(|(_, content)| content);
        let order = order("/w", "/w/in.o", &inputs, &["/w/empty/deep", "/opt"]);
        for round in 0..3 {
            let mut tree = bench.make(&order).unwrap();
            let lacking = bench.gather(&mut tree, &order, &contents);
            assert_eq!(lacking, if round == 0 { vec![0, 1, 2, 4] } else { vec![] });
            let (skeleton, scratch) = (tree.skeleton_root(), bench.here().join("scratch/0"));
            for (path, content) in inputs {
                let path = Path::new(path);
                let writable = tree.writable_path(path);
                let linked = below(&skeleton, path);
                assert_eq!(writable.is_some(), path.parent() == Some(Path::new("/w")));
                assert_eq!(linked.exists(), writable.is_none());
                let file = writable.clone().unwrap_or(linked);
                assert_eq!(fs::read_to_string(&file).unwrap(), content);
                let found = fs::metadata(&file).unwrap();
                let shared = found.nlink() > 1;
                // One of two with the same content is a file of its own.
                let alone = writable.is_some() || path.ends_with("inner/same.h");
                assert_eq!(shared, !alone, "{path:?}");
                assert_eq!(found.mtime(), 1_000_000_000);
            }
            assert!(skeleton.join("opt").is_dir() && skeleton.join("w/empty/deep").is_dir());
            assert!(skeleton.join("task/tmp").is_dir() && tree.mount_point().is_dir());
            let bind = |source: PathBuf, target: &str, writable| Bind {
                source,
                target: target.into(),
                writable,
            };
            let binds = [
                bind(scratch.clone(), "/w", true),
                bind(skeleton.join("w/empty"), "/w/empty", false),
                bind(skeleton.join("w/inner"), "/w/inner", false),
            ];
            assert_eq!(tree.binds(), binds);
            assert!(scratch.join("inner").is_dir() && scratch.join("empty").is_dir());
            assert_eq!(tree.path_in_root(Path::new("0/x/y")), Path::new("/w/x/y"));
            assert!(tree.is_copied(Path::new("/w/same.h")));
            assert!(!tree.is_copied(Path::new("/w/inner/same.h")));
            let folder = tree.skeleton().folder.clone();
            drop(tree);
            assert!(folder.exists());
            if round == 1 {
                bench.trees.drop_idle();
                assert!(!folder.exists());
            }
        }
    }

    /// Everything below `folder`, and what files hold.
    fn all(folder: &Path) -> BTreeMap<PathBuf, Option<String>> {
        let mut found = BTreeMap::new();
        let mut open = vec![folder.to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let content = path.is_file().then(|| fs::read_to_string(&path).unwrap());
                found.insert(path.clone(), content);
                if path.is_dir() {
                    open.push(path);
                }
            }
        }
        found
    }

    #[test]
    fn a_skeleton_that_is_used_again_has_nothing_of_the_last_task() {
        let bench = Bench::new();
        type Task<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let tasks: [Task<'_>; 6] = [
            (
                &[("/w/in.c", "1"), ("/i/a.h", "a"), ("/i/sub/b.h", "b")],
                &["/x/y"],
            ),
            (&[("/w/in.c", "2"), ("/i/a.h", "a"), ("/i/c.h", "b")], &[]),
            // A file in place of a folder, and one that is alone now.
            (
                &[
                    ("/w/in.c", "3"),
                    ("/i/a.h", "b"),
                    ("/i/sub", "b"),
                    ("/i/c.h", "b"),
                ],
                &[],
            ),
            (
                &[
                    ("/w/in.c", "3"),
                    ("/i/c.h", "b"),
                    ("/i/a.h", "b"),
                    ("/i/sub/d.h", "b"),
                ],
                &[],
            ),
            (
                &[("/w/in.c", "3"), ("/w/a.h", "b"), ("/i/c.h", "b")],
                &["/i/sub"],
            ),
            (&[("/w/in.c", "3"), ("/i/c.h", "b")], &["/x", "/w/x"]),
        ];
        let mut folders = BTreeSet::new();
        for (inputs, inner) in tasks {
            let contents: Vec<&str> = inputs.iter().map(|(_, content)| *content).collect();
            let order = order("/w", "/w/in.o", inputs, inner);
            let mut tree = bench.make(&order).unwrap();
            bench.gather(&mut tree, &order, &contents);
            folders.insert(tree.skeleton().folder.clone());
            // As a fresh worker would have it.
            let fresh = Bench {
                layout: bench.layout.clone(),
                ..Bench::new()
            };
            let mut other = fresh.make(&order).unwrap();
            fresh.gather(&mut other, &order, &contents);
            let relative = |root: PathBuf| {
                let all = all(&root).into_iter();
                let all = all.map(|(path, c)| (path.strip_prefix(&root).unwrap().to_path_buf(), c));
                all.collect::<Vec<_>>()
            };
            assert_eq!(
                relative(tree.skeleton_root()),
                relative(other.skeleton_root())
            );
            let mut inodes = BTreeSet::new();
            for input in &order.inputs {
                let path = tree.writable_path(&input.path);
                let path = path.unwrap_or_else(|| below(&tree.skeleton_root(), &input.path));
                assert!(
                    inodes.insert(fs::metadata(path).unwrap().ino()),
                    "{input:?}"
                );
            }
        }
        assert_eq!(folders.len(), 1);
    }

    #[test]
    fn idle_skeletons_have_a_bound() {
        let bench = Bench::new();
        let order = order("/w", "/w/in.o", &[("/w/in.c", "source")], &[]);
        let make = || {
            let mut tree = bench.make(&order).unwrap();
            bench.gather(&mut tree, &order, &["source"]);
            tree
        };
        let many: Vec<Tree<'_>> = (0..5).map(|_| make()).collect();
        assert_eq!(fs::read_dir(&bench.trees.folder).unwrap().count(), 5);
        drop(many);
        assert_eq!(fs::read_dir(&bench.trees.folder).unwrap().count(), 2);
    }

    #[test]
    fn a_writable_folder_in_another_one() {
        let bench = Bench::new();
        let inputs = [("/w/in.c", "source"), ("/w/a/b/x.h", "x")];
        let mut order = order("/w", "/w/in.o", &inputs, &[]);
        order.outputs.push("/w/a/b/in.d".into());
        let tree = bench.make(&order).unwrap();
        let targets = tree
            .binds()
            .iter()
            .map(|bind| (&bind.target, bind.writable));
        let targets: Vec<_> = targets
            .map(|(path, w)| (path.to_str().unwrap(), w))
            .collect();
        assert_eq!(targets, [("/w", true), ("/w/a", false), ("/w/a/b", true)]);
        assert!(tree.skeleton_root().join("w/a/b").is_dir());
        assert!(bench.here().join("scratch/0/a").is_dir());
        let header = Path::new("/w/a/b/x.h");
        assert_eq!(
            tree.writable_path(header),
            Some(bench.here().join("scratch/1/x.h"))
        );
    }

    #[test]
    fn places_of_the_workers_own_are_refused() {
        let bench = Bench::new();
        let here = bench.here();
        let tool = |path: &str| here.join("tool").join(path).to_str().unwrap().to_owned();
        let (cc, beside, below_cc) = (tool("bin/cc"), tool("bin/x.h"), tool("bin/cc/x.h"));
        let (object, above) = (
            tool("bin/in.o"),
            here.to_str().unwrap().to_owned() + "/in.o",
        );
        let source = ("/w/in.c", "source");
        let make = |folder: &str, object: &str, header: &str, folders: &[&str]| {
            let order = order(folder, object, &[source, (header, "x")], folders);
            bench.make(&order).map(drop)
        };
        make("/w", "/w/in.o", &beside, &[]).unwrap();
        // In a folder that leads to the toolchain there may be outputs.
        make("/w", &above, "/w/x.h", &[]).unwrap();
        for (folder, object, header, inner) in [
            ("/w", "/w/in.o", cc.as_str(), "/x"),
            ("/w", "/w/in.o", &below_cc, "/x"),
            ("/w", "/w/in.o", "/dev/null", "/x"),
            ("/w", "/w/in.o", "/dev/x.h", "/x"),
            ("/w", "/w/in.o", "/proc/self/x.h", "/x"),
            ("/w", "/w/in.o", "/task/x.h", "/x"),
            ("/w", "/w/in.o", "/w/x.h", &cc),
            ("/task", "/w/in.o", "/w/x.h", "/x"),
            ("/w", "/in.o", "/w/x.h", "/x"),
            ("/w", "/proc/in.o", "/w/x.h", "/x"),
            ("/w", "/task/tmp/in.o", "/w/x.h", "/x"),
            ("/w", &object, "/w/x.h", "/x"),
        ] {
            let refused = make(folder, object, header, &[inner]);
            let title = format!("{folder} {object} {header} {inner}");
            assert!(matches!(refused, Err(TreeError::Refused(_))), "{title}");
        }
        assert_eq!(fs::read_dir(&bench.trees.folder).unwrap().count(), 0);
    }

    #[test]
    fn folders_are_counted() {
        let bench = Bench::new();
        let deep: Vec<String> = (0..200)
            .map(|n| format!("/{n}{}/x.h", "/d".repeat(62)))
            .collect();
        let mut inputs = vec![("/w/in.c", "source")];
        inputs.extend(deep.iter().map(|path| (path.as_str(), "x")));
        let order = order("/w", "/w/in.o", &inputs, &[]);
        match bench.make(&order) {
            Err(TreeError::Refused(why)) => assert_eq!(why, "too many folders"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_content_that_is_wrong_is_not_kept() {
        let bench = Bench::new();
        let order = order("/w", "/w/in.o", &[("/w/in.c", "source")], &[]);
        let mut tree = bench.make(&order).unwrap();
        assert_eq!(tree.link_stored(&order).unwrap(), [0]);
        let mut sink = tree.sink(&order, 0).unwrap();
        sink.push(b"sOurce").unwrap();
        assert!(sink.finish().is_err());
        drop(tree);
        assert_eq!(fs::read_dir(&bench.trees.folder).unwrap().count(), 0);
        let mut tree = bench.make(&order).unwrap();
        assert_eq!(tree.link_stored(&order).unwrap(), [0]);
        // Half of it, and then a crash.
        let mut sink = tree.sink(&order, 0).unwrap();
        sink.push(b"sou").unwrap();
        std::mem::forget(tree);
        let trees = Trees::open(&bench.here().join("state"), 1 << 20, 2).unwrap();
        assert_eq!(fs::read_dir(&trees.folder).unwrap().count(), 0);
        let mut file = File::create_new(bench.here().join("x")).unwrap();
        file.write_all(b"source").unwrap();
        let to = bench.here().join("y");
        assert!(!trees.store().link(Digest::of(b"source"), 6, &to).unwrap());
    }
}
