//! Every file that a compile could have read, and every name that it looked for in vain:
//! found by following the include directives of the source. Refuses what can't be followed,
//! and files that changed since the compile began.

mod computed;
mod expand;
mod memory;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{Compile, Dialect, Reason, SourceKind};
use memchr::memmem;

use crate::includes::dependency_list::Listed;
use crate::includes::devices::Devices;
use crate::includes::facts::{FileFact, FolderFact, state_of};
use crate::includes::macro_names::strings_of;
use crate::includes::part::Part;
use crate::includes::paths::{as_path, join, name_in, parent, split, without_slash};
use crate::includes::search_path::SearchPath;
use crate::includes::stat::{self, Content, Seen, Stat};
use crate::includes::stat_cache::{FolderId, Look, StatCache};
use crate::includes::unchanged::Unchanged;
use crate::includes::watch::Watch;
use crate::source::hazards::{self, Assembled, AssemblerFile, Signs};
use crate::source::scan::{self, Header, Scan};
use computed::Computed;
use memory::Memory;

/// Files of one compile.
const FILES_MAX: usize = 20_000;
/// Bytes of all files of one compile.
const BYTES_MAX: u64 = 512 << 20;
/// Names that are looked for in a folder one by one before the whole folder is listed.
const FEW_NAMES: usize = 4;
/// What clang takes of a folder that is named as a profile.
const DEFAULT_PROFILE: &[u8] = b"default.profdata";
/// Names that one compile may look for.
const NAMES_MAX: usize = 200_000;

/// The reason of a compile whose only trouble is that it asks for headers in a way that
/// can't be followed.
pub const COMPUTED_QUESTION: &str = "computed-question";

/// The reason of an include whose name can't be told.
const COMPUTED_INCLUDE: &str = "computed-include";

/// Proof of a preprocessor run that the compiler sees neither what changes with time nor
/// assembler text that may read a file.
#[derive(Debug, Clone)]
pub struct Settled {
    /// When the preprocessor began, nanoseconds since 1970: it proves nothing of younger
    /// files.
    pub before_ns: i64,
    /// Files that the preprocessor read.
    pub listed: Listed,
    /// A pragma that gcc carries out only when it compiles: right in the system's headers,
    /// and a reason to refuse elsewhere.
    pub late: Option<Reason>,
    /// What the assembler reads.
    pub assembled: Assembled,
}

/// Reasons that the compiler may never see: in a group that is skipped, in a macro that is
/// not used, in words that are never pasted together.
const DOUBTS: [&str; 3] = [
    hazards::TIME_MACRO,
    hazards::ASM_FILE_DIRECTIVE,
    COMPUTED_INCLUDE,
];

/// Whether a preprocessor run may dispel `reason` of `compile`. clang has none for what was
/// preprocessed, and expands macros that are left in it; gcc takes it as it is.
pub fn is_doubt(reason: &Reason, compile: &Compile, dialect: Dialect) -> bool {
    let settles = match compile.kind {
        SourceKind::Code | SourceKind::Assembler => true,
        SourceKind::PreprocessedCode => dialect.family == Family::Gcc,
        SourceKind::PreprocessedAssembler => false,
    };
    settles && DOUBTS.contains(&reason.code)
}

/// A compile to be followed, and what is known of it.
#[derive(Debug)]
pub struct WalkInput<'a> {
    /// The source's path, as typed.
    pub source: &'a [u8],
    /// What the source is.
    pub kind: SourceKind,
    /// The compiler follows no directives in the source.
    pub is_verbatim: bool,
    /// Headers that options or the compiler itself include.
    pub forced: Vec<Header>,
    /// Folders that options and variables name, existing or not.
    pub named: Vec<Vec<u8>>,
    /// Files that are read and are no source text: lists, profiles.
    pub data: Vec<Vec<u8>>,
    /// Response files (`@file`).
    pub responses: &'a [Vec<u8>],
    /// Where headers are looked for.
    pub search_path: &'a SearchPath,
    /// Files that the compiler listed.
    pub listed: &'a Listed,
    /// Macros of the command line, as `NAME VALUE`.
    pub macros: Vec<Vec<u8>>,
    /// gcc takes `name.h.gch` for `name.h`.
    pub precompiled: bool,
    /// Options or variables name system folders: gcc shortens the paths of headers that
    /// it finds there, and looks beside the shorter one.
    pub shortened: bool,
    /// Proof of a preprocessor run, where the files left doubts.
    pub settled: Option<&'a Settled>,
    /// The compile is to come, on a worker that has the gathered files, each at its own
    /// path, and nothing else: what can't be the same there is refused, and the files'
    /// texts are kept.
    pub for_worker: bool,
    /// `__asm` needs no brackets (Microsoft's).
    pub asm_blocks: bool,
    /// The dialect is C90: `//` is no comment.
    pub c90: bool,
    /// When the compile began, nanoseconds since 1970: a younger file is refused.
    pub began_ns: i64,
    /// Folders that were watched since then.
    pub watch: &'a Watch,
    /// The file in which the system's headers are remembered.
    pub headers: Option<&'a Path>,
}

/// The facts under which a compile's result holds.
#[derive(Debug, Clone)]
pub struct Closure {
    /// The source first.
    pub files: Vec<FileFact>,
    /// Folders in which names were looked for, in order of their paths.
    pub folders: Vec<FolderFact>,
}

fn reason(code: &'static str, detail: &[u8]) -> Reason {
    Reason::new(code, detail)
}

/// Signs of hazards in macros of the command line.
fn signs_of(lines: &[Vec<u8>]) -> Signs {
    let text = [&lines.join(&b"\n"[..])[..], b"\n"].concat();
    let code = scan::code_of(&text);
    let mut signs = Signs::of(b"", &text, &code);
    signs.complete(b"", &text, &code);
    signs
}

/// Gathers the facts under which the compile's result holds.
///
/// # Errors
/// Why there are none.
pub fn gather(input: &WalkInput<'_>) -> Result<Closure, Reason> {
    gather_parts(input).map(|walked| walked.closure)
}

