//! `hgbuild doctor`: whether this machine can use its grid, and what each worker makes
//! of this machine's compilers; with each trouble, what to do about it.

use std::env::consts;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use hg_proto::compiler::probe;
use hg_proto::compiler::toolchain::Language;
use hg_proto::lan::browse;
use hg_proto::reasons;
use hg_proto::table::table;
use hg_proto::v1::{
    GetStatusRequest, GetStatusResponse, ListWorkersRequest, ListWorkersResponse, Worker,
};
use serde_json::{Value, json};

use crate::cli::Doctor;
use crate::commands::checks::{self, ByPath, CmakeTree};
use crate::compile::events::printable;
use crate::config::Config;
use crate::grid::equivalence::Trials;
use crate::grid::find;
use crate::grid::grade::{Grade, Known, difference, grade};
use crate::grid::grpc::Tasks;
use crate::grid::shipment;
use crate::local::compiler;
use crate::say;
use hg_proto::size;

/// Compilers that are looked at when none is named, as far as they are there.
const USUAL: [&str; 4] = ["gcc", "g++", "clang", "clang++"];
/// Milliseconds that the coordinator may take to list its workers.
const ANSWER_MS_MAX: u64 = 3_000;

/// Bytes without which a cache's disk is as good as full.
const ROOM_BYTES_MIN: u64 = 256 << 20;

/// How long is waited for those who announce coordinators.
const LISTEN_FOR: Duration = Duration::from_millis(700);

/// Something that was looked at.
struct Finding {
    /// What: `settings`, `home`, `cache`, `coordinator`, `version`, `clock`, `mdns`,
    /// `compiler`, `cmake`, `masquerade`.
    subject: &'static str,
    /// Nothing is wrong with it.
    good: bool,
    /// What was found.
    words: String,
    /// What to do about it; empty: nothing.
    remedy: String,
}

/// A compiler of this machine.
struct Compiler {
    name: String,
    language: Language,
    known: Known,
}

/// Prints what is found. Gives an exit code: 1 where something is wrong.
pub fn doctor(config: &Config, args: &Doctor) -> i32 {
    let mut findings = Vec::new();
    settings(config, &mut findings);
    folders(config, &mut findings);
    let compilers = compilers(config, &args.compilers, &mut findings);
    let workers = workers(config, &mut findings);
    networks(config, &mut findings);
    cmake_trees(&mut findings);
    masquerade(&mut findings);
    let mut rows = Vec::new();
    for known in &compilers {
        for worker in &workers {
            let machine = (consts::OS, consts::ARCH);
            let grade = grade(worker, &known.known, machine);
            rows.push((known, worker, grade));
        }
    }
    for known in compilers.iter().filter(|_| !workers.is_empty()) {
        let serves = |grade: &Grade| {
            matches!(
                grade,
                Grade::Same { .. }
                    | Grade::Container { .. }
                    | Grade::Shipped
                    | Grade::Equivalent { .. }
            )
        };
        let mut its = rows.iter().filter(|(of, ..)| std::ptr::eq(*of, known));
        if !its.clone().any(|(.., grade)| serves(grade)) {
            let name = &known.name;
            let mut can_be_given = its.clone().map(|(.., grade)| grade);
            let is_given = |grade: &Grade| {
                matches!(grade, Grade::Shippable | Grade::Untried { updated: false })
            };
            let is_updated = |grade: &Grade| matches!(grade, Grade::Untried { updated: true });
            findings.push(Finding {
                subject: "compiler",
                good: false,
                words: format!("no worker compiles with {name}"),
                remedy: if can_be_given.any(is_given) {
                    format!("hgbuild ship {name}")
                } else if its.any(|(.., grade)| is_updated(grade)) {
                    format!("hgbuild ship --updates {name}")
                } else {
                    "the table says for each worker why".to_owned()
                },
            });
        }
    }
    let code = i32::from(findings.iter().any(|finding| !finding.good));
    let written = match args.json {
        true => say::answer(format_args!("{}\n", as_json(&findings, &rows))),
        false => say::answer(as_text(&findings, &rows)),
    };
    code.max(written)
}

