//! `hgbuild`: a compile, or a whole build, on the grid.
//!
//! Rooms and files from the top floor down: each uses only what stands below it
//! (`tests/floors.txt`).

pub mod commands;
pub mod compile;
pub mod cache;
pub mod inputs;
pub mod invocation;
pub mod grid;
pub mod includes;
pub mod local;
pub mod source;

pub mod shield;
pub mod config;
pub mod cli;
pub mod settings;
pub mod key;
pub mod say;
pub mod os;
pub mod private;

use std::ffi::OsString;

use cli::{Request, Subcommand};
use config::Config;

/// Runs what `argv` asks for. Never returns.
pub fn main(mut argv: impl Iterator<Item = OsString>) -> ! {
    let arg0 = argv.next().unwrap_or_default();
    if local::compiler::name_of(&arg0).is_some() {
        // Called by a compiler's name, through a masquerade folder.
        let args: Vec<OsString> = argv.collect();
        commands::masquerade::hand_over(&arg0, &args);
        let config = Config::load(&cli::Flags::default());
        compile::wrap::compile(arg0, args, &config);
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
    if flags.trace.is_some() && !matches!(request, Request::Build(_)) {
        say::warn("--trace is of a build: hgbuild --trace FILE make ...");
        std::process::exit(2);
    }
    let config = Config::load(&flags);
    let code = match request {
        // A launcher in front of a CC that is led through us already.
        Request::Compile(name, args) if local::compiler::is_hgbuild(&name) => {
            let again: Vec<OsString> = std::iter::once(name).chain(args).collect();
            main(again.into_iter())
        }
        Request::Compile(name, args) => compile::wrap::compile(name, args, &config),
        Request::Build(words) => commands::build::run(words, &config),
        Request::Own(Subcommand::Status(status)) => commands::status::status(&config, status.json),
        Request::Own(Subcommand::Workers(workers)) => {
            commands::status::workers(&config, workers.json)
        }
        Request::Own(Subcommand::Top(args)) => commands::top::top(&config, &args),
        Request::Own(Subcommand::Join(args)) => commands::join::join(&config, &args),
        Request::Own(Subcommand::Leave(_)) => commands::leave::leave(&config),
        Request::Own(Subcommand::Doctor(args)) => commands::doctor::doctor(&config, &args),
        Request::Own(Subcommand::Settings(args)) => {
            commands::config::config(&config, &flags, args.json)
        }
        Request::Own(Subcommand::Ship(args)) => commands::ship::ship(&config, &args),
        Request::Own(Subcommand::Cache(cache)) => commands::cache::run(&config, cache.command),
        Request::Own(Subcommand::Completions(args)) => commands::completions::completions(&args),
        // The words of the compile come with it.
        Request::Own(Subcommand::Explain(_)) => 2,
        Request::Explain(words, last) => commands::explain::explain(&config, &words, last),
        Request::LastCompile(source, json) => {
            commands::last_compile::explain(&config, source.as_ref(), json)
        }
    };
    std::process::exit(code)
}
