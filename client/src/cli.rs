//! What was typed. Our own flags stand before the compiler's name; everything
//! from it on is the compiler's and is never looked at here.

use std::ffi::OsString;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use hg_proto::command_line::{self, Program, Usage};

/// Run a compiler, or a whole build, on the grid. What stands behind the
/// compiler's name is the compiler's; our own flags stand before it.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    note = "Settings: flag, environment, ~/.hybridgrid/config.toml, default, in that order.",
    example = "hgbuild clang -O2 -c foo.c    one compile: COMPILER ARGS...\nhgbuild make -j               a build: make, ninja, cmake --build ...\nhgbuild -- ./build.sh         any other build command",
    error_code(2, "the command line is wrong."),
    error_code(75, "with --no-fallback: the grid failed, and nothing was compiled."),
    error_code(126, "the compiler can't be run."),
    error_code(
        127,
        "there is no such compiler. Else it is the compiler's exit code, or the build's."
    )
)]
pub struct Flags {
    /// say where each compile went, and why
    #[argh(switch, short = 'v')]
    pub verbose: bool,

    /// a failure of the grid is an error, not a local compile
    #[argh(switch)]
    pub no_fallback: bool,

    /// write what a build's time went to, for Perfetto
    #[argh(option, arg_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// where the coordinator's grid port is
    #[argh(option, arg_name = "HOST:PORT")]
    pub coordinator: Option<String>,

    /// authorities, in PEM, by which the coordinator is known instead of a token
    #[argh(option, arg_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// a certificate of your own, in PEM, that says who you are
    #[argh(option, arg_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// its private key
    #[argh(option, arg_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// the coordinator runs with --insecure: no encryption, no token
    #[argh(switch)]
    pub insecure: bool,

    /// print the version
    #[argh(switch, short = 'V')]
    pub version: bool,

    #[argh(subcommand)]
    pub command: Option<Subcommand>,
}

/// Commands of our own.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum Subcommand {
    /// See [`Status`].
    Status(Status),
    /// See [`Workers`].
    Workers(Workers),
    /// See [`Top`].
    Top(Top),
    /// See [`Join`].
    Join(Join),
    /// See [`Leave`].
    Leave(Leave),
    /// See [`Doctor`].
    Doctor(Doctor),
    /// See [`Settings`].
    Settings(Settings),
    /// See [`Ship`].
    Ship(Ship),
    /// See [`Cache`].
    Cache(Cache),
    /// See [`Explain`].
    Explain(Explain),
    /// See [`Completions`].
    Completions(Completions),
}

/// show what the coordinator says of the grid
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status")]
pub struct Status {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// list the workers
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "workers")]
pub struct Workers {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// watch the grid work: workers, what they compile, rates and builds
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "top",
    note = "On a terminal it is a screen that changes with the grid: ? lists its keys, q ends it. Elsewhere, and where TERM is dumb, it is text: once, or again and again with --interval.",
    example = "hgbuild top\nhgbuild top --interval 5 >> grid.log",
    error_code(1, "the coordinator can't be reached, or does not let us look.")
)]
pub struct Top {
    /// time between two looks (default: 0.5 on a terminal, elsewhere once)
    #[argh(option, arg_name = "SECONDS")]
    pub interval: Option<f64>,

    /// print JSON, one line for each look
    #[argh(switch)]
    pub json: bool,
}

/// keep a token that lets this user use a grid ('hg-coord token --role client')
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "join",
    note = "On a machine that others use too, give the token by stdin or a file: command lines are seen by all.",
    example = "hgbuild join < token\nhgbuild join --coordinator build.example:9000 < token"
)]
pub struct Join {
    /// the token, or a file it is in (default: HG_TOKEN, else stdin)
    #[argh(positional, arg_name = "TOKEN")]
    pub token: Option<String>,

    /// where the coordinator's grid port is (default: where mDNS finds it on this network)
    #[argh(option, arg_name = "HOST:PORT")]
    pub coordinator: Option<String>,
}

