//! Trials of other machines' toolchains: small sources, compiled here and there, whose
//! objects must be the same byte for byte before a compile of this machine's is sent there.
//! A pair that fails never meets; one that passed is audited for ever, as any.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use hg_proto::compiler::probe::Probe;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::v1::{Toolchain, Worker};

use crate::compile::context::{Context, WhyLocal};
use crate::compile::remote;
use crate::config::Config;
use crate::grid::attempt;
use crate::grid::equivalence::{Equal, Trials, may_be_equal};
use crate::grid::ident;
use crate::invocation::plan::Plan;
use crate::local::compiler::{self, Found};
use crate::private;

/// What C compilers are tried with: its name, and its text.
const C: [(&str, &str); 4] = [
    ("integers.c", include_str!("../../trials/integers.c")),
    ("floats.c", include_str!("../../trials/floats.c")),
    ("loops.c", include_str!("../../trials/loops.c")),
    ("system.c", include_str!("../../trials/system.c")),
];
/// What C++ compilers are tried with.
const CXX: [(&str, &str); 2] = [
    ("objects.cc", include_str!("../../trials/objects.cc")),
    ("library.cc", include_str!("../../trials/library.cc")),
];
/// The options that each source is compiled with.
const OPTIONS: [&[&str]; 8] = [
    &["-O2"],
    &["-O0"],
    &["-O1"],
    &["-O3"],
    &["-Os"],
    &["-O2", "-fPIC"],
    &["-O3", "-ffast-math", "-funroll-loops"],
    &["-O2", "-fno-pie", "-fomit-frame-pointer"],
];
/// And this, which the tree form alone can carry.
const WITH_DEBUG_INFO: &[&str] = &["-O2", "-g"];
/// Sources that must compile here for a trial to say anything: a cross compiler may have no
/// library.
const COMPILED_MIN: usize = 8;

/// A toolchain of this machine that others are compared with.
pub struct Subject<'a> {
    config: &'a Config,
    run: &'a Path,
    probe: &'a Probe,
    language: Language,
    /// Sources and options, and what they give here; made when the first trial needs it.
    cases: OnceCell<Result<Vec<Case>, String>>,
}

/// One source, compiled in one way.
struct Case {
    args: Vec<OsString>,
    has_debug_info: bool,
    object: Vec<u8>,
}

/// What became of one trial.
pub struct Told {
    /// A worker that has the other toolchain.
    pub worker: String,
    /// For people.
    pub words: String,
    /// The other one stands for this machine's from now on.
    pub is_equal: bool,
}

impl<'a> Subject<'a> {
    /// The toolchain of `probe` for `language`.
    pub fn new(config: &'a Config, run: &'a Path, probe: &'a Probe, language: Language) -> Self {
        Subject {
            config,
            run,
            probe,
            language,
            cases: OnceCell::new(),
        }
    }

    /// Tries what `workers` have and nobody has tried.
    pub fn try_all(&self, workers: &[&Worker]) -> Vec<Told> {
        let forms = [
            (true, self.probe.tree_toolchain(self.language)),
            (false, self.probe.toolchain(self.language)),
        ];
        let mut told = Vec::new();
        for (is_tree, own) in forms {
            let Some(own) = own else { continue };
            let mut trials = Trials::of(self.run, &own.digest);
            // One is enough of each worker, whose gcc may be there under several names.
            let mut served = BTreeSet::new();
            for (worker, digest) in self.candidates(&own, is_tree, workers) {
                let known = trials.verdict(&digest);
                if known == Some(true) {
                    served.insert(worker.clone());
                }
                if known.is_some() || served.contains(&worker) {
                    continue;
                }
                let form = if is_tree { "tree form" } else { "text form" };
                let verdict = self.try_one(&digest, is_tree);
                let (words, is_equal) = match &verdict {
                    Ok(Ok(Equal::Whole)) => ("objects are the same".to_owned(), true),
                    Ok(Ok(Equal::ButIdent { theirs, .. })) => {
                        let theirs = String::from_utf8_lossy(theirs);
                        let words = format!("objects are the same but for \"{theirs}\" in them");
                        (words, true)
                    }
                    Ok(Err(other)) => (format!("never: {other}"), false),
                    Err(why) => (format!("not tried to the end: {why}"), false),
                };
                if is_equal {
                    served.insert(worker.clone());
                }
                if let Ok(verdict) = verdict {
                    trials.note(&digest, verdict.ok());
                    trials.keep(self.run, &own.digest);
                }
                told.push(Told {
                    worker,
                    words: format!("{form}: {words}"),
                    is_equal,
                });
            }
        }
        told
    }

