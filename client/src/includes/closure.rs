//! Everything that a compile could have read, and every place where it looked
//! in vain: found by following the include directives of the source after the
//! compile. Refuses when anything changed since the compile began.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use hg_proto::options::args::Reason;
use hg_proto::wire::digest::Digest;
use memchr::memmem;

use crate::includes::facts::{
    self, Content, Devices, FileFact, FolderFact, FolderId, Look, Looks, Seen, Stat, state_of,
};
use crate::includes::headers::{self, Ask, Headers, Known, SETTLED_NS};
use crate::includes::macro_names::{SPELLED_MAX, strings_of, values_of};
use crate::includes::part::Part;
use crate::includes::paths::{as_path, join, name_in, parent, split, without_slash};
use crate::includes::unchanged::Unchanged;
use crate::includes::watch::Watch;
use crate::source::hazards::{self, Signs};
use crate::source::lex::words;
use crate::source::scan::{self, Header, Scan};

/// Files of one compile.
const FILES_MAX: usize = 20_000;
/// Bytes of all files of one compile.
const BYTES_MAX: u64 = 512 << 20;
/// Names that are looked for in a folder one by one before all of it is listed.
const FEW_NAMES: usize = 4;
/// Names that were looked for.
const NAMES_MAX: usize = 200_000;

/// The reason of a compile that asks for headers in a way that can't be
/// followed, and that nothing else is wrong with.
pub const COMPUTED_QUESTION: &str = "computed-question";

/// The reason of an include whose name can't be told.
const COMPUTED_INCLUDE: &str = "computed-include";

/// Where headers are looked for, in the compiler's order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Folders {
    /// For `"name"` only, after the including file's own folder.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub quoted: Vec<Vec<u8>>,
    /// For both.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub angled: Vec<Vec<u8>>,
    /// Left out by the compiler, for now: not there, or there twice.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub left_out: Vec<Vec<u8>>,
    /// Of gccs, whose headers clang takes.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub installations: Vec<Vec<u8>>,
    /// Macros of the compiler's own that look like anybody's, see [`looks_common`].
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub macros: Vec<Vec<u8>>,
}

/// Headers that the compiler itself says it read.
#[derive(Debug, Default, Clone)]
pub struct Listed {
    /// As it spells them.
    pub paths: Vec<Vec<u8>>,
    /// It read no others.
    pub complete: bool,
}

/// What a preprocessor has shown: neither what changes with time nor assembler text
/// that may read a file is in what the compiler sees.
#[derive(Debug, Clone)]
pub struct Settled {
    /// When it began: of what is younger nothing is known.
    pub before_ns: i64,
    /// What it read.
    pub listed: Listed,
    /// A pragma that gcc carries out when it compiles: as it should be where the system's
    /// headers have it.
    pub late: Option<Reason>,
}

/// Reasons found in the files, of which the compiler may see nothing: in a group that
/// is skipped, in a macro that nobody uses, in words that never come together.
const DOUBTS: [&str; 3] = [
    hazards::TIME_MACRO,
    hazards::ASM_FILE_DIRECTIVE,
    COMPUTED_INCLUDE,
];

/// Whether a preprocessor can say more about `reason`.
pub fn is_doubt(reason: &Reason) -> bool {
    DOUBTS.contains(&reason.code)
}

/// What to look at.
#[derive(Debug)]
pub struct Question<'a> {
    /// As typed.
    pub source: &'a [u8],
    /// Included without a directive: by options, or by the compiler itself.
    pub forced: Vec<Header>,
    /// Folders that options and variables name, there or not.
    pub named: Vec<Vec<u8>>,
    /// Files with arguments.
    pub responses: &'a [Vec<u8>],
    /// Where headers are looked for.
    pub folders: &'a Folders,
    /// What the compiler said.
    pub listed: &'a Listed,
    /// Macros from the command line, for hazards that are spelled in them.
    pub macros: Vec<Vec<u8>>,
    /// gcc takes `name.h.gch` for `name.h`.
    pub precompiled: bool,
    /// Folders are named as the system's: gcc shortens the paths of headers that
    /// it finds there, and looks beside the shorter one.
    pub shortened: bool,
    /// What the preprocessor said where the files left it in doubt.
    pub settled: Option<&'a Settled>,
    /// Another machine compiles, which has the files that are found, each at its own
    /// path, and nothing else: what can't be the same there is refused, and what the
    /// files hold is kept.
    pub in_place: bool,
    /// `__asm` may go on without brackets.
    pub asm_blocks: bool,
    /// `//` is no comment.
    pub c90: bool,
    /// When the compile began: nothing may be younger.
    pub began_ns: i64,
    /// Folders that were watched since.
    pub watch: &'a Watch,
    /// The file in which the system's headers are remembered.
    pub headers: Option<&'a Path>,
}

