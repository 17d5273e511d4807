//! A worker's result that is checked: the compiler of this machine makes its own, which is
//! the one that stays, and the coordinator hears whether the two are the same.

use std::fs;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hg_proto::v1::{ReportAuditRequest, ReportAuditResponse};
use hg_proto::wire::digest::Digest;

use crate::compile::events::printable;
use crate::config::Config;
use crate::grid::equivalence::Trials;
use crate::grid::grpc::{Connection, Tasks};
use crate::local::compiler::Found;
use crate::local::output::{self, Pending, Style};
use crate::local::process;
use crate::os;
use crate::private;
use crate::say;

/// The reason why a compile that a worker has done runs here too.
pub const AUDIT: &str = "audit";
/// How much older than the compile a file must be that nobody has written to meanwhile.
const SETTLED: Duration = Duration::from_secs(1);
/// Milliseconds that the coordinator may take to hear of it.
const REPORT_MS_MAX: u64 = 2_000;
/// Differences whose objects are kept.
const KEPT_MAX: usize = 10;

/// A result that the coordinator wants checked.
pub struct Audit {
    /// The task, as the coordinator numbers it.
    pub task_id: u64,
    /// Who compiled it.
    pub worker: String,
    /// The worker's object.
    pub remote: Vec<u8>,
    /// Where the compiler of this machine writes its own.
    pub object: PathBuf,
    /// How it writes it.
    pub style: Style,
    /// What may be written beside the object: where, and what the worker wrote there.
    pub sides: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// The source and the headers that the worker had, by path.
    pub inputs: Vec<(PathBuf, Digest)>,
    /// When they were about to be read.
    pub began: SystemTime,
    /// Where a toolchain of another machine was taken for this machine's: the digests of this
    /// machine's in either form.
    pub equal: Option<Vec<Vec<u8>>>,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Both are the same.
    Same,
    /// They differ, and this machine's compiler makes the same twice.
    Differs,
    /// It can't be said: this machine's compiler makes another one each time.
    Unclear,
}

impl Audit {
    /// Compares the object that `found`'s compiler has just made, and tells the coordinator.
    pub fn settle(&self, found: &Found, config: &Config) -> Finding {
        let Ok(local) = fs::read(&self.object) else {
            return Finding::Unclear;
        };
        let sides = self.sides_here();
        let remote = self.sides.iter().map(|(_, remote)| remote);
        let finding = match local == self.remote && sides.iter().eq(remote) {
            true => Finding::Same,
            false if !self.inputs_are_the_same() => Finding::Unclear,
            false => self.compare_with_another(found, &local, &sides),
        };
        if finding == Finding::Differs {
            let kept = self.keep(found, config, &local);
            let place = kept.map(|kept| format!("; both are in {}", kept.display()));
            say::warn(format_args!(
                "worker {} returned another object than the compiler here makes for {}{}",
                printable(&self.worker),
                self.object.display(),
                place.unwrap_or_default()
            ));
            say::warn("what it made before may lie in the cache: 'hgbuild cache clear' ends that");
            self.part_from_equal(config);
        }
        // That two compilers are not the same, as this user's trial said, is not the worker's
        // fault.
        let is_told =
            finding == Finding::Same || finding == Finding::Differs && self.equal.is_none();
        if is_told {
            self.report(config, finding == Finding::Same);
        }
        finding
    }

    /// Compiles of this machine's go to that toolchain no more.
    fn part_from_equal(&self, config: &Config) {
        let (Some(own), Some(run)) = (&self.equal, config.run_folder()) else {
            return;
        };
        // In both forms, and whichever it was: trials have shown too little.
        for own in own {
            let mut trials = Trials::of(&run, own);
            for equal in trials.equals() {
                trials.note(&equal, None);
            }
            trials.keep(&run, own);
        }
        say::warn(
            "it has another build of this compiler: nothing is sent to other builds any more",
        );
    }

    /// What this machine's compiler has written beside the object; what lay there before is
    /// not its.
    fn sides_here(&self) -> Vec<Option<Vec<u8>>> {
        let is_new = |path: &PathBuf| {
            fs::metadata(path).and_then(|meta| meta.modified()).ok() > Some(self.began)
        };
        let here = self.sides.iter().map(|(path, _)| path);
        here.map(|path| fs::read(path).ok().filter(|_| is_new(path)))
            .collect()
    }

