//! Gathers the tree form of a task: the source and every header that its compile
//! could reach, each by digest at its own absolute path, and the folders that the
//! compiler would find. Reads each file once.
//!
//! A path that the worker lacks must be one that this machine lacks too: whatever can't be
//! followed, or could mean something else in another place, is refused, and the compile goes
//! another way.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::Path;

use foldhash::{HashMap, HashSet};
use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{Argument, Compile, Dialect, Reason};
use hg_proto::v1::{Encoding, Input};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::{
    OUTPUTS_MAX, PATH_BYTES_MAX, TREE_BYTES_MAX, TREE_FOLDERS_MAX, TREE_INPUTS_MAX,
};
use hg_proto::wire::plain_path::{is_plain, plain};

use crate::grid::payload::Payload;
use crate::includes::closure::{self, Closure, Settled, Walked};
use crate::includes::dependency_list::Listed;
use crate::includes::part::Part;
use crate::includes::paths::{self, ancestors};
use crate::includes::search_path::{self, INSTALLATION_MARK, SearchPath};
use crate::includes::stat::{self, Seen, Stat};
use crate::includes::walk_input;
use crate::os;

use crate::includes::watch::Watch;

/// Variables that change what a compiler reads or writes down, and do not travel.
const VARIABLES: [&str; 6] = [
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "OBJCPLUS_INCLUDE_PATH",
    "LLVM_OVERRIDE_PRODUCER",
];

/// Files and folders of one compile, ready to travel.
#[derive(Debug)]
pub struct Tree {
    /// Where the compiler runs.
    pub folder: Vec<u8>,
    /// Inputs in order of their paths.
    pub inputs: Vec<Input>,
    /// The content of each input.
    pub contents: Vec<Payload>,
    /// Folders that no input or output is in.
    pub folders: Vec<Vec<u8>>,
    /// The facts under which the result holds.
    pub closure: Closure,
}

fn reason(code: &'static str, detail: &[u8]) -> Reason {
    Reason::new(code, detail)
}

/// Whether a command line can go in the tree form; no file is read.
///
/// # Errors
/// Why it can't.
pub fn may_be(compile: &Compile, dialect: Dialect) -> Result<(), Reason> {
    compile.tree.clone()?;
    let sides = compile.side_outputs();
    if sides.len() > OUTPUTS_MAX - 2 {
        return Err(reason("extra-output", sides[0].option.as_bytes()));
    }
    if let Some(name) = VARIABLES.iter().find(|name| env::var_os(name).is_some()) {
        return Err(reason("environment", name.as_bytes()));
    }
    search_path::refuse(compile, dialect)
}

/// Gathers what `compile` could read. `headers` is the memo of the system's headers, and
/// `settled` the proof of a preprocessor run, if there was one.
///
/// # Errors
/// Why it can't travel in this form.
pub fn gather(
    compile: &Compile,
    dialect: Dialect,
    responses: &[Vec<u8>],
    search_path: &SearchPath,
    headers: Option<&Path>,
    settled: Option<&Settled>,
) -> Result<Tree, Reason> {
    let folder = working_folder()?;
    let known = Remembered { headers, settled };
    gather_in(folder, compile, dialect, responses, search_path, known)
}

/// What is known before anything is read.
#[derive(Default)]
struct Remembered<'a> {
    headers: Option<&'a Path>,
    settled: Option<&'a Settled>,
}