    /// Toolchains of `workers` that may be tried in place of `own`, each once.
    fn candidates(
        &self,
        own: &Toolchain,
        is_tree: bool,
        workers: &[&Worker],
    ) -> Vec<(String, Vec<u8>)> {
        let mut seen = BTreeSet::from([own.digest.clone()]);
        let mut found = Vec::new();
        for worker in workers {
            for other in &worker.toolchains {
                if !other.shipment.is_empty() || !may_be_equal(own, other) {
                    continue;
                }
                let digests = match is_tree {
                    true => other.tree_digests.clone(),
                    false => vec![other.digest.clone()],
                };
                for digest in digests {
                    if seen.insert(digest.clone()) {
                        found.push((worker.id.clone(), digest));
                    }
                }
            }
        }
        found
    }

    /// Whether the toolchain of `digest` makes the objects of this machine's: how, or where it
    /// does not.
    ///
    /// # Errors
    /// Words: it can't be said.
    fn try_one(&self, digest: &[u8], is_tree: bool) -> Result<Result<Equal, String>, String> {
        let cases = self.cases.get_or_init(|| self.cases());
        let cases = cases.as_ref().map_err(String::clone)?;
        let mut equal = None;
        for case in cases.iter().filter(|case| is_tree || !case.has_debug_info) {
            let other = match self.compile_there(case, digest, is_tree) {
                Ok(object) => object,
                Err(NotThere::Never(why)) => return Ok(Err(why)),
                Err(NotThere::Now(why)) => return Err(why),
            };
            let how = compare(&case.object, &other, self.probe.family);
            match (how, &equal) {
                (None, _) => return Ok(Err(format!("another object of {}", case.name()))),
                (Some(how), None) => equal = Some(how),
                (Some(how), Some(before)) if how == *before => {}
                (Some(_), Some(_)) => return Ok(Err("objects by several compilers".to_owned())),
            }
        }
        equal
            .map(Ok)
            .ok_or_else(|| "nothing compiles here".to_owned())
    }

    /// Compiles everything here.
    fn cases(&self) -> Result<Vec<Case>, String> {
        let folder = Folder::make(self.run)?;
        let sources: &[(&str, &str)] = match self.language {
            Language::C => &C,
            Language::Cxx => &CXX,
        };
        let mut cases = Vec::new();
        for (name, text) in sources {
            folder.write(name, text)?;
            for options in OPTIONS.into_iter().chain([WITH_DEBUG_INFO]) {
                let words = ["-c", name, "-o", "out.o"];
                let args = options.iter().chain(&words).map(OsString::from).collect();
                let mut case = Case {
                    args,
                    has_debug_info: options == WITH_DEBUG_INFO,
                    object: Vec::new(),
                };
                // A cross compiler may lack headers, and a newer one dislike something.
                if self.compile_here(&case, &folder)? {
                    case.object = folder.take("out.o")?;
                    cases.push(case);
                }
            }
        }
        match cases.len() >= COMPILED_MIN {
            true => Ok(cases),
            false => Err("too little of it compiles here".to_owned()),
        }
    }