/// What a walk comes to.
pub struct Walked {
    /// The facts.
    pub closure: Closure,
    /// Each file that was read, once.
    pub parts: Vec<Part>,
    /// Some name that was looked for, or a folder on the way to it, is a link.
    pub has_links: bool,
    /// A file is embedded, which clang looks for by the real path of the one that names it.
    pub has_embeds: bool,
}

/// As [`gather`], with the files themselves.
///
/// # Errors
/// Why there are none.
pub fn gather_parts(input: &WalkInput<'_>) -> Result<Walked, Reason> {
    let mut walk = Walk::new(input)?;
    let followed = walk.follow().and_then(|()| walk.check_signs());
    walk.remember();
    followed?;
    walk.finish()
}

/// Breadth-first walk over `#include`s: files read, names probed, and why it refuses to go
/// on.
struct Walk<'a> {
    input: &'a WalkInput<'a>,
    stats: StatCache,
    devices: Devices,
    /// When the walk began, nanoseconds since 1970: a stat that was old enough by then
    /// is no other file's.
    walked_ns: i64,
    /// Device and inode of each file that the compiler listed, and its path.
    listed: HashMap<(u64, u64), &'a [u8]>,
    /// Paths of files to be read.
    queue: VecDeque<Vec<u8>>,
    /// A file, and the folder beside which it includes: either spelling will do.
    visited: HashSet<[u64; 4]>,
    /// Device and inode of each file that was read.
    reached: HashSet<(u64, u64)>,
    files: Files,
    probes: Probes,
    computed: Computed,
    once: Once,
    /// What the assembler reads, as far as it was looked for.
    assembled: Assembled,
    has_embeds: bool,
    memory: Memory,
}

/// Files that were read.
#[derive(Default)]
struct Files {
    /// By path.
    contents: HashMap<Vec<u8>, Content>,
    /// The paths, the source first.
    order: Vec<Vec<u8>>,
    /// Each file once, for a second look.
    parts: Vec<Part>,
    bytes: u64,
}

impl Files {
    fn insert(&mut self, path: &[u8], content: Content) {
        if self.contents.insert(path.to_vec(), content).is_none() {
            self.order.push(path.to_vec());
        }
    }
}

/// Names that were looked for, and where.
struct Probes {
    /// The folders of the input, in the order of [`SearchPath`]: `left_out`, `quoted`,
    /// `angled`.
    search: Rc<[FolderId]>,
    folders: HashMap<FolderId, ProbedFolder>,
    names: usize,
    /// Headers: the folder of the including file, the name, and how it is searched for.
    headers: HashSet<Vec<u8>>,
}

/// A folder in which names were looked for.
#[derive(Debug, Default)]
struct ProbedFolder {
    names: usize,
    /// One of the names is a link.
    linked: bool,
    /// Whether nothing in it is named as a precompiled header.
    lacks_precompiled: Option<bool>,
    /// The folder does not exist, which was noted.
    absent: bool,
}

/// What `#pragma once` and `#import` may take for a file that was read.
#[derive(Default)]
struct Once {
    /// Some file has an `#import`.
    imports: bool,
    /// Files that exist under a name that was looked for, but were not read; and their
    /// bytes.
    unread: Vec<(Vec<u8>, u64)>,
}

impl<'a> Walk<'a> {
    fn new(input: &'a WalkInput<'a>) -> Result<Self, Reason> {
        let mut stats = StatCache::default();
        let mut listed = HashMap::default();
        let settled = input.settled.map(|settled| &settled.listed.paths);
        for path in input
            .listed
            .paths
            .iter()
            .chain(settled.into_iter().flatten())
        {
            match stats.at(path) {
                Seen::File(stat) => listed.insert((stat.device, stat.inode), &path[..]),
                _ => return Err(reason("input-changed", path)),
            };
        }
        let SearchPath {
            quoted,
            angled,
            left_out,
            ..
        } = input.search_path;
        let search = left_out.iter().chain(quoted).chain(angled);
        let search = search.map(|folder| stats.folder(without_slash(folder)));
        let search = search.collect();
        Ok(Walk {
            input,
            stats,
            listed,
            queue: VecDeque::from([input.source.to_vec()]),
            visited: HashSet::default(),
            reached: HashSet::default(),
            files: Files::default(),
            probes: Probes {
                search,
                folders: HashMap::default(),
                names: 0,
                headers: HashSet::default(),
            },
            computed: Computed::default(),
            once: Once::default(),
            assembled: input
                .settled
                .map(|settled| settled.assembled.clone())
                .unwrap_or_default(),
            has_embeds: false,
            memory: Memory::open(input.headers),
            walked_ns: stat::now_ns(),
            devices: Devices::default(),
        })
    }

    fn follow(&mut self) -> Result<(), Reason> {
        if self.input.for_worker {
            self.note(self.input.source)?;
        }
        for Header { name, quoted } in &self.input.forced {
            // Looked for in the working directory, then like any other.
            self.header(b".", name, *quoted, false)?;
            // clang takes these in its place.
            for suffix in [&b".pch"[..], b".gch"] {
                self.absent([name, suffix].concat())?;
            }
        }
        while let Some(path) = self.queue.pop_front() {
            self.file(path)?;
        }
        for path in self.input.responses {
            self.extra(path)?;
        }
        for path in &self.input.data {
            self.data(path)?;
        }
        self.follow_assembler()?;
        match self.input.listed.paths.is_empty() && self.input.for_worker {
            true => self.follow_macros()?,
            false => self.unexplained()?,
        }
        while let Some(path) = self.queue.pop_front() {
            self.file(path)?;
        }
        self.follow_askers()
    }

    /// Notes whether `folder` exists: compilers warn of those that don't, whether or not a
    /// header is looked for in them.
    fn named(&mut self, folder: &[u8]) -> Result<(), Reason> {
        let mut path = without_slash(folder);
        // Names that were noted in it say so too.
        let place = self.probes.folders.get(&self.stats.folder(path));
        if place.is_some_and(|place| place.names > 0 || place.absent) {
            return Ok(());
        }
        // `..` is nobody's to take away, but what it is behind may be.
        while split(path).is_none() {
            let above = parent(path);
            if above.len() >= path.len() {
                return Ok(());
            }
            path = above;
        }
        self.note(path)
    }