fn gather_in(
    folder: Vec<u8>,
    compile: &Compile,
    dialect: Dialect,
    responses: &[Vec<u8>],
    search_path: &SearchPath,
    known: Remembered<'_>,
) -> Result<Tree, Reason> {
    let (none, watch) = (Listed::default(), Watch::default());
    let listed = known.settled.map_or(&none, |settled| &settled.listed);
    let mut input =
        walk_input::of_compile(compile, dialect, responses, search_path, listed, &watch);
    input.for_worker = true;
    input.headers = known.headers;
    input.settled = known.settled;
    let Walked {
        closure,
        parts,
        has_links,
        has_embeds,
    } = closure::gather_parts(&input)?;
    let mut tree = Gathering {
        folder,
        files: BTreeMap::new(),
        folders: BTreeSet::new(),
        places: HashMap::default(),
        looked_at: HashSet::default(),
        not_linked: HashSet::default(),
        has_links,
        bytes: 0,
    };
    for part in parts {
        tree.add_part(part)?;
    }
    for fact in &closure.files {
        // Another name of one that was read, in the same folder.
        if !tree.files.contains_key(&tree.normal_path(&fact.path)?) {
            return Err(reason("linked-header", &fact.path));
        }
        tree.add_folders_on_the_way(&fact.path)?;
    }
    for fact in &closure.folders {
        tree.add_folder(&fact.path)?;
    }
    let named = compile
        .arguments
        .iter()
        .filter(|a| search_path::names_folder(a));
    let named = named.map(Argument::value);
    let mut searched: Vec<&[u8]> = named.collect();
    for more in [
        &search_path.quoted,
        &search_path.angled,
        &search_path.left_out,
    ] {
        searched.extend(more.iter().map(Vec::as_slice));
    }
    searched.sort_unstable();
    searched.dedup();
    for path in searched {
        tree.add_search_folder(path)?;
    }
    for installation in &search_path.installations {
        tree.add_installation_mark(&[installation, &b"/"[..], INSTALLATION_MARK].concat())?;
    }
    if tree.has_links {
        let tells_paths = |a: &Argument| a.spelling() == "-fdiagnostics-absolute-paths";
        let by_real_path = has_embeds || compile.arguments.iter().any(tells_paths);
        tree.check_links(&closure, by_real_path, dialect)?;
    }
    let outputs = compile.tree_outputs(&tree.folder);
    let sides = compile.side_outputs();
    let sides = sides.into_iter().map(|side| Some(side.path));
    for path in [Some(compile.output_path()), compile.dependency_path()]
        .into_iter()
        .chain(sides)
    {
        tree.add_output_path(&path.unwrap_or_default())?;
    }
    tree.finish(closure, &outputs)
}

/// The working directory, as the compiler will spell it.
fn working_folder() -> Result<Vec<u8>, Reason> {
    let folder = env::current_dir().map_err(|_| reason("working-directory", b""))?;
    let folder = os::bytes(folder.as_os_str());
    // What leads here by another name is believed, and a worker would not have it.
    if os::pwd().is_some_and(|pwd| os::bytes(&pwd) != folder) || !is_plain(folder) {
        return Err(reason("working-directory", folder));
    }
    Ok(folder.to_vec())
}

/// A tree in the making.
struct Gathering {
    /// The working directory.
    folder: Vec<u8>,
    files: BTreeMap<Vec<u8>, (Digest, Payload)>,
    folders: BTreeSet<Vec<u8>>,
    /// The path of each device and inode: two paths to one file are two files on a worker.
    places: HashMap<(u64, u64), Vec<u8>>,
    /// Folders that were looked at.
    looked_at: HashSet<Vec<u8>>,
    /// Paths that are no links, and lead through none.
    not_linked: HashSet<Vec<u8>>,
    /// There are links on the way to inputs.
    has_links: bool,
    bytes: u64,
}

impl Gathering {
    /// `path` as an absolute path without `.`, `..` and doubled slashes.
    fn normal_path(&self, path: &[u8]) -> Result<Vec<u8>, Reason> {
        let plain = plain(&self.folder, path);
        match plain.len() > PATH_BYTES_MAX {
            true => Err(reason("odd-path", path)),
            false => Ok(plain),
        }
    }

    /// Refuses a second path to the same device and inode.
    fn claim_inode(&mut self, place: (u64, u64), path: &[u8]) -> Result<(), Reason> {
        match self.places.get(&place) {
            Some(known) if known != path => Err(reason("linked-header", path)),
            Some(_) => Ok(()),
            None => {
                self.places.insert(place, path.to_vec());
                Ok(())
            }
        }
    }

