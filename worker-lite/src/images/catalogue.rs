//! The compilers of the images that the operator names. An image is looked into once: what
//! its compilers are made of is kept on the worker's disk by content, as clients' toolchains
//! are, and runs in the worker's own sandbox. No engine takes part in a task.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::compiler::{mathematics, memo, shipment};
use hg_proto::secure::private::make_folder;
use hg_proto::v1::{self, Shipment};
use hg_proto::wire::digest::{Digest, Hasher};
use hg_proto::wire::limits::TOOLCHAINS_MAX;
use prost::Message;

use crate::files::removal::remove_tree;
use crate::files::shipments::{InUse, Shipments};
use crate::images::engine::{self, Engine, Image};
use crate::images::finding::{self, Finding};
use crate::inputs::layout::Tools;
use crate::log::{self, Level};
use crate::machine::vitals;
use crate::sandbox::facade::Sandbox;
use crate::tasks::toolchains::{Catalogue, Compiler};
use crate::tasks::trial;

/// Images of one worker.
pub const IMAGES_MAX: usize = 16;
/// Folder in the state folder for what is kept of images.
const FOLDER: &str = "images";
/// Name of the container in which an image's files are had.
const CONTAINER: &str = "hg-worker-lite-";
/// How long the look into an image may take.
const LOOK_MAX: Duration = Duration::from_secs(300);
/// Bytes that the process that looks may say.
const FINDINGS_BYTES_MAX: u64 = 64 << 20;
/// Records of images before their folder is emptied.
const RECORDS_MAX: usize = 2 * IMAGES_MAX;
/// Raised when records are to be made anew, by another look.
const RECORD_FORMAT: &str = "1";
/// HOME of the process that looks.
const NO_HOME: &str = "/nonexistent";

/// What was found in an image, without the files.
#[derive(Clone, PartialEq, Message)]
struct Record {
    /// What stands for the image, and for how it was looked at.
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, repeated, tag = "2")]
    findings: Vec<Finding>,
    /// For each finding, what stands for its list.
    #[prost(bytes = "vec", repeated, tag = "3")]
    lists: Vec<Vec<u8>>,
}

/// The images that the operator names.
#[derive(Debug)]
pub struct Images {
    names: Vec<String>,
    /// This program, which looks into images in a process of its own.
    program: PathBuf,
    folder: PathBuf,
    kept: Arc<Shipments>,
    /// Nothing that is offered goes.
    in_use: Mutex<Vec<InUse>>,
}

impl Images {
    /// The images called `names`, whose compilers are kept below `state`; `program` is the
    /// worker's.
    ///
    /// # Errors
    /// Words: there is no engine, or one of them is not here, or for another machine.
    pub fn open(state: &Path, names: Vec<String>, program: PathBuf) -> Result<Self, String> {
        clear(state, false);
        let folder = state.join(FOLDER);
        let kept = Shipments::open(&folder);
        let kept = kept.map_err(|error| format!("{}: {error}", folder.display()))?;
        let images = Images {
            names,
            program,
            folder,
            kept: Arc::new(kept),
            in_use: Mutex::default(),
        };
        match Engine::find() {
            Ok(engine) => {
                for name in &images.names {
                    engine.image(name)?;
                }
            }
            // An engine may start later than a worker, which has no need of it.
            Err(why) if images.are_known() => log::line(Level::Warn, format_args!("{why}")),
            Err(why) => return Err(why),
        }
        Ok(images)
    }