fn settings(config: &Config, findings: &mut Vec<Finding>) {
    let trouble = config.trouble.as_ref().or(config.refused.as_ref());
    findings.push(match trouble {
        Some(why) => Finding {
            subject: "settings",
            good: false,
            words: printable(why),
            remedy: "until then compiles run without the grid".to_owned(),
        },
        None if config.disabled => Finding {
            subject: "settings",
            good: false,
            words: "HG_DISABLE is set".to_owned(),
            remedy: "unset HG_DISABLE".to_owned(),
        },
        None => Finding {
            subject: "settings",
            good: true,
            words: "in order".to_owned(),
            remedy: String::new(),
        },
    });
}

/// The folders that builds write to, as far as they can't.
fn folders(config: &Config, findings: &mut Vec<Finding>) {
    let home = checks::home_trouble(config);
    let cache = match (&home, &config.cache, &config.home) {
        // It is the same trouble.
        (Some(_), Some(cache), Some(home)) if cache.folder.starts_with(home) => None,
        _ => checks::cache_trouble(config),
    };
    if home.is_none() && cache.is_none() {
        findings.extend(room(config));
    }
    let mut found = |subject, why: Option<String>, remedy: &str| {
        findings.extend(why.map(|why| Finding {
            subject,
            good: false,
            words: printable(&why),
            remedy: remedy.to_owned(),
        }));
    };
    let remedy = "HOME has to be a folder that can be written to and has room; without, nothing is \
                  kept";
    found("home", home, remedy);
    found(
        "cache",
        cache,
        "make room there, or name another folder in HG_CACHE_DIR",
    );
}

/// How much room the cache has, where it is of use.
fn room(config: &Config) -> Option<Finding> {
    let Some(cache) = &config.cache else {
        let is_off = config.trouble.is_none();
        return is_off.then(|| Finding {
            subject: "cache",
            good: true,
            words: "off: there is no folder for it, or its size is 0".to_owned(),
            remedy: String::new(),
        });
    };
    let free = checks::free_bytes(&cache.folder)?;
    let (size, wanted) = (size::show(free), size::show(cache.size_bytes_max));
    let good = cache.read_only || free >= ROOM_BYTES_MIN;
    Some(Finding {
        subject: "cache",
        good,
        words: format!("{}: {size} free, {wanted} at most", cache.folder.display()),
        remedy: match good {
            true => String::new(),
            false => "make room there, or name another folder in HG_CACHE_DIR".to_owned(),
        },
    })
}

/// Whether plain names of compilers lead to us.
fn masquerade(findings: &mut Vec<Finding>) {
    let (good, words, remedy) = match checks::led_by_path() {
        ByPath::Led(folder) => (
            true,
            format!(
                "compilers by their names are led through hgbuild by {}",
                folder.display()
            ),
            "",
        ),
        ByPath::Behind(folder, other) => (
            false,
            format!(
                "{} is in PATH behind {}, whose compilers are found first",
                folder.display(),
                other.display()
            ),
            "put it first in PATH",
        ),
        ByPath::Plain => (
            true,
            "no folder of PATH leads compilers to hgbuild: 'hgbuild make' does, or a launcher \
             (-DCMAKE_C_COMPILER_LAUNCHER=hgbuild, and CXX)"
                .to_owned(),
            "",
        ),
    };
    findings.push(Finding {
        subject: "masquerade",
        good,
        words: printable(&words),
        remedy: remedy.to_owned(),
    });
}

/// CMake trees here that call compilers past us.
fn cmake_trees(findings: &mut Vec<Finding>) {
    for tree in CmakeTree::near(Path::new(".")) {
        findings.push(Finding {
            subject: "cmake",
            good: false,
            words: printable(&tree.words()),
            remedy: printable(&tree.remedy()),
        });
    }
}

