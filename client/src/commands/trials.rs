//! Trials of other machines' toolchains: small sources, compiled here and there, whose
//! objects must be the same byte for byte before a compile of this machine's is sent there.
//! A pair that fails never meets; one that passed is audited for ever, as any.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
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
use crate::grid::trial_cases::{C, CXX, LIBRARY, OPTIONS, WITH_DEBUG_INFO};
use crate::invocation::plan::Plan;
use crate::local::compiler::{self, Found};
use crate::private;

/// A toolchain of this machine that others are compared with.
pub struct Subject<'a> {
    config: &'a Config,
    run: &'a Path,
    probe: &'a Probe,
    language: Language,
    /// A vendor's stable updates are taken for the release that they update.
    updates: bool,
    /// Sources and options, and what they give here; made when the first trial needs it.
    cases: OnceCell<Result<Vec<Case>, String>>,
}

/// One source, compiled in one way.
struct Case {
    /// Its name, and its text.
    source: (&'static str, &'static str),
    args: Vec<OsString>,
    has_debug_info: bool,
    object: Vec<u8>,
}

/// A toolchain of another machine.
struct Candidate {
    worker: String,
    /// In the form that is tried.
    digest: Vec<u8>,
    /// In the text form.
    text: Vec<u8>,
}

/// What a trial shows.
enum Outcome {
    /// It makes the same objects.
    Equal(Equal),
    /// It makes another one: of what.
    Other(String),
    /// It does not compile that, or not today.
    Failed(String),
    /// It could not be tried.
    Unknown(String),
}

impl Outcome {
    /// Notes what it says of the toolchain of `digest`.
    fn note(self, trials: &mut Trials, digest: &[u8]) {
        match self {
            Outcome::Equal(equal) => trials.note(digest, Some(equal)),
            Outcome::Other(_) => trials.note(digest, None),
            Outcome::Failed(_) => trials.note_failure(digest),
            Outcome::Unknown(_) => {}
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Equal(Equal::Whole) => f.write_str("objects are the same"),
            Outcome::Equal(Equal::ButIdent { theirs, .. }) => {
                let theirs = String::from_utf8_lossy(theirs);
                write!(f, "objects are the same but for \"{theirs}\" in them")
            }
            Outcome::Other(what) => write!(f, "never: another object {what}"),
            Outcome::Failed(why) => write!(f, "not now: {why}"),
            Outcome::Unknown(why) => write!(f, "not tried to the end: {why}"),
        }
    }
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
    /// The toolchain of `probe` for `language`; `updates`: a vendor's stable updates are tried
    /// in place of the release that they update.
    pub fn new(
        config: &'a Config,
        run: &'a Path,
        probe: &'a Probe,
        language: Language,
        updates: bool,
    ) -> Self {
        Subject {
            config,
            run,
            probe,
            language,
            updates,
            cases: OnceCell::new(),
        }
    }

    /// Tries what `workers` have, of all that the grid has, and nobody has tried.
    pub fn try_all(&self, workers: &[&Worker], all: &[Worker]) -> Vec<Told> {
        let forms = [
            (true, self.probe.tree_toolchain(self.language)),
            (false, self.probe.toolchain(self.language)),
        ];
        let mut told = Vec::new();
        // Those that have made another object, in whichever form: by their text form's digest.
        let mut others = BTreeSet::new();
        for (is_tree, own) in forms {
            let Some(own) = own else { continue };
            let mut trials = Trials::of(self.run, &own.digest);
            // One is enough of each worker, whose gcc may be there under several names.
            let mut served = BTreeSet::new();
            for candidate in self.candidates(&own, is_tree, workers, all) {
                let known = trials.verdict(&candidate.digest);
                if known == Some(true) {
                    served.insert(candidate.worker.clone());
                }
                if known.is_some() || served.contains(&candidate.worker) {
                    continue;
                }
                let form = if is_tree { "tree form" } else { "text form" };
                let outcome = match others.contains(&candidate.text) {
                    true => Outcome::Other("in the tree form".to_owned()),
                    false => self.try_one(&candidate.digest, is_tree),
                };
                let words = format!("{form}: {outcome}");
                let is_equal = matches!(outcome, Outcome::Equal(_));
                if is_equal {
                    served.insert(candidate.worker.clone());
                }
                if let Outcome::Other(_) = outcome {
                    others.insert(candidate.text);
                }
                outcome.note(&mut trials, &candidate.digest);
                trials.keep(self.run, &own.digest);
                told.push(Told {
                    worker: candidate.worker,
                    words,
                    is_equal,
                });
            }
        }
        told
    }