    /// Adds the compilers of all images that work in `sandbox` to `catalogue`; `trees`: for
    /// tasks of the tree form too. Takes long where an image is new.
    pub fn offer(&self, catalogue: &mut Catalogue, sandbox: &Sandbox, tasks: &Path, trees: bool) {
        self.kept.load();
        let mut in_use = Vec::new();
        for name in &self.names {
            let record = self.record(name, &mut in_use).unwrap_or_else(|why| {
                log::line(Level::Warn, format_args!("not offered: {why}"));
                Record::default()
            });
            for (finding, list) in record.findings.iter().zip(&record.lists) {
                self.offer_one(catalogue, name, finding, list, (sandbox, tasks, trees));
            }
        }
        let used: BTreeSet<Digest> = in_use.iter().map(InUse::digest).collect();
        // What was in use until now is no longer, unless it is offered again.
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner) = in_use;
        for (digest, _) in self.kept.all() {
            if !used.contains(&digest) {
                self.kept.forget(&digest);
            }
        }
    }

    /// Whether all images were looked into, as far as can be told at once.
    pub fn are_known(&self) -> bool {
        self.names
            .iter()
            .all(|name| self.record_file(name).exists())
    }

    /// Where the record of the image called `name` is.
    fn record_file(&self, name: &str) -> PathBuf {
        self.folder.join("records").join(&hashed(name)[..32])
    }

    /// What the image called `name` has, all of which is kept and added to `in_use`.
    fn record(&self, name: &str, in_use: &mut Vec<InUse>) -> Result<Record, String> {
        let file = self.record_file(name);
        let known = memo::recall(&file).and_then(|bytes| Record::decode(&bytes[..]).ok());
        let known = known.filter(|known| self.hold(known, in_use));
        let found = Engine::find().and_then(|engine| Ok((engine.image(name)?, engine)));
        let (image, engine) = match (found, known) {
            (Ok((image, _)), Some(known)) if known.key == key(&image) => return Ok(known),
            (Ok(found), _) => found,
            // What was offered before is as good as it was.
            (Err(why), Some(known)) => {
                log::line(Level::Warn, format_args!("{why}"));
                return Ok(known);
            }
            (Err(why), None) => return Err(why),
        };
        let begun = Instant::now();
        let record = self.bring(&engine, &image, in_use);
        let removed = remove_tree(&self.root());
        let record = record.map_err(|why| format!("the image {name}: {why}"))?;
        removed.map_err(|error| format!("{}: {error}", self.root().display()))?;
        let seconds = begun.elapsed().as_secs_f32();
        let count = record.findings.len();
        log::line(
            Level::Info,
            format_args!("looked into the image {name}: {count} compilers, {seconds:.1} s"),
        );
        if let Err(error) = memo::remember(&file, &record.encode_to_vec(), RECORDS_MAX) {
            // It is looked into again at the next start.
            log::line(Level::Warn, format_args!("{}: {error}", file.display()));
        }
        Ok(record)
    }

    /// Whether all of `record` is kept. It is in use from now on.
    fn hold(&self, record: &Record, in_use: &mut Vec<InUse>) -> bool {
        let lists = record.lists.iter();
        let digests: Option<Vec<Digest>> = lists.map(|d| Digest::try_from(&d[..]).ok()).collect();
        let held = digests.and_then(|digests| {
            let held = digests.into_iter().map(|digest| self.kept.hold(digest));
            held.collect::<Option<Vec<InUse>>>()
        });
        let is_whole = held.is_some() && record.lists.len() == record.findings.len();
        in_use.extend(held.into_iter().flatten());
        is_whole
    }

    /// Where the files of an image are while it is looked into.
    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Gets the files of `image`, looks for compilers in them, and keeps what those need.
    fn bring(
        &self,
        engine: &Engine,
        image: &Image,
        in_use: &mut Vec<InUse>,
    ) -> Result<Record, String> {
        let root = self.root();
        let at_root = |error: io::Error| format!("{}: {error}", root.display());
        let free = vitals::disk_free_bytes(&self.folder).unwrap_or(u64::MAX);
        if image.bytes > free / 2 {
            let mib = |bytes: u64| bytes >> 20;
            return Err(format!(
                "{} MiB, and {} MiB are free on the disk of {}, of which half is left alone",
                mib(image.bytes),
                mib(free),
                self.folder.display()
            ));
        }
        make_folder(&root).map_err(at_root)?;
        let container = Container::note(&self.folder, engine).map_err(at_root)?;
        let exported = engine.export(&image.id, &container.name, &root);
        container.forget();
        exported?;
        let root = root.canonicalize().map_err(at_root)?;
        let mut record = Record {
            key: key(image),
            ..Record::default()
        };
        for mut finding in look(&self.program, &root, image)? {
            if let Some(list) = finding.list.take() {
                let sources = std::mem::take(&mut finding.sources);
                match self.keep(Arc::new(list), &sources, &root) {
                    Ok(kept) => {
                        record.lists.push(kept.digest().as_bytes().to_vec());
                        record.findings.push(finding);
                        in_use.push(kept);
                        continue;
                    }
                    Err(why) => finding.refusal = why,
                }
            }
            let (name, driver) = (&image.name, OsStr::from_bytes(&finding.driver));
            let why = shown(&finding.refusal);
            log::line(
                Level::Info,
                format_args!("not offered: {} in {name}: {why}", driver.display()),
            );
        }
        Ok(record)
    }

    /// Keeps all files of `list`, whose contents are at `sources` below `root`.
    fn keep(&self, list: Arc<Shipment>, sources: &[Vec<u8>], root: &Path) -> Result<InUse, String> {
        shipment::check(&list)?;
        let _room = self.kept.make_room(&list)?;
        let lacking = self.kept.lacking(&list);
        let contents = shipment::contents(&list);
        if contents.len() != sources.len() {
            return Err("as many contents as places were expected".to_owned());
        }
        for (digest, source) in contents.keys().zip(sources) {
            if !lacking.contains(digest) {
                continue;
            }
            let source = Path::new(OsStr::from_bytes(source));
            let source = root.join(source.strip_prefix("/").unwrap_or(source));
            self.take(digest, &source, root)
                .map_err(|error| format!("{}: {error}", source.display()))?;
        }
        let digest = self.kept.keep(&list).map_err(|error| error.to_string())?;
        let held = self.kept.hold(digest);
        held.ok_or_else(|| "dropped to make room".to_owned())
    }

    /// Takes the content with `digest` out of an image's files.
    fn take(&self, digest: &Digest, source: &Path, root: &Path) -> io::Result<()> {
        // What has looked ran programs of the image's, and may say anything.
        let real = source.canonicalize()?;
        if !real.starts_with(root) || !fs::symlink_metadata(&real)?.is_file() {
            return Err(io::Error::other("no file of the image"));
        }
        let mut hasher = Hasher::new();
        io::copy(&mut File::open(&real)?, &mut Hashing(&mut hasher))?;
        if hasher.finish() != *digest {
            return Err(io::Error::other("not what it was said to be"));
        }
        self.kept.came(digest, &real)
    }

    /// Offers a compiler of the image called `name`.
    fn offer_one(
        &self,
        catalogue: &mut Catalogue,
        name: &str,
        finding: &Finding,
        list: &[u8],
        (sandbox, tasks, trees): (&Sandbox, &Path, bool),
    ) {
        let Some(compiler) = self.compiler(name, finding, list) else {
            return;
        };
        let Ok(digest) = Digest::try_from(&compiler.toolchain.digest[..]) else {
            return;
        };
        let (driver, tree) = (compiler.driver.display(), &finding.tree);
        let tree = tree.as_ref().filter(|_| trees);
        let tree_digest = tree.and_then(|tree| Digest::try_from(&tree.digest[..]).ok());
        let is_new = |digest: &Digest| !catalogue.contains_key(digest);
        if !is_new(&digest) && tree_digest.is_none_or(|digest| !is_new(&digest)) {
            return;
        }
        if catalogue.len() + 2 > TOOLCHAINS_MAX {
            let text = format_args!("{driver} in {name}: one toolchain too many");
            return log::line(Level::Warn, text);
        }
        if let Err(why) = trial::try_compiler(&compiler, sandbox, tasks) {
            let text = format_args!("not offered: {driver} in {name}: {why}");
            return log::line(Level::Warn, text);
        }
        log::line(
            Level::Info,
            format_args!(
                "toolchain {} {} {} {}: {driver} in {name}",
                &digest.to_hex()[..16],
                compiler.family.name(),
                shown(&compiler.toolchain.version),
                compiler.language.name(),
            ),
        );
        if let (Some(tree), Some(digest)) = (tree, tree_digest) {
            let mut in_place = compiler.clone();
            in_place.toolchain = v1::Toolchain {
                image: name.to_owned(),
                ..tree.clone()
            };
            catalogue.entry(digest).or_insert(in_place);
        }
        catalogue.entry(digest).or_insert(compiler);
    }

    fn compiler(&self, name: &str, finding: &Finding, list: &[u8]) -> Option<Compiler> {
        let digest = Digest::try_from(list).ok()?;
        let toolchain = finding.toolchain.clone()?;
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        Some(Compiler {
            driver: path(&finding.driver),
            family: Family::from_wire(toolchain.family())?,
            language: Language::from_wire(toolchain.language())?,
            path_first: (!finding.path_first.is_empty()).then(|| path(&finding.path_first)),
            tools: Tools::Shipped {
                digest,
                list: self.kept.list(&digest)?,
                contents: self.kept.contents().to_path_buf(),
            },
            toolchain: v1::Toolchain {
                image: name.to_owned(),
                ..toolchain
            },
        })
    }

    /// Ends a look that goes on, of which nothing shall be left.
    pub fn close(&self) {
        Container::remove_noted(&self.folder);
    }
}