    /// Whether nobody has written to what was read for the worker.
    fn inputs_are_the_same(&self) -> bool {
        self.inputs.iter().all(|(path, digest)| {
            let is_older =
                |meta: fs::Metadata| meta.modified().is_ok_and(|at| at + SETTLED < self.began);
            fs::metadata(path).is_ok_and(is_older)
                || fs::read(path).is_ok_and(|content| Digest::of(&content) == *digest)
        })
    }

    /// Whether the compiler here makes the same twice. What it made first is what stays.
    fn compare_with_another(
        &self,
        found: &Found,
        local: &[u8],
        sides: &[Option<Vec<u8>>],
    ) -> Finding {
        let is_good = again(found).is_some();
        let are_same = self.sides_here() == sides;
        let sides = self.sides.iter().map(|(path, _)| path).zip(sides);
        if is_good && fs::read(&self.object).is_ok_and(|second| second == local) && are_same {
            return Finding::Differs;
        }
        let sides = sides.filter_map(|(path, first)| {
            let content = first.as_ref()?;
            Some(Pending::with(path, Style::Rewrite, content))
        });
        // They belong together: coverage's two have one number in them.
        let first = sides.chain([Pending::with(&self.object, self.style, local)]);
        let first = first.collect::<std::io::Result<Vec<_>>>();
        if let Err(error) = first.and_then(output::put_all) {
            say::warn(format_args!("{}: {error}", self.object.display()));
        }
        Finding::Unclear
    }

    fn report(&self, config: &Config, same: bool) {
        let tasks = Tasks::new();
        let report = ReportAuditRequest {
            task_id: self.task_id,
            same,
        };
        // Not hearing of it costs the coordinator one answer.
        if let Ok(mut connection) = Connection::to_grid(config, &tasks) {
            let call = connection.call("ReportAudit", &report, REPORT_MS_MAX);
            let _: Result<ReportAuditResponse, _> = tasks.run(call);
        }
    }

    /// Keeps both objects and the command. Gives where.
    fn keep(&self, found: &Found, config: &Config, local: &[u8]) -> Option<PathBuf> {
        let audits = config.home.as_ref()?.join("audits");
        private::make(&audits).ok()?;
        if fs::read_dir(&audits).ok()?.count() >= KEPT_MAX {
            return None;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let place = audits.join(format!("{}-{}", now.as_secs(), std::process::id()));
        private::make(&place).ok()?;
        let words = std::iter::once(found.driver.as_os_str())
            .chain(found.args.iter().map(|arg| arg.as_os_str()));
        let mut command = format!("# worker {}\n", printable(&self.worker)).into_bytes();
        let folder = std::env::current_dir().unwrap_or_default();
        command.extend_from_slice(b"# in ");
        command.extend_from_slice(os::bytes(folder.as_os_str()));
        for word in words {
            command.push(b'\n');
            command.extend_from_slice(os::bytes(word));
        }
        let write = |name: &str, bytes: &[u8]| private::write(&place.join(name), bytes);
        let kept = write("command", &command)
            .and_then(|()| write("local.o", local))
            .and_then(|()| write("remote.o", &self.remote));
        kept.ok().map(|()| place)
    }
}

/// Compiles once more, silently. `None`: it failed.
fn again(found: &Found) -> Option<()> {
    let mut compiler = Process::new(&found.driver);
    compiler
        .args(&found.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = process::die_with_parent(compiler).status();
    status.ok()?.success().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_files_beside_the_object_only_those_of_this_compile_count() {
        let folder = std::env::temp_dir().join(format!("hg-audit-sides-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        fs::write(at("before"), "x").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        let before = fs::File::options().write(true).open(at("before")).unwrap();
        before.set_modified(long_ago).unwrap();
        fs::write(at("made"), "y").unwrap();
        let sides = ["before", "made", "none"].map(|name| (at(name), None));
        let audit = Audit {
            task_id: 1,
            worker: String::new(),
            remote: Vec::new(),
            object: at("a.o"),
            style: Style::Rewrite,
            sides: sides.to_vec(),
            inputs: Vec::new(),
            began: long_ago + Duration::from_secs(1),
            equal: None,
        };
        assert_eq!(audit.sides_here(), [None, Some(b"y".to_vec()), None]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
