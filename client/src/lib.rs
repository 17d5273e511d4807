//! `hgbuild`: a compile, or a whole build, on the grid.
//!
//! Modules in the order in which a compile goes through them.

pub mod cli;
pub mod say;
pub mod size;
pub mod private;
pub mod config;
pub mod os;
pub mod compiler;
pub mod signals;
pub mod slots;
pub mod local;
pub mod memo;
pub mod hazards;
pub mod scan;
pub mod own_device;
pub mod paths;
pub mod facts;
pub mod manifest;
pub mod watch;
pub mod headers;
mod part;
pub mod macro_names;
mod unchanged;
pub mod closure;
pub mod listed;
pub mod key;
pub mod search;
pub mod question;
pub mod payload;
pub mod tree;
pub mod answer;
pub mod lru;
pub mod shard;
pub mod evict;
pub mod day_log;
pub mod unnamed;
pub mod draft;
pub mod cache;
pub mod tally;
pub mod indentation;
pub mod memory_file;
pub mod text_checks;
pub mod inputs;
mod arriving;
mod object;
pub mod looks;
pub mod attempt;
pub mod access;
pub mod grpc;
pub mod submit;
pub mod output;
pub mod pace;
pub mod terminal;
pub mod capture;
pub mod manner;
pub mod identity;
pub mod lookup;
pub mod plan;
pub mod task;
pub mod preprocessed;
pub mod store;
pub mod cached;
pub mod cache_command;
pub mod report;
pub mod explain;
pub mod events;
pub mod shield;
pub mod wrap;
pub mod masquerade;
pub mod summary;
pub mod build;
pub mod status;
pub mod join;

use std::ffi::OsString;

use cli::{Request, Subcommand};
use config::Config;

/// Runs what `argv` asks for. Never returns.
pub fn main(mut argv: impl Iterator<Item = OsString>) -> ! {
    let arg0 = argv.next().unwrap_or_default();
    if compiler::name_of(&arg0).is_some() {
        // Called by a compiler's name, through a masquerade folder.
        let config = Config::load(&cli::Flags::default());
        wrap::compile(arg0, argv.collect(), &config);
    }
    let (flags, request) = match cli::parse(argv.collect()) {
        Ok(parsed) => parsed,
        Err(usage) if usage.asked_for => {
            std::process::exit(say::answer(usage.text));
        }
        Err(usage) => {
            say::aside(usage.text);
            std::process::exit(2);
        }
    };
    let typed = flags.coordinator.as_deref();
    if let (Request::Own(_), Some(Err(why))) = (&request, typed.map(config::check_address)) {
        say::warn(why);
        std::process::exit(2);
    }
    let config = Config::load(&flags);
    let code = match request {
        // A launcher in front of a CC that is led through us already.
        Request::Compile(name, args) if compiler::is_hgbuild(&name) => {
            let again: Vec<OsString> = std::iter::once(name).chain(args).collect();
            main(again.into_iter())
        }
        Request::Compile(name, args) => wrap::compile(name, args, &config),
        Request::Build(words) => build::run(words, &config),
        Request::Own(Subcommand::Status(status)) => status::status(&config, status.json),
        Request::Own(Subcommand::Workers(workers)) => status::workers(&config, workers.json),
        Request::Own(Subcommand::Join(args)) => join::join(&config, &args),
        Request::Own(Subcommand::Cache(cache)) => cache_command::run(&config, cache.command),
        // The words of the compile come with it.
        Request::Own(Subcommand::Explain(_)) => 2,
        Request::Explain(words, last) => explain::explain(&config, &words, last),
    };
    std::process::exit(code)
}