    fn add_part(&mut self, part: Part) -> Result<(), Reason> {
        let (path, known) = (part.path, part.known);
        let digest = match &part.text {
            // What was learnt just now has it already.
            Some(text) if known.digest.is_empty() => Digest::of(text),
            _ => Digest::try_from(&known.digest[..]).map_err(|_| reason("tree", &path))?,
        };
        let content = match part.text {
            Some(text) => Payload::Held(text.into()),
            None => Payload::File {
                path: os::from_bytes(path.clone()).into(),
                size: known.stat.size,
                digest,
            },
        };
        self.add_file(&path, known.stat, digest, content)
    }

    fn add_file(
        &mut self,
        path: &[u8],
        stat: Stat,
        digest: Digest,
        content: Payload,
    ) -> Result<(), Reason> {
        let plain = self.normal_path(path)?;
        self.claim_inode((stat.device, stat.inode), &plain)?;
        self.bytes += content.size();
        if self.files.len() >= TREE_INPUTS_MAX || self.bytes > TREE_BYTES_MAX {
            return Err(reason("too-many-inputs", path));
        }
        self.files.insert(plain, (digest, content));
        Ok(())
    }

    /// Folders that a path leads through and out of again: `a` in `a/../b`. Out of a link it
    /// would lead elsewhere.
    fn add_folders_on_the_way(&mut self, path: &[u8]) -> Result<(), Reason> {
        for at in ancestors(path) {
            if let Some(inner) = at.strip_suffix(b"/..") {
                let folder = plain(&self.folder, inner);
                self.folders.insert(folder);
                self.refuse_links(inner)?;
            }
        }
        Ok(())
    }

    /// Refuses files behind links that a compiler would call by another name than the one by
    /// which a worker has them: gcc takes the real path of a header of the system where that
    /// is shorter. `by_real_path`: the compiler asks for real paths anyway.
    fn check_links(
        &mut self,
        closure: &Closure,
        by_real_path: bool,
        dialect: Dialect,
    ) -> Result<(), Reason> {
        for fact in &closure.files {
            let Err(refused) = self.refuse_links(&fact.path) else {
                continue;
            };
            let real = std::fs::canonicalize(paths::as_path(&fact.path));
            let real = real.map_err(|_| reason("input-changed", &fact.path))?;
            let is_shorter = os::bytes(real.as_os_str()).len() < fact.path.len();
            // Folders that lie there are where the toolchain is: `/lib`.
            let in_root = |at: &[u8]| paths::parent(at) == b"/" && paths::as_path(at).is_symlink();
            let leads_from_root = ancestors(&fact.path).any(in_root);
            let by_name = dialect.family == Family::Gcc && is_shorter;
            if by_real_path || by_name || leads_from_root {
                return Err(refused);
            }
        }
        Ok(())
    }

    fn add_folder(&mut self, path: &[u8]) -> Result<(), Reason> {
        if !self.looked_at.insert(path.to_vec()) {
            return Ok(());
        }
        let plain = self.normal_path(path)?;
        self.add_folders_on_the_way(path)?;
        match stat::of(path) {
            Seen::Folder(stat) => self.claim_inode((stat.device, stat.inode), &plain)?,
            _ => return Err(reason("input-changed", path)),
        }
        self.folders.insert(plain);
        Ok(())
    }

    /// Adds a folder of the search path; the compiler may warn of one that does not exist.
    fn add_search_folder(&mut self, path: &[u8]) -> Result<(), Reason> {
        match stat::of(path) {
            Seen::Folder(_) => {
                self.has_links |= self.refuse_links(path).is_err();
                self.add_folder(path)
            }
            Seen::Absent => self.add_existing_on_the_way(path),
            _ => Err(reason("odd-path", path)),
        }
    }

    /// Adds the existing folders that a missing one's path leads through: the compiler would
    /// warn of `a/../none` otherwise where there is no `a`.
    fn add_existing_on_the_way(&mut self, path: &[u8]) -> Result<(), Reason> {
        let is_there = |at: &&[u8]| matches!(stat::of(at), Seen::Folder(_));
        match ancestors(path).find(is_there) {
            Some(at) => self.add_folders_on_the_way(at),
            None => Ok(()),
        }
    }