    /// Macros of the command line, as `#define` lines.
    fn command_line(&self) -> Vec<Vec<u8>> {
        let macros = self.input.macros.iter();
        macros.map(|m| [b"#define ", &m[..]].concat()).collect()
    }

    /// Writes down what was learnt of headers, and of folders.
    fn remember(&mut self) {
        let learnt = self.files.parts.iter().filter(|part| part.learnt);
        self.memory.save(learnt, &mut self.devices, self.walked_ns);
    }

    /// Refuses `path` if it exists: it would be read in a way that can't be followed.
    fn absent(&mut self, path: Vec<u8>) -> Result<(), Reason> {
        match self.stats.at(&path) {
            Seen::Absent => self.note(&path),
            _ => Err(reason("pch", &path)),
        }
    }

    /// Reads the file at `path`, and looks for the headers that it names.
    fn file(&mut self, path: Vec<u8>) -> Result<(), Reason> {
        let folder = parent(&path);
        let Seen::Folder(beside) = self.stats.at(folder) else {
            return Err(reason("input-changed", &path));
        };
        let Seen::File(stat) = self.stats.at(&path) else {
            return Err(reason("input-changed", &path));
        };
        let place = [stat.device, stat.inode, beside.device, beside.inode];
        let visited = !self.visited.insert(place);
        if visited && self.files.contents.contains_key(&path) {
            return Ok(());
        }
        self.reached.insert((stat.device, stat.inode));
        let folder = folder.to_vec();
        // A source is compiled again once it is another.
        let lasting = path != self.input.source;
        let mut part = self.memory.part(path, stat, lasting)?;
        let changed = || reason("input-changed", &part.path);
        let content = part.known.content().ok_or_else(changed)?;
        self.check_age(&part.path, content.stat)?;
        self.files.bytes += content.stat.size;
        if self.input.shortened && has_shorter_path(&part.path) {
            return Err(reason("linked-header", &part.path));
        }
        if self.files.contents.len() >= FILES_MAX || self.files.bytes > BYTES_MAX {
            return Err(reason("too-many-inputs", &part.path));
        }
        self.files.insert(&part.path, content);
        if visited {
            // The same file by another path: that path may come to lead elsewhere.
            return Ok(());
        }
        let is_source = part.path == self.input.source;
        match (is_source, self.input.kind) {
            (true, SourceKind::PreprocessedAssembler) => {
                let text = part.text.as_deref().unwrap_or_default();
                self.assembled.add(text)?;
            }
            _ => part.examine(),
        }
        if is_source && self.input.is_verbatim {
            // gcc would read what such a line names, but says nothing of it.
            let text = part.text.as_deref().unwrap_or_default();
            if memmem::find(text, b"pch_preprocess").is_some() {
                return Err(reason("pch", &part.path));
            }
            let Scan { quoted, dated, .. } = std::mem::take(&mut part.known.scan);
            part.known.scan = Scan {
                quoted,
                dated,
                ..Scan::default()
            };
        }
        let signs = &part.known.signs;
        if self.input.c90 && signs.has_slashes() {
            return Err(reason(hazards::ODD_SPELLING, b"//"));
        }
        let hazard = match self.input.settled {
            None => signs.hazard(),
            Some(_) => signs.odd(),
        };
        if let Some(hazard) = hazard {
            // It is remembered all the same.
            self.files.parts.push(part);
            return Err(hazard);
        }
        let found = &part.known.scan;
        // Its lines are quoted in warnings, and the macro may be a clock.
        if found.lines_made && !hazards::is_system(&part.path) {
            return Err(reason("line-directive", &part.path));
        }
        if found.dated {
            return Err(reason("pragma-dependency", &part.path));
        }
        for name in &found.quoted {
            match is_source && self.input.kind != SourceKind::Code {
                // It was preprocessed when that was read.
                true => self.quoted(name)?,
                false => self.extra(name)?,
            }
        }
        self.once.imports |= found.imports;
        self.computed.add(&part.path, found);
        for name in &found.embeds {
            // gcc 15 has folders of its own for them.
            match self.input.precompiled {
                true => drop(self.computed.unclear.get_or_insert(part.path.clone())),
                false => self.embedded(&folder, name)?,
            }
        }
        for Header { name, quoted } in &found.includes {
            self.header(&folder, name, *quoted, true)?;
        }
        for Header { name, quoted } in &found.asks {
            self.header(&folder, name, *quoted, false)?;
        }
        self.files.parts.push(part);
        Ok(())
    }

    /// Refuses a file that was written since the compile began, or so shortly before that
    /// the clock can't tell: the compile may have read something else.
    fn check_age(&mut self, path: &[u8], stat: Stat) -> Result<(), Reason> {
        let skew_ns = self.devices.skew_ns(path, stat);
        let before_ns = self.input.settled.map_or(i64::MAX, |s| s.before_ns);
        match stat.is_newer(self.input.began_ns.min(before_ns), skew_ns) {
            true => Err(reason("too-new", path)),
            false => Ok(()),
        }
    }

    /// Queues a file that no directive includes: `#line` names it, so that its lines are
    /// quoted in warnings, and measured for them; or it holds arguments.
    fn extra(&mut self, name: &[u8]) -> Result<(), Reason> {
        if name.is_empty() || name.contains(&0) || name.starts_with(b"<") {
            return Ok(());
        }
        self.note(name)?;
        if matches!(self.stats.at(name), Seen::File(_)) {
            self.queue.push_back(name.to_vec());
        }
        Ok(())
    }

    /// Reads a file that a line marker names: its lines are quoted in warnings.
    fn quoted(&mut self, name: &[u8]) -> Result<(), Reason> {
        // `/work//` is how gcc's text says where it was made.
        let is_file = !name.starts_with(b"<") && !name.ends_with(b"/") && !name.contains(&0);
        if name.is_empty() || !is_file || self.files.contents.contains_key(name) {
            return Ok(());
        }
        self.note(name)?;
        match self.stats.at(name) {
            Seen::File(_) => self.data(name),
            _ => Ok(()),
        }
    }