/// forget the grid that was joined: remove its token
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "leave", error_code(1, "no grid was joined."))]
pub struct Leave {}

/// say whether this machine can use its grid, what each worker makes of its compilers,
/// and what to do where something is wrong
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "doctor",
    example = "hgbuild doctor gcc",
    error_code(1, "something is wrong.")
)]
pub struct Doctor {
    /// what to look at (default: gcc, g++, clang and clang++, as far as they are there)
    #[argh(positional, arg_name = "COMPILER")]
    pub compilers: Vec<String>,

    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// list each setting, its value and where that comes from, and what is wrong with settings
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "config",
    example = "hgbuild config",
    error_code(1, "a setting is wrong.")
)]
pub struct Settings {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// give this machine's compilers to workers that have none like them, and try what others have
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "ship",
    note = "A compile does this by itself, in the background, where workers lack its compiler (HG_SHIP).",
    example = "hgbuild ship gcc g++"
)]
pub struct Ship {
    /// what to give (default: gcc, g++, clang and clang++, as far as they are there)
    #[argh(positional, arg_name = "COMPILER")]
    pub compilers: Vec<String>,

    /// what it compiles: c or c++ (default: what its name says)
    #[argh(option, arg_name = "LANGUAGE")]
    pub language: Option<String>,

    /// try compilers of others that differ by a stable update of their vendor's (+deb12u1), too
    #[argh(switch)]
    pub updates: bool,

    /// leave the terminal, and end where another one is at it
    #[argh(switch)]
    pub background: bool,
}

/// look at the local cache, or tend it
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "cache")]
pub struct Cache {
    /// what is to be done
    #[argh(subcommand)]
    pub command: CacheCommand,
}

/// What is to be done with the cache.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum CacheCommand {
    /// See [`Stats`].
    Stats(Stats),
    /// See [`Zero`].
    Zero(Zero),
    /// See [`Clear`].
    Clear(Clear),
    /// See [`Prune`].
    Prune(Prune),
    /// See [`Verify`].
    Verify(Verify),
}

/// show size, hits and misses
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "stats")]
pub struct Stats {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// set the counts to zero
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "zero")]
pub struct Zero {}

/// remove all entries
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "clear")]
pub struct Clear {}

/// remove the entries that were not used for longest
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "prune")]
pub struct Prune {
    /// down to this size, as in 5GiB or 500M (HG_CACHE_MAX_SIZE when not given)
    #[argh(option, arg_name = "SIZE")]
    pub max_size: Option<String>,
}

/// read every entry and remove those that are damaged
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "verify")]
pub struct Verify {}

/// say of a source where its last compile went, why, and what helps; or of a compile what
/// the cache would answer
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "explain",
    note = "One word without a '--' before it is a source. Its compiles are known from 'hgbuild make' (or ninja, --) and from HG_EVENT_LOG.",
    example = "hgbuild explain src/foo.c\nhgbuild explain -- clang -O2 -c foo.c",
    error_code(1, "nothing is known of that source.")
)]
pub struct Explain {
    /// of a source: print JSON
    #[argh(switch)]
    pub json: bool,

    /// of a compile: say only what changed since the last entry of the source
    #[argh(switch)]
    pub last: bool,
}

/// print a script that completes hgbuild's own words in a shell
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    example = "hgbuild completions bash > ~/.local/share/bash-completion/completions/hgbuild"
)]
pub struct Completions {
    /// which one
    #[argh(positional, arg_name = "bash|zsh|fish")]
    pub shell: String,
}

/// What is asked for.
#[derive(Debug)]
pub enum Request {
    /// Explain this compile; only what changed, if so.
    Explain(Vec<OsString>, bool),
    /// Explain the last compile of this source; as JSON, if so.
    LastCompile(OsString, bool),
    /// Run this compiler with these arguments.
    Compile(OsString, Vec<OsString>),
    /// Run this build command.
    Build(Vec<OsString>),
    /// A command of our own.
    Own(Subcommand),
}