fn compilers(config: &Config, named: &[String], findings: &mut Vec<Finding>) -> Vec<Compiler> {
    let names: Vec<String> = match named.is_empty() {
        true => USUAL.map(str::to_owned).to_vec(),
        false => named.to_vec(),
    };
    let mut known = Vec::new();
    for name in names {
        let Some(found) = compiler::find(&OsString::from(&name), &[], config) else {
            if !named.is_empty() {
                findings.push(Finding {
                    subject: "compiler",
                    good: false,
                    words: format!("{name}: no such program"),
                    remedy: "install it, or give its path".to_owned(),
                });
            }
            continue;
        };
        let memo = config.run_folder().map(|run| run.join("compilers"));
        let probe = match probe::probe(&found.driver, memo.as_deref()) {
            Ok(probe) => probe,
            Err(why) => {
                findings.push(Finding {
                    subject: "compiler",
                    good: false,
                    words: format!("{name}: {}", printable(&why.to_string())),
                    remedy: "its compiles run here".to_owned(),
                });
                continue;
            }
        };
        let is_cxx = found.name.is_some_and(|name| name.cxx);
        let language = if is_cxx { Language::Cxx } else { Language::C };
        let (Some(plain), Some(tree)) = (probe.toolchain(language), probe.tree_toolchain(language))
        else {
            continue;
        };
        findings.push(Finding {
            subject: "compiler",
            good: true,
            words: format!(
                "{name}: {} {} for {}, {}",
                plain
                    .family()
                    .as_str_name()
                    .trim_start_matches("FAMILY_")
                    .to_lowercase(),
                printable(&plain.version),
                printable(&plain.target),
                found.driver.display()
            ),
            remedy: String::new(),
        });
        let run = config.run_folder();
        known.push(Compiler {
            name,
            language,
            known: Known {
                shipment: run.as_deref().and_then(|run| shipment::known(run, &tree)),
                trials: Trials::of_forms(run.as_deref(), [&plain, &tree]),
                plain,
                tree,
            },
        });
    }
    known
}

fn workers(config: &Config, findings: &mut Vec<Finding>) -> Vec<Worker> {
    let mut found = |good, words: String, remedy: &str| {
        findings.push(Finding {
            subject: "coordinator",
            good,
            words,
            remedy: remedy.to_owned(),
        });
    };
    if config.coordinator.is_none() && config.sought.is_none() {
        if config.trouble.is_none() {
            found(
                false,
                "none is known".to_owned(),
                "'hgbuild join' with a token of 'hg-coord invite', or HG_COORDINATOR=HOST:PORT",
            );
        }
        return Vec::new();
    }
    let tasks = Tasks::new();
    let mut address = String::new();
    let mut status = None;
    let listed = find::to_grid(config, &tasks).and_then(|mut connection| {
        connection.address().clone_into(&mut address);
        let question = ListWorkersRequest::default();
        let call = connection.call("ListWorkers", &question, ANSWER_MS_MAX);
        let listed: Result<ListWorkersResponse, _> = tasks.run(call);
        let listed = listed.map_err(|error| error.to_string())?;
        let call = connection.call("GetStatus", &GetStatusRequest {}, ANSWER_MS_MAX);
        let answer: Result<GetStatusResponse, _> = tasks.run(call);
        status = answer.ok();
        Ok(listed)
    });
    let workers = match listed {
        Err(why) => {
            let code = match why.contains("token") {
                true => "grid-refused",
                false => "grid-unreachable",
            };
            let advice = reasons::find(code).map_or("", |meaning| meaning.advice);
            // It may say itself what to do.
            let advice = if why.contains("'hgbuild ") {
                ""
            } else {
                advice
            };
            found(false, printable(&why), advice);
            Vec::new()
        }
        Ok(listed) if listed.workers.is_empty() => {
            let words = format!("{address}: no worker is there");
            found(
                false,
                words,
                "'hg-worker-lite join' and 'hg-worker-lite serve' on each machine that helps",
            );
            Vec::new()
        }
        Ok(listed) => {
            let words = match listed.workers.len() {
                1 => format!("{address}: 1 worker"),
                count => format!("{address}: {count} workers"),
            };
            found(true, words, "");
            listed.workers
        }
    };
    if let Some(status) = &status {
        findings.push(version(status, &workers));
        findings.push(clock(status));
    }
    workers
}