    /// Reads the file `name` that a file in `folder` embeds: it is looked for there, and in the
    /// working directory.
    fn embedded(&mut self, folder: &[u8], name: &[u8]) -> Result<(), Reason> {
        self.has_embeds = true;
        for path in [join(folder, name), name.to_vec()] {
            let path = match name.starts_with(b"/") {
                true => name.to_vec(),
                false => path,
            };
            self.note(&path)?;
            if matches!(self.stats.at(&path), Seen::File(_)) {
                return self.data(&path);
            }
        }
        Ok(())
    }

    /// Reads the files that the assembler reads, and those that their text names.
    fn follow_assembler(&mut self) -> Result<(), Reason> {
        let mut done = 0;
        while let Some(file) = self.assembled.files.get(done).cloned() {
            done += 1;
            let Some(path) = self.assembler_file(&file)? else {
                continue;
            };
            self.data(&path)?;
            if file.is_text {
                let part = self.files.parts.iter().find(|part| part.path == path);
                let text = match part {
                    Some(Part {
                        text: Some(text), ..
                    }) => text.clone(),
                    Some(part) => part.read()?,
                    None => return Err(reason(hazards::ASM_FILE_DIRECTIVE, &path)),
                };
                self.assembled.add(&text)?;
            }
        }
        self.assembled.doubt().map_or(Ok(()), Err)
    }

    /// Where the assembler finds `file`: in the working directory, or else in one of the
    /// folders for headers. Which of those it looks into, and in which order, is not the same
    /// for all assemblers: two that have one are a doubt.
    fn assembler_file(&mut self, file: &AssemblerFile) -> Result<Option<Vec<u8>>, Reason> {
        let name = &file.name;
        self.note(name)?;
        let is_there = matches!(self.stats.at(name), Seen::File(_));
        if name.starts_with(b"/") {
            return Ok(is_there.then(|| name.clone()));
        }
        let (input, all) = (self.input, self.input.search_path);
        let beside = parent(input.source).to_vec();
        let mut folders: Vec<&[u8]> = vec![&beside];
        let lists = [&input.named, &all.quoted, &all.angled, &all.left_out];
        folders.extend(lists.into_iter().flatten().map(Vec::as_slice));
        let mut found = is_there.then(|| name.clone());
        for (at, folder) in folders.iter().enumerate() {
            // Some look there, some do not.
            let is_beside = at == 0;
            if !is_beside && is_there || folders[..at].contains(folder) || *folder == b"." {
                continue;
            }
            let path = join(folder, name);
            self.note(&path)?;
            if !matches!(self.stats.at(&path), Seen::File(_)) {
                continue;
            }
            if is_beside || found.is_some() {
                return Err(reason(hazards::ASM_FILE_DIRECTIVE, &path));
            }
            found = Some(path);
        }
        Ok(found)
    }

    /// Reads a file that is no source text; of a folder, the profile in it.
    fn data(&mut self, path: &[u8]) -> Result<(), Reason> {
        let mut path = path.to_vec();
        self.note(&path)?;
        if matches!(self.stats.at(&path), Seen::Folder(_)) {
            path = join(&path, DEFAULT_PROFILE);
            self.note(&path)?;
        }
        let Seen::File(stat) = self.stats.at(&path) else {
            return Ok(());
        };
        self.reached.insert((stat.device, stat.inode));
        let part = self.memory.part(path, stat, false)?;
        let changed = || reason("input-changed", &part.path);
        let content = part.known.content().ok_or_else(changed)?;
        self.check_age(&part.path, content.stat)?;
        self.files.bytes += content.stat.size;
        if self.files.contents.len() >= FILES_MAX || self.files.bytes > BYTES_MAX {
            return Err(reason("too-many-inputs", &part.path));
        }
        let is_new = !self.files.contents.contains_key(&part.path);
        self.files.insert(&part.path, content);
        if is_new {
            self.files.parts.push(part);
        }
        Ok(())
    }

    /// Looks for the header `name` along the search path, noting each place. `first`: the
    /// search ends at the first file that exists and was read.
    fn header(
        &mut self,
        folder: &[u8],
        name: &[u8],
        quoted: bool,
        first: bool,
    ) -> Result<(), Reason> {
        if name.is_empty() || name.contains(&0) || name.contains(&b'\n') {
            return Ok(());
        }
        if name.starts_with(b"/") {
            return self.candidate(name.to_vec()).map(|_| ());
        }
        let beside = if quoted { folder } else { b"" };
        let search = [beside, name, &[0, quoted.into(), first.into()]].join(&0);
        if !self.probes.headers.insert(search) {
            return Ok(());
        }
        let input = self.input;
        let SearchPath {
            quoted: quoted_folders,
            angled,
            left_out,
            ..
        } = input.search_path;
        let search = Rc::clone(&self.probes.search);
        let mut search = search.iter().copied();
        for (folder, id) in left_out.iter().zip(&mut search) {
            self.candidate_in(id, folder, name)?;
        }
        if quoted {
            let id = self.stats.folder(without_slash(folder));
            if self.candidate_in(id, folder, name)? && first {
                return Ok(());
            }
        }
        for (folder, id) in quoted_folders.iter().zip(&mut search) {
            if quoted && self.candidate_in(id, folder, name)? && first {
                return Ok(());
            }
        }
        for (folder, id) in angled.iter().zip(search) {
            if self.candidate_in(id, folder, name)? && first {
                break;
            }
        }
        Ok(())
    }

