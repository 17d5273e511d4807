//! Manual pages, completions, the reference of settings and that of reasons, made from the
//! programs' own tables: those that `--help` is printed from. They lie in the checkout, so
//! that a package needs no generator; `cargo run -p hg-tests --bin manuals` writes them anew.

mod bash;
mod fish;
mod page;
mod reasons;
mod settings;
mod value;
mod zsh;

pub use settings::PAGE as SETTINGS_PAGE;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo};
use hg_proto::command_line::Program;

/// A program as its pages and completions see it.
pub struct Manual {
    /// Its name, and the environment that it heeds.
    pub program: Program,
    /// What may be typed.
    pub table: CommandInfoWithArgs,
    /// Commands whose own options another command line may follow, as in `"hgbuild"`.
    pub leads: &'static [&'static str],
    /// Files that it reads and writes.
    pub files: &'static [(&'static str, &'static str)],
}

/// A file of the checkout.
pub struct Written {
    /// From the checkout.
    pub path: String,
    /// What it has to hold.
    pub text: String,
}

/// The three programs.
pub fn manuals() -> [Manual; 3] {
    [
        Manual {
            program: hgbuild::cli::PROGRAM,
            table: hgbuild::cli::Flags::get_args_info(),
            leads: &["hgbuild", "hgbuild explain"],
            files: &[
                ("~/.hybridgrid/config.toml", "settings"),
                ("~/.hybridgrid/token", "the token that 'join' keeps"),
                (
                    "~/.hybridgrid/cache/",
                    "the cache, unless HG_CACHE_DIR says another folder",
                ),
                (
                    "/usr/lib/hgbuild/",
                    "of the Debian package: in front of PATH, compilers that are led through hgbuild",
                ),
            ],
        },
        Manual {
            program: hg_coord::config::PROGRAM,
            table: hg_coord::config::Args::get_args_info(),
            leads: &[],
            files: &[
                (
                    "~/.hybridgrid/coord/",
                    "state, unless --state says another folder: the root secret and the certificate, what was learned of files and workers",
                ),
                (
                    "/etc/hybridgrid/coord.env",
                    "of the Debian package: options and environment of the service",
                ),
                (
                    "/var/lib/hybridgrid/coord/",
                    "of the Debian package: the service's state",
                ),
            ],
        },
        Manual {
            program: hg_worker_lite::config::PROGRAM,
            table: hg_worker_lite::config::command_line(),
            leads: &[],
            files: &[
                (
                    "~/.hybridgrid/worker/",
                    "state, unless --state says another folder: the token that 'join' keeps, headers and compilers that came",
                ),
                (
                    "/etc/hybridgrid/worker.env",
                    "of the Debian package: options and environment of the service",
                ),
                (
                    "/var/lib/hybridgrid/worker/",
                    "of the Debian package: the service's state",
                ),
            ],
        },
    ]
}

/// All that is made from the tables. `settings` is docs/settings.md as it is.
///
/// # Errors
/// That page has no place for the tables.
pub fn written(settings: &str) -> Result<Vec<Written>, String> {
    let manuals = manuals();
    let mut all = vec![
        Written {
            path: settings::PAGE.into(),
            text: settings::with_tables(settings, &manuals)?,
        },
        Written {
            path: reasons::PAGE.into(),
            text: reasons::page(),
        },
    ];
    for manual in &manuals {
        let name = manual.program.name;
        let file = |folder: &str, name: String, text| Written {
            path: format!("packaging/{folder}/{name}"),
            text,
        };
        all.extend([
            file("man", format!("{name}.1"), page::page(manual)),
            file("completions", format!("{name}.bash"), bash::script(manual)),
            file("completions", format!("{name}.fish"), fish::script(manual)),
            file("completions", format!("_{name}"), zsh::script(manual)),
        ]);
    }
    Ok(all)
}

impl Manual {
    /// Whether another command line may follow `command`'s own options.
    fn leads(&self, command: &Command<'_>) -> bool {
        self.leads.contains(&command.words().as_str())
    }
}

/// A command and the words that lead to it: `["hgbuild", "cache"]`.
struct Command<'a> {
    path: Vec<&'a str>,
    table: &'a CommandInfoWithArgs,
}

impl Command<'_> {
    /// `hgbuild cache`.
    fn words(&self) -> String {
        self.path.join(" ")
    }
}

/// The program itself and all commands below it, each before its own.
fn commands(manual: &Manual) -> Vec<Command<'_>> {
    fn below<'a>(path: Vec<&'a str>, table: &'a CommandInfoWithArgs, all: &mut Vec<Command<'a>>) {
        all.push(Command {
            path: path.clone(),
            table,
        });
        for command in &table.commands {
            let path = path.iter().copied().chain([command.name]).collect();
            below(path, &command.command, all);
        }
    }
    let mut all = Vec::new();
    below(vec![manual.program.name], &manual.table, &mut all);
    all
}

/// What `-h` and `--help` do, which argh lists for each command.
const HELP: &str = "say how it is used";

/// The options of a command that people are told of, but for `--help`.
fn flags<'a>(table: &'a CommandInfoWithArgs) -> impl Iterator<Item = &'a FlagInfo<'a>> {
    let is_told = |flag: &&FlagInfo<'_>| !flag.hidden && flag.long != "--help";
    table.flags.iter().filter(is_told)
}

/// `-v` and `--verbose`, or what there is of them.
fn spellings(flag: &FlagInfo<'_>) -> Vec<String> {
    let short = flag.short.map(|short| format!("-{short}"));
    short.into_iter().chain([flag.long.to_owned()]).collect()
}

/// What a completion shows of a description: up to its first clause.
fn short(description: &str) -> &str {
    let end = [" (", "; ", ": ", ". "];
    let end = end.iter().filter_map(|end| description.find(end)).min();
    description[..end.unwrap_or(description.len())].trim_end_matches('.')
}