    /// Adds the file by which clang finds a gcc.
    fn add_installation_mark(&mut self, path: &[u8]) -> Result<(), Reason> {
        self.refuse_links(path)?;
        self.add_folders_on_the_way(path)?;
        let (text, content) = stat::read(path).map_err(|_| reason("input-changed", path))?;
        let digest = Digest::of(&text);
        self.add_file(path, content.stat, digest, Payload::Held(text.into()))
    }

    /// Adds the folders that the path of an output leads through.
    fn add_output_path(&mut self, path: &[u8]) -> Result<(), Reason> {
        if path.split(|byte| *byte == b'/').any(|part| part == b"..") {
            self.refuse_links(paths::parent(path))?;
            self.add_folders_on_the_way(path)?;
        }
        Ok(())
    }

    /// Refuses a path that is a link, or leads through one.
    fn refuse_links(&mut self, path: &[u8]) -> Result<(), Reason> {
        for at in ancestors(path) {
            if self.not_linked.contains(at) {
                break;
            }
            if paths::as_path(at).is_symlink() {
                return Err(reason("linked-header", at));
            }
        }
        let all = ancestors(path).map(<[u8]>::to_vec);
        self.not_linked.extend(all);
        Ok(())
    }

    fn finish(mut self, closure: Closure, outputs: &[Vec<u8>]) -> Result<Tree, Reason> {
        if let Some(path) = outputs.iter().find(|path| self.files.contains_key(*path)) {
            return Err(reason("output", path));
        }
        let mut there = BTreeSet::from([b"/".to_vec()]);
        let paths = self.files.keys().chain(outputs).chain([&self.folder]);
        let above = self.folders.iter().map(|folder| paths::parent(folder));
        for path in paths.map(Vec::as_slice).chain(above) {
            for at in ancestors(path) {
                // With all that is above it.
                if !there.insert(at.to_vec()) {
                    break;
                }
            }
        }
        self.folders.retain(|folder| !there.contains(folder));
        if self.folders.len() > TREE_FOLDERS_MAX {
            return Err(reason("too-many-inputs", b"folders"));
        }
        let mut inputs = Vec::with_capacity(self.files.len());
        let mut contents = Vec::with_capacity(self.files.len());
        for (path, (digest, content)) in self.files {
            let size = content.size();
            inputs.push(Input {
                path,
                digest: digest.as_bytes().to_vec(),
                size,
                encoding: Encoding::Identity.into(),
                encoded_size: size,
            });
            contents.push(content);
        }
        Ok(Tree {
            folder: self.folder,
            inputs,
            contents,
            folders: self.folders.into_iter().collect(),
            closure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::options::args;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    const GCC: Dialect = Dialect {
        family: Family::Gcc,
        cxx_driver: false,
    };

    struct Space(PathBuf);

    impl Space {
        fn new(name: &str, files: &[(&str, &str)]) -> Space {
            let folder = env::temp_dir().join(format!("hg-tree-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            let space = Space(folder.canonicalize().unwrap());
            for (name, text) in files {
                let path = space.0.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            space
        }

        fn path(&self, name: &str) -> Vec<u8> {
            os::bytes(self.0.join(name).as_os_str()).to_vec()
        }

        /// Paths are absolute: where a test runs is nobody's business.
        fn gather(&self, words: &str, angled: &[&str]) -> Result<Tree, Reason> {
            let words = words.replace("@", &self.0.display().to_string());
            let words: Vec<Vec<u8>> = words.split(' ').map(|w| w.into()).collect();
            let compile = args::parse(GCC, &words).unwrap();
            let search_path = SearchPath {
                angled: angled.iter().map(|name| self.path(name)).collect(),
                ..SearchPath::default()
            };
            let folder = self.path("work");
            gather_in(
                folder,
                &compile,
                GCC,
                &[],
                &search_path,
                Remembered::default(),
            )
        }

        fn shown(&self, paths: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
            let start = format!("{}/", self.0.display());
            let text = paths.map(|path| String::from_utf8(path).unwrap());
            text.map(|path| path.replace(&start, "")).collect()
        }
    }

    impl Drop for Space {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn all_that_could_be_read_and_folders_on_the_way() {
        let space = Space::new(
            "all",
            &[
                (
                    "src/a.c",
                    "#include \"../inc/a.h\"\n#ifdef X\n#include <x.h>\n#endif\n",
                ),
                ("inc/a.h", "#include \"way/../b.h\"\n"),
                ("inc/b.h", ""),
                ("inc/way/keep", ""),
                ("sys/x.h", "x"),
                ("empty/keep", ""),
                ("work/keep", ""),
            ],
        );
        let words = "-g -c @/src/a.c -o @/out/a.o";
        let tree = space.gather(words, &["sys", "empty", "none"]).unwrap();
        let paths = tree.inputs.iter().map(|input| input.path.clone());
        assert_eq!(
            space.shown(paths),
            ["inc/a.h", "inc/b.h", "src/a.c", "sys/x.h"]
        );
        let folders = tree.folders.iter().cloned();
        assert_eq!(space.shown(folders), ["empty", "inc/way"]);
        for (input, content) in tree.inputs.iter().zip(&tree.contents) {
            let content = content.bytes().unwrap();
            assert_eq!(input.digest, Digest::of(&content).as_bytes());
            assert_eq!(input.size, content.len() as u64);
        }
        assert!(tree.inputs.iter().all(|input| is_plain(&input.path)));
    }

    #[test]
    fn what_would_be_another_thing_there() {
        let space = Space::new(
            "refused",
            &[
                ("a.c", "#include \"h.h\"\n"),
                ("real.h", "r"),
                ("b.c", "#include \"one.h\"\n#include \"two.h\"\n"),
                ("one.h", ""),
                ("c.c", "#include \"dir/f.h\"\n"),
                ("folder/f.h", ""),
                ("d.c", "#include <e.h>\n"),
                ("folder/e.h", ""),
                ("e.c", "#include NAME\n#define NAME STR(x)\n"),
                ("f.c", "#include <device.h>\n"),
                ("g.c", "#include \"h.h\"\n#include \"real.h\"\n"),
                ("work/keep", ""),
            ],
        );
        symlink("real.h", space.0.join("h.h")).unwrap();
        fs::hard_link(space.0.join("one.h"), space.0.join("two.h")).unwrap();
        symlink("folder", space.0.join("dir")).unwrap();
        symlink("nowhere", space.0.join("dangling.c")).unwrap();
        symlink("/dev/null", space.0.join("device.h")).unwrap();
        let code = |words: &str, angled: &[&str]| {
            let gathered = space.gather(words, angled);
            gathered.map_or_else(|reason| reason.code, |_| "gathered")
        };
        assert_eq!(code("-c @/a.c", &[]), "gathered");
        assert_eq!(code("-c @/b.c", &[]), "linked-header");
        assert_eq!(code("-c @/c.c", &[]), "gathered");
        assert_eq!(code("-c @/d.c", &["dir"]), "gathered");
        assert_eq!(code("-c @/d.c", &["folder", "dir"]), "linked-header");
        assert_eq!(code("-c @/d.c", &["dir/../folder"]), "linked-header");
        assert_eq!(code("-c @/g.c", &[]), "linked-header");
        assert_eq!(code("-c @/d.c", &["folder"]), "gathered");
        assert_eq!(code("-c @/d.c", &["folder", "real.h"]), "odd-path");
        assert_eq!(code("-c @/e.c", &[]), "computed-include");
        assert_eq!(code("-c @/f.c", &["."]), "odd-path");
        assert_eq!(
            code("-c @/d.c -o @/dir/../d.o", &["folder"]),
            "linked-header"
        );
        assert_eq!(code("-c @/d.c -o @/folder/e.h", &["folder"]), "output");
    }
}