    /// As [`Walk::candidate`], of `name` in `folder`, which is `id` but for its spelling.
    fn candidate_in(&mut self, id: FolderId, folder: &[u8], name: &[u8]) -> Result<bool, Reason> {
        let Some((below, base)) = split(name) else {
            return self.candidate(join(folder, name));
        };
        let id = match below {
            b"." => id,
            _ => {
                let path = join(self.stats.path_of(id), below);
                self.stats.folder(&path)
            }
        };
        if !matches!(self.stats.seen_of(id), Seen::Folder(_)) {
            let place = self.probes.folders.entry(id).or_default();
            if !std::mem::replace(&mut place.absent, true) {
                self.note(&join(folder, name))?;
            }
            return Ok(false);
        }
        let seen = self.note_in(id, base)?;
        match seen {
            Seen::File(stat) => self.found(join(folder, name), stat),
            _ => Ok(false),
        }
    }

    /// Notes what is at `path`, and queues it if it could have been read. Returns whether
    /// the compiler's search would end there.
    fn candidate(&mut self, path: Vec<u8>) -> Result<bool, Reason> {
        self.note(&path)?;
        match self.stats.at(&path) {
            Seen::File(stat) => self.found(path, stat),
            _ => Ok(false),
        }
    }

    /// Queues the file at `path` if it could have been read. Returns whether the compiler's
    /// search would end there.
    fn found(&mut self, path: Vec<u8>, stat: Stat) -> Result<bool, Reason> {
        self.check_age(&path, stat)?;
        let listed = &self.input.listed;
        let was_read = self.listed.contains_key(&(stat.device, stat.inode));
        // A compile that is to come may only ask whether it is there.
        if was_read || !listed.complete || self.input.for_worker {
            self.queue.push_back(path);
        } else {
            self.once.unread.push((path, stat.size));
        }
        // Of a compile that is over, what it read says where its search ended. One that
        // is to come takes what is there, since all else is refused.
        Ok(was_read || self.input.for_worker)
    }

    /// Notes what `path` is in its folder, or that its folder does not exist.
    fn note(&mut self, path: &[u8]) -> Result<(), Reason> {
        let mut path = path;
        loop {
            // A device, or what may not be looked at.
            if self.input.for_worker && self.stats.at(path) == Seen::Other {
                return Err(reason("odd-path", path));
            }
            let folder = parent(path);
            let id = self.stats.folder(folder);
            if matches!(self.stats.seen_of(id), Seen::Folder(_)) {
                let (_, name) = split(path).ok_or_else(|| reason("odd-path", path))?;
                return self.note_in(id, name).map(|_| ());
            }
            if folder.len() >= path.len() || matches!(folder, b"." | b"/") {
                return Err(reason("odd-path", path));
            }
            path = folder;
        }
    }

    /// Notes what `name` is in a folder that exists.
    fn note_in(&mut self, id: FolderId, name: &[u8]) -> Result<Seen, Reason> {
        let look = self.stats.look_in(id, name);
        let Look {
            seen,
            is_link,
            noted,
        } = *look;
        look.noted = true;
        if noted {
            return Ok(seen);
        }
        let path = |walk: &Self| join(walk.stats.path_of(id), name);
        if seen == Seen::Other && self.input.for_worker {
            return Err(reason("odd-path", &path(self)));
        }
        self.probes.names += 1;
        if self.probes.names > NAMES_MAX {
            return Err(reason("too-many-inputs", self.stats.path_of(id)));
        }
        let place = self.probes.folders.entry(id).or_default();
        place.names += 1;
        // A link may come to lead elsewhere while its folder stays the same.
        place.linked |= is_link;
        let few = place.names < FEW_NAMES;
        if self.input.precompiled
            && !self.lacks_precompiled(id, few)
            && stat::of_link(&[&path(self)[..], b".gch"].concat()) != Seen::Absent
        {
            return Err(reason("pch", &path(self)));
        }
        Ok(seen)
    }

    /// Whether nothing in a folder is named as a precompiled header. `few`: the answer is not
    /// worth listing the folder.
    fn lacks_precompiled(&mut self, id: FolderId, few: bool) -> bool {
        let place = self.probes.folders.entry(id).or_default();
        if let Some(lacks) = place.lacks_precompiled {
            return lacks;
        }
        let Seen::Folder(stat) = self.stats.seen_of(id) else {
            return false;
        };
        let known = self.memory.lacks_precompiled(stat);
        if few && !known {
            return false;
        }
        let folder = self.stats.path_of(id);
        let lacks = known || !stat::may_be_precompiled(folder);
        place.lacks_precompiled = Some(lacks);
        if lacks && !known {
            self.memory.note_without_precompiled(folder, stat);
        }
        lacks
    }

    /// Queues headers that were read although no directive names them: their names come
    /// from macros, and may have been looked for anywhere.
    fn unexplained(&mut self) -> Result<(), Reason> {
        // gcc does not list what it took from a precompiled header.
        if self.computed.any && self.input.precompiled && self.input.settled.is_none() {
            return Err(reason(COMPUTED_INCLUDE, self.input.source));
        }
        let listed: Vec<Vec<u8>> = self
            .listed
            .iter()
            // A macro may name one that a plain directive names too.
            .filter(|(place, _)| self.computed.any || !self.reached.contains(*place))
            .map(|(_, path)| path.to_vec())
            .collect();
        if listed.is_empty() {
            return match self.computed.any && !self.input.listed.complete {
                true => Err(reason(COMPUTED_INCLUDE, self.input.source)),
                false => Ok(()),
            };
        }
        let mut folders: Vec<Vec<u8>> = self
            .files
            .contents
            .keys()
            .map(|p| parent(p).to_vec())
            .collect();
        folders.extend(listed.iter().map(|path| parent(path).to_vec()));
        let input = self.input;
        let all = &input.search_path;
        for more in [&all.quoted, &all.angled, &all.left_out] {
            folders.extend(more.iter().cloned());
        }
        folders.sort();
        folders.dedup();
        for path in listed {
            let mut names: Vec<&[u8]> = folders
                .iter()
                .filter_map(|folder| name_in(folder, &path))
                .collect();
            names.sort();
            names.dedup();
            for name in names {
                for folder in &folders {
                    self.candidate(join(folder, name))?;
                }
            }
            self.queue.push_back(path);
        }
        Ok(())
    }