/// Removes what a look into an image has left below `state`; `all`: and all that is kept of
/// images.
pub fn clear(state: &Path, all: bool) {
    let folder = state.join(FOLDER);
    Container::remove_noted(&folder);
    let gone = match all {
        true => folder,
        false => folder.join("root"),
    };
    if let Err(error) = remove_tree(&gone) {
        log::line(Level::Warn, format_args!("{}: {error}", gone.display()));
    }
}

/// The container by which an image's files are had. It is noted before it is there, so that
/// the next start can remove it.
struct Container {
    name: String,
    note: PathBuf,
}

impl Container {
    fn note(folder: &Path, engine: &Engine) -> io::Result<Self> {
        let container = Container {
            name: format!("{CONTAINER}{}", &hashed(&folder.to_string_lossy())[..16]),
            note: folder.join("container"),
        };
        let mut text = engine.program().as_os_str().as_bytes().to_vec();
        text.extend(b"\n");
        text.extend(container.name.as_bytes());
        fs::write(&container.note, text)?;
        Ok(container)
    }

    /// It is removed.
    fn forget(self) {
        let _ = fs::remove_file(self.note);
    }

    /// Removes the one that is noted in `folder`, if there is one.
    fn remove_noted(folder: &Path) {
        let note = folder.join("container");
        let Ok(text) = fs::read(&note) else {
            return;
        };
        let mut lines = text.split(|byte| *byte == b'\n');
        if let (Some(program), Some(name)) = (lines.next(), lines.next())
            && let Ok(name) = str::from_utf8(name)
            && name.starts_with(CONTAINER)
        {
            Engine::at(Path::new(OsStr::from_bytes(program))).remove(name);
        }
        let _ = fs::remove_file(note);
    }
}

