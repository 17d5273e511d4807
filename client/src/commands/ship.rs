//! `hgbuild ship`: gives this machine's compilers to the workers of the grid that have
//! none like them. A compile that meets such a worker starts it in the background.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::env::consts;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hg_proto::compiler::packing::Packed;
use hg_proto::compiler::probe::{self, Probe};
use hg_proto::compiler::toolchain::Language;
use hg_proto::v1::{
    Encoding, Input, ListWorkersRequest, ListWorkersResponse, SubmitRequest, Task, Toolchain,
    Worker, submit_request,
};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::ZSTD_WINDOW_LOG_MAX;

use crate::cli::Ship;
use crate::commands::trials::Subject;
use crate::compile::events::printable;
use crate::config::Config;
use crate::grid::attempt;
use crate::grid::equivalence::Trials;
use crate::grid::find;
use crate::grid::grade::{Grade, Known, grade};
use crate::grid::grpc::Tasks;
use crate::grid::memo::Memos;
use crate::grid::payload::Payload;
use crate::grid::shipment;
use crate::grid::submit::{self, Cost, Ending};
use crate::inputs::task::client_name;
use crate::local::compiler;
use crate::say;
use hg_proto::size;

/// Compilers that are given when none is named, as far as they are there.
const USUAL: [&str; 4] = ["gcc", "g++", "clang", "clang++"];
/// Milliseconds that the coordinator may take to list its workers.
const ANSWER_MS_MAX: u64 = 3_000;
/// zstd's level: a compiler travels to many and is compressed once.
const ZSTD_LEVEL: i32 = 6;
/// Descriptors that are closed one by one where the kernel can't close a range.
#[cfg(target_os = "linux")]
const OLD_DESCRIPTORS: i32 = 4096;
/// How far below other programs a background run is.
const NICE: i32 = 10;

/// Gives compilers to workers. Gives an exit code.
pub fn ship(config: &Config, args: &Ship) -> i32 {
    if args.background {
        detach();
    }
    let Some(run) = config.run_folder() else {
        say::warn("no home folder, in which it is noted what was given");
        return 1;
    };
    // One at a time: whoever comes meanwhile would send the same.
    let turn = shipment::turn(&run, !args.background);
    if turn.is_none() && args.background {
        return 0;
    }
    if turn.is_none() {
        say::warn(format_args!("{}: no lock can be had there", run.display()));
        return 1;
    }
    match Delivery::of(config, run, args).and_then(Delivery::run) {
        Ok(()) => 0,
        Err(why) => {
            say::warn(why);
            1
        }
    }
}

/// Leaves the terminal, the build and all its files behind.
fn detach() {
    let _ = nix::unistd::setsid();
    let _ = std::env::set_current_dir("/");
    #[cfg(target_os = "linux")]
    // SAFETY: nothing was opened yet, so that no descriptor of ours is closed: what is
    // open is what the build above has left open, locks and pipes.
    unsafe {
        if nix::libc::syscall(nix::libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) != 0 {
            // An older kernel.
            for descriptor in 3..OLD_DESCRIPTORS {
                nix::libc::close(descriptor);
            }
        }
    }
    // SAFETY: one system call, about this process alone.
    unsafe { nix::libc::nice(NICE) };
}

/// A compiler, and what of it can be sent.
struct Goods {
    probe: Probe,
    language: Language,
    /// As tasks of the tree form ask for it.
    toolchain: Toolchain,
    /// Read and hashed when the first worker lacks it.
    packed: OnceCell<Packed>,
}

impl Goods {
    fn packed(&self, config: &Config, run: &Path) -> Result<&Packed, String> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let packed = Packed::of(&self.probe, self.language)?;
        // It was read after the compiler was looked at, and may be another one by now.
        let memo = config.run_folder().map(|run| run.join("compilers"));
        let now = probe::probe(&self.probe.driver, memo.as_deref());
        let now = now.ok().and_then(|now| now.tree_toolchain(self.language));
        if now.is_none_or(|now| now.digest != self.toolchain.digest) {
            return Err("the compiler was changed meanwhile".into());
        }
        shipment::remember(run, &self.toolchain, packed.digest());
        Ok(self.packed.get_or_init(|| packed))
    }

    fn tell(&self, worker: &str, words: &str) {
        say::answer(format_args!(
            "{} {} {}: {}: {}\n",
            self.probe.driver.display(),
            self.probe.version,
            self.language.name(),
            printable(worker),
            printable(words),
        ));
    }

    fn grade(&self, worker: &Worker, run: &Path) -> Grade {
        let packed = self.packed.get().map(Packed::digest);
        let plain = self.probe.toolchain(self.language).unwrap_or_default();
        let known = Known {
            trials: Trials::of_forms(Some(run), [&plain, &self.toolchain]),
            plain,
            tree: self.toolchain.clone(),
            shipment: packed.or_else(|| shipment::known(run, &self.toolchain)),
        };
        grade(worker, &known, (consts::OS, consts::ARCH))
    }
}