/// What `hgbuild --help` says beside the options.
pub const PROGRAM: Program = Program {
    name: "hgbuild",
    version: env!("CARGO_PKG_VERSION"),
    environment: &crate::settings::ENVIRONMENT,
};

const BUILD_COMMANDS: [&str; 9] = [
    "make",
    "gmake",
    "ninja",
    "ninja-build",
    "samu",
    "cmake",
    "meson",
    "scons",
    "bazel",
];

/// Sorts `args` (without our own name) into flags and a request.
///
/// # Errors
/// The flags are wrong, or `--help` or `--version` was among them.
pub fn parse(args: Vec<OsString>) -> Result<(Flags, Request), Usage> {
    let mut own: Vec<String> = Vec::new();
    let mut rest = args.into_iter().peekable();
    let mut dashes = false;
    while let Some(arg) = rest.next_if(|arg| arg.as_encoded_bytes().starts_with(b"-")) {
        if arg == "--" {
            dashes = true;
            break;
        }
        let arg = arg.to_string_lossy().into_owned();
        let takes_value = PROGRAM.takes_value::<Flags>(&arg);
        own.push(arg);
        if takes_value && let Some(value) = rest.next() {
            own.push(value.to_string_lossy().into_owned());
        }
    }
    let rest: Vec<OsString> = rest.collect();
    let first = rest.first().and_then(|word| word.to_str());
    if !dashes && rest.len() == 1 && first == Some("help") {
        own.push("--help".to_owned());
    }
    let table = Flags::get_args_info();
    let is_own = !dashes && table.commands.iter().any(|own| Some(own.name) == first);
    let mut explained = Vec::new();
    let mut is_source = false;
    if is_own {
        let (ours, theirs) = match first {
            Some("explain") => rest.split_at(explained_at(&rest)),
            _ => (&rest[..], &[][..]),
        };
        own.extend(ours.iter().map(|word| word.to_string_lossy().into_owned()));
        let dashes = theirs.first().is_some_and(|word| word == "--");
        explained.extend(theirs.iter().skip(usize::from(dashes)).cloned());
        if !dashes && explained.len() == 2 && explained[1] == "--json" {
            // After the source it is not the compiler's.
            explained.pop();
            own.push("--json".to_owned());
        }
        is_source = !dashes && explained.len() == 1;
    }
    let words: Vec<&str> = own.iter().map(String::as_str).collect();
    let mut flags = match words.is_empty() {
        true => Flags::default(),
        false => PROGRAM.parse(&words)?,
    };
    if let Some(Subcommand::Explain(explain)) = &flags.command {
        let (last, json) = (explain.last, explain.json);
        let wrong = |why: &str| Err(PROGRAM.wrong(&["explain"], why));
        return match explained.pop_if(|_| is_source) {
            Some(_) if last => {
                wrong("--last goes with a compile: hgbuild explain --last -- clang -c foo.c")
            }
            Some(source) => Ok((flags, Request::LastCompile(source, json))),
            None if explained.is_empty() => {
                wrong("which source, or which compile, as in 'hgbuild explain -- clang -c foo.c'?")
            }
            None if json => wrong("--json goes with a source: hgbuild explain --json foo.c"),
            None => Ok((flags, Request::Explain(explained, last))),
        };
    }
    if let Some(command) = flags.command.take() {
        return Ok((flags, Request::Own(command)));
    }
    let is_build = dashes || first.is_some_and(is_build_command);
    let request = match rest.split_first() {
        None => {
            let why = "say what to compile, as in 'hgbuild clang -c foo.c' or 'hgbuild make'";
            return Err(PROGRAM.wrong(&[], why));
        }
        Some(_) if is_build => Request::Build(rest),
        Some((compiler, args)) => Request::Compile(compiler.clone(), args.to_vec()),
    };
    Ok((flags, request))
}

/// The command of our own that somebody may have meant who wrote the name of no compiler.
pub fn command_like(word: &str) -> Option<&'static str> {
    let commands = Flags::get_args_info().commands;
    command_line::likely(word, commands.iter().map(|command| command.name))
}