/// What is found in `root`, the files of `image`.
fn look(program: &Path, root: &Path, image: &Image) -> Result<Vec<Finding>, String> {
    let mut command = engine::quiet(program, &[finding::WORD]);
    let environment = image.environment.iter();
    let known =
        environment.filter(|(name, _)| finding::VARIABLES.iter().any(|known| name == known));
    command
        .arg(root)
        .env_clear()
        .envs(known.map(|(name, value)| (name, value)))
        .env("HOME", NO_HOME)
        .stdout(Stdio::piped());
    let child = command.spawn().map_err(|error| error.to_string())?;
    let said = engine::said(child, LOOK_MAX, FINDINGS_BYTES_MAX)?;
    let mut left = &said[..];
    let mut findings = Vec::new();
    while !left.is_empty() {
        let finding = Finding::decode_length_delimited(&mut left);
        findings.push(finding.map_err(|error| format!("what its compilers say: {error}"))?);
    }
    Ok(findings)
}

/// What stands for an image, for how it is looked at, and for what the look hangs on.
fn key(image: &Image) -> String {
    let mathematics = mathematics::variant();
    format!("{RECORD_FORMAT} {mathematics} {}", image.id)
}

fn hashed(text: &str) -> String {
    Digest::of(text.as_bytes()).to_hex()
}

/// An image's text for the log.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Hashes what is written to it.
struct Hashing<'a>(&'a mut Hasher);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
