//! How a worker's compiler is made to present its diagnostics as the local one does on
//! this terminal: options, variables, and a terminal of the same width.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::Stdio;

use hg_proto::compiler::toolchain::Family;
use hg_proto::v1::{EnvironmentVariable, Terminal};
use hg_proto::wire::limits::ENVIRONMENT_BYTES_MAX;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::grid::attempt;
use crate::grid::memo::{Known, Memos};
use crate::local::capture;
use crate::local::compiler::Found;
use crate::local::memory_file::{descriptor_path, scratch};
use crate::local::process;
use crate::local::terminal::{COLUMNS, VARIABLES, columns, identity};
use crate::os;

/// What makes a worker's compiler present its diagnostics as the local one does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Presentation {
    /// Ahead of the user's own, which have the last word.
    pub options: Vec<Vec<u8>>,
    /// What its stderr has to be.
    pub terminal: Option<Terminal>,
    /// Variables about it.
    pub environment: Vec<EnvironmentVariable>,
}

/// A source that is worth several warnings: names, quotes, and a line that few terminals
/// have room for.
const WORTH_WARNINGS: &str = "\
int f(void) { int unused_a = 1; int *p = 1; return p == f; }\n\
int g(int a) { int unused_b = a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a; int unused_c; }\n";

/// What [`PresentationProbe::ask`] finds out, as it is remembered.
const COLOURED: &str = "coloured";
const PLAIN: &str = "plain";
const OTHERWISE: &str = "otherwise";

/// Finds out how a compiler presents its diagnostics on this terminal.
pub struct PresentationProbe<'a> {
    /// Which compiler.
    pub found: &'a Found,
    /// Of which kind.
    pub family: Family,
    /// The variables that a worker's compiler has.
    pub environment: &'a [EnvironmentVariable],
    /// Where the answer is kept.
    pub memos: &'a Memos,
}

impl PresentationProbe<'_> {
    /// What makes a worker's compiler present the same. `None`: nothing that is known here
    /// would.
    pub fn find(&self) -> Option<Presentation> {
        let driver = os::bytes(self.found.driver.as_os_str());
        let (shape, words) = (identity(), environment_words(self.environment));
        let key = [&b"terminal"[..], driver, &shape, &words].join(&0);
        let known = match self.memos.recall(&key, attempt::source_memo_lasts) {
            Known::Bad(words) => words,
            _ => {
                let words = self.ask().unwrap_or(OTHERWISE);
                self.memos.note(&key, words);
                words.to_owned()
            }
        };
        match &known[..] {
            COLOURED => Some(self.presentation(true)),
            PLAIN => Some(self.presentation(false)),
            _ => None,
        }
        .filter(|presentation| presentation.environment.iter().all(is_short))
    }

    /// clang has options for all of it, and looks into files about terminals that a worker
    /// need not have. gcc would name an option for links in the debug information.
    fn presentation(&self, coloured: bool) -> Presentation {
        if self.family == Family::Gcc {
            let mut values = VARIABLES.map(|name| (name, env::var_os(name)));
            // gcc asks its stdin, which on a worker is no terminal.
            let stdin = columns(&io::stdin());
            for (name, value) in &mut values {
                if *name == COLUMNS && value.is_none() && stdin > 0 {
                    *value = Some(stdin.to_string().into());
                }
            }
            let set = |(name, value): (&str, Option<OsString>)| {
                Some(EnvironmentVariable {
                    name: name.into(),
                    value: os::bytes(&value?).to_vec(),
                })
            };
            let columns = columns(&io::stderr()).into();
            return Presentation {
                options: Vec::new(),
                terminal: Some(Terminal { columns }),
                environment: values.into_iter().filter_map(set).collect(),
            };
        }
        let colour = match coloured {
            true => "-fcolor-diagnostics",
            false => "-fno-color-diagnostics",
        };
        // clang asks no terminal for it, since version 9.
        let told = env::var(COLUMNS).ok();
        let told = told.and_then(|columns| columns.parse::<u16>().ok());
        let columns = told.unwrap_or(0);
        Presentation {
            options: vec![
                colour.into(),
                format!("-fmessage-length={columns}").into_bytes(),
            ],
            ..Presentation::default()
        }
    }

    /// Compares what is said here with what is said as it would be elsewhere.
    fn ask(&self) -> io::Result<&'static str> {
        let mut source = scratch()?;
        source.write_all(WORTH_WARNINGS.as_bytes())?;
        fcntl(&source, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let words = ["-Wall", "-fsyntax-only", "-x", "c"].map(OsString::from);
        let words = words.into_iter().chain([descriptor_path(&source).into()]);
        let command = |options: &[Vec<u8>]| {
            let options = options.iter().map(|option| os::from_bytes(option.clone()));
            let args = options.chain(words.clone()).collect();
            process::prepare(&self.found.driver_command(args))
        };
        let here = capture::on_hidden_terminal(command(&[]))?;
        let coloured = here.contains(&0x1b);
        let presentation = self.presentation(coloured);
        let mut elsewhere = command(&presentation.options);
        elsewhere.env_clear().stdin(Stdio::null());
        let path = self.found.command.path.clone().or(env::var_os("PATH"));
        elsewhere.env("PATH", path.unwrap_or_default());
        for variable in self.environment.iter().chain(&presentation.environment) {
            let [name, value] = [&variable.name, &variable.value].map(|v| v.clone());
            elsewhere.env(os::from_bytes(name), os::from_bytes(value));
        }
        let there = match presentation.terminal {
            Some(_) => capture::on_hidden_terminal(elsewhere)?,
            None => elsewhere.output()?.stderr,
        };
        Ok(match (here == there && !here.is_empty(), coloured) {
            (false, _) => OTHERWISE,
            (true, true) => COLOURED,
            (true, false) => PLAIN,
        })
    }
}

/// Whether it may travel.
fn is_short(variable: &EnvironmentVariable) -> bool {
    variable.name.len() + variable.value.len() <= ENVIRONMENT_BYTES_MAX
}

fn environment_words(environment: &[EnvironmentVariable]) -> Vec<u8> {
    let words = environment
        .iter()
        .flat_map(|v| [&v.name[..], b"=", &v.value, b"\n"]);
    words.collect::<Vec<_>>().concat()
}