/// Where the compile begins in `explain --last -- cc -c x.c`.
fn explained_at(words: &[OsString]) -> usize {
    let flag = |word: &OsString| word != "--" && word.as_encoded_bytes().starts_with(b"-");
    1 + words.iter().skip(1).take_while(|word| flag(word)).count()
}

fn is_build_command(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    BUILD_COMMANDS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> (Flags, Request) {
        parse(words.iter().map(OsString::from).collect()).unwrap()
    }

    #[test]
    fn our_flags_end_where_the_compiler_begins() {
        let (flags, request) = parsed(&["-v", "clang", "-v", "--help", "-c", "a.c"]);
        assert!(flags.verbose);
        let Request::Compile(compiler, args) = request else {
            panic!("{request:?}");
        };
        assert_eq!(compiler, "clang");
        assert_eq!(args, ["-v", "--help", "-c", "a.c"]);
    }

    #[test]
    fn builds() {
        assert!(matches!(parsed(&["make", "-j4"]).1, Request::Build(_)));
        assert!(matches!(parsed(&["/usr/bin/ninja"]).1, Request::Build(_)));
        let (_, request) = parsed(&["--no-fallback", "--", "status", "--json"]);
        assert!(matches!(request, Request::Build(words) if words == ["status", "--json"]));
    }

    #[test]
    fn own_commands() {
        let (flags, request) = parsed(&["--coordinator", "h:1", "workers", "--json"]);
        assert_eq!(flags.coordinator.as_deref(), Some("h:1"));
        assert!(matches!(
            request,
            Request::Own(Subcommand::Workers(Workers { json: true }))
        ));
    }

    #[test]
    fn joining() {
        let (_, request) = parsed(&["join", "file", "--coordinator", "h:1"]);
        assert!(matches!(
            request,
            Request::Own(Subcommand::Join(Join { token: Some(token), coordinator: Some(_) }))
                if token == "file"
        ));
        let (flags, request) = parsed(&["--tls-ca", "ca.pem", "gcc", "-c"]);
        assert!(flags.tls_ca.is_some() && matches!(request, Request::Compile(..)));
    }

    #[test]
    fn explained_compiles_keep_their_flags() {
        for words in [
            &["explain", "--last", "--", "gcc", "-c", "--last"][..],
            &["explain", "--last", "gcc", "-c", "--last"],
        ] {
            let Request::Explain(compile, last) = parsed(words).1 else {
                panic!("{words:?}");
            };
            assert!(last);
            assert_eq!(compile, ["gcc", "-c", "--last"]);
        }
        assert!(
            parse(vec!["explain".into(), "--help".into()])
                .unwrap_err()
                .asked_for
        );
    }

    #[test]
    fn one_word_to_explain_is_a_source() {
        for (words, is_json) in [
            (&["explain", "a.c"][..], false),
            (&["explain", "--json", "a.c"], true),
            (&["explain", "a.c", "--json"], true),
        ] {
            let Request::LastCompile(source, json) = parsed(words).1 else {
                panic!("{words:?}");
            };
            assert_eq!((source, json), ("a.c".into(), is_json));
        }
        assert!(matches!(
            parsed(&["explain", "--", "gcc"]).1,
            Request::Explain(..)
        ));
        for wrong in [
            &["explain", "--last", "a.c"][..],
            &["explain", "--json", "--", "gcc"],
        ] {
            assert!(parse(wrong.iter().map(OsString::from).collect()).is_err());
        }
    }

    #[test]
    fn wrong_flags_are_errors_and_help_is_not() {
        assert!(!parse(vec!["--nonsense".into()]).unwrap_err().asked_for);
        assert!(!parse(vec![]).unwrap_err().asked_for);
        assert!(!parse(vec!["explain".into()]).unwrap_err().asked_for);
        assert!(parse(vec!["--help".into()]).unwrap_err().asked_for);
    }
}