/// Whose versions are others than ours. Neighbours work together.
fn version(status: &GetStatusResponse, workers: &[Worker]) -> Finding {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    let others: Vec<String> = workers
        .iter()
        .filter(|worker| worker.version != OWN)
        .map(|worker| format!("{} {}", worker.id, worker.version))
        .collect();
    let is_same = others.is_empty() && status.version == OWN;
    let mut words = format!("hgbuild {OWN}, coordinator {}", status.version);
    match others.len() {
        0 => {}
        1..=4 => words.push_str(&format!(", {}", others.join(", "))),
        count => words.push_str(&format!(", {count} workers of other versions")),
    }
    Finding {
        subject: "version",
        good: true,
        words: printable(&words),
        remedy: match is_same {
            true => String::new(),
            false => "bring all to one version, where something does not work".to_owned(),
        },
    }
}

fn clock(status: &GetStatusResponse) -> Finding {
    let trouble = checks::clock_trouble(status.now_unix_ms);
    Finding {
        subject: "clock",
        good: trouble.is_none(),
        remedy: match trouble {
            None => String::new(),
            Some(_) => "let both follow the network's time: tokens end by the coordinator's \
                        clock, certificates of your own by both"
                .to_owned(),
        },
        words: trouble.unwrap_or_else(|| "with the coordinator's, within a minute".to_owned()),
    }
}

/// The grids that are announced here. It is no fault that there are none.
fn networks(config: &Config, findings: &mut Vec<Finding>) {
    let mut found = |words: String| {
        findings.push(Finding {
            subject: "mdns",
            good: true,
            words,
            remedy: String::new(),
        });
    };
    if !config.mdns {
        return found("HG_MDNS says not to look for coordinators".to_owned());
    }
    match browse::all(LISTEN_FOR) {
        Err(why) => found(why),
        Ok(grids) if grids.is_empty() => found("no coordinator is announced here".to_owned()),
        Ok(grids) => {
            for grid in grids {
                let is_ours = config
                    .sought
                    .is_some_and(|pin| grid.announcement.names(&pin));
                let ours = if is_ours {
                    ", the one that was joined"
                } else {
                    ""
                };
                found(format!("{grid}{ours}"));
            }
        }
    }
}

fn as_json(findings: &[Finding], rows: &[(&Compiler, &Worker, Grade)]) -> Value {
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "subject": finding.subject,
                "good": finding.good,
                "found": finding.words,
                "remedy": finding.remedy,
            })
        })
        .collect();
    let grades: Vec<Value> = rows
        .iter()
        .map(|(known, worker, grade)| {
            json!({
                "compiler": known.name,
                "language": known.language.name(),
                "worker": worker.id,
                "grade": grade.name(),
                "why": why(known, worker, grade),
            })
        })
        .collect();
    json!({ "findings": findings, "grades": grades })
}

/// Why it is this grade, and in what the worker's own compiler differs where that matters.
fn why(known: &Compiler, worker: &Worker, grade: &Grade) -> String {
    let differs = matches!(
        grade,
        Grade::Shippable | Grade::Untried { .. } | Grade::None(_)
    );
    let difference = differs.then(|| difference(worker, &known.known)).flatten();
    let difference = difference.map_or(String::new(), |words| format!("; {words}"));
    printable(&format!("{}{difference}", grade.words()))
}

fn as_text(findings: &[Finding], rows: &[(&Compiler, &Worker, Grade)]) -> String {
    let mut text: String = findings.iter().map(Finding::to_string).collect();
    if rows.is_empty() {
        return text;
    }
    let mut cells = vec![["COMPILER", "WORKER", "GRADE", ""].map(str::to_owned)];
    for (known, worker, grade) in rows {
        cells.push([
            known.name.clone(),
            printable(&worker.id),
            grade.name().to_owned(),
            why(known, worker, grade),
        ]);
    }
    text.push('\n');
    text.push_str(&table(&cells));
    text
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.good { "ok " } else { "!! " };
        writeln!(f, "{mark}{:<12} {}", self.subject, self.words)?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => writeln!(f, "   {:<12} {}", "", self.remedy),
        }
    }
}