/// The facts under which a compile's result holds.
#[derive(Debug, Clone)]
pub struct Closure {
    /// The source first.
    pub files: Vec<FileFact>,
    /// In order of their paths.
    pub folders: Vec<FolderFact>,
}

fn reason(code: &'static str, detail: &[u8]) -> Reason {
    Reason::new(code, detail)
}

/// Those of macros that the command line defines in `lines`.
fn signs_of(lines: &[Vec<u8>]) -> Signs {
    let text = [&lines.join(&b"\n"[..])[..], b"\n"].concat();
    let code = scan::code_of(&text);
    let mut signs = Signs::of(b"", &text, &code);
    signs.complete(b"", &text, &code);
    signs
}

/// Follows the source.
///
/// # Errors
/// Why the result can't be kept.
pub fn gather(question: &Question<'_>) -> Result<Closure, Reason> {
    gather_parts(question).map(|(closure, _)| closure)
}

/// Follows the source, and says what was read, each file once.
///
/// # Errors
/// Why the result can't be kept.
pub fn gather_parts(question: &Question<'_>) -> Result<(Closure, Vec<Part>), Reason> {
    let mut walk = Walk::new(question)?;
    let followed = walk.follow().and_then(|()| walk.check_signs());
    walk.remember();
    followed?;
    walk.finish()
}

/// What is known of a folder in which names were looked for.
#[derive(Debug, Default)]
struct Place {
    names: usize,
    /// One of them is a link.
    linked: bool,
    /// Whether nothing in it is named as a precompiled header.
    plain: Option<bool>,
    /// It is not there, which was noted.
    absent: bool,
}

/// A file to be read: how it is spelled, which says what is beside it.
struct Walk<'a> {
    question: &'a Question<'a>,
    looks: Looks,
    /// Device and inode of what the compiler listed.
    listed: HashMap<(u64, u64), &'a [u8]>,
    queue: VecDeque<Vec<u8>>,
    /// A file, and the folder beside which it includes: either spelling will do.
    visited: HashSet<[u64; 4]>,
    files: HashMap<Vec<u8>, Content>,
    order: Vec<Vec<u8>>,
    reached: HashSet<(u64, u64)>,
    /// The folders of the question, in the order of [`Folders`]: `left_out`, `quoted`,
    /// `angled`.
    search: Rc<[FolderId]>,
    /// Of folders in which names were looked for.
    places: HashMap<FolderId, Place>,
    names_count: usize,
    /// Where and how a header was looked for.
    searched: HashSet<Vec<u8>>,
    bytes: u64,
    computed: bool,
    /// Files that include what a macro stands for, and the macro.
    named: Vec<(Vec<u8>, Vec<u8>)>,
    /// A file that includes something whose name is put together.
    pasted: Option<Vec<u8>>,
    /// Names of headers whose words may be macros, and where they are asked for.
    spelled: BTreeMap<Vec<u8>, Vec<u8>>,
    /// A file that asks for headers in a way that can't be followed.
    opaque: Option<Vec<u8>>,
    /// What such a question's name could be put together from, of all files.
    parts: Vec<Vec<u8>>,
    imports: bool,
    /// There, by a name that was looked for, but not read; and their bytes.
    unread: Vec<(Vec<u8>, u64)>,
    askers: Vec<Vec<u8>>,
    /// All files that were followed, for a second look.
    read: Vec<Part>,
    /// Of the system, and of the project.
    headers: Headers,
    own: Headers,
    /// Such folders that were not remembered.
    learnt: Vec<(Vec<u8>, Stat)>,
    /// When the walk began, nanoseconds since 1970: a stat that was old enough by then
    /// is no other file's.
    walked_ns: i64,
    devices: Devices,
}

impl<'a> Walk<'a> {
    fn new(question: &'a Question<'a>) -> Result<Self, Reason> {
        let mut looks = Looks::default();
        let mut listed = HashMap::default();
        let settled = question.settled.map(|settled| &settled.listed.paths);
        for path in question
            .listed
            .paths
            .iter()
            .chain(settled.into_iter().flatten())
        {
            match looks.at(path) {
                Seen::File(stat) => listed.insert((stat.device, stat.inode), &path[..]),
                _ => return Err(reason("input-changed", path)),
            };
        }
        let Folders {
            quoted,
            angled,
            left_out,
            ..
        } = question.folders;
        let search = left_out.iter().chain(quoted).chain(angled);
        let search = search.map(|folder| looks.folder(without_slash(folder)));
        let search = search.collect();
        let folder = std::env::current_dir().ok();
        let own = question.headers.zip(folder.as_deref());
        let own = own.map(|(file, folder)| headers::of_project(file, folder));
        Ok(Walk {
            question,
            looks,
            listed,
            queue: VecDeque::from([question.source.to_vec()]),
            visited: HashSet::default(),
            files: HashMap::default(),
            order: Vec::new(),
            reached: HashSet::default(),
            search,
            places: HashMap::default(),
            names_count: 0,
            searched: HashSet::default(),
            bytes: 0,
            computed: false,
            named: Vec::new(),
            pasted: None,
            spelled: BTreeMap::new(),
            opaque: None,
            parts: Vec::new(),
            imports: false,
            unread: Vec::new(),
            askers: Vec::new(),
            read: Vec::new(),
            headers: Headers::open(question.headers),
            own: Headers::open(own.as_deref()),
            learnt: Vec::new(),
            walked_ns: facts::now_ns(),
            devices: Devices::default(),
        })
    }