    /// The facts, once all that could be read was.
    fn finish(mut self) -> Result<Walked, Reason> {
        let asks = |words: &Vec<u8>| memmem::find(words, b"__has_").is_some();
        if self.input.macros.iter().any(asks) {
            self.computed.unclear.get_or_insert(b"-D".to_vec());
        }
        for line in self.command_line() {
            hazards::merge(
                &mut self.computed.question_parts,
                &hazards::question_parts(&line),
            );
        }
        if hazards::makes_question(&self.computed.question_parts) {
            self.computed.unclear.get_or_insert(b"-D".to_vec());
        }
        let unreached = self.listed.iter().find(|(p, _)| !self.reached.contains(*p));
        if let Some((_, path)) = unreached {
            return Err(reason(COMPUTED_INCLUDE, path));
        }
        for folder in &self.input.named {
            self.named(folder)?;
        }
        self.check_doubles()?;
        let mut has_links = self.check_folders()?;
        // Last: whoever sees this reason knows that nothing else is wrong.
        if let Some(path) = &self.computed.unclear {
            return Err(reason(COMPUTED_QUESTION, path));
        }
        let now_ns = self.walked_ns;
        let mut files = Vec::new();
        for path in &self.files.order {
            let content = &self.files.contents[path];
            files.push(FileFact {
                path: Bytes::copy_from_slice(path),
                stat: self.devices.kept(path, content.stat, now_ns),
                digest: Bytes::copy_from_slice(&content.digest.to_be_bytes()),
            });
        }
        let mut folders = Vec::new();
        for folder in self.stats.noted() {
            let mut list = Vec::new();
            for (name, seen) in folder.names {
                list.push(state_of(seen));
                list.extend_from_slice(name);
                list.push(0);
            }
            let place = self.probes.folders.get(&folder.id);
            let linked = place.is_some_and(|place| place.linked);
            has_links |= linked;
            let stat = match folder.seen {
                Seen::Folder(stat) if !linked => self.devices.kept(folder.path, stat, now_ns),
                _ => Stat::default(),
            };
            folders.push(FolderFact {
                path: Bytes::copy_from_slice(folder.path),
                stat,
                names: list.into(),
                precompiled: self.input.precompiled,
            });
        }
        Ok(Walked {
            closure: Closure { files, folders },
            parts: self.files.parts,
            has_links,
            has_embeds: self.has_embeds,
        })
    }

    /// Refuses hazards that the files make together, and with the macros of the command
    /// line.
    fn check_signs(&mut self) -> Result<(), Reason> {
        if let Some(settled) = self.input.settled {
            return self.check_settled(settled);
        }
        let mut all = Signs::default();
        for part in &self.files.parts {
            all.add(&part.known.signs);
        }
        let lines = self.command_line();
        all.add(&signs_of(&lines));
        if self.input.asm_blocks {
            all.distrust();
        }
        if self.input.kind == SourceKind::Assembler {
            all.assemble();
        }
        let mut broken = None;
        all.resolve(|word| {
            strings_of(word, &lines, &mut self.files.parts).unwrap_or_else(|why| {
                broken = Some(why);
                None
            })
        });
        if let Some(why) = broken {
            return Err(why);
        }
        if all.is_opaque() {
            for part in &self.files.parts {
                let mut signs = part.known.signs.clone();
                if let Some(text) = part.text.as_ref().filter(|_| !signs.is_complete()) {
                    signs.complete(&part.path, text, &scan::code_of(text));
                    all.add(&signs);
                }
            }
        }
        all.reason().map_or(Ok(()), Err)
    }

    /// Refuses files of which the preprocessor run proves nothing.
    fn check_settled(&self, settled: &Settled) -> Result<(), Reason> {
        let gcc = self.input.precompiled;
        let mut all = signs_of(&self.command_line());
        for part in &self.files.parts {
            let signs = &part.known.signs;
            all.add(signs);
            if all.asks_of_compile(gcc) {
                return Err(reason("builtin-question", &part.path));
            }
            if let Some(late) = settled.late.clone().filter(|_| signs.names_options()) {
                return Err(late);
            }
        }
        self.check_made_names(all.askers())?;
        let mut macros = self.input.macros.iter();
        let named = macros.any(|m| hazards::names_options(m));
        settled.late.clone().filter(|_| named).map_or(Ok(()), Err)
    }

    /// Refuses files that could put the name of one of `askers` together. Askers are so rare
    /// that all files may be read once more.
    fn check_made_names(&self, askers: &[Vec<u8>]) -> Result<(), Reason> {
        let mut parts = Vec::new();
        let own = |part: &&Part| !askers.is_empty() && !hazards::is_system(&part.path);
        for part in self.files.parts.iter().filter(own) {
            let text = match &part.text {
                Some(text) => Cow::Borrowed(text),
                None => Cow::Owned(part.read()?),
            };
            let more = hazards::parts_in(&scan::code_of(&text).text, askers);
            hazards::merge(&mut parts, &more);
            if askers.iter().any(|asker| hazards::makes(asker, &parts)) {
                return Err(reason("builtin-question", &part.path));
            }
        }
        Ok(())
    }

    /// Refuses equal files where `#pragma once` may take two for one: it compares content,
    /// time or inode.
    fn check_doubles(&mut self) -> Result<(), Reason> {
        let mut sizes = HashSet::default();
        let mut contents = HashSet::default();
        for part in &self.files.parts {
            let content = &self.files.contents[&part.path];
            if self.once.imports || part.known.once {
                sizes.insert(content.stat.size);
                if !contents.insert(content.digest) {
                    return Err(reason("double-header", &part.path));
                }
            }
        }
        let stats = &mut self.stats;
        let mut unread = self.once.unread.iter();
        // Few are as long as another, and hardly any says the same.
        let double = unread.find(|(path, size)| {
            let is_other = |content: Content| !contents.contains(&content.digest);
            sizes.contains(size) && !stats.content(path).is_some_and(is_other)
        });
        match double {
            Some((path, _)) => Err(reason("double-header", path)),
            None => Ok(()),
        }
    }