struct Delivery<'a> {
    config: &'a Config,
    run: PathBuf,
    goods: Vec<Goods>,
    /// Compilers that are not there.
    missing: usize,
    /// What was refused once is not tried again for hours.
    is_background: bool,
    /// Stable updates of a vendor's are tried in place of what they update.
    updates: bool,
    tasks: Tasks,
    workers: Vec<Worker>,
    /// By digest, as they travel.
    encoded: BTreeMap<Digest, Bytes>,
}

impl<'a> Delivery<'a> {
    fn of(config: &'a Config, run: PathBuf, args: &Ship) -> Result<Self, String> {
        let (goods, missing) = goods(config, &run, args)?;
        let tasks = Tasks::new();
        let mut connection = find::to_grid(config, &tasks)?;
        let question = ListWorkersRequest::default();
        let listed: ListWorkersResponse = tasks
            .run(connection.call("ListWorkers", &question, ANSWER_MS_MAX))
            .map_err(|error| error.to_string())?;
        Ok(Delivery {
            config,
            run,
            goods,
            missing,
            is_background: args.background,
            updates: args.updates,
            tasks,
            workers: listed.workers,
            encoded: BTreeMap::new(),
        })
    }

    fn run(mut self) -> Result<(), String> {
        if self.workers.is_empty() {
            return Err("the grid has no workers".into());
        }
        let mut failed = self.missing;
        for goods in std::mem::take(&mut self.goods) {
            let mut given = self.try_others(&goods);
            for worker in self.workers.clone() {
                let told = self.deliver(&goods, &worker);
                failed += usize::from(told.is_err());
                given += usize::from(matches!(told, Ok(Some(_))));
                let words = match told {
                    Ok(None) => "has it, or one as good".to_owned(),
                    Ok(Some(bytes)) => format!("was given it, {} sent", size::show(bytes)),
                    Err(why) => why,
                };
                goods.tell(&worker.id, &words);
            }
            if given > 0 {
                self.forget(&goods);
            }
        }
        match failed {
            0 => Ok(()),
            _ => Err(format!("not given: {failed}")),
        }
    }

    /// Tries toolchains of workers that can't be given this one. Gives how many are as good.
    fn try_others(&self, goods: &Goods) -> usize {
        let is_left = |worker: &&Worker| match goods.grade(worker, &self.run) {
            Grade::Untried { .. } | Grade::None(_) | Grade::Equivalent { .. } => true,
            Grade::Same { tree } => !tree,
            Grade::Shippable => shipment::was_refused(&self.run, &goods.toolchain, worker),
            Grade::Shipped | Grade::Container { .. } => false,
        };
        let workers: Vec<&Worker> = self.workers.iter().filter(is_left).collect();
        let (probe, language) = (&goods.probe, goods.language);
        let subject = Subject::new(self.config, &self.run, probe, language, self.updates);
        let told = subject.try_all(&workers, &self.workers);
        for one in &told {
            goods.tell(&one.worker, &one.words);
        }
        told.iter().filter(|one| one.is_equal).count()
    }

    /// That no worker had it is no longer true.
    fn forget(&self, goods: &Goods) {
        let Some(address) = self.config.coordinator.as_deref() else {
            return;
        };
        let memos = Memos::new(self.config.run_folder().as_deref());
        let subject = self.config.grid_key(address);
        let plain = goods.probe.toolchain(goods.language);
        let digests = plain.into_iter().map(|plain| plain.digest);
        for digest in digests.chain([goods.toolchain.digest.clone()]) {
            memos.forget(&[&subject[..], &digest].concat());
        }
    }