    fn follow(&mut self) -> Result<(), Reason> {
        if self.question.in_place {
            self.note(self.question.source)?;
        }
        for Header { name, quoted } in &self.question.forced {
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
        for path in self.question.responses {
            self.extra(path)?;
        }
        match self.question.listed.paths.is_empty() && self.question.in_place {
            true => self.follow_names()?,
            false => self.unexplained()?,
        }
        while let Some(path) = self.queue.pop_front() {
            self.file(path)?;
        }
        self.follow_askers()
    }

    /// Notes whether `folder` is there: compilers warn of those that are not, whether or
    /// not a header is looked for in them.
    fn named(&mut self, folder: &[u8]) -> Result<(), Reason> {
        let mut path = without_slash(folder);
        // What was looked for in it says so too.
        let place = self.places.get(&self.looks.folder(path));
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

    /// Headers that macros name, whatever defines these: those that nothing
    /// defines can only be errors.
    fn follow_names(&mut self) -> Result<(), Reason> {
        let macros = self.command_line();
        loop {
            // Where the header that is meant is no input, another of that name may be.
            if let Some(path) = &self.pasted {
                return Err(reason(COMPUTED_INCLUDE, path));
            }
            let known = self.read.len();
            let mut headers = Vec::new();
            for (path, name) in &self.named {
                let macros = macros.iter().map(|text| Ok(Ask::Named.of(text, name)));
                let read = self.read.iter_mut().map(|part| part.ask(Ask::Named, name));
                for named in macros.chain(read) {
                    let named = named?.ok_or_else(|| reason(COMPUTED_INCLUDE, path))?;
                    headers.extend(named.into_iter().map(|header| (path.clone(), header)));
                }
            }
            for (path, header) in headers {
                if !header.quoted && !scan::is_clean(&header.name) {
                    return Err(reason(COMPUTED_INCLUDE, &path));
                }
                self.spell(&path, &header);
                self.header(parent(&path), &header.name, header.quoted, false)?;
            }
            while let Some(path) = self.queue.pop_front() {
                self.file(path)?;
            }
            if self.read.len() == known {
                return Ok(());
            }
        }
    }

    /// Macros that ask for a header, wherever they are used.
    fn follow_askers(&mut self) -> Result<(), Reason> {
        let mut askers = Vec::new();
        loop {
            askers.append(&mut self.askers);
            let mut parts = std::mem::take(&mut self.read);
            let asked = self
                .ask_all(&askers, &mut parts)
                .and_then(|()| self.ask_spelled(&mut parts));
            // With what was learnt up to an error.
            self.read = parts;
            asked?;
            let known = self.read.len();
            let asks = !askers.is_empty() || !self.spelled.is_empty();
            while let Some(path) = self.queue.pop_front() {
                self.file(path.clone())?;
                // It could use those macros too, and include what they name.
                if self.read.len() > known && asks && !self.question.in_place {
                    self.opaque = Some(path);
                }
            }
            if self.read.len() == known || !self.question.in_place {
                return Ok(());
            }
            if self.question.listed.paths.is_empty() {
                self.follow_names()?;
            }
        }
    }

    fn ask_all(&mut self, askers: &[Vec<u8>], parts: &mut [Part]) -> Result<(), Reason> {
        let macros = self.command_line();
        for asker in askers {
            let unclear = |line: &Vec<u8>| Ask::Asked.of(line, asker).is_none();
            if macros.iter().any(unclear) {
                self.opaque = Some(b"-D".to_vec());
            }
            for part in &mut *parts {
                let ask = match hazards::is_system(&part.path) {
                    true => Ask::AskedWhole,
                    false => Ask::Asked,
                };
                let Some(asks) = part.ask(ask, asker)? else {
                    self.opaque = Some(part.path.clone());
                    continue;
                };
                for header in asks {
                    self.spell(&part.path, &header);
                    self.header(parent(&part.path), &header.name, header.quoted, false)?;
                }
            }
        }
        Ok(())
    }

    /// Macros of the command line, as a text would define them.
    fn command_line(&self) -> Vec<Vec<u8>> {
        let macros = self.question.macros.iter();
        macros.map(|m| [b"#define ", &m[..]].concat()).collect()
    }

    /// What `path` has in brackets goes through a macro: so do its words.
    fn spell(&mut self, path: &[u8], header: &Header) {
        if !header.quoted {
            self.spelled.insert(header.name.clone(), path.to_vec());
        }
    }

    /// Words in brackets that a macro may stand for: another header may be meant.
    fn ask_spelled(&mut self, parts: &mut [Part]) -> Result<(), Reason> {
        let macros = self.command_line();
        let own = &self.question.folders.macros;
        let mut names: Vec<_> = self.spelled.clone().into_iter().collect();
        let mut values: HashMap<Vec<u8>, Option<Vec<Header>>> = HashMap::default();
        while let Some((name, path)) = names.pop() {
            if !scan::is_clean(&name) {
                self.opaque = Some(path);
                continue;
            }
            for word in scan::words_of(&name) {
                if !values.contains_key(word) {
                    let found = values_of(word, own, &macros, parts)?;
                    values.insert(word.to_vec(), found);
                }
                let Some(found) = &values[word] else {
                    self.opaque = Some(path.clone());
                    continue;
                };
                for value in found {
                    let meant = scan::replaced(&name, word, &value.name);
                    if self.spelled.len() >= SPELLED_MAX {
                        self.opaque = Some(path.clone());
                    } else if !self.spelled.contains_key(&meant) {
                        self.header(b"", &meant, false, false)?;
                        self.spelled.insert(meant.clone(), path.clone());
                        names.push((meant, path.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes down what was learnt of the system's headers, and of folders.
    fn remember(&mut self) {
        let (devices, now_ns) = (&mut self.devices, self.walked_ns);
        let mut lasts = |path: &[u8], stat, in_layers, settled_ns| {
            let layered = devices.is_layered(path, stat);
            devices.kept(path, stat, now_ns) == stat
                && (in_layers || !layered)
                && headers::may_last(stat, layered, settled_ns, now_ns)
        };
        for part in self.read.iter().filter(|part| part.learnt) {
            let system = hazards::is_system(&part.path);
            let (headers, settled_ns) = match system {
                true => (&mut self.headers, SETTLED_NS),
                // As an answer of the cache that has it among its facts.
                false => (&mut self.own, 0),
            };
            if lasts(&part.path, part.known.stat, system, settled_ns) {
                headers.add(&part.known);
            }
        }
        for (folder, stat) in self.learnt.drain(..) {
            // The stat of one that is merged says nothing of what is below.
            if lasts(&folder, stat, false, SETTLED_NS) {
                self.headers.add(&Known::plain(stat));
            }
        }
        self.headers.save();
        self.own.save();
    }

    /// What the file at `path` says. `stat`: it is there.
    fn part(&mut self, path: Vec<u8>, stat: Stat) -> Result<Part, Reason> {
        let headers = match hazards::is_system(&path) {
            true => &self.headers,
            false => &self.own,
        };
        // A source is compiled again once it is another.
        let lasting = path != self.question.source;
        if lasting && let Some(known) = headers.of(stat) {
            return Ok(Part {
                path,
                text: None,
                known,
                lasting: true,
                learnt: false,
            });
        }
        let (text, content) = facts::read(&path).map_err(|_| reason("input-changed", &path))?;
        Ok(Part {
            path,
            known: Known::new(content, Scan::default(), false),
            text: Some(text),
            lasting,
            learnt: lasting,
        })
    }

    /// Refuses what may only be read where we can't follow.
    fn absent(&mut self, path: Vec<u8>) -> Result<(), Reason> {
        match self.looks.at(&path) {
            Seen::Absent => self.note(&path),
            _ => Err(reason("pch", &path)),
        }
    }

    fn file(&mut self, path: Vec<u8>) -> Result<(), Reason> {
        let folder = parent(&path);
        let Seen::Folder(beside) = self.looks.at(folder) else {
            return Err(reason("input-changed", &path));
        };
        let Seen::File(stat) = self.looks.at(&path) else {
            return Err(reason("input-changed", &path));
        };
        let place = [stat.device, stat.inode, beside.device, beside.inode];
        let visited = !self.visited.insert(place);
        if visited && self.files.contains_key(&path) {
            return Ok(());
        }
        self.reached.insert((stat.device, stat.inode));
        let folder = folder.to_vec();
        let mut part = self.part(path, stat)?;
        let changed = || reason("input-changed", &part.path);
        let content = part.known.content().ok_or_else(changed)?;
        self.check_age(&part.path, content.stat)?;
        self.bytes += content.stat.size;
        if self.question.shortened && has_shorter_path(&part.path) {
            return Err(reason("linked-header", &part.path));
        }
        if self.files.len() >= FILES_MAX || self.bytes > BYTES_MAX {
            return Err(reason("too-many-inputs", &part.path));
        }
        if self.files.insert(part.path.clone(), content).is_none() {
            self.order.push(part.path.clone());
        }
        if visited {
            // The same file by another path: that path may come to lead elsewhere.
            return Ok(());
        }
        if let Some(text) = &part.text {
            let code = scan::code_of(text);
            part.known.scan = scan::scan(&code.text);
            part.known.defined = scan::defined_names(&code.text);
            part.known.once = once(&code.text);
            part.known.signs = Signs::of(&part.path, text, &code);
            if part.lasting {
                part.known.signs.complete(&part.path, text, &code);
                part.known.digest = Digest::of(text).as_bytes().to_vec();
            }
        }
        let signs = &part.known.signs;
        if self.question.c90 && signs.has_slashes() {
            return Err(reason(hazards::ODD_SPELLING, b"//"));
        }
        let hazard = match self.question.settled {
            None => signs.hazard(),
            Some(_) => signs.odd(),
        };
        if let Some(hazard) = hazard {
            // With what was learnt of it.
            self.read.push(part);
            return Err(hazard);
        }
        let found = &part.known.scan;
        // Its lines are quoted in warnings, and it may be a clock's.
        if found.lines_made && !hazards::is_system(&part.path) {
            return Err(reason("line-directive", &part.path));
        }
        if found.dated {
            return Err(reason("pragma-dependency", &part.path));
        }
        for name in &found.quoted {
            self.extra(name)?;
        }
        self.imports |= found.imports;
        self.askers.extend(found.askers.iter().cloned());
        for name in &found.spelled {
            self.spelled.insert(name.clone(), part.path.clone());
        }
        // The system's headers put other names together.
        let own = !hazards::is_system(&part.path);
        if found.opaque && self.opaque.is_none() {
            self.opaque = Some(part.path.clone());
        }
        if own && !found.parts.is_empty() {
            hazards::merge(&mut self.parts, &found.parts);
            if self.opaque.is_none() && hazards::makes_question(&self.parts) {
                self.opaque = Some(part.path.clone());
            }
        }
        self.computed |= found.computed;
        if found.pasted {
            self.pasted.get_or_insert(part.path.clone());
        }
        let macros = found.macros.iter().cloned();
        self.named
            .extend(macros.map(|name| (part.path.clone(), name)));
        for Header { name, quoted } in &found.includes {
            self.header(&folder, name, *quoted, true)?;
        }
        for Header { name, quoted } in &found.asks {
            self.header(&folder, name, *quoted, false)?;
        }
        self.read.push(part);
        Ok(())
    }

    /// Written since the compile began, or so shortly before that the clock
    /// can't tell: what it read is not known.
    fn check_age(&mut self, path: &[u8], stat: Stat) -> Result<(), Reason> {
        let skew_ns = self.devices.skew_ns(path, stat);
        let before_ns = self.question.settled.map_or(i64::MAX, |s| s.before_ns);
        match stat.is_newer(self.question.began_ns.min(before_ns), skew_ns) {
            true => Err(reason("too-new", path)),
            false => Ok(()),
        }
    }

    /// A file that is read in other ways: `#line` names it, so that its lines are
    /// quoted in warnings, and measured for them; or it holds arguments.
    fn extra(&mut self, name: &[u8]) -> Result<(), Reason> {
        if name.is_empty() || name.contains(&0) || name.starts_with(b"<") {
            return Ok(());
        }
        self.note(name)?;
        if matches!(self.looks.at(name), Seen::File(_)) {
            self.queue.push_back(name.to_vec());
        }
        Ok(())
    }

    /// Notes where `name` is looked for and what is there. `first`: the search
    /// ends at the first that is there and was read.
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
        if !self.searched.insert(search) {
            return Ok(());
        }
        let question = self.question;
        let Folders {
            quoted: quoted_folders,
            angled,
            left_out,
            ..
        } = question.folders;
        let search = Rc::clone(&self.search);
        let mut search = search.iter().copied();
        for (folder, id) in left_out.iter().zip(&mut search) {
            self.candidate_in(id, folder, name)?;
        }
        if quoted {
            let id = self.looks.folder(without_slash(folder));
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
                let path = join(self.looks.path_of(id), below);
                self.looks.folder(&path)
            }
        };
        if !matches!(self.looks.seen_of(id), Seen::Folder(_)) {
            let place = self.places.entry(id).or_default();
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

    /// Notes what is at `path`; follows it if it could have been read. Whether
    /// the compiler would look no further.
    fn candidate(&mut self, path: Vec<u8>) -> Result<bool, Reason> {
        self.note(&path)?;
        match self.looks.at(&path) {
            Seen::File(stat) => self.found(path, stat),
            _ => Ok(false),
        }
    }

    /// Follows the file at `path` if it could have been read.
    fn found(&mut self, path: Vec<u8>, stat: Stat) -> Result<bool, Reason> {
        self.check_age(&path, stat)?;
        let listed = &self.question.listed;
        let was_read = self.listed.contains_key(&(stat.device, stat.inode));
        // A compile that is to come may only ask whether it is there.
        if was_read || !listed.complete || self.question.in_place {
            self.queue.push_back(path);
        } else {
            self.unread.push((path, stat.size));
        }
        // Of a compile that is over, what it read says where its search ended. One that
        // is to come takes what is there, since all else is refused.
        Ok(was_read || self.question.in_place)
    }

    /// Notes what `path` is in its folder, or that its folder is not there.
    fn note(&mut self, path: &[u8]) -> Result<(), Reason> {
        let mut path = path;
        loop {
            // A device, or what may not be looked at.
            if self.question.in_place && self.looks.at(path) == Seen::Other {
                return Err(reason("odd-path", path));
            }
            let folder = parent(path);
            let id = self.looks.folder(folder);
            if matches!(self.looks.seen_of(id), Seen::Folder(_)) {
                let (_, name) = split(path).ok_or_else(|| reason("odd-path", path))?;
                return self.note_in(id, name).map(|_| ());
            }
            if folder.len() >= path.len() || matches!(folder, b"." | b"/") {
                return Err(reason("odd-path", path));
            }
            path = folder;
        }
    }

    /// Notes what `name` is in a folder that is there.
    fn note_in(&mut self, id: FolderId, name: &[u8]) -> Result<Seen, Reason> {
        let look = self.looks.look_in(id, name);
        let Look {
            seen,
            is_link,
            noted,
        } = *look;
        look.noted = true;
        if noted {
            return Ok(seen);
        }
        let path = |walk: &Self| join(walk.looks.path_of(id), name);
        if seen == Seen::Other && self.question.in_place {
            return Err(reason("odd-path", &path(self)));
        }
        self.names_count += 1;
        if self.names_count > NAMES_MAX {
            return Err(reason("too-many-inputs", self.looks.path_of(id)));
        }
        // A link may come to lead elsewhere while its folder stays the same.
        if is_link && self.question.in_place {
            return Err(reason("linked-header", &path(self)));
        }
        let place = self.places.entry(id).or_default();
        place.names += 1;
        place.linked |= is_link;
        let few = place.names < FEW_NAMES;
        if self.question.precompiled
            && !self.is_plain(id, few)
            && facts::see_itself(&[&path(self)[..], b".gch"].concat()) != Seen::Absent
        {
            return Err(reason("pch", &path(self)));
        }
        Ok(seen)
    }

    /// Whether nothing in a folder is named as a precompiled header. `few`: all of it
    /// is not looked at for that.
    fn is_plain(&mut self, id: FolderId, few: bool) -> bool {
        let place = self.places.entry(id).or_default();
        if let Some(plain) = place.plain {
            return plain;
        }
        let Seen::Folder(stat) = self.looks.seen_of(id) else {
            return false;
        };
        let known = self.headers.is_plain(stat);
        if few && !known {
            return false;
        }
        let folder = self.looks.path_of(id);
        let plain = known || !facts::may_be_precompiled(folder);
        place.plain = Some(plain);
        if plain && !known {
            self.learnt.push((folder.to_vec(), stat));
        }
        plain
    }

    /// Headers that were read although no directive names them: their names
    /// come from macros, and may have been looked for anywhere.
    fn unexplained(&mut self) -> Result<(), Reason> {
        // gcc does not list what it took from a precompiled header.
        if self.computed && self.question.precompiled && self.question.settled.is_none() {
            return Err(reason(COMPUTED_INCLUDE, self.question.source));
        }
        let listed: Vec<Vec<u8>> = self
            .listed
            .iter()
            // A macro may name one that a plain directive names too.
            .filter(|(place, _)| self.computed || !self.reached.contains(*place))
            .map(|(_, path)| path.to_vec())
            .collect();
        if listed.is_empty() {
            return match self.computed && !self.question.listed.complete {
                true => Err(reason(COMPUTED_INCLUDE, self.question.source)),
                false => Ok(()),
            };
        }
        let mut folders: Vec<Vec<u8>> = self.files.keys().map(|p| parent(p).to_vec()).collect();
        folders.extend(listed.iter().map(|path| parent(path).to_vec()));
        let question = self.question;
        let all = &question.folders;
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

    fn finish(mut self) -> Result<(Closure, Vec<Part>), Reason> {
        let asks = |words: &Vec<u8>| memmem::find(words, b"__has_").is_some();
        if self.question.macros.iter().any(asks) {
            self.opaque.get_or_insert(b"-D".to_vec());
        }
        for line in self.command_line() {
            hazards::merge(&mut self.parts, &hazards::question_parts(&line));
        }
        if hazards::makes_question(&self.parts) {
            self.opaque.get_or_insert(b"-D".to_vec());
        }
        let unreached = self.listed.iter().find(|(p, _)| !self.reached.contains(*p));
        if let Some((_, path)) = unreached {
            return Err(reason(COMPUTED_INCLUDE, path));
        }
        for folder in &self.question.named {
            self.named(folder)?;
        }
        self.check_doubles()?;
        self.check_folders()?;
        // Last: all else is known to be well then.
        if let Some(path) = &self.opaque {
            return Err(reason(COMPUTED_QUESTION, path));
        }
        let now_ns = self.walked_ns;
        let mut files = Vec::new();
        for path in &self.order {
            let content = &self.files[path];
            files.push(FileFact {
                path: Bytes::copy_from_slice(path),
                stat: self.devices.kept(path, content.stat, now_ns),
                digest: Bytes::copy_from_slice(&content.digest.to_be_bytes()),
            });
        }
        let mut folders = Vec::new();
        for folder in self.looks.noted() {
            let mut list = Vec::new();
            for (name, seen) in folder.names {
                list.push(state_of(seen));
                list.extend_from_slice(name);
                list.push(0);
            }
            let place = self.places.get(&folder.id);
            let linked = place.is_some_and(|place| place.linked);
            let stat = match folder.seen {
                Seen::Folder(stat) if !linked => self.devices.kept(folder.path, stat, now_ns),
                _ => Stat::default(),
            };
            folders.push(FolderFact {
                path: Bytes::copy_from_slice(folder.path),
                stat,
                names: list.into(),
                precompiled: self.question.precompiled,
            });
        }
        Ok((Closure { files, folders }, self.read))
    }

    /// What the files come to together, and with the macros of the command line.
    fn check_signs(&mut self) -> Result<(), Reason> {
        if let Some(settled) = self.question.settled {
            return self.check_settled(settled);
        }
        let mut all = Signs::default();
        for part in &self.read {
            all.add(&part.known.signs);
        }
        let lines = self.command_line();
        all.add(&signs_of(&lines));
        if self.question.asm_blocks {
            all.distrust();
        }
        let mut broken = None;
        all.resolve(|word| {
            strings_of(word, &lines, &mut self.read).unwrap_or_else(|why| {
                broken = Some(why);
                None
            })
        });
        if let Some(why) = broken {
            return Err(why);
        }
        if all.is_opaque() {
            for part in &self.read {
                let mut signs = part.known.signs.clone();
                if let Some(text) = part.text.as_ref().filter(|_| !signs.is_complete()) {
                    signs.complete(&part.path, text, &scan::code_of(text));
                    all.add(&signs);
                }
            }
        }
        all.reason().map_or(Ok(()), Err)
    }

    /// Whether the preprocessor's word holds for these files.
    fn check_settled(&self, settled: &Settled) -> Result<(), Reason> {
        let gcc = self.question.precompiled;
        let mut all = signs_of(&self.command_line());
        for part in &self.read {
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
        let mut macros = self.question.macros.iter();
        let named = macros.any(|m| hazards::names_options(m));
        settled.late.clone().filter(|_| named).map_or(Ok(()), Err)
    }

    /// Whether the files could put the name of one of `askers` together, which are so seldom
    /// there that all files may be read once more.
    fn check_made_names(&self, askers: &[Vec<u8>]) -> Result<(), Reason> {
        let mut parts = Vec::new();
        let own = |part: &&Part| !askers.is_empty() && !hazards::is_system(&part.path);
        for part in self.read.iter().filter(own) {
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

    /// `#pragma once` takes files for one by content, time or inode.
    fn check_doubles(&self) -> Result<(), Reason> {
        let mut sizes = HashSet::default();
        let mut contents = HashSet::default();
        for part in &self.read {
            let content = &self.files[&part.path];
            if self.imports || part.known.once {
                sizes.insert(content.stat.size);
                if !contents.insert(content.digest) {
                    return Err(reason("double-header", &part.path));
                }
            }
        }
        let double = |(_, size): &&(Vec<u8>, u64)| sizes.contains(size);
        match self.unread.iter().find(double) {
            Some((path, _)) => Err(reason("double-header", path)),
            None => Ok(()),
        }
    }

    /// Nothing that a name was looked for in was moved since the compile began.
    fn check_folders(&mut self) -> Result<(), Reason> {
        let noted = self.places.iter().filter(|(_, place)| place.names > 0);
        let folders = noted.map(|(id, _)| self.looks.path_of(*id).to_vec());
        let settled_ns = self.question.settled.map_or(i64::MAX, |s| s.before_ns);
        let mut unchanged = Unchanged {
            began_ns: self.question.began_ns.min(settled_ns),
            watch: self.question.watch,
            devices: &mut self.devices,
            in_place: self.question.in_place,
        };
        unchanged.check(folders.collect())
    }
}

fn has_shorter_path(path: &[u8]) -> bool {
    let real = fs::canonicalize(as_path(path));
    real.is_ok_and(|real| real.as_os_str().len() < path.len())
}

/// Whether code may have a `#pragma once`, or a `_Pragma("once")` that some macro makes: it
/// has the word, or words that it can be pasted of.
fn once(code: &[u8]) -> bool {
    const ONCE: &[u8] = b"once";
    if memmem::find(code, ONCE).is_some() {
        return true;
    }
    let parts = || hazards::parts_of(&[ONCE], words(code));
    memmem::find(code, b"##").is_some() && hazards::composable(ONCE, parts().into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let folders = Folders {
                angled: angled.iter().map(|name| self.path(name)).collect(),
                ..Folders::default()
            };
            let (source, watch) = (self.path("a.c"), Watch::default());
            gather(&self.question(&source, &folders, &listed, &watch))
        }

        fn question<'q>(
            &self,
            source: &'q [u8],
            folders: &'q Folders,
            listed: &'q Listed,
            watch: &'q Watch,
        ) -> Question<'q> {
            Question {
                source,
                forced: Vec::new(),
                named: Vec::new(),
                responses: &[],
                folders,
                listed,
                macros: Vec::new(),
                precompiled: true,
                shortened: false,
                settled: None,
                in_place: false,
                asm_blocks: false,
                c90: false,
                // Files of a test are as young as can be.
                began_ns: facts::now_ns() + 1_000_000_000_000,
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
        let gather = |in_place| {
            let folders = Folders {
                angled: vec![space.path("one"), space.path("two")],
                ..Folders::default()
            };
            let (source, listed, watch) = (space.path("a.c"), Listed::default(), Watch::default());
            let question = space.question(&source, &folders, &listed, &watch);
            let closure = gather(&Question {
                in_place,
                ..question
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
        let (folders, listed) = (Folders::default(), Listed::default());
        let watch = Watch::default();
        let walk = |later_ns: i64| {
            let question = Question {
                headers: Some(&file),
                ..space.question(&source, &folders, &listed, &watch)
            };
            let mut walk = Walk::new(&question).unwrap();
            walk.walked_ns += later_ns;
            let followed = walk.follow().map_err(|reason| reason.code);
            walk.remember();
            let id = walk.looks.folder(&space.path("d"));
            let learnt = walk
                .places
                .get(&id)
                .is_some_and(|place| place.plain.is_some());
            let Seen::Folder(stat) = walk.looks.at(&space.path("d")) else {
                panic!("a folder");
            };
            let known = Headers::open(Some(&file)).is_plain(stat);
            (followed, learnt, known)
        };
        assert_eq!(walk(0), (Ok(()), true, false), "too young");
        let Seen::Folder(stat) = facts::see(&space.path("d")) else {
            panic!("a folder");
        };
        let mut devices = Devices::default();
        let now_ns = facts::now_ns() + 3_600_000_000_000;
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
        let folders = Folders {
            angled: vec![space.path("one"), space.path("two")],
            ..Folders::default()
        };
        let (source, watch) = (space.path("a.c"), Watch::default());
        let question = space.question(&source, &folders, &listed, &watch);
        // gcc may have taken a precompiled header, and not have said so.
        assert_eq!(gather(&question).unwrap_err().code, COMPUTED_INCLUDE);
        let closure = gather(&Question {
            precompiled: false,
            ..question
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
        let (text, content) = facts::read(&space.path("h.h")).unwrap();
        for lasting in [true, false] {
            let mut part = Part {
                path: space.path("h.h"),
                text: Some(text.clone()),
                known: Known::new(content, scan::scan(&scan::code_of(&text).text), false),
                lasting,
                learnt: false,
            };
            let said = part.ask(Ask::Asked, b"HAS").unwrap();
            assert_eq!(said.map(|headers| headers.len()), Some(1));
            assert_eq!(part.learnt, lasting);
            let known = part.known.answer(Ask::Asked, b"HAS").is_some();
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