    /// Toolchains of `workers` that may be tried in place of `own`, each once. Those of which
    /// another worker says something else are nobody's word to take.
    fn candidates(
        &self,
        own: &Toolchain,
        is_tree: bool,
        workers: &[&Worker],
        all: &[Worker],
    ) -> Vec<Candidate> {
        let mut seen = BTreeSet::from([own.digest.clone()]);
        let mut found = Vec::new();
        let is_told_alike = |toolchain: &Toolchain| {
            let of_all = all.iter().flat_map(|worker| &worker.toolchains);
            let mut same = of_all.filter(|other| other.digest == toolchain.digest);
            same.all(|other| may_be_equal(own, other, self.updates))
        };
        for worker in workers {
            for other in &worker.toolchains {
                if !other.shipment.is_empty() || !is_told_alike(other) {
                    continue;
                }
                let digests = match is_tree {
                    true => other.tree_digests.clone(),
                    false => vec![other.digest.clone()],
                };
                for digest in digests {
                    if seen.insert(digest.clone()) {
                        found.push(Candidate {
                            worker: worker.id.clone(),
                            digest,
                            text: other.digest.clone(),
                        });
                    }
                }
            }
        }
        found
    }

    /// What the toolchain of `digest` makes of everything.
    fn try_one(&self, digest: &[u8], is_tree: bool) -> Outcome {
        let cases = match self.cases.get_or_init(|| self.cases()) {
            Ok(cases) => cases,
            Err(why) => return Outcome::Unknown(why.clone()),
        };
        let mut equal = None;
        for case in cases.iter().filter(|case| is_tree || !case.has_debug_info) {
            let other = match self.compile_there(case, digest, is_tree) {
                Ok(object) => object,
                Err(NotThere::Failed(why)) => return Outcome::Failed(why),
                Err(NotThere::Unknown(why)) => return Outcome::Unknown(why),
            };
            let how = compare(&case.object, &other, self.probe.family);
            match (how, &equal) {
                (None, _) => return Outcome::Other(format!("of {}", case.name())),
                (Some(how), None) => equal = Some(how),
                (Some(how), Some(before)) if how == *before => {}
                (Some(_), Some(_)) => return Outcome::Other("by several compilers".to_owned()),
            }
        }
        match equal {
            Some(equal) => Outcome::Equal(equal),
            None => Outcome::Unknown("nothing compiles here".to_owned()),
        }
    }

    /// Compiles everything here.
    fn cases(&self) -> Result<Vec<Case>, String> {
        let folder = Folder::make(self.run)?;
        let sources: &[(&'static str, &'static str)] = match self.language {
            Language::C => &C,
            Language::Cxx => &CXX,
        };
        let mut cases = Vec::new();
        for source @ (name, text) in sources {
            folder.write(name, text)?;
            for options in OPTIONS.into_iter().chain([WITH_DEBUG_INFO]) {
                let words = ["-c", name, "-o", "out.o"];
                let args = options.iter().chain(&words).map(OsString::from).collect();
                let mut case = Case {
                    source: *source,
                    args,
                    has_debug_info: options == WITH_DEBUG_INFO,
                    object: Vec::new(),
                };
                match self.compile_here(&case, &folder)? {
                    true => {
                        case.object = folder.take("out.o")?;
                        cases.push(case);
                    }
                    // A cross compiler may have no library.
                    false if *name == LIBRARY => {}
                    false => return Err(format!("{} does not compile here", case.name())),
                }
            }
        }
        Ok(cases)
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
        let folder = Folder::make(self.run).map_err(NotThere::Unknown)?;
        let (name, text) = case.source;
        folder.write(name, text).map_err(NotThere::Unknown)?;
        let found = compiler::find(self.probe.driver.as_os_str(), &case.args, self.config);
        let found = found.ok_or_else(|| NotThere::Unknown("the compiler is gone".to_owned()))?;
        let is_here = std::env::set_current_dir(&folder.path);
        is_here.map_err(|error| NotThere::Unknown(error.to_string()))?;
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
        let name = name.ok_or_else(|| NotThere::Unknown("not a compiler's name".to_owned()))?;
        let plan = Plan::read(found, name, self.config)
            .map_err(|why| NotThere::Unknown(why.to_string()))?;
        let mut context = Context::new(Instant::now(), found, self.config).without_slots();
        let sent = remote::try_other(&mut context, found, &plan, digest, is_tree);
        match (sent, context.audit.take()) {
            (Ok(()), _) => folder.take("out.o").map_err(NotThere::Unknown),
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
    /// It does not compile that.
    Failed(String),
    /// It could not be asked.
    Unknown(String),
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
            true => NotThere::Failed(words),
            false => NotThere::Unknown(words),
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