    /// Refuses folders that were moved since the compile began; tells whether there are links
    /// among them.
    fn check_folders(&mut self) -> Result<bool, Reason> {
        let noted = self
            .probes
            .folders
            .iter()
            .filter(|(_, place)| place.names > 0);
        let folders = noted.map(|(id, _)| self.stats.path_of(*id).to_vec());
        let settled_ns = self.input.settled.map_or(i64::MAX, |s| s.before_ns);
        let mut unchanged = Unchanged {
            began_ns: self.input.began_ns.min(settled_ns),
            watch: self.input.watch,
            devices: &mut self.devices,
            has_links: false,
        };
        unchanged.check(folders.collect())?;
        Ok(unchanged.has_links)
    }
}

fn has_shorter_path(path: &[u8]) -> bool {
    let real = fs::canonicalize(as_path(path));
    real.is_ok_and(|real| real.as_os_str().len() < path.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::includes::headers::{HeaderRecord, Headers, MacroQuery};
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    struct Space {
        folder: PathBuf,
    }

    impl Space {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("hg-closure-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Space { folder }
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn path(&self, name: &str) -> Vec<u8> {
            self.folder.join(name).as_os_str().as_bytes().to_vec()
        }

        fn gather(&self, angled: &[&str], listed: Listed) -> Result<Closure, Reason> {
            let search_path = SearchPath {
                angled: angled.iter().map(|name| self.path(name)).collect(),
                ..SearchPath::default()
            };
            let (source, watch) = (self.path("a.c"), Watch::default());
            gather(&self.input(&source, &search_path, &listed, &watch))
        }

        fn input<'q>(
            &self,
            source: &'q [u8],
            search_path: &'q SearchPath,
            listed: &'q Listed,
            watch: &'q Watch,
        ) -> WalkInput<'q> {
            WalkInput {
                source,
                kind: SourceKind::Code,
                is_verbatim: false,
                forced: Vec::new(),
                named: Vec::new(),
                data: Vec::new(),
                responses: &[],
                search_path,
                listed,
                macros: Vec::new(),
                precompiled: true,
                shortened: false,
                settled: None,
                for_worker: false,
                asm_blocks: false,
                c90: false,
                // Files of a test are as young as can be.
                began_ns: stat::now_ns() + 1_000_000_000_000,
                watch,
                headers: None,
            }
        }

        fn short(&self, path: &[u8]) -> String {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            let path = path.strip_prefix(&self.folder).unwrap_or(path);
            path.to_string_lossy().into_owned()
        }

        fn files(&self, closure: &Closure) -> Vec<String> {
            closure.files.iter().map(|f| self.short(&f.path)).collect()
        }
    }

    impl Drop for Space {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    fn names(closure: &Closure, folder: &[u8]) -> String {
        let fact = closure.folders.iter().find(|f| f.path[..] == *folder);
        let names = fact.map(|fact| fact.names.to_vec()).unwrap_or_default();
        String::from_utf8(names).unwrap().replace('\0', " ")
    }

    #[test]
    fn places_looked_at_in_vain_are_part_of_it() {
        let space = Space::new("vain");
        space.write("a.c", "#include \"x/h.h\"\n#include <y.h>\n");
        space.write("one/z", "");
        space.write("two/x/h.h", "#include \"i.h\"\n");
        space.write("two/y.h", "");
        space.write("two/i.h", "");
        let closure = space
            .gather(&["one", "none", "two"], Listed::default())
            .unwrap();
        assert_eq!(
            space.files(&closure),
            ["a.c", "two/x/h.h", "two/y.h", "two/i.h"]
        );
        assert_eq!(names(&closure, &space.path("one")), "-i.h -x -y.h ");
        assert_eq!(names(&closure, &space.path("two/x")), "fh.h -i.h ");
        assert_eq!(names(&closure, &space.path("two")), "fi.h fy.h ");
        assert_eq!(names(&closure, &space.path(".")), "");
        assert_eq!(
            names(&closure, &space.path("")[..space.path("").len() - 1]),
            "-none -x "
        );
    }

    #[test]
    fn what_was_not_read_is_no_input() {
        let space = Space::new("listed");
        space.write(
            "a.c",
            "#if 0\n#include \"never.h\"\n#endif\n#include \"h.h\"\n",
        );
        space.write("never.h", "#include NEVER\n");
        space.write("h.h", "");
        let all = space.gather(&[], Listed::default()).unwrap_err();
        assert_eq!(all.code, "computed-include");
        let listed = |complete, names: &[&str]| Listed {
            paths: names.iter().map(|name| space.path(name)).collect(),
            complete,
        };
        let closure = space.gather(&[], listed(true, &["a.c", "h.h"])).unwrap();
        assert_eq!(space.files(&closure), ["a.c", "h.h"]);
        let gone = space
            .gather(&[], listed(true, &["a.c", "gone.h"]))
            .unwrap_err();
        assert_eq!(gone.code, "input-changed");
    }

    #[test]
    fn a_compile_to_come_reads_the_first() {
        let space = Space::new("first");
        space.write("a.c", "#include <h.h>\n#include <n.h>\n");
        space.write("one/h.h", "");
        space.write("one/n.h", "#include_next <n.h>\n");
        for name in ["h.h", "n.h"] {
            space.write(&format!("two/{name}"), "");
        }
        let gather = |for_worker| {
            let search_path = SearchPath {
                angled: vec![space.path("one"), space.path("two")],
                ..SearchPath::default()
            };
            let (source, listed, watch) = (space.path("a.c"), Listed::default(), Watch::default());
            let input = space.input(&source, &search_path, &listed, &watch);
            let closure = gather(&WalkInput {
                for_worker,
                ..input
            });
            space.files(&closure.unwrap())
        };
        let first = ["a.c", "one/h.h", "one/n.h", "two/n.h"];
        assert_eq!(gather(true), first);
        let all = ["a.c", "one/h.h", "two/h.h", "one/n.h", "two/n.h"];
        assert_eq!(gather(false), all);
    }

    #[test]
    fn a_folder_without_precompiled_headers_is_remembered() {
        let space = Space::new("plain");
        let names = ["b.h", "c.h", "d.h", "e.h"];
        let includes = names.map(|name| format!("#include \"{name}\"\n"));
        space.write("d/a.c", &includes.concat());
        for name in names {
            space.write(&format!("d/{name}"), "");
        }
        let (source, file) = (space.path("d/a.c"), space.folder.join("run/headers"));
        let (search_path, listed) = (SearchPath::default(), Listed::default());
        let watch = Watch::default();
        let walk = |later_ns: i64| {
            let input = WalkInput {
                headers: Some(&file),
                ..space.input(&source, &search_path, &listed, &watch)
            };
            let mut walk = Walk::new(&input).unwrap();
            walk.walked_ns += later_ns;
            let followed = walk.follow().map_err(|reason| reason.code);
            walk.remember();
            let id = walk.stats.folder(&space.path("d"));
            let learnt = walk
                .probes
                .folders
                .get(&id)
                .is_some_and(|place| place.lacks_precompiled.is_some());
            let Seen::Folder(stat) = walk.stats.at(&space.path("d")) else {
                panic!("a folder");
            };
            let known = Headers::open(Some(&file)).lacks_precompiled(stat);
            (followed, learnt, known)
        };
        assert_eq!(walk(0), (Ok(()), true, false), "too young");
        let Seen::Folder(stat) = stat::of(&space.path("d")) else {
            panic!("a folder");
        };
        let mut devices = Devices::default();
        let now_ns = stat::now_ns() + 3_600_000_000_000;
        let lasts = !devices.is_layered(&source, stat)
            && devices.kept(&source, stat, now_ns) != Stat::default();
        assert_eq!(walk(3_600_000_000_000), (Ok(()), true, lasts));
        space.write("d/e.h.gch", "");
        assert_eq!(walk(0), (Err("pch"), true, false));
    }

    #[test]
    fn headers_that_macros_name() {
        let space = Space::new("computed");
        space.write("a.c", "#define H <sub/h.h>\n#include H\n");
        space.write("one/z", "");
        space.write("two/sub/h.h", "");
        let listed = Listed {
            paths: vec![space.path("a.c"), space.path("two/sub/h.h")],
            complete: true,
        };
        let search_path = SearchPath {
            angled: vec![space.path("one"), space.path("two")],
            ..SearchPath::default()
        };
        let (source, watch) = (space.path("a.c"), Watch::default());
        let input = space.input(&source, &search_path, &listed, &watch);
        // gcc may have taken a precompiled header, and not have said so.
        assert_eq!(gather(&input).unwrap_err().code, COMPUTED_INCLUDE);
        let closure = gather(&WalkInput {
            precompiled: false,
            ..input
        });
        let closure = closure.unwrap();
        assert_eq!(space.files(&closure), ["a.c", "two/sub/h.h"]);
        assert_eq!(names(&closure, &space.path("one")), "-a.c -h.h -sub -two ");
    }

    #[test]
    fn what_can_not_be_kept() {
        let space = Space::new("refused");
        let code = |text: &str| {
            space.write("a.c", text);
            space
                .gather(&[], Listed::default())
                .map_or_else(|r| r.code, |_| "kept")
        };
        assert_eq!(code("int x;"), "kept");
        assert_eq!(code("char *t = __TIME__;"), "time-macro");
        assert_eq!(code("asm(\".incbin \\\"f\\\"\");"), "asm-file-directive");
        assert_eq!(code("#if __has_include(X)\n#endif"), "computed-question");
        let asker = "#define HAS(x) __has_include(x)\n";
        assert_eq!(code(&format!("{asker}#if HAS(<a.h>)\n#endif")), "kept");
        assert_eq!(
            code(&format!("{asker}#if HAS(A)\n#endif")),
            "computed-question"
        );
        assert_eq!(code("#pragma GCC dependency \"x\""), "pragma-dependency");
        space.write("p.h", "");
        space.write("p.h.gch", "");
        assert_eq!(code("#include \"p.h\""), "pch");
    }

    #[test]
    fn what_may_be_wrong_with_a_header_is_not_remembered() {
        let space = Space::new("lasting");
        space.write("h.h", "#if HAS(<a.h>)\n#endif\n");
        let (text, content) = stat::read(&space.path("h.h")).unwrap();
        for lasting in [true, false] {
            let mut part = Part {
                path: space.path("h.h"),
                text: Some(text.clone()),
                known: HeaderRecord::new(content, scan::scan(&scan::code_of(&text).text), false),
                lasting,
                learnt: false,
            };
            let said = part.query(MacroQuery::Asked, b"HAS").unwrap();
            assert_eq!(said.map(|headers| headers.len()), Some(1));
            assert_eq!(part.learnt, lasting);
            let known = part.known.answer(MacroQuery::Asked, b"HAS").is_some();
            assert_eq!(known, lasting);
        }
    }

    #[test]
    fn includes_in_a_circle_end() {
        let space = Space::new("circle");
        space.write("a.c", "#include \"d/b.h\"\n");
        space.write("d/b.h", "#include \"../e/c.h\"\n");
        space.write("e/c.h", "#include \"../d/b.h\"\n");
        let closure = space.gather(&[], Listed::default()).unwrap();
        assert_eq!(
            space.files(&closure),
            ["a.c", "d/b.h", "d/../e/c.h", "d/../e/../d/b.h"]
        );
    }

    #[test]
    fn folders() {
        for (path, folder) in [
            ("a", "."),
            ("a/b", "a"),
            ("/a", "/"),
            ("a//b", "a"),
            ("//a", "/"),
            ("a/", "a"),
        ] {
            assert_eq!(parent(path.as_bytes()), folder.as_bytes(), "{path}");
        }
        assert_eq!(name_in(b".", b"x/y"), Some(&b"x/y"[..]));
        assert_eq!(name_in(b"/a", b"/a/b/c"), Some(&b"b/c"[..]));
        assert_eq!(name_in(b"/a", b"/ab/c"), None);
    }
}