    /// Whether the compiler here does, and has nothing to say.
    fn compile_here(&self, case: &Case, folder: &Folder) -> Result<bool, String> {
        let mut compiler = Command::new(&self.probe.driver);
        let ran = compiler
            .args(&case.args)
            .current_dir(&folder.path)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.probe.driver.display()))?;
        Ok(ran.status.success() && ran.stderr.is_empty())
    }

    fn compile_there(
        &self,
        case: &Case,
        digest: &[u8],
        is_tree: bool,
    ) -> Result<Vec<u8>, NotThere> {
        let folder = Folder::make(self.run).map_err(NotThere::Now)?;
        let sources = C.iter().chain(&CXX);
        for (name, text) in sources.filter(|(name, _)| case.args.iter().any(|arg| arg == *name)) {
            folder.write(name, text).map_err(NotThere::Now)?;
        }
        let found = compiler::find(self.probe.driver.as_os_str(), &case.args, self.config);
        let found = found.ok_or_else(|| NotThere::Now("the compiler is gone".to_owned()))?;
        let is_here = std::env::set_current_dir(&folder.path);
        is_here.map_err(|error| NotThere::Now(error.to_string()))?;
        self.send(&found, &folder, digest, is_tree)
    }

    fn send(
        &self,
        found: &Found,
        folder: &Folder,
        digest: &[u8],
        is_tree: bool,
    ) -> Result<Vec<u8>, NotThere> {
        let name = found.name;
        let name = name.ok_or_else(|| NotThere::Now("not a compiler's name".to_owned()))?;
        let plan = Plan::read(found, name).map_err(|why| NotThere::Now(why.to_string()))?;
        let mut context = Context::new(Instant::now(), found, self.config);
        let sent = remote::try_other(&mut context, found, &plan, digest, is_tree);
        match (sent, context.audit.take()) {
            (Ok(()), _) => folder.take("out.o").map_err(NotThere::Now),
            // To compare it is what is being done.
            (Err(_), Some(audit)) => Ok(audit.remote),
            (Err(why), None) => Err(NotThere::from(why)),
        }
    }
}

impl Case {
    fn name(&self) -> String {
        let words = self.args.iter().map(|arg| arg.to_string_lossy());
        let words: Vec<_> = words.take_while(|word| word != "-o").collect();
        words.join(" ")
    }
}

/// Why another machine gave no object.
enum NotThere {
    /// It can't compile that.
    Never(String),
    /// It could not be asked, or not now.
    Now(String),
}

impl From<WhyLocal> for NotThere {
    fn from(why: WhyLocal) -> Self {
        let reason = match why {
            WhyLocal::Chosen(reason)
            | WhyLocal::InSlot(reason, _)
            | WhyLocal::GridFailed(reason) => reason,
        };
        let words = reason.to_string();
        match [attempt::REMOTE_FAILED, "refused"].contains(&reason.code) {
            true => NotThere::Never(words),
            false => NotThere::Now(words),
        }
    }
}

/// How the objects of one source are equal. `None`: they are not.
fn compare(own: &[u8], other: &[u8], family: Family) -> Option<Equal> {
    if own == other {
        return Some(Equal::Whole);
    }
    if family != Family::Gcc {
        return None;
    }
    let (ours, theirs) = (ident::last(own)?, ident::last(other)?);
    let is_same = ident::replace_last(other, ours)? == own;
    is_same.then(|| Equal::ButIdent {
        theirs: theirs.to_vec(),
        ours: ours.to_vec(),
    })
}

/// A folder for one source and one object, which goes when this does.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make(run: &Path) -> Result<Self, String> {
        // One at a time: the right to ship is held.
        let path = run.join("trial");
        let named = |error| format!("{}: {error}", path.display());
        let _ = fs::remove_dir_all(&path);
        private::make(&path).map_err(named)?;
        let path = fs::canonicalize(&path).map_err(named)?;
        Ok(Folder { path })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.path.join(name);
        private::write(&path, text.as_bytes())
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    fn take(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.path.join(name);
        let content = fs::read(&path).and_then(|content| {
            fs::remove_file(&path)?;
            Ok(content)
        });
        content.map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::env::set_current_dir("/");
        let _ = fs::remove_dir_all(&self.path);
    }
}