    /// Gives it to one worker. `None`: it has it; else the bytes that were sent.
    fn deliver(&mut self, goods: &Goods, worker: &Worker) -> Result<Option<u64>, String> {
        let has_it = |grade: &Grade| {
            matches!(
                grade,
                Grade::Same { tree: true }
                    | Grade::Container { .. }
                    | Grade::Shipped
                    | Grade::Equivalent { .. }
            )
        };
        match goods.grade(worker, &self.run) {
            grade if has_it(&grade) => return Ok(None),
            Grade::Shippable => {}
            grade => return Err(printable(&grade.words())),
        }
        if self.is_background && shipment::was_refused(&self.run, &goods.toolchain, worker) {
            return Err("refused it lately".into());
        }
        let packed = goods.packed(self.config, &self.run)?;
        // Before it was packed nobody could know.
        if has_it(&goods.grade(worker, &self.run)) {
            return Ok(None);
        }
        let (inputs, contents) = self.encode(packed)?;
        let task = Task {
            toolchain: Some(Toolchain {
                digest: worker.shipping.clone(),
                ..goods.toolchain.clone()
            }),
            inputs,
            working_directory: b"/work".to_vec(),
            source: format!("toolchain {}", goods.probe.driver.display()),
            client: client_name(),
            queue_ms_max: self.config.queue_ms_max,
            tree: true,
            shipment: Some(packed.shipment.clone()),
            ..Task::default()
        };
        let request = SubmitRequest {
            kind: Some(submit_request::Kind::Task(task)),
        };
        let mut cost = Cost::default();
        // One that was open while all of it was compressed has been given up by now.
        let mut connection = find::to_grid(self.config, &self.tasks)?;
        let submitted = submit::submit(
            &mut connection,
            &request,
            &contents,
            &mut [],
            None,
            &mut cost,
        );
        match self.tasks.run(submitted) {
            Ok(Ending::Returned(_)) => Ok(Some(cost.bytes_up)),
            Ok(Ending::TakenBack(..)) => Err("was not waited for".into()),
            Err(lost) => {
                let (reason, _) = attempt::after_loss(&lost);
                if reason.code == "refused" {
                    shipment::note_refused(&self.run, &goods.toolchain, worker);
                }
                Err(reason.to_string())
            }
        }
    }

    /// The contents of all files, compressed once for all workers.
    fn encode(&mut self, packed: &Packed) -> Result<(Vec<Input>, Vec<Payload>), String> {
        let sizes = hg_proto::compiler::shipment::contents(&packed.shipment);
        let mut inputs = Vec::new();
        let mut contents = Vec::new();
        for (at, (digest, source)) in packed.sources.iter().enumerate() {
            let named = |error: std::io::Error| format!("{}: {error}", source.display());
            let known = self.encoded.get(digest).cloned();
            let (size, bytes) = match known {
                Some(bytes) => (sizes.get(digest).copied().unwrap_or_default(), bytes),
                None => {
                    let content = std::fs::read(source).map_err(named)?;
                    if Digest::of(&content) != *digest {
                        return Err(format!("{}: it was written meanwhile", source.display()));
                    }
                    let bytes = Bytes::from(compressed(&content).map_err(named)?);
                    self.encoded.insert(*digest, bytes.clone());
                    (content.len() as u64, bytes)
                }
            };
            inputs.push(Input {
                // Where it goes is in the shipment.
                path: format!("/content/{at}").into_bytes(),
                digest: digest.as_bytes().to_vec(),
                size,
                encoding: Encoding::Zstd.into(),
                encoded_size: bytes.len() as u64,
            });
            contents.push(Payload::Held(bytes));
        }
        Ok((inputs, contents))
    }
}

fn compressed(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW_LOG_MAX))?;
    compressor.compress(content)
}

/// The compilers that are meant, as far as they are there; and how many are not.
fn goods(config: &Config, run: &Path, args: &Ship) -> Result<(Vec<Goods>, usize), String> {
    let named: Vec<OsString> = match args.compilers.is_empty() {
        true => USUAL.map(OsString::from).to_vec(),
        false => args.compilers.iter().map(OsString::from).collect(),
    };
    let language = match args.language.as_deref() {
        None => None,
        Some("c") => Some(Language::C),
        Some("c++") => Some(Language::Cxx),
        Some(other) => return Err(format!("--language {other}: not c or c++")),
    };
    let (mut goods, mut missing) = (Vec::new(), 0);
    for name in named {
        let shown = name.to_string_lossy().into_owned();
        match one(config, run, &name, language) {
            Ok(found) => goods.push(found),
            Err(None) if args.compilers.is_empty() => {}
            Err(why) => {
                let why = why.unwrap_or_else(|| "no such program".to_owned());
                say::warn(format_args!("{shown}: {why}"));
                missing += 1;
            }
        }
    }
    match goods.is_empty() {
        true if missing == 0 => Err("no compiler is there".into()),
        _ => Ok((goods, missing)),
    }
}

/// The compiler called `name`. `None`: there is no such program.
fn one(
    config: &Config,
    run: &Path,
    name: &OsStr,
    language: Option<Language>,
) -> Result<Goods, Option<String>> {
    let found = compiler::find(name, &[], config).ok_or(None)?;
    let memo = run.join("compilers");
    let probe = probe::probe(&found.driver, Some(&memo));
    let probe = probe.map_err(|error| Some(error.to_string()))?;
    let is_cxx = found.name.is_some_and(|name| name.cxx);
    let usual = if is_cxx { Language::Cxx } else { Language::C };
    let language = language.unwrap_or(usual);
    let toolchain = probe.tree_toolchain(language);
    Ok(Goods {
        toolchain: toolchain
            .ok_or_else(|| Some(format!("does not compile {}", language.name())))?,
        probe,
        language,
        packed: OnceCell::new(),
    })
}
